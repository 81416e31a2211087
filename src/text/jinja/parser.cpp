#include "text/jinja/parser.h"

#include <set>

#include <fmt/format.h>

#include "text/jinja/expressions.h"

namespace deltaw::text::jinja {
namespace {

class Statements : Expressions {
 public:
  using Expressions::Expressions;

  Body parse_template() {
    Body body = parse_body({});
    for (const auto& [name, line] : called_) {
      if (!assigned_.count(name)) refuse(where_, line, fmt::format("the function '{}' is not known", name));
    }
    return body;
  }

 private:
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

  int loops_ = 0;
  int captures_ = 0;
  std::set<std::string> assigned_;
};

}  // namespace

Body parse(std::string_view source, const std::string& where) {
  return Statements(lex(source, where), where).parse_template();
}

}  // namespace deltaw::text::jinja
