#include "tasks/fill_mask/texts.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/ascii.h"
#include "data/file_formats.h"
#include "data/find_files.h"
#include "data/hold_out.h"
#include "data/no_rows.h"
#include "deltaw/error.h"
#include "tasks/common/text_files.h"

namespace deltaw::fill_mask {
namespace {

namespace fs = std::filesystem;

void add_lines(const fs::path& file, const std::string& encoding, Dataset& texts) {
  Dataset lines = tasks::read_lines(file, encoding);
  std::erase_if(lines.rows, [](const Example& row) { return is_blank(row.text); });
  if (lines.rows.empty()) {
    throw Error({.id = "data.empty-file",
                 .what = "the file has no text",
                 .where = file.string(),
                 .fix = "check the path, and that the file was written to its end"});
  }
  std::move(lines.rows.begin(), lines.rows.end(), std::back_inserter(texts.rows));
}

/// Rows one behind the other, cut into blocks.
class Blocks {
 public:
  Blocks(const EncodeTexts& options, EncodedTexts& into)
      : length_(static_cast<size_t>(options.max_length)), most_(static_cast<size_t>(options.most)), into_(into) {}

  void add(const EncodedRow& row, const Units& units) {
    append(waiting_.ids, row.ids);
    append(waiting_.type_ids, row.type_ids);
    // A unit of another text is another one.
    for (const int64_t unit : units) units_.push_back(unit < 0 ? unit : unit + next_unit_);
    next_unit_ += count_units(units);
    size_t begin = 0;
    for (; length_ > 0 && units_.size() - begin >= length_ && !full(); begin += length_) cut(begin, length_);
    drop(begin);
  }

  void finish() {
    if (!units_.empty() && !full()) cut(0, units_.size());
  }

  bool full() const { return most_ > 0 && into_.rows.size() >= most_; }

 private:
  static void append(std::vector<int64_t>& to, const std::vector<int64_t>& more) {
    to.insert(to.end(), more.begin(), more.end());
  }

  static std::vector<int64_t> part(const std::vector<int64_t>& whole, size_t begin, size_t length) {
    if (whole.empty()) return {};
    const auto first = whole.begin() + static_cast<std::ptrdiff_t>(begin);
    return {first, first + static_cast<std::ptrdiff_t>(length)};
  }

  void drop(size_t count) {
    for (std::vector<int64_t>* list : {&waiting_.ids, &waiting_.type_ids, &units_}) {
      if (!list->empty()) list->erase(list->begin(), list->begin() + static_cast<std::ptrdiff_t>(count));
    }
  }

  void cut(size_t begin, size_t length) {
    Units units = part(units_, begin, length);
    const auto first = std::find_if(units.begin(), units.end(), [](int64_t unit) { return unit >= 0; });
    if (first == units.end()) return;
    const int64_t offset = *first;
    for (int64_t& unit : units) unit = std::max<int64_t>(-1, unit - offset);
    into_.rows.push_back({.ids = part(waiting_.ids, begin, length),
                          .type_ids = part(waiting_.type_ids, begin, length),
                          .index = static_cast<int64_t>(into_.rows.size())});
    into_.units.push_back(std::move(units));
  }

  size_t length_, most_;
  EncodedTexts& into_;
  EncodedRow waiting_;  // to be cut
  Units units_;         // its own
  int64_t next_unit_ = 0;
};

Encoding encoding_of(const Example& text, const Tokenizer& tokenizer, int64_t max_length) {
  const EncodeOptions options{.max_length = max_length};
  return text.has_pair ? tokenizer.encode(text.text, text.text_pair, options) : tokenizer.encode(text.text, options);
}

}  // namespace

void RowOptions::fields(FieldVisitor& f) {
  f.field("line_by_line", line_by_line,
          "A line or a row of the file is a row of its own; else all texts are joined and cut into blocks of "
          "max_length tokens.");
}

Dataset read_texts(const DataFiles& files, const DataOptions& data) {
  const std::vector<fs::path> paths = data::find_files(files);
  const bool rows = data::holds_rows(paths.front());
  for (const fs::path& path : paths) {
    if (data::holds_rows(path) == rows) continue;
    throw Error({.id = "config.file-format",
                 .what = fmt::format("{} holds {}, and this file {}", paths.front().string(),
                                     rows ? "rows" : "lines of text", rows ? "lines of text" : "rows"),
                 .where = path.string(),
                 .fix = "give files of one kind"});
  }
  if (rows) return load_file(files, data, {}, Labels::ignored);
  Dataset texts{.file = data::name_of(paths)};
  for (const fs::path& path : paths) add_lines(path, data.encoding, texts);
  return texts;
}

Dataset read_split(const DataOptions& data, Split split, uint64_t seed) {
  const bool held_out = split == Split::validation && data::holds_out(data);
  const auto files = split_file(data, held_out ? Split::train : split);
  if (!files) throw data::no_file(data, data::option_name(held_out ? Split::train : split), "");
  Dataset texts = read_texts(*files, data);
  if (split == Split::test || !data::holds_out(data)) return texts;
  auto [kept, out] = hold_out(std::move(texts), data.validation_split, seed);
  return held_out ? std::move(out) : std::move(kept);
}

EncodedTexts encode_texts(const Dataset& texts, const Tokenizer& tokenizer, const EncodeTexts& options) {
  EncodedTexts encoded;
  Blocks blocks(options, encoded);
  for (const Example& text : texts.rows) {
    if (blocks.full()) break;
    Encoding encoding = encoding_of(text, tokenizer, options.line_by_line ? options.max_length : 0);
    Units units = units_of(encoding, tokenizer, options.whole_words);
    if (count_units(units) == 0) {
      ++encoded.left_out;
      continue;
    }
    EncodedRow row{.ids = std::move(encoding.ids),
                   .type_ids = tokenizer.gives_type_ids() ? std::move(encoding.type_ids) : std::vector<int64_t>(),
                   .index = static_cast<int64_t>(encoded.rows.size()),
                   .truncated = encoding.truncated ? 1 : 0};
    if (!options.line_by_line) {
      blocks.add(row, units);
      continue;
    }
    encoded.rows.push_back(std::move(row));
    encoded.units.push_back(std::move(units));
  }
  if (!options.line_by_line) blocks.finish();
  return encoded;
}

}  // namespace deltaw::fill_mask
