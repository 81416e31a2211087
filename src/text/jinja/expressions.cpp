#include "text/jinja/expressions.h"

#include <charconv>

#include "text/jinja/functions.h"

namespace deltaw::text::jinja {

NodePtr Expressions::node(NodeKind kind, int line, std::string name) const {
  auto made = std::make_unique<Node>();
  made->kind = kind;
  made->line = line;
  made->name = std::move(name);
  return made;
}

void Expressions::adopt(Node& parent, NodePtr child) const {
  if (child) {
    parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > kMaxDepth) refuse(where_, child->line, fmt::format("nested deeper than {}", kMaxDepth));
  }
  parent.children.push_back(std::move(child));
}

NodePtr Expressions::parse_tuple(bool with_condition) {
  const int line = now().line;
  NodePtr first = with_condition ? parse_expression() : parse_or();
  if (!now().is_op(",")) return first;
  NodePtr tuple = node_of(NodeKind::tuple, line, "", std::move(first));
  while (skip_op(",")) {
    if (among_ends()) break;
    adopt(*tuple, with_condition ? parse_expression() : parse_or());
  }
  return tuple;
}

bool Expressions::among_ends() const {
  return now().token == Token::print_end || now().token == Token::block_end || now().is_op(")");
}

NodePtr Expressions::parse_expression() {
  const Level level(*this);
  const int line = now().line;
  NodePtr value = parse_or();
  while (skip_name("if")) {
    NodePtr condition = parse_or();
    NodePtr otherwise;
    if (skip_name("else")) otherwise = parse_expression();
    value = node_of(NodeKind::conditional, line, "", std::move(value), std::move(condition), std::move(otherwise));
  }
  return value;
}

NodePtr Expressions::parse_or() {
  const int line = now().line;
  NodePtr left = parse_and();
  while (skip_name("or")) left = node_of(NodeKind::or_, line, "", std::move(left), parse_and());
  return left;
}

NodePtr Expressions::parse_and() {
  const int line = now().line;
  NodePtr left = parse_not();
  while (skip_name("and")) left = node_of(NodeKind::and_, line, "", std::move(left), parse_not());
  return left;
}

NodePtr Expressions::parse_not() {
  const Level level(*this);
  const int line = now().line;
  if (skip_name("not")) return node_of(NodeKind::not_, line, "", parse_not());
  return parse_compare();
}

NodePtr Expressions::parse_compare() {
  const int line = now().line;
  NodePtr first = parse_sum();
  NodePtr made;
  while (true) {
    std::string op;
    if (now().token == Token::op && among({"==", "!=", "<", "<=", ">", ">="}, now().text)) {
      op = take().text;
    } else if (skip_name("in")) {
      op = "in";
    } else if (now().is_name("not") && next().is_name("in")) {
      take();
      take();
      op = "not in";
    } else {
      return made ? std::move(made) : std::move(first);
    }
    if (!made) made = node_of(NodeKind::compare, line, "", std::move(first));
    made->names.push_back(op);
    adopt(*made, parse_sum());
  }
}

template <class Operand>
NodePtr Expressions::parse_binary(Words operators, Operand operand) {
  const int line = now().line;
  NodePtr left = operand();
  while (now().token == Token::op && among(operators, now().text)) {
    std::string op = take().text;
    left = node_of(NodeKind::binary, line, std::move(op), std::move(left), operand());
  }
  return left;
}

NodePtr Expressions::parse_sum() {
  return parse_binary({"+", "-"}, [this] { return parse_concat(); });
}

NodePtr Expressions::parse_concat() {
  const int line = now().line;
  NodePtr first = parse_product();
  if (!now().is_op("~")) return first;
  NodePtr made = node_of(NodeKind::concat, line, "", std::move(first));
  while (skip_op("~")) adopt(*made, parse_product());
  return made;
}

NodePtr Expressions::parse_product() {
  return parse_binary({"*", "/", "//", "%"}, [this] { return parse_power(); });
}

NodePtr Expressions::parse_power() {
  return parse_binary({"**"}, [this] { return parse_unary(true); });
}

