#include "text/jinja_parser.h"

#include <charconv>
#include <set>

#include <fmt/format.h>

#include "text/jinja_functions.h"
#include "text/jinja_lexemes.h"

namespace deltaw::text::jinja {
namespace {

constexpr int kMaxDepth = 200;

class Parser : Lexemes {
 public:
  using Lexemes::Lexemes;

  Body parse_template() {
    Body body = parse_body({});
    for (const auto& [name, line] : called_) {
      if (!assigned_.count(name)) refuse(where_, line, fmt::format("the function '{}' is not known", name));
    }
    return body;
  }

 private:
  // Tree

  NodePtr node(NodeKind kind, int line, std::string name = "") const {
    auto made = std::make_unique<Node>();
    made->kind = kind;
    made->line = line;
    made->name = std::move(name);
    return made;
  }
  void adopt(Node& parent, NodePtr child) const {
    if (child) {
      parent.depth = std::max(parent.depth, child->depth + 1);
      if (parent.depth > kMaxDepth) refuse(where_, child->line, fmt::format("nested deeper than {}", kMaxDepth));
    }
    parent.children.push_back(std::move(child));
  }
  template <class... Children>
  NodePtr node_of(NodeKind kind, int line, std::string name, Children... children) const {
    NodePtr made = node(kind, line, std::move(name));
    (adopt(*made, std::move(children)), ...);
    return made;
  }

  /// Counts how deep the parser has called itself.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.level_ > kMaxDepth) parser_.fail(fmt::format("nested deeper than {}", kMaxDepth));
    }
    ~Level() { --parser_.level_; }

   private:
    Parser& parser_;
  };

  // Statements

  /// Statements up to a block whose name is in `ends`; that name is the token at hand then.
  Body parse_body(Words ends) {
    const Level level(*this);
    Body body;
    while (true) {
      const int line = now().line;
      if (now().token == Token::end) {
        if (ends.size()) fail(fmt::format("expected '{}', found the end of the template", *(ends.end() - 1)));
        return body;
      }
      if (now().token == Token::data) {
        body.push_back(node(NodeKind::data, line, take().text));
      } else if (now().token == Token::print_begin) {
        take();
        body.push_back(node_of(NodeKind::print, line, "", parse_tuple(true)));
        expect(Token::print_end, "'}}'");
      } else {
        expect(Token::block_begin, "'{%'");
        if (now().token == Token::name && among(ends, now().text)) return body;
        body.push_back(parse_statement());
      }
    }
  }
  /// The same, when only one name ends it.
  Body parse_body_until(std::string_view end) {
    Body body = parse_body({end});
    take();
    expect_block_end();
    return body;
  }

  NodePtr parse_statement() {
    const int line = now().line;
    const std::string name = expect_name();
    if (name == "if") return parse_if(line);
    if (name == "for") return parse_for(line);
    if (name == "set") return parse_set(line);
    if (name == "macro") return parse_macro(line);
    if (name == "filter") return parse_filter_block(line);
    if (name == "generation") return parse_generation(line);
    if (name == "break" || name == "continue") {
      if (!loops_) refuse(where_, line, fmt::format("'{{% {} %}}' outside of a loop", name));
      expect_block_end();
      return node(name == "break" ? NodeKind::break_ : NodeKind::continue_, line);
    }
    if (name.starts_with("end") || name == "else" || name == "elif") {
      refuse(where_, line, fmt::format("'{{% {} %}}' ends nothing that was begun", name));
    }
    refuse(where_, line, fmt::format("the statement '{{% {} %}}' is not among those of chat templates", name));
  }

  NodePtr parse_if(int line) {
    NodePtr made = node_of(NodeKind::if_, line, "", parse_tuple(false));
    expect_block_end();
    made->body = parse_body({"elif", "else", "endif"});
    const int branch = now().line;
    if (skip_name("elif")) {
      const Level level(*this);
      made->otherwise.push_back(parse_if(branch));
    } else if (skip_name("else")) {
      expect_block_end();
      made->otherwise = parse_body_until("endif");
    } else {
      take();
      expect_block_end();
    }
    return made;
  }

