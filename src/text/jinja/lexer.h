// A template cut into text and the tokens between its braces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deltaw::text::jinja {

enum class Token : unsigned char {
  data,  // text outside of braces, white space control done
  print_begin,
  print_end,
  block_begin,
  block_end,
  name,
  string,  // unescaped, without its quotes
  integer,
  real,
  op,
  end,
};

struct Lexeme {
  Token token;
  std::string text;
  int line;

  bool is_op(std::string_view op) const { return token == Token::op && text == op; }
  bool is_name(std::string_view name) const { return token == Token::name && text == name; }
};

/// Throws format.chat-template naming `where` and the line.
[[noreturn]] void refuse(const std::string& where, int line, const std::string& what, const std::string& fix = "");

/// The tokens of a template, with trim_blocks and lstrip_blocks; the last is Token::end. Throws as refuse.
std::vector<Lexeme> lex(std::string_view source, const std::string& where);

/// What Python calls white space, from either end or both.
std::string_view strip(std::string_view text, bool left, bool right);
bool is_white(char32_t c);

}  // namespace deltaw::text::jinja