NodePtr Expressions::parse_unary(bool with_filters) {
  const Level level(*this);
  const int line = now().line;
  NodePtr made;
  if (skip_op("-")) {
    made = node_of(NodeKind::negative, line, "", parse_unary(false));
  } else if (skip_op("+")) {
    made = node_of(NodeKind::positive, line, "", parse_unary(false));
  } else {
    made = parse_primary();
  }
  made = parse_postfix(std::move(made));
  return with_filters ? parse_filters(std::move(made), true) : std::move(made);
}

NodePtr Expressions::constant(int line, Value value) const {
  NodePtr made = node(NodeKind::constant, line);
  made->value = std::move(value);
  return made;
}

NodePtr Expressions::parse_primary() {
  const int line = now().line;
  switch (now().token) {
    case Token::name:
      return parse_name(line, take().text);
    case Token::string: {
      std::string text;
      while (now().token == Token::string) text += take().text;
      return constant(line, Value::string(std::move(text)));
    }
    case Token::integer: {
      const std::string digits = take().text;
      int64_t value = 0;
      const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (read.ec != std::errc{}) refuse(where_, line, fmt::format("the number {} is beyond 64 bits", digits));
      return constant(line, Value::integer(value));
    }
    case Token::real: {
      const std::string digits = take().text;
      double value = 0;
      if (std::from_chars(digits.data(), digits.data() + digits.size(), value).ec != std::errc{}) {
        refuse(where_, line, fmt::format("the number {} is out of range", digits));
      }
      return constant(line, Value::real(value));
    }
    case Token::op:
      if (skip_op("(")) return parse_parentheses(line);
      if (skip_op("[")) {
        NodePtr list = node(NodeKind::list, line);
        parse_items(*list, "]", [&] { adopt(*list, parse_expression()); });
        return list;
      }
      if (skip_op("{")) {
        NodePtr dict = node(NodeKind::dict, line);
        parse_items(*dict, "}", [&] {
          adopt(*dict, parse_expression());
          expect_op(":");
          adopt(*dict, parse_expression());
        });
        return dict;
      }
      [[fallthrough]];
    default:
      fail(fmt::format("expected an expression, found {}", shown(now())));
  }
}

NodePtr Expressions::parse_name(int line, const std::string& name) {
  if (name == "true" || name == "True") return constant(line, Value::boolean(true));
  if (name == "false" || name == "False") return constant(line, Value::boolean(false));
  if (name == "none" || name == "None") return constant(line, Value::none());
  if (among({"cycler", "joiner", "lipsum", "self", "super", "caller", "varargs", "kwargs"}, name)) {
    refuse(where_, line, fmt::format("the name '{}' is not among those of chat templates", name));
  }
  return node(NodeKind::variable, line, name);
}

NodePtr Expressions::parse_parentheses(int line) {
  if (skip_op(")")) return node(NodeKind::tuple, line);
  NodePtr inner = parse_tuple(true);
  expect_op(")");
  return inner;
}

template <class Item>
void Expressions::parse_items(Node& parent, std::string_view close, Item item) {
  while (!now().is_op(close)) {
    if (parent.children.size()) expect_op(",");
    if (now().is_op(close)) break;
    item();
  }
  expect_op(close);
}

NodePtr Expressions::parse_postfix(NodePtr made) {
  while (true) {
    const int line = now().line;
    if (skip_op(".")) {
      if (now().token == Token::integer) {
        made = node_of(NodeKind::item, line, "", std::move(made), parse_primary());
      } else {
        made = node_of(NodeKind::attribute, line, expect_name(), std::move(made));
      }
    } else if (skip_op("[")) {
      made = parse_subscript(line, std::move(made));
    } else if (now().is_op("(")) {
      made = parse_call(std::move(made));
    } else {
      return made;
    }
  }
}

NodePtr Expressions::parse_subscript(int line, NodePtr object) {
  NodePtr parts[3];
  size_t count = 0;
  bool slice = false;
  while (!now().is_op("]")) {
    if (skip_op(":")) {
      slice = true;
      if (++count > 2) fail("a slice has at most three parts");
    } else if (parts[count]) {
      fail(fmt::format("expected ']', found {}", shown(now())));
    } else {
      parts[count] = parse_expression();
    }
  }
  if (!slice && !parts[0]) fail("expected an index, found ']'");
  expect_op("]");
  if (!slice) return node_of(NodeKind::item, line, "", std::move(object), std::move(parts[0]));
  return node_of(NodeKind::slice, line, "", std::move(object), std::move(parts[0]), std::move(parts[1]),
                 std::move(parts[2]));
}

