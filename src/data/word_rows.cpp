#include "data/word_rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "core/suggest.h"
#include "core/text_file.h"
#include "data/choose_labels.h"
#include "data/file_formats.h"
#include "data/find_files.h"
#include "data/hold_out.h"
#include "data/labels.h"
#include "data/no_rows.h"
#include "data/row_formats.h"
#include "data/table.h"
#include "data/tagged_text.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

const Strings kWordKeys = {"tokens", "words"};
const Strings kTextKeys = {"text", "sentence"};
const Strings kTagKeys = {"ner_tags", "tags", "labels"};

/// A row whose tags are not classes yet.
struct RawRow {
  WordRow row;
  Strings tags;
  size_t source = 0;  // the number of its file
};

struct Source {
  fs::path file;
  std::string unit = "line";
  bool by_line = false;  // each word has a line of its own
};

struct Raw {
  fs::path file;
  std::vector<Source> sources;
  std::string tag_column;  // of the first file, for messages
  std::vector<RawRow> rows;
  bool numbers = false;  // some tags are numbers of JSON or of columns
  bool names = false;    // others are texts

  std::string where(const RawRow& raw, size_t word) const {
    const Source& source = sources[raw.source];
    const auto place = static_cast<int64_t>(word);
    if (source.by_line) return fmt::format("{}, line {}", source.file.string(), raw.row.line + place);
    return fmt::format("{}, {} {}, word {}", source.file.string(), source.unit, raw.row.line, place + 1);
  }
};

// ---- rows of objects ----

/// The key that an option names, else the first usual one that the row has; empty where there is none.
std::string key_of(const Json& row, const std::string& named, const Strings& usual) {
  if (!named.empty()) return row.contains(named) ? named : std::string();
  const auto found = std::find_if(usual.begin(), usual.end(),
                                  [&](const std::string& key) { return row.contains(key) && !row[key].is_null(); });
  return found == usual.end() ? std::string() : *found;
}

[[noreturn]] void refuse_key(const Json& row, const std::string& named, const char* option, const Strings& usual,
                             const std::string& where) {
  throw Error{{.id = "config.missing-column",
               .what = named.empty() ? fmt::format("the row has none of the keys {}; its keys are {}",
                                                   fmt::join(usual, ", "), key_list(row))
                                     : fmt::format("the row has no key '{}'; its keys are {}", named, key_list(row)),
               .where = where,
               .fix = fmt::format("Set {} to a key of the rows.", option)}};
}

[[noreturn]] void refuse_list(const std::string& key, const Json& value, const char* of, const std::string& where) {
  throw Error{{.id = "data.not-words",
               .what = fmt::format("\"{}\" is {} and no list of {}", key,
                                   value.is_null() ? "null" : fmt::format("of type {}", value.type_name()), of),
               .where = where,
               .fix = "Give each row a list of words and a list of as many tags: "
                      "{\"tokens\": [\"Anna\", \"sleeps\"], \"ner_tags\": [\"B-PER\", \"O\"]}"}};
}

Strings words_of(const std::string& key, const Json& value, const std::string& where) {
  if (!value.is_array()) refuse_list(key, value, "words", where);
  Strings words;
  for (const Json& item : value) {
    if (!item.is_string()) refuse_list(key, item, "words", fmt::format("{}, word {}", where, words.size() + 1));
    words.push_back(item.get<std::string>());
  }
  return words;
}

Strings tags_of(const std::string& key, const Json& value, const std::string& where, Raw& raw) {
  if (!value.is_array()) refuse_list(key, value, "tags", where);
  Strings tags;
  for (const Json& item : value) {
    if (!item.is_string() && !item.is_number()) {
      throw Error{{.id = "data.missing-label",
                   .what = item.is_null() ? fmt::format("a tag in \"{}\" is null", key)
                                          : fmt::format("a tag in \"{}\" is of type {}", key, item.type_name()),
                   .where = fmt::format("{}, word {}", where, tags.size() + 1),
                   .fix = "Give every word a tag, its name or the number of its class."}};
    }
    (item.is_string() ? raw.names : raw.numbers) = true;
    tags.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  }
  return tags;
}

