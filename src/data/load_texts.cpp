#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/ascii.h"
#include "core/text_file.h"
#include "data/bad_rows.h"
#include "data/file_formats.h"
#include "data/find_files.h"
#include "data/hold_out.h"
#include "data/no_rows.h"
#include "data/row_formats.h"
#include "data/table.h"
#include "deltaw/error.h"
#include "deltaw/text_data.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// Files of running text, one behind the other; each begins a line.
TextDataset running_text(const std::vector<fs::path>& files, const std::string& encoding) {
  TextExample example{.line = 1};
  for (const fs::path& file : files) {
    std::string text = read_text(file, encoding);
    if (is_blank(text)) {
      throw Error{{.id = "data.empty-file",
                   .what = "the file is empty",
                   .where = file.string(),
                   .fix = "Check the path, and that the file was written to its end."}};
    }
    if (example.text.empty()) {
      example.text = std::move(text);
    } else {
      if (!example.text.ends_with('\n')) example.text += '\n';
      example.text += text;
    }
  }
  example.trained = {{0, example.text.size()}};
  return {.file = data::name_of(files), .continuous = true, .rows = {std::move(example)}};
}

/// Whether the files are running text, which all or none must be.
bool are_running_text(const std::vector<fs::path>& files) {
  const auto is_text = [](const fs::path& file) { return data::format_of(file) == data::Format::text; };
  const bool first = is_text(files.front());
  for (const fs::path& file : files) {
    if (is_text(file) == first) continue;
    throw Error{
        {.id = "config.file-format",
         .what = fmt::format("{} is {}, and this file {}", files.front().string(),
                             first ? "running text" : "a file of rows", first ? "holds rows" : "is running text"),
         .where = file.string(),
         .fix = "Give files of one kind."}};
  }
  return first;
}

/// The first of the keys whose value is null, which counts as absent and is not told by the names of a row's keys.
const std::string* null_among(const std::vector<std::string>& keys, const Json& row) {
  const auto found = std::find_if(keys.begin(), keys.end(),
                                  [&](const std::string& key) { return row.contains(key) && row[key].is_null(); });
  return found == keys.end() ? nullptr : &*found;
}

[[noreturn]] void refuse_keys(const Json& row, const DataOptions& options, const std::string& where) {
  const bool named = !options.text_column.empty() || !options.label_column.empty();
  const std::vector<std::string> own = {options.text_column, options.label_column};
  if (const std::string* key = null_among(named ? own : data::known_keys(), row)) {
    throw Error{{.id = "data.not-text",
                 .what = fmt::format("\"{}\" is null", *key),
                 .where = where,
                 .fix = "Give it a value, or remove the row."}};
  }
  std::vector<std::string> lacking;
  for (const auto& [key, column] :
       {std::pair{"text_column", options.text_column}, std::pair{"label_column", options.label_column}}) {
    if (!column.empty() && !row.contains(column)) lacking.push_back(fmt::format("{} is '{}'", key, column));
  }
  throw Error{{.id = named ? "config.missing-column" : "config.text-format",
               .what = fmt::format("{}; its keys are {}",
                                   lacking.empty()
                                       ? "it is not clear what the rows are"
                                       : fmt::format("{}, and the row has no such key", fmt::join(lacking, " and ")),
                                   data::key_list(row)),
               .where = where,
               .fix = named ? "Set text_column, and label_column where answers stand in another column, to keys of the "
                              "file."
                            : "Use messages, conversations, prompt with completion, instruction with output, question "
                              "with answer, or text; or name your keys by text_column and label_column."}};
}

constexpr const char* kMixedRows = "data.mixed-rows";

/// Whether a row is of the first one's kind but for a key that is null or missing.
bool lacks_a_part(const Json& row, const std::optional<data::RowFormat>& format, const data::RowFormat& first) {
  const std::vector<std::string> keys = {first.first, first.second};
  return null_among(keys, row) ||
         (!format && std::any_of(keys.begin(), keys.end(), [&](const std::string& key) { return row.contains(key); }));
}

void check_same(const std::optional<data::RowFormat>& format, const data::RowFormat& first, const Json& row,
                const std::string& where) {
  if (format == first) return;
  const std::vector<std::string> keys = {first.first, first.second};
  const std::string* null = null_among(keys, row);
  throw Error{{.id = kMixedRows,
               .what = fmt::format("the first row holds {}{}; {}", first.name(),
                                   format && format->name() == first.name() ? " of another type" : "",
                                   null ? fmt::format("in this one \"{}\" is null", *null)
                                        : "this one has the keys " + data::key_list(row)),
               .where = where,
               .fix = null ? "Give it a value, or remove the row."
                           : "Give every row the same keys, or put the kinds in files of their own."}};
}

