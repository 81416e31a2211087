// The tokens of a template, taken one by one.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "text/jinja/lexer.h"

namespace deltaw::text::jinja {

using Words = std::initializer_list<std::string_view>;

inline bool among(Words names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class Lexemes {
 public:
  Lexemes(std::vector<Lexeme> lexemes, const std::string& where) : where_(where), lexemes_(std::move(lexemes)) {}

 protected:
  const Lexeme& now() const { return lexemes_[at_]; }
  const Lexeme& next() const { return lexemes_[std::min(at_ + 1, lexemes_.size() - 1)]; }
  Lexeme take() { return at_ + 1 < lexemes_.size() ? lexemes_[at_++] : lexemes_[at_]; }
  [[noreturn]] void fail(const std::string& what) const { refuse(where_, now().line, what); }

  std::string shown(const Lexeme& lexeme) const {
    switch (lexeme.token) {
      case Token::data:
        return "text";
      case Token::print_begin:
        return "'{{'";
      case Token::print_end:
        return "'}}'";
      case Token::block_begin:
        return "'{%'";
      case Token::block_end:
        return "'%}'";
      case Token::end:
        return "the end of the template";
      default:
        return fmt::format("'{}'", lexeme.text);
    }
  }
  bool skip_op(std::string_view op) {
    if (!now().is_op(op)) return false;
    take();
    return true;
  }
  bool skip_name(std::string_view name) {
    if (!now().is_name(name)) return false;
    take();
    return true;
  }
  void expect_op(std::string_view op) {
    if (!skip_op(op)) fail(fmt::format("expected '{}', found {}", op, shown(now())));
  }
  std::string expect_name() {
    if (now().token != Token::name) fail(fmt::format("expected a name, found {}", shown(now())));
    return take().text;
  }
  void expect(Token token, const char* what) {
    if (now().token != token) fail(fmt::format("expected {}, found {}", what, shown(now())));
    take();
  }
  void expect_block_end() { expect(Token::block_end, "'%}'"); }

  const std::string& where_;

 private:
  const std::vector<Lexeme> lexemes_;
  size_t at_ = 0;
};

}  // namespace deltaw::text::jinja