void add_object(const Json& object, int64_t line, const std::string& where, const DataOptions& options, Labels use,
                Raw& raw) {
  RawRow row{.row = {.line = line}, .tags = {}, .source = raw.sources.size()};
  if (object.contains(kIdColumn)) row.row.id = object[kIdColumn];
  std::string key = key_of(object, options.text_column, kWordKeys);
  if (key.empty() && use == Labels::ignored) key = key_of(object, options.text_column, kTextKeys);
  if (key.empty()) refuse_key(object, options.text_column, "text_column", kWordKeys, where);
  if (use == Labels::ignored && object[key].is_string()) {
    row.row.text = object[key].get<std::string>();
    row.row.is_text = true;
  } else {
    row.row.words = words_of(key, object[key], where);
  }
  if (use == Labels::needed) {
    const std::string tag_key = key_of(object, options.label_column, kTagKeys);
    if (tag_key.empty()) refuse_key(object, options.label_column, "label_column", kTagKeys, where);
    if (raw.tag_column.empty()) raw.tag_column = tag_key;
    row.tags = tags_of(tag_key, object[tag_key], where, raw);
    if (row.tags.size() != row.row.words.size()) {
      throw Error{{.id = "data.tag-count",
                   .what = fmt::format("\"{}\" and \"{}\" are of different lengths: {} and {}", key, tag_key,
                                       row.row.words.size(), row.tags.size()),
                   .where = where,
                   .fix = "Give every word one tag."}};
    }
  }
  raw.rows.push_back(std::move(row));
}

// ---- files ----

bool has_word_a_line(Format format) {
  return format == Format::tagged || format == Format::text || format == Format::tsv;
}

void add_lines(const fs::path& file, const DataOptions& options, Labels use, Raw& raw) {
  const TaggedColumns columns{options.text_column, options.label_column, use == Labels::needed};
  if (raw.tag_column.empty()) raw.tag_column = options.label_column.empty() ? "last" : options.label_column;
  const size_t before = raw.rows.size();
  each_tagged_sentence(file, read_text(file, options.encoding), columns, [&](TaggedSentence&& sentence) {
    raw.rows.push_back({.row = {.words = std::move(sentence.words), .line = sentence.line},
                        .tags = std::move(sentence.tags),
                        .source = raw.sources.size()});
  });
  raw.names = true;
  raw.sources.push_back({.file = file, .unit = "line", .by_line = true});
  if (raw.rows.size() > before) return;
  throw Error{{.id = "data.empty-file",
               .what = "the file has no words",
               .where = file.string(),
               .fix = "Check the path, and that the file was written to its end."}};
}

void refuse_task(const DataOptions& options) {
  if (options.task_name.empty()) return;
  throw Error{{.id = "config.unknown-task",
               .what = fmt::format("no set of words with tags is known by the name {}", options.task_name),
               .where = "key 'task_name'",
               .fix = "Leave task_name out and set train_file, or dataset_dir alone."}};
}

Raw read_raw(const DataFiles& files, const DataOptions& options, Labels use) {
  refuse_task(options);
  const std::vector<fs::path> paths = find_files(files);
  Raw raw{.file = name_of(paths)};
  for (const fs::path& path : paths) {
    const Format format = format_of(path);
    if (has_word_a_line(format)) {
      add_lines(path, options, use, raw);
      continue;
    }
    if (format != Format::json && !is_of_columns(format)) {
      refuse_format(path,
                    "Use .conll, .txt or .tsv with a word a line, and .jsonl, .json, .parquet or .arrow with "
                    "lists of words and tags.");
    }
    std::string unit = "line";
    each_row(
        path.string(), options.encoding,
        [&](const Json& row, int64_t line, const std::string& where) {
          add_object(row, line, where, options, use, raw);
        },
        [&](const fs::path&, const std::string& what) { unit = what; });
    raw.sources.push_back({.file = path, .unit = unit, .by_line = false});
  }
  return raw;
}

Raw read_split(const DataOptions& options, Split split, Labels use) {
  refuse_task(options);
  const auto files = split_file(options, split);
  if (!files) throw no_file(options, option_name(split), "");
  return read_raw(*files, options, use);
}

// ---- labels ----

/// The tags of a file, each once, as a column of a table: so that a classifier's rules choose among them.
Table table_of_tags(const Raw& raw) {
  Table table;
  table.file = raw.file;
  table.columns = {raw.tag_column};
  std::map<std::string, bool> seen;
  for (const RawRow& row : raw.rows) {
    for (size_t word = 0; word < row.tags.size(); ++word) {
      if (!seen.try_emplace(row.tags[word], true).second) continue;
      const bool number = raw.numbers && parse_number(row.tags[word]);
      const int64_t line = row.row.line + (raw.sources[row.source].by_line ? static_cast<int64_t>(word) : 0);
      table.rows.push_back({.line = line, .cells = {{number ? Cell::Kind::number : Cell::Kind::bare, row.tags[word]}}});
    }
  }
  return table;
}