// A running text has no rows to draw from: its end is held out, from the beginning of a line where there are any.
std::pair<TextDataset, TextDataset> hold_out_end(TextDataset dataset, double fraction) {
  data::refuse_count(fraction, dataset.file);
  TextExample& example = dataset.rows[0];
  const std::string text = std::move(example.text);
  auto at = static_cast<size_t>(std::llround(static_cast<double>(text.size()) * (1 - fraction)));
  at = std::clamp<size_t>(at, 1, std::max<size_t>(text.size() - 1, 1));
  const size_t line = text.rfind('\n', at - 1);
  if (line != std::string::npos) at = line + 1;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;  // not inside a code point
  if (at >= text.size()) {
    throw Error{{.id = "data.too-few-rows",
                 .what = "the text is too short to hold out a part of it",
                 .where = dataset.file.string(),
                 .fix = "Add text, or set validation_file."}};
  }
  TextDataset end{.file = dataset.file, .unit = dataset.unit, .continuous = true};
  end.rows.push_back({.text = text.substr(at), .trained = {{0, text.size() - at}}});
  end.rows[0].line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  example.text = text.substr(0, at);
  example.trained = {{0, at}};
  return {std::move(dataset), std::move(end)};
}

std::pair<TextDataset, TextDataset> split_held_out(TextDataset dataset, double fraction, uint64_t seed) {
  TextDataset held{.file = dataset.file, .unit = dataset.unit};
  held.sources = dataset.sources;
  TextDataset kept = held;
  kept.left_out = dataset.left_out;
  kept.reasons = std::move(dataset.reasons);
  data::hold_out_rows(dataset, fraction, seed, kept, held);
  return {std::move(kept), std::move(held)};
}

void keep_first(TextDataset& dataset, int64_t most) {
  if (dataset.continuous) {
    dataset.most_blocks = most;
  } else {
    data::keep_first_rows(dataset, most);
  }
}

}  // namespace

std::string TextDataset::where(const TextExample& example) const {
  const auto next = std::find_if(sources.begin(), sources.end(),
                                 [&](const TextSource& source) { return source.first > example.record; });
  if (next == sources.begin()) return fmt::format("{}, {} {}", file.string(), unit, example.line);
  return fmt::format("{}, {} {}", std::prev(next)->file.string(), std::prev(next)->unit, example.line);
}

TextDataset load_texts(const DataFiles& files, const DataOptions& options, const TextOptions& text,
                       const ChatRenderer& render, Blank blank) {
  const std::vector<fs::path> paths = data::find_files(files);
  if (are_running_text(paths)) return running_text(paths, options.encoding);
  TextDataset dataset{.file = data::name_of(paths)};
  std::optional<data::RowFormat> first;  // of the file that is being read
  data::BadRows bad(dataset.file, blank == Blank::kept ? 0 : text.max_bad_rows);
  int64_t begun = 1;  // the first row of the file that is being read
  const auto took_file = [&](const fs::path& file, const std::string& unit) {
    dataset.sources.push_back({file, unit, begun});
    begun = static_cast<int64_t>(dataset.ids.size()) + 1;
    first.reset();
  };
  const auto take = [&](Json& row, int64_t line, const std::string& where) {
    dataset.ids.push_back(row.contains(kIdColumn) ? row[kIdColumn] : Json());
    const auto format = data::format_of(row, options);
    try {
      if (!first && !format) refuse_keys(row, options, where);
      if (!first) first = format;
      check_same(format, *first, row, where);
      TextExample example = data::to_example(row, *first, text, render, where, blank);
      example.line = line;
      example.record = static_cast<int64_t>(dataset.ids.size());
      dataset.rows.push_back(std::move(example));
    } catch (const Error& error) {
      const bool is_other_kind = error.id() == kMixedRows && !lacks_a_part(row, format, *first);
      if (is_other_kind || error.id().starts_with("config.")) throw;
      bad.add(error, where);
    }
  };
  data::each_row(files, options.encoding, take, took_file);
  dataset.unit = dataset.sources.front().unit;
  bad.check(static_cast<int64_t>(dataset.ids.size()));
  dataset.left_out = bad.count();
  dataset.reasons = bad.reasons();
  return dataset;
}

TextData load_text_data(const DataOptions& options, const TextOptions& text, const ChatRenderer& render,
                        uint64_t seed) {
  const auto files = text_split_file(options, Split::train);
  if (!files) throw data::no_text_file(options, "train_file", Split::train);
  TextData result;
  result.train = load_texts(*files, options, text, render);
  if (const auto validation = text_split_file(options, Split::validation)) {
    result.validation = load_texts(*validation, options, text, render);
  } else if (options.validation_split > 0) {
    std::tie(result.train, result.validation) =
        result.train.continuous ? hold_out_end(std::move(result.train), options.validation_split)
                                : split_held_out(std::move(result.train), options.validation_split, seed);
  }
  keep_first(result.train, options.max_train_samples);
  keep_first(result.validation, options.max_eval_samples);
  return result;
}

}  // namespace deltaw
