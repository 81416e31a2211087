#include "text/tokenizer/regex_syntax.h"

#include <array>
#include <stdexcept>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "text/tokenizer/unicode.h"

namespace deltaw::text {
namespace {

// PCRE2 counts U+180E as space, leaves marks and joining punctuation out of \w, and reads \h as blanks.
constexpr std::string_view kSpace = R"(\t-\r\x20\x{85}\p{Z})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr std::string_view kHex = "0-9a-fA-F";

constexpr std::array<std::pair<std::string_view, std::string_view>, 22> kCategories{{
    {"Letter", "L"},
    {"Lowercase_Letter", "Ll"},
    {"Uppercase_Letter", "Lu"},
    {"Titlecase_Letter", "Lt"},
    {"Modifier_Letter", "Lm"},
    {"Other_Letter", "Lo"},
    {"Mark", "M"},
    {"Nonspacing_Mark", "Mn"},
    {"Spacing_Mark", "Mc"},
    {"Enclosing_Mark", "Me"},
    {"Number", "N"},
    {"Decimal_Number", "Nd"},
    {"Letter_Number", "Nl"},
    {"Other_Number", "No"},
    {"Punctuation", "P"},
    {"Symbol", "S"},
    {"Math_Symbol", "Sm"},
    {"Currency_Symbol", "Sc"},
    {"Modifier_Symbol", "Sk"},
    {"Other_Symbol", "So"},
    {"Separator", "Z"},
    {"Other", "C"},
}};

class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  std::string run() {
    while (at_ < in_.size()) step();
    return std::move(out_);
  }

 private:
  bool next_is(std::string_view text) const { return in_.substr(at_, text.size()) == text; }

  void step() {
    const char c = in_[at_];
    if (c == '\\') {
      atom();
      escape(false);
    } else if (c == '[') {
      atom();
      character_class();
    } else if (c == '(') {
      groups_.push_back(out_.size());
      open_group();
    } else if (c == ')') {
      if (!groups_.empty()) {
        atom_ = groups_.back();
        groups_.pop_back();
      }
      copy(1);
    } else if (c == '{') {
      interval();
    } else {
      if (c != '*' && c != '+' && c != '?') atom();
      copy(width(c));
    }
  }

  void atom() { atom_ = out_.size(); }

  void copy(size_t bytes) {
    const std::string_view copied = in_.substr(at_, bytes);
    out_.append(copied);
    at_ += copied.size();
  }

  void open_group() {
    const size_t start = at_;
    copy(1);
    if (!next_is("?")) return;
    copy(1);
    // Inline options: Oniguruma's (?m) is PCRE2's (?s); its own ^ and $ always match at lines.
    size_t end = at_;
    while (end < in_.size() && std::string_view("imx-").find(in_[end]) != std::string_view::npos) ++end;
    if (end > at_ && end < in_.size() && (in_[end] == ':' || in_[end] == ')')) {
      for (; at_ < end; ++at_) out_.push_back(in_[at_] == 'm' ? 's' : in_[at_]);
      if (in_[at_] == ')') groups_.pop_back();
      copy(1);
      return;
    }
    if (at_ < in_.size() && std::string_view(":=!><#").find(in_[at_]) == std::string_view::npos) {
      throw std::invalid_argument(fmt::format("the group {} at byte {} is not supported", in_.substr(start, 3), start));
    }
  }

  /// `{2,3}+` repeats the repetition; PCRE2 would make it possessive.
  void interval() {
    const size_t end = in_.find('}', at_);
    const std::string_view body = in_.substr(at_ + 1, end == std::string_view::npos ? 0 : end - at_ - 1);
    if (body.empty() || body.find_first_not_of("0123456789,") != std::string_view::npos) {
      atom();
      out_.push_back('\\');
      copy(1);
      return;
    }
    if (body.front() == ',') {
      out_.append("{0");
      ++at_;
    }
    copy(end + 1 - at_);
    if (next_is("+")) {
      out_.insert(atom_, "(?:");
      out_.push_back(')');
    }
  }

  void escape(bool in_class) {
    if (at_ + 1 >= in_.size()) throw std::invalid_argument("it ends with a backslash");
    const char c = in_[at_ + 1];
    const auto emit = [&](std::string_view set, bool negated) {
      if (in_class && negated) {
        throw std::invalid_argument(fmt::format("\\{} inside a class is not supported", c));
      }
      out_.append(in_class ? "" : negated ? "[^" : "[").append(set).append(in_class ? "" : "]");
      at_ += 2;
    };
    switch (c) {
      case 's':
        return emit(kSpace, false);
      case 'S':
        if (in_class) return copy(2);  // differs at U+180E only
        return emit(kSpace, true);
      case 'w':
        return emit(kWord, false);
      case 'W':
        return emit(kWord, true);
      case 'h':
        return emit(kHex, false);
      case 'H':
        return emit(kHex, true);
      case 'p':
      case 'P':
        return property();
      case 'b':
      case 'B':
        if (!in_class) return boundary(c == 'b');
        return copy(2);
      default:
        copy(1);
        copy(width(in_[at_]));
    }
  }

  void boundary(bool at_boundary) {
    const std::string word = fmt::format("[{}]", kWord);
    out_.append(at_boundary ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word)
                            : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word));
    at_ += 2;
  }

  void property() {
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{') return copy(2);
    const size_t end = in_.find('}', at_);
    if (end == std::string_view::npos) throw std::invalid_argument("a \\p{ is not closed");
    std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    bool negated = in_[at_ + 1] == 'P';
    if (!name.empty() && name.front() == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::string_view prefix = name.size() > 2 && name != "Any" && name != "Alphabetic" ? "sc:" : "";
    for (const auto& [full, brief] : kCategories) {
      if (name != full) continue;
      name = brief;
      prefix = "";
    }
    out_.append(fmt::format("\\{}{{{}{}}}", negated ? 'P' : 'p', prefix, name));
    at_ = end + 1;
  }

  void character_class() {
    copy(1);
    if (next_is("^")) copy(1);
    if (next_is("]")) {
      out_.push_back('\\');
      copy(1);
    }
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '\\') {
        escape(true);
      } else if (next_is("[:")) {
        const size_t end = in_.find(":]", at_);
        if (end == std::string_view::npos) throw std::invalid_argument("a [: is not closed");
        copy(end + 2 - at_);
      } else if (in_[at_] == '[' || next_is("&&")) {
        throw std::invalid_argument(fmt::format("nested or intersected classes (byte {}) are not supported", at_));
      } else {
        copy(width(in_[at_]));
      }
    }
    if (at_ >= in_.size()) throw std::invalid_argument("a [ is not closed");
    copy(1);
  }

  std::string_view in_;
  std::string out_;
  size_t at_ = 0;
  size_t atom_ = 0;  // where the last atom begins in out_
  std::vector<size_t> groups_;
};

}  // namespace

std::string pcre_syntax(std::string_view oniguruma) {
  return Translator(oniguruma).run();
}

}  // namespace deltaw::text