  NodePtr parse_for(int line) {
    NodePtr target = parse_target();
    if (!skip_name("in")) fail(fmt::format("expected 'in', found {}", shown(now())));
    NodePtr iterable = parse_tuple(false);
    NodePtr condition;
    if (skip_name("if")) condition = parse_expression();
    if (now().is_name("recursive")) fail("'recursive' loops are not among those of chat templates");
    expect_block_end();
    NodePtr made = node_of(NodeKind::for_, line, "", std::move(target), std::move(iterable), std::move(condition));
    ++loops_;
    made->body = parse_body({"else", "endfor"});
    --loops_;
    if (skip_name("else")) {
      expect_block_end();
      made->otherwise = parse_body_until("endfor");
    } else {
      take();
      expect_block_end();
    }
    return made;
  }

  /// One name or several, which are thereby assigned.
  NodePtr parse_target() {
    const int line = now().line;
    std::vector<NodePtr> targets;
    bool several = false;
    do {
      if (targets.size() && now().token != Token::name && !now().is_op("(")) break;
      if (skip_op("(")) {
        targets.push_back(parse_target());
        expect_op(")");
      } else {
        targets.push_back(node(NodeKind::variable, now().line, assign(expect_name())));
      }
      several = several || now().is_op(",");
    } while (skip_op(","));
    if (!several) return std::move(targets[0]);
    NodePtr tuple = node(NodeKind::tuple, line);
    for (NodePtr& target : targets) adopt(*tuple, std::move(target));
    return tuple;
  }

  std::string assign(const std::string& name) {
    if (among({"true", "false", "none", "True", "False", "None", "loop", "self", "caller", "not", "and", "or", "in",
               "is", "if", "else"},
              name)) {
      fail(fmt::format("'{}' cannot be assigned to", name));
    }
    assigned_.insert(name);
    return name;
  }

  NodePtr parse_set(int line) {
    NodePtr target;
    if (now().token == Token::name && next().is_op(".")) {
      target = node(NodeKind::namespace_target, line, take().text);
      take();
      target->names.push_back(expect_name());
    } else {
      target = parse_target();
    }
    if (skip_op("=")) {
      NodePtr made = node_of(NodeKind::set, line, "", std::move(target), parse_tuple(true));
      expect_block_end();
      return made;
    }
    NodePtr captured = parse_filters(node(NodeKind::captured, line), false);
    expect_block_end();
    NodePtr made = node_of(NodeKind::set_block, line, "", std::move(target), std::move(captured));
    made->body = parse_captured("endset");
    return made;
  }

  NodePtr parse_filter_block(int line) {
    NodePtr captured = parse_filter(node(NodeKind::captured, line));
    captured = parse_filters(std::move(captured), false);
    expect_block_end();
    NodePtr made = node_of(NodeKind::filter_block, line, "", std::move(captured));
    made->body = parse_captured("endfilter");
    return made;
  }

  /// A body whose text is caught, so that the place of a {% generation %} in it would not be known.
  Body parse_captured(std::string_view end) {
    ++captures_;
    Body body = parse_body_until(end);
    --captures_;
    return body;
  }

  NodePtr parse_generation(int line) {
    if (captures_) {
      refuse(where_, line, "'{% generation %}' inside a macro, a captured block or another '{% generation %}'",
             "move it to where its text goes straight into the prompt");
    }
    expect_block_end();
    NodePtr made = node(NodeKind::generation, line);
    const int loops = std::exchange(loops_, 0);
    made->body = parse_captured("endgeneration");
    loops_ = loops;
    return made;
  }

  NodePtr parse_macro(int line) {
    NodePtr made = node(NodeKind::macro, line, assign(expect_name()));
    expect_op("(");
    while (!now().is_op(")")) {
      if (made->names.size()) expect_op(",");
      made->names.push_back(assign(expect_name()));
      if (skip_op("=")) {
        adopt(*made, parse_expression());
      } else if (made->children.size()) {
        fail("a parameter without a default after one with it");
      }
    }
    expect_op(")");
    expect_block_end();
    const int loops = std::exchange(loops_, 0);
    made->body = parse_captured("endmacro");
    loops_ = loops;
    return made;
  }

  // Expressions