NodePtr Expressions::parse_call(NodePtr callee) {
  const int line = callee->line;
  if (callee->kind == NodeKind::variable) {
    if (!find_global(callee->name)) called_.emplace_back(callee->name, line);
  } else if (callee->kind != NodeKind::attribute) {
    refuse(where_, line, "a call of what is neither a function nor a method");
  } else if (!is_method(callee->name)) {
    refuse(where_, line, fmt::format("the method '{}()' is not among those of chat templates", callee->name));
  }
  NodePtr made = node_of(NodeKind::call, line, "", std::move(callee));
  parse_arguments(*made);
  return made;
}

void Expressions::parse_arguments(Node& call) {
  expect_op("(");
  for (bool first = true; !now().is_op(")"); first = false) {
    if (!first) expect_op(",");
    if (now().is_op(")")) break;
    if (now().is_op("*") || now().is_op("**")) fail(fmt::format("the argument list '{}...'", now().text));
    if (now().token == Token::name && next().is_op("=")) {
      call.names.push_back(take().text);
      take();
    } else if (call.names.size()) {
      fail("a positional argument after a named one");
    }
    adopt(call, parse_expression());
  }
  expect_op(")");
}

NodePtr Expressions::parse_filters(NodePtr made, bool with_tests) {
  while (true) {
    if (now().is_op("|")) {
      take();
      made = parse_filter(std::move(made));
    } else if (with_tests && now().is_name("is")) {
      made = parse_test(std::move(made));
    } else if (now().is_op("(")) {
      made = parse_call(std::move(made));
    } else {
      return made;
    }
  }
}

NodePtr Expressions::parse_filter(NodePtr subject) {
  const int line = now().line;
  NodePtr made = node_of(NodeKind::filter, line, expect_name(), std::move(subject));
  if (!find_filter(made->name)) {
    refuse(where_, line, fmt::format("the filter '{}' is not among those of chat templates", made->name));
  }
  if (now().is_op("(")) parse_arguments(*made);
  check_inner_name(*made);
  return made;
}

// map, select, ... take the name of a filter or test as text.
void Expressions::check_inner_name(const Node& filter) const {
  const bool maps = filter.name == "map";
  const size_t at = maps || filter.name == "select" || filter.name == "reject"   ? 1
                    : filter.name == "selectattr" || filter.name == "rejectattr" ? 2
                                                                                 : 0;
  if (at == 0 || filter.children.size() - filter.names.size() <= at) return;
  const Node& name = *filter.children[at];
  if (name.kind != NodeKind::constant || !name.value.is(Kind::string)) return;
  const std::string& text = name.value.text();
  if (!(maps ? find_filter(text) : find_test(text))) {
    refuse(where_, filter.line,
           fmt::format("the {} '{}' is not among those of chat templates", maps ? "filter" : "test", text));
  }
}

NodePtr Expressions::parse_test(NodePtr subject) {
  const int line = take().line;
  const bool negated = skip_name("not");
  NodePtr made = node_of(NodeKind::test, line, expect_name(), std::move(subject));
  if (!find_test(made->name)) {
    refuse(where_, line, fmt::format("the test '{}' is not among those of chat templates", made->name));
  }
  const Token token = now().token;
  if (now().is_op("(")) {
    parse_arguments(*made);
  } else if ((token == Token::name && !among({"else", "or", "and"}, now().text)) || token == Token::string ||
             token == Token::integer || token == Token::real || now().is_op("[") || now().is_op("{")) {
    if (now().is_name("is")) fail("one test after another with 'is'");
    adopt(*made, parse_postfix(parse_primary()));
  }
  return negated ? node_of(NodeKind::not_, line, "", std::move(made)) : std::move(made);
}

}  // namespace deltaw::text::jinja
