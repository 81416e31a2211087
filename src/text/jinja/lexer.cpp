#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include <fmt/format.h>

#include "deltaw/error.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text::jinja {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/// With line ends as Python's templates have them, and without the last one.
std::string with_unix_lines(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      text += '\n';
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& where)
      : text_(repaired(with_unix_lines(source))), source_(text_), where_(where) {}

  std::vector<Lexeme> run() {
    while (at_ < source_.size()) {
      const size_t tag = next_tag();
      if (tag == std::string_view::npos) {
        add_data(source_.substr(at_), line_);
        break;
      }
      const char kind = source_[tag + 1];
      const size_t control = tag + 2;
      const char sign = control < source_.size() ? source_[control] : '\0';
      std::string_view data = source_.substr(at_, tag - at_);
      const int data_line = line_;
      line_ += lines_in(data);
      add_data(before_tag(data, sign, kind != '{'), data_line);
      at_ = control + (sign == '-' || sign == '+' ? 1 : 0);
      if (kind == '#') {
        skip_comment();
      } else if (kind == '%' && skip_raw()) {
        continue;
      } else {
        lex_tag(kind == '%');
      }
      line_starting_ = at_ > 0 && source_[at_ - 1] == '\n';
    }
    add(Token::end, "", line_);
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { refuse(where_, line_, what); }

  void add(Token token, std::string text, int line) { out_.push_back({token, std::move(text), line}); }
  void add_data(std::string_view data, int line) {
    if (!data.empty()) add(Token::data, std::string(data), line);
  }
  static int lines_in(std::string_view text) { return static_cast<int>(std::count(text.begin(), text.end(), '\n')); }
  std::string_view rest() const { return source_.substr(at_); }
  bool skip(std::string_view text) {
    if (!rest().starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  void skip_white() {
    const std::string_view after = strip(rest(), true, false);
    line_ += lines_in(rest().substr(0, rest().size() - after.size()));
    at_ = source_.size() - after.size();
  }
  void skip_line_end() {
    if (skip("\n")) ++line_;
  }

  size_t next_tag() const {
    for (size_t at = source_.find('{', at_); at != std::string_view::npos; at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() && std::string_view("{%#").find(source_[at + 1]) != std::string_view::npos) return at;
    }
    return std::string_view::npos;
  }

  /// The text before a tag, without the white space that the tag takes along.
  std::string_view before_tag(std::string_view data, char sign, bool lstrip) const {
    if (sign == '-') return strip(data, false, true);
    if (sign == '+' || !lstrip) return data;
    const size_t newline = data.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if (line == 0 && !line_starting_) return data;
    return strip(data.substr(line), true, false).empty() ? data.substr(0, line) : data;
  }

  /// The end of a block or comment, which takes one line end along, or all white space.
  bool skip_end(std::string_view end, bool trims) {
    const size_t start = at_;
    if (skip("-")) {
      if (skip(end)) {
        skip_white();
        return true;
      }
    } else if (trims && skip("+")) {
      if (skip(end)) return true;
    } else if (skip(end)) {
      if (trims) skip_line_end();
      return true;
    }
    at_ = start;
    return false;
  }

  void skip_comment() {
    const int start = line_;
    while (at_ < source_.size()) {
      if (skip_end("#}", true)) return;
      if (source_[at_++] == '\n') ++line_;
    }
    refuse(where_, start, "a comment has no end");
  }

  bool skip_raw() {
    const size_t start = at_;
    const int start_line = line_;
    skip_white();
    if (skip("raw")) {
      skip_white();
      const bool strips = skip("-");
      if (skip("%}")) {
        if (strips) skip_white();
        copy_raw(start_line);
        return true;
      }
    }
    at_ = start;
    line_ = start_line;
    return false;
  }

  void copy_raw(int start_line) {
    line_starting_ = source_[at_ - 1] == '\n';
    const size_t begin = at_;
    const int begin_line = line_;
    for (size_t tag = source_.find("{%", at_); tag != std::string_view::npos; tag = source_.find("{%", tag + 1)) {
      line_ = begin_line + lines_in(source_.substr(begin, tag - begin));
      at_ = tag + 2;
      const char sign = at_ < source_.size() ? source_[at_] : '\0';
      if (sign == '-' || sign == '+') ++at_;
      skip_white();
      if (!skip("endraw")) continue;
      skip_white();
      if (!skip_end("%}", true)) continue;
      add_data(before_tag(source_.substr(begin, tag - begin), sign, true), begin_line);
      line_starting_ = source_[at_ - 1] == '\n';
      return;
    }
    refuse(where_, start_line, "{% raw %} has no {% endraw %}");
  }

  void lex_tag(bool block) {
    const int start = line_;
    add(block ? Token::block_begin : Token::print_begin, "", line_);
    std::string open;  // the brackets that are not closed yet
    while (at_ < source_.size()) {
      const int end_line = line_;
      if (open.empty() && skip_end(block ? "%}" : "}}", block)) {
        add(block ? Token::block_end : Token::print_end, "", end_line);
        return;
      }
      const size_t before = at_;
      skip_white();
      if (at_ > before) continue;
      const char c = source_[at_];
      if (is_digit(c)) {
        lex_number();
      } else if (is_letter(c)) {
        const size_t begin = at_;
        while (at_ < source_.size() && (is_letter(source_[at_]) || is_digit(source_[at_]))) ++at_;
        add(Token::name, std::string(source_.substr(begin, at_ - begin)), line_);
      } else if (c == '"' || c == '\'') {
        lex_string(c);
      } else {
        lex_operator(open);
      }
    }
    refuse(where_, start, block ? "a block '{%' has no end" : "an expression '{{' has no end");
  }

  void lex_operator(std::string& open) {
    static constexpr std::array<std::string_view, 26> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                                    "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                                    ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    const auto found =
        std::find_if(kOperators.begin(), kOperators.end(), [&](std::string_view op) { return rest().starts_with(op); });
    if (found == kOperators.end()) {
      fail(fmt::format("'{}' has no meaning here", rest().substr(0, width(source_[at_]))));
    }
    const char c = source_[at_];
    if (c == '(' || c == '[' || c == '{') open += c;
    if (c == ')' || c == ']' || c == '}') {
      const char opening = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (!open.ends_with(opening)) fail(fmt::format("'{}' closes nothing", c));
      open.pop_back();
    }
    at_ += found->size();
    add(Token::op, std::string(*found), line_);
  }

  size_t digits(size_t at) const {
    while (at < source_.size() && (is_digit(source_[at]) || (source_[at] == '_' && at + 1 < source_.size() &&
                                                             is_digit(source_[at - 1]) && is_digit(source_[at + 1])))) {
      ++at;
    }
    return at;
  }

  void lex_number() {
    const size_t begin = at_;
    at_ = digits(at_);
    bool real = false;
    const bool after_dot = begin > 0 && source_[begin - 1] == '.';
    if (!after_dot && at_ + 1 < source_.size() && source_[at_] == '.' && is_digit(source_[at_ + 1])) {
      real = true;
      at_ = digits(at_ + 1);
    }
    if (!after_dot && at_ < source_.size() && (source_[at_] == 'e' || source_[at_] == 'E')) {
      size_t exponent = at_ + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
      if (exponent < source_.size() && is_digit(source_[exponent])) {
        real = true;
        at_ = digits(exponent);
      }
    }
    std::string text(source_.substr(begin, at_ - begin));
    std::erase(text, '_');
    if (at_ < source_.size() && is_letter(source_[at_])) fail(fmt::format("the number '{}...'", text));
    if (!real && text.size() > 1 && text[0] == '0') fail(fmt::format("the number '{}'", text));
    add(real ? Token::real : Token::integer, std::move(text), line_);
  }

  void lex_string(char quote) {
    const int line = line_;
    std::string text;
    for (++at_; at_ < source_.size() && source_[at_] != quote;) {
      if (source_[at_] == '\n') ++line_;
      if (source_[at_] != '\\') {
        text += source_[at_++];
      } else {
        ++at_;
        if (at_ < source_.size()) lex_escape(text);
      }
    }
    if (at_ >= source_.size()) refuse(where_, line, "a string has no end");
    ++at_;
    add(Token::string, std::move(text), line);
  }

  void lex_escape(std::string& text) {
    static constexpr std::string_view kFrom = "abfnrtv\\'\"", kTo = "\a\b\f\n\r\t\v\\'\"";
    const char c = source_[at_];
    if (static_cast<unsigned char>(c) >= 0x80) fail("a backslash before a character outside ASCII");
    ++at_;
    if (c == '\n') {
      ++line_;
    } else if (const size_t known = kFrom.find(c); known != std::string_view::npos) {
      text += kTo[known];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      append(text, number(c == 'x' ? 2 : c == 'u' ? 4 : 8, 16, true));
    } else if (c >= '0' && c <= '7') {
      --at_;
      append(text, number(3, 8, false));
    } else if (c == 'N') {
      fail("the escape '\\N'");
    } else {
      text += {'\\', c};
    }
  }

  char32_t number(size_t most, uint32_t base, bool all) {
    uint32_t value = 0;
    size_t count = 0;
    for (; count < most && at_ < source_.size(); ++count, ++at_) {
      const char c = source_[at_];
      const uint32_t digit = is_digit(c)            ? static_cast<uint32_t>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<uint32_t>(c - 'a' + 10)
                             : c >= 'A' && c <= 'F' ? static_cast<uint32_t>(c - 'A' + 10)
                                                    : 99;
      if (digit >= base) break;
      value = value * base + digit;
    }
    if ((all && count < most) || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
      fail("an escape in a string is no character");
    }
    return value;
  }

  const std::string text_;
  const std::string_view source_;
  const std::string& where_;
  std::vector<Lexeme> out_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
};

}  // namespace

void refuse(const std::string& where, int line, const std::string& what, const std::string& fix) {
  throw Error({.id = "format.chat-template",
               .what = what,
               .where = fmt::format("{}, line {}", where, line),
               .fix = fix.empty() ? "docs/chat_templates.md lists what chat templates may use" : fix});
}

bool is_white(char32_t c) {
  return is_space(c) || (c >= 0x1C && c <= 0x1F);
}

std::string_view strip(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    const auto [c, bytes] = decode(text, 0);
    if (!is_white(c)) break;
    text.remove_prefix(bytes);
  }
  while (right && !text.empty()) {
    const size_t last = last_start(text);
    if (!is_white(decode(text, last).value)) break;
    text = text.substr(0, last);
  }
  return text;
}

std::vector<Lexeme> lex(std::string_view source, const std::string& where) {
  return Lexer(source, where).run();
}

}  // namespace deltaw::text::jinja