  NodePtr parse_tuple(bool with_condition) {
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
  bool among_ends() const {
    return now().token == Token::print_end || now().token == Token::block_end || now().is_op(")");
  }

  NodePtr parse_expression() {
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

  NodePtr parse_or() {
    const int line = now().line;
    NodePtr left = parse_and();
    while (skip_name("or")) left = node_of(NodeKind::or_, line, "", std::move(left), parse_and());
    return left;
  }

  NodePtr parse_and() {
    const int line = now().line;
    NodePtr left = parse_not();
    while (skip_name("and")) left = node_of(NodeKind::and_, line, "", std::move(left), parse_not());
    return left;
  }

  NodePtr parse_not() {
    const Level level(*this);
    const int line = now().line;
    if (skip_name("not")) return node_of(NodeKind::not_, line, "", parse_not());
    return parse_compare();
  }

  NodePtr parse_compare() {
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
  NodePtr parse_binary(Words operators, Operand operand) {
    const int line = now().line;
    NodePtr left = operand();
    while (now().token == Token::op && among(operators, now().text)) {
      std::string op = take().text;
      left = node_of(NodeKind::binary, line, std::move(op), std::move(left), operand());
    }
    return left;
  }
  NodePtr parse_sum() {
    return parse_binary({"+", "-"}, [this] { return parse_concat(); });
  }
  NodePtr parse_concat() {
    const int line = now().line;
    NodePtr first = parse_product();
    if (!now().is_op("~")) return first;
    NodePtr made = node_of(NodeKind::concat, line, "", std::move(first));
    while (skip_op("~")) adopt(*made, parse_product());
    return made;
  }
  NodePtr parse_product() {
    return parse_binary({"*", "/", "//", "%"}, [this] { return parse_power(); });
  }
  NodePtr parse_power() {
    return parse_binary({"**"}, [this] { return parse_unary(true); });
  }

  NodePtr parse_unary(bool with_filters) {
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

  NodePtr constant(int line, Value value) const {
    NodePtr made = node(NodeKind::constant, line);
    made->value = std::move(value);
    return made;
  }

  NodePtr parse_primary() {
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

  NodePtr parse_name(int line, const std::string& name) {
    if (name == "true" || name == "True") return constant(line, Value::boolean(true));
    if (name == "false" || name == "False") return constant(line, Value::boolean(false));
    if (name == "none" || name == "None") return constant(line, Value::none());
    if (among({"cycler", "joiner", "lipsum", "self", "super", "caller", "varargs", "kwargs"}, name)) {
      refuse(where_, line, fmt::format("the name '{}' is not among those of chat templates", name));
    }
    return node(NodeKind::variable, line, name);
  }

  NodePtr parse_parentheses(int line) {
    if (skip_op(")")) return node(NodeKind::tuple, line);
    NodePtr inner = parse_tuple(true);
    expect_op(")");
    return inner;
  }

  template <class Item>
  void parse_items(Node& parent, std::string_view close, Item item) {
    while (!now().is_op(close)) {
      if (parent.children.size()) expect_op(",");
      if (now().is_op(close)) break;
      item();
    }
    expect_op(close);
  }

  NodePtr parse_postfix(NodePtr made) {
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

  NodePtr parse_subscript(int line, NodePtr object) {
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

  NodePtr parse_call(NodePtr callee) {
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

  void parse_arguments(Node& call) {
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

  NodePtr parse_filters(NodePtr made, bool with_tests) {
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

  NodePtr parse_filter(NodePtr subject) {
    const int line = now().line;
    NodePtr made = node_of(NodeKind::filter, line, expect_name(), std::move(subject));
    if (!find_filter(made->name)) {
      refuse(where_, line, fmt::format("the filter '{}' is not among those of chat templates", made->name));
    }
    if (now().is_op("(")) parse_arguments(*made);
    check_inner_name(*made);
    return made;
  }

  /// map, select, ... take the name of a filter or test as text.
  void check_inner_name(const Node& filter) const {
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

  NodePtr parse_test(NodePtr subject) {
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

  int level_ = 0;
  int loops_ = 0;
  int captures_ = 0;
  std::set<std::string> assigned_;
  std::vector<std::pair<std::string, int>> called_;
};

}  // namespace

Body parse(std::string_view source, const std::string& where) {
  return Parser(lex(source, where), where).parse_template();
}

}  // namespace deltaw::text::jinja
