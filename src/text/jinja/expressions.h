// The part of a template's grammar between the braces: expressions, filters and tests, to trees.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "text/jinja/ast.h"
#include "text/jinja/lexemes.h"

namespace deltaw::text::jinja {

constexpr int kMaxDepth = 200;

/// Each function takes the lexemes of what it is named after, or fails with the line of the first that does not belong.
class Expressions : protected Lexemes {
 public:
  using Lexemes::Lexemes;

 protected:
  NodePtr node(NodeKind kind, int line, std::string name = "") const;
  void adopt(Node& parent, NodePtr child) const;
  template <class... Children>
  NodePtr node_of(NodeKind kind, int line, std::string name, Children... children) const {
    NodePtr made = node(kind, line, std::move(name));
    (adopt(*made, std::move(children)), ...);
    return made;
  }

  /// Counts how deep the parser has called itself.
  class Level {
   public:
    explicit Level(Expressions& parser) : parser_(parser) {
      if (++parser_.level_ > kMaxDepth) parser_.fail(fmt::format("nested deeper than {}", kMaxDepth));
    }
    ~Level() { --parser_.level_; }

   private:
    Expressions& parser_;
  };

  /// One expression, or several between commas; `a if b` is one only `with_condition`.
  NodePtr parse_tuple(bool with_condition);
  NodePtr parse_expression();
  NodePtr parse_filter(NodePtr subject);
  NodePtr parse_filters(NodePtr made, bool with_tests);

  std::vector<std::pair<std::string, int>> called_;  // functions that are not built in, and the lines of their calls

 private:
  NodePtr parse_or();
  NodePtr parse_and();
  NodePtr parse_not();
  NodePtr parse_compare();
  template <class Operand>
  NodePtr parse_binary(Words operators, Operand operand);
  NodePtr parse_sum();
  NodePtr parse_concat();
  NodePtr parse_product();
  NodePtr parse_power();
  NodePtr parse_unary(bool with_filters);
  NodePtr parse_primary();
  NodePtr parse_name(int line, const std::string& name);
  NodePtr parse_parentheses(int line);
  template <class Item>
  void parse_items(Node& parent, std::string_view close, Item item);
  NodePtr parse_postfix(NodePtr made);
  NodePtr parse_subscript(int line, NodePtr object);
  NodePtr parse_call(NodePtr callee);
  void parse_arguments(Node& call);
  NodePtr parse_test(NodePtr subject);
  NodePtr constant(int line, Value value) const;
  bool among_ends() const;
  void check_inner_name(const Node& filter) const;

  int level_ = 0;
};

}  // namespace deltaw::text::jinja
