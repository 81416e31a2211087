#include "data/tagged_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>

#include "core/ascii.h"
#include "core/suggest.h"
#include "core/text_file.h"
#include "data/labels.h"
#include "data/table.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

constexpr std::string_view kGaps = " \t\r";
constexpr std::string_view kDocument = "-DOCSTART-";

using Parts = std::vector<std::string_view>;

Parts split_at_tabs(std::string_view line) {
  Parts parts;
  for (size_t begin = 0; begin <= line.size();) {
    const size_t end = std::min(line.find('\t', begin), line.size());
    parts.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Parts split_at_blanks(std::string_view line) {
  Parts parts;
  for (size_t begin = line.find_first_not_of(kGaps); begin != std::string_view::npos;) {
    const size_t end = std::min(line.find_first_of(kGaps, begin), line.size());
    parts.push_back(line.substr(begin, end - begin));
    begin = line.find_first_not_of(kGaps, end);
  }
  return parts;
}

class Reader {
 public:
  Reader(const std::filesystem::path& file, const TaggedColumns& columns,
         const std::function<void(TaggedSentence&&)>& take)
      : file_(file), columns_(columns), take_(take) {}

  void add(std::string_view line, int64_t number) {
    if (is_blank(line)) return end();
    if (!tabs_) tabs_ = line.find('\t') != std::string_view::npos;
    const Parts fields = *tabs_ ? split_at_tabs(line) : split_at_blanks(line);
    if (fields[0] == kDocument) return end();
    if (is_comment(fields)) return;
    if (!settled_) {
      const bool header = settle(fields);
      if (header) return;
    }
    check_count(fields, number);
    if (sentence_.words.empty()) sentence_.line = number;
    sentence_.words.emplace_back(fields[text_]);
    if (columns_.tags) sentence_.tags.emplace_back(trimmed(fields[tag_]));
  }

  void end() {
    if (!sentence_.words.empty()) take_(std::move(sentence_));
    sentence_ = {};
  }

 private:
  /// CoNLL-U's "# text = ..." and what other sets write there. A word "#" has the fields of any other word.
  bool is_comment(const Parts& fields) const {
    if (!sentence_.words.empty() || fields[0] != "#") return false;
    const bool assigns = std::any_of(fields.begin(), fields.end(),
                                     [](std::string_view field) { return field.find('=') != std::string_view::npos; });
    return assigns || (settled_ && fields.size() != count_) || (!settled_ && fields.size() == 1);
  }

  /// Chooses the columns by the first line; returns whether that is a header.
  bool settle(const Parts& fields) {
    settled_ = true;
    count_ = fields.size();
    const auto text = class_number(columns_.text), tag = class_number(columns_.tag);
    const bool names_text = !columns_.text.empty() && !text, names_tag = !columns_.tag.empty() && !tag;
    const std::vector<std::string> names(fields.begin(), fields.end());
    text_ = names_text ? named(columns_.text, "text_column", names) : place(text.value_or(1), "text_column");
    if (columns_.tags) {
      tag_ = names_tag ? named(columns_.tag, "label_column", names)
                       : place(tag.value_or(static_cast<int64_t>(count_)), "label_column");
    }
    return names_text || (columns_.tags && names_tag);
  }

  size_t named(const std::string& name, const char* key, const std::vector<std::string>& names) const {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) return static_cast<size_t>(found - names.begin());
    throw Error{
        {.id = "config.missing-column",
         .what = fmt::format("the first line has no column '{}'; its fields are {}", name,
                             clipped(fmt::format("{}", fmt::join(names, ", ")))),
         .where = file_.string(),
         .fix = fmt::format("Set {} to the number of the column, from 1, or to its name in the first line.", key)}};
  }

  size_t place(int64_t number, const char* key) const {
    if (number >= 1 && number <= static_cast<int64_t>(count_)) return static_cast<size_t>(number - 1);
    throw Error{{.id = "config.missing-column",
                 .what = fmt::format("{} is {}, and the lines have {} fields", key, number, count_),
                 .where = file_.string(),
                 .fix = fmt::format("Set {} to a number from 1 to {}.", key, count_)}};
  }

  void check_count(const Parts& fields, int64_t number) const {
    const bool untagged = columns_.tags && count_ == 1;
    const bool fits = fields.size() == count_ || (!columns_.tags && fields.size() > text_);
    if (fits && !untagged) return;
    throw Error{{.id = "data.field-count",
                 .what = untagged && fits ? fmt::format("the line has a word and no tag: '{}'", clipped(fields[0]))
                                          : fmt::format("the line has {} field{}, and the first one has {}",
                                                        fields.size(), fields.size() == 1 ? "" : "s", count_),
                 .where = fmt::format("{}, line {}", file_.string(), number),
                 .fix = fmt::format("Give every word a line of its own with all its columns, {} between them, and end "
                                    "sentences with an empty line.",
                                    *tabs_ ? "a tab" : "blanks")}};
  }

  const std::filesystem::path& file_;
  const TaggedColumns& columns_;
  const std::function<void(TaggedSentence&&)>& take_;
  TaggedSentence sentence_;
  std::optional<bool> tabs_;  // between fields
  bool settled_ = false;      // the columns
  size_t count_ = 0, text_ = 0, tag_ = 0;
};

}  // namespace

void each_tagged_sentence(const std::filesystem::path& file, std::string_view text, const TaggedColumns& columns,
                          const std::function<void(TaggedSentence&&)>& take) {
  Reader reader(file, columns, take);
  each_line(text, [&](std::string_view line, int64_t number) { reader.add(line, number); });
  reader.end();
}

bool looks_tagged(std::string_view text, const std::vector<std::string>& tags) {
  const std::set<std::string_view> known(tags.begin(), tags.end());
  bool any = false, all = true;
  each_line(text, [&](std::string_view line, int64_t) {
    if (is_blank(line) || !all) return;
    const Parts fields = line.find('\t') != std::string_view::npos ? split_at_tabs(line) : split_at_blanks(line);
    all = fields[0] == kDocument || (fields.size() > 1 && known.contains(trimmed(fields.back())));
    any = any || fields[0] != kDocument;
  });
  return any && all;
}

}  // namespace deltaw::data