ChosenLabels chosen_labels(const Raw& raw, const DataOptions& options, const HeadLabels& head) {
  DataOptions plain = options;
  plain.problem_type = "single_label_classification";
  const Table table = table_of_tags(raw);
  if (table.rows.empty()) {
    throw Error{{.id = "data.empty-file",
                 .what = "no row has a word",
                 .where = raw.file.string(),
                 .fix = "Check the path, and that the file was written to its end."}};
  }
  return choose_labels(plain, nullptr, table, 0, head);
}

[[noreturn]] void refuse_tag(const std::string& tag, const LabelSet& labels, const std::string& where) {
  throw Error{{.id = tag.empty() ? "data.missing-label" : "data.unknown-label",
               .what = tag.empty()
                           ? "the word has no tag"
                           : fmt::format("the tag '{}' is not in the set {{{}}}", clipped(tag), listed(labels.names)),
               .where = where,
               .fix = suggest_names(tag, labels.names, "Mend the row, or name every tag in label_names.")}};
}

/// Says which names the numbers of a file stand for.
void warn_of_numbers(const Raw& raw, const LabelSet& labels, WordDataset& dataset) {
  if (!raw.numbers || are_default_names(labels.names) || parse_number(labels.names.at(0))) return;
  dataset.warnings.push_back(taken_as_classes(raw.tag_column, labels.names, raw.file));
}

WordDataset to_dataset(Raw raw, const LabelSet& labels) {
  WordDataset dataset{.file = raw.file};
  std::map<std::string, int64_t> known;
  for (RawRow& row : raw.rows) {
    for (size_t word = 0; word < row.tags.size(); ++word) {
      const std::string& tag = row.tags[word];
      auto found = known.find(tag);
      if (found == known.end()) {
        const auto number = tag.empty() ? std::nullopt : labels.find(tag);
        if (!number) refuse_tag(tag, labels, raw.where(row, word));
        found = known.emplace(tag, *number).first;
      }
      row.row.labels.push_back(found->second);
    }
    dataset.rows.push_back(std::move(row.row));
  }
  warn_of_numbers(raw, labels, dataset);
  return dataset;
}

std::pair<WordDataset, WordDataset> split_held_out(WordDataset dataset, double fraction, uint64_t seed) {
  WordDataset kept{.file = dataset.file}, held{.file = dataset.file};
  kept.warnings = std::move(dataset.warnings);
  hold_out_rows(dataset, fraction, seed, kept, held);
  return {std::move(kept), std::move(held)};
}

}  // namespace

WordDataset load_words(const DataFiles& files, const DataOptions& options, const LabelSet& labels, Labels use) {
  return to_dataset(read_raw(files, options, use), labels);
}

WordDataset load_word_split(const DataOptions& options, Split split, const LabelSet& labels, Labels use,
                            uint64_t seed) {
  const bool held_out = split == Split::validation && data::holds_out(options);
  WordDataset dataset = to_dataset(read_split(options, held_out ? Split::train : split, use), labels);
  if (held_out) {
    std::vector<std::string> warnings = dataset.warnings;
    dataset = split_held_out(std::move(dataset), options.validation_split, seed).second;
    dataset.warnings = std::move(warnings);
  }
  if (split == Split::validation) keep_first_rows(dataset, options.max_eval_samples);
  return dataset;
}

WordData load_word_data(const DataOptions& options, uint64_t seed, const HeadLabels& head) {
  Raw raw = read_split(options, Split::train, Labels::needed);
  ChosenLabels chosen = chosen_labels(raw, options, head);
  WordData data{.labels = std::move(chosen.labels), .new_head = chosen.new_head};
  data.warnings = std::move(chosen.warnings);
  data.train = to_dataset(std::move(raw), data.labels);
  if (data::holds_out(options)) {
    std::tie(data.train, data.validation) = split_held_out(std::move(data.train), options.validation_split, seed);
    keep_first_rows(data.validation, options.max_eval_samples);
  } else if (split_file(options, Split::validation)) {
    data.validation = load_word_split(options, Split::validation, data.labels, Labels::needed, seed);
  }
  keep_first_rows(data.train, options.max_train_samples);
  for (const WordDataset* dataset : {&data.train, &data.validation}) {
    for (const std::string& warning : dataset->warnings) data.warnings.push_back(warning);
  }
  return data;
}

}  // namespace deltaw::data
