#include "text/jinja/interpreter.h"

#include <algorithm>

#include <fmt/format.h>

#include "deltaw/error.h"
#include "text/jinja/functions.h"
#include "text/jinja/text.h"

namespace deltaw::text::jinja {
namespace {

constexpr int kMaxRecursion = 800;

/// Names that are visible together. Names that a template assigns live in the innermost scope.
struct Scope {
  std::shared_ptr<Scope> outer;
  std::vector<std::pair<std::string_view, Value>> names;

  Value* find(std::string_view name) {
    for (auto& [known, value] : names) {
      if (known == name) return &value;
    }
    return nullptr;
  }
  void set(std::string_view name, Value value) {
    if (Value* known = find(name)) {
      *known = std::move(value);
    } else {
      names.emplace_back(name, std::move(value));
    }
  }
};

struct Macro : Callable {
  const Node* node = nullptr;
  std::shared_ptr<Scope> scope;  // where it was defined
};

enum class Flow { on, break_, continue_ };

class Interpreter {
 public:
  explicit Interpreter(const std::vector<std::pair<std::string, Value>>& variables) {
    enter();
    for (const auto& [name, value] : variables) scope_->names.emplace_back(name, value);
  }
  /// Namespaces and macros may refer to themselves in a circle: what they hold is let go by hand.
  ~Interpreter() {
    for (const std::shared_ptr<Names>& names : namespaces_) names->entries.clear();
    for (const std::shared_ptr<Scope>& scope : captured_scopes_) scope->names.clear();
  }
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  Output run(const Body& body) {
    Output output;
    out_ = &output.text;
    generated_ = &output.generated;
    execute(body);
    return output;
  }

  int line() const { return line_; }

 private:
  // Scopes

  void enter() {
    auto inner = std::make_shared<Scope>();
    inner->outer = std::move(scope_);
    scope_ = std::move(inner);
  }
  /// A scope for the length of a block.
  class Inner {
   public:
    explicit Inner(Interpreter& interpreter) : interpreter_(interpreter), before_(interpreter.scope_) {
      interpreter.enter();
    }
    ~Inner() { interpreter_.scope_ = std::move(before_); }
    Inner(const Inner&) = delete;
    Inner& operator=(const Inner&) = delete;

   private:
    Interpreter& interpreter_;
    std::shared_ptr<Scope> before_;
  };

  class Level {
   public:
    explicit Level(Interpreter& interpreter) : interpreter_(interpreter) {
      if (++interpreter.level_ > kMaxRecursion) throw Problem{"macros or expressions are nested too deep"};
    }
    ~Level() { --interpreter_.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Interpreter& interpreter_;
  };

  Value look_up(const std::string& name) {
    for (Scope* scope = scope_.get(); scope; scope = scope->outer.get()) {
      if (const Value* found = scope->find(name)) return *found;
    }
    if (const Function function = find_global(name)) {
      auto callable = std::make_shared<Callable>();
      callable->name = name;
      callable->function = function;
      return Value::object(Kind::callable, std::move(callable));
    }
    return Value::undefined(fmt::format("'{}' is undefined", name));
  }

  // Statements

  Flow execute(const Body& body) {
    for (const NodePtr& node : body) {
      const Flow flow = execute(*node);
      if (flow != Flow::on) return flow;
    }
    return Flow::on;
  }

  void write(const std::string& text) {
    work_.charge_text(text.size());
    if (out_->size() + text.size() > kMaxOutput) throw Problem{"the prompt grows beyond 64 MiB"};
    *out_ += text;
  }

  Flow execute(const Node& node) {
    const Level level(*this);
    line_ = node.line;
    work_.charge();
    switch (node.kind) {
      case NodeKind::data:
        write(node.name);
        break;
      case NodeKind::print: {
        const Value value = evaluate(*node.children[0]);
        line_ = node.line;
        write(to_text(value, work_));
        break;
      }
      case NodeKind::if_:
        return execute(truth(evaluate(*node.children[0])) ? node.body : node.otherwise);
      case NodeKind::for_:
        return loop(node);
      case NodeKind::set:
        assign(*node.children[0], evaluate(*node.children[1]));
        break;
      case NodeKind::set_block:
        assign(*node.children[0], filtered(*node.children[1], capture(node.body)));
        break;
      case NodeKind::filter_block:
        write(to_text(filtered(*node.children[0], capture(node.body)), work_));
        break;
      case NodeKind::macro:
        define(node);
        break;
      case NodeKind::generation: {
        const size_t begin = out_->size();
        const Inner inner(*this);
        execute(node.body);
        generated_->emplace_back(begin, out_->size());
        break;
      }
      case NodeKind::break_:
        return Flow::break_;
      case NodeKind::continue_:
        return Flow::continue_;
      default:
        throw Error({.id = "internal.chat-template", .what = "an expression stands where a statement should"});
    }
    return Flow::on;
  }

  /// The text that `body` writes, in a scope of its own.
  Value capture(const Body& body) {
    const Inner inner(*this);
    return Value::string(captured_text(body));
  }
  std::string captured_text(const Body& body) {
    std::string text;
    std::string* before = std::exchange(out_, &text);
    try {
      execute(body);
    } catch (...) {
      out_ = before;
      throw;
    }
    out_ = before;
    return text;
  }

  Value filtered(const Node& expression, Value text) {
    Value before = std::exchange(captured_, std::move(text));
    Value result = evaluate(expression);
    captured_ = std::move(before);
    return result;
  }

  Flow loop(const Node& node) {
    const Node& target = *node.children[0];
    const Value iterable = evaluate(*node.children[1]);
    line_ = node.line;
    auto state = std::make_shared<Loop>();
    state->items = iterate(iterable, work_);
    if (node.children[2]) {
      std::vector<Value> chosen;
      for (const Value& item : state->items) {
        const Inner inner(*this);
        assign(target, item);
        if (truth(evaluate(*node.children[2]))) chosen.push_back(item);
      }
      state->items = std::move(chosen);
    }
    const Value loop_value = Value::object(Kind::loop, state);
    for (; state->index < state->items.size(); ++state->index) {
      const Inner inner(*this);
      work_.charge();
      scope_->set("loop", loop_value);
      line_ = node.line;
      assign(target, state->items[state->index]);
      if (execute(node.body) == Flow::break_) break;
    }
    if (!state->items.empty()) return Flow::on;
    const Inner inner(*this);
    return execute(node.otherwise);
  }

  void assign(const Node& target, Value value) {
    line_ = target.line;
    if (target.kind == NodeKind::variable) {
      scope_->set(target.name, std::move(value));
    } else if (target.kind == NodeKind::namespace_target) {
      const Value names = look_up(target.name);
      if (!names.is(Kind::names)) {
        throw Problem{fmt::format("'{}' is no namespace, only its attributes can be set", target.name)};
      }
      names.as<Names>().set(target.names[0], std::move(value));
    } else {
      const std::vector<Value> parts = iterate(value, work_);
      if (parts.size() != target.children.size()) {
        throw Problem{fmt::format("{} values for {} names", parts.size(), target.children.size())};
      }
      for (size_t i = 0; i < parts.size(); ++i) assign(*target.children[i], parts[i]);
    }
  }

  void define(const Node& node) {
    auto macro = std::make_shared<Macro>();
    macro->name = node.name;
    macro->node = &node;
    macro->scope = scope_;
    captured_scopes_.push_back(scope_);
    scope_->set(node.name, Value::object(Kind::callable, std::move(macro)));
  }

  Value call_macro(const Macro& macro, const Arguments& arguments) {
    const Node& node = *macro.node;
    const std::vector<const Value*> bound =
        arguments.bind(fmt::format("the macro '{}'", macro.name), {node.names.begin(), node.names.end()});
    std::shared_ptr<Scope> before = std::exchange(scope_, macro.scope);
    try {
      enter();
      const size_t first_default = node.names.size() - node.children.size();
      for (size_t i = 0; i < node.names.size(); ++i) {
        Value value = bound[i] ? *bound[i]
                      : i >= first_default
                          ? evaluate(*node.children[i - first_default])
                          : Value::undefined(fmt::format("the parameter '{}' was not given", node.names[i]));
        scope_->names.emplace_back(node.names[i], std::move(value));
      }
      Value text = Value::string(captured_text(node.body));
      scope_ = std::move(before);
      return text;
    } catch (...) {
      scope_ = std::move(before);
      throw;
    }
  }

  // Expressions

  std::vector<Value> evaluate_all(const Body& nodes) {
    std::vector<Value> values;
    values.reserve(nodes.size());
    for (const NodePtr& node : nodes) values.push_back(evaluate(*node));
    return values;
  }

  Value evaluate(const Node& node) {
    const Level level(*this);
    work_.charge();
    const Body& children = node.children;
    switch (node.kind) {
      case NodeKind::constant:
        return node.value;
      case NodeKind::variable:
        return look_up(node.name);
      case NodeKind::captured:
        return captured_;
      case NodeKind::list:
        return Value::list(evaluate_all(children));
      case NodeKind::tuple:
        return Value::tuple(evaluate_all(children));
      case NodeKind::dict: {
        auto dict = std::make_shared<Dict>();
        for (size_t i = 0; i < children.size(); i += 2) dict->set(evaluate(*children[i]), evaluate(*children[i + 1]));
        return make_dict(std::move(dict));
      }
      case NodeKind::attribute: {
        const Value object = evaluate(*children[0]);
        line_ = node.line;
        return attribute_of(object, node.name, work_);
      }
      case NodeKind::item: {
        const Value object = evaluate(*children[0]), key = evaluate(*children[1]);
        line_ = node.line;
        return item_of(object, key, work_);
      }
      case NodeKind::slice: {
        const Value object = evaluate(*children[0]);
        const auto part = [&](size_t i) { return children[i] ? evaluate(*children[i]) : Value::none(); };
        const Value start = part(1), stop = part(2), step = part(3);
        line_ = node.line;
        return slice_of(object, start, stop, step, work_);
      }
      case NodeKind::call:
        return call(node);
      case NodeKind::filter:
      case NodeKind::test: {
        const Value subject = evaluate(*children[0]);
        const Arguments arguments = arguments_of(node);
        line_ = node.line;
        const bool filters = node.kind == NodeKind::filter;
        return (filters ? find_filter(node.name) : find_test(node.name))(subject, arguments, work_);
      }
      case NodeKind::conditional:
        if (truth(evaluate(*children[1]))) return evaluate(*children[0]);
        return children[2] ? evaluate(*children[2])
                           : Value::undefined("an 'if' without an 'else' is false and has no value");
      case NodeKind::and_: {
        Value left = evaluate(*children[0]);
        return truth(left) ? evaluate(*children[1]) : left;
      }
      case NodeKind::or_: {
        Value left = evaluate(*children[0]);
        return truth(left) ? left : evaluate(*children[1]);
      }
      case NodeKind::not_:
        return Value::boolean(!truth(evaluate(*children[0])));
      case NodeKind::compare:
        return Value::boolean(compare_chain(node));
      case NodeKind::binary: {
        const Value left = evaluate(*children[0]), right = evaluate(*children[1]);
        line_ = node.line;
        return binary(node.name, left, right, work_);
      }
      case NodeKind::concat: {
        std::string text;
        for (const Value& part : evaluate_all(children)) text += to_text(part, work_);
        work_.charge_text(text.size());
        return Value::string(std::move(text));
      }
      case NodeKind::negative:
      case NodeKind::positive: {
        const Value value = evaluate(*children[0]);
        line_ = node.line;
        if (value.is(Kind::undefined)) fail_undefined(value);
        if (!value.is_number()) throw Problem{fmt::format("a sign before a {}", type_name(value))};
        if (value.is(Kind::real))
          return Value::real(node.kind == NodeKind::negative ? -value.as_real() : value.as_real());
        return binary(node.kind == NodeKind::negative ? "-" : "+", Value::integer(0), value, work_);
      }
      default:
        throw Error({.id = "internal.chat-template", .what = "a statement stands where an expression should"});
    }
  }

  bool compare_chain(const Node& node) {
    Value left = evaluate(*node.children[0]);
    for (size_t i = 0; i < node.names.size(); ++i) {
      Value right = evaluate(*node.children[i + 1]);
      line_ = node.line;
      if (!holds(node.names[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  bool holds(const std::string& op, const Value& left, const Value& right) {
    if (op == "==") return equal(left, right, work_);
    if (op == "!=") return !equal(left, right, work_);
    if (op == "in") return contains(right, left, work_);
    if (op == "not in") return !contains(right, left, work_);
    const int order = compare(left, right, work_);
    return op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
  }

  Arguments arguments_of(const Node& node) {
    Arguments arguments;
    const size_t named = node.children.size() - node.names.size();
    for (size_t i = 1; i < node.children.size(); ++i) {
      Value value = evaluate(*node.children[i]);
      if (i < named) {
        arguments.positional.push_back(std::move(value));
      } else {
        arguments.named.emplace_back(node.names[i - named], std::move(value));
      }
    }
    return arguments;
  }

  Value call(const Node& node) {
    const Value callee = evaluate(*node.children[0]);
    const Arguments arguments = arguments_of(node);
    line_ = node.line;
    if (callee.is(Kind::undefined)) fail_undefined(callee);
    if (!callee.is(Kind::callable)) throw Problem{fmt::format("a {} cannot be called", type_name(callee))};
    const Callable& callable = callee.as<Callable>();
    if (!callable.function) return call_macro(callee.as<Macro>(), arguments);
    if (callable.subject.safe()) throw Problem{"a method of a text marked safe, which would escape its arguments"};
    work_.charge_text(callable.subject.is(Kind::string) ? callable.subject.text().size() : 0);
    Value result = callable.function(callable.subject, arguments, work_);
    if (result.is(Kind::names)) namespaces_.push_back(std::static_pointer_cast<Names>(result.shared()));
    return result;
  }

  static constexpr size_t kMaxOutput = 64 << 20;

  Work work_;
  std::shared_ptr<Scope> scope_;
  Value captured_;
  std::string* out_ = nullptr;
  std::vector<std::pair<size_t, size_t>>* generated_ = nullptr;
  std::vector<std::shared_ptr<Names>> namespaces_;
  std::vector<std::shared_ptr<Scope>> captured_scopes_;
  int level_ = 0;
  int line_ = 1;
};

}  // namespace

Output run(const Body& body, const std::vector<std::pair<std::string, Value>>& variables, const std::string& where) {
  Interpreter interpreter(variables);
  const auto place = [&] { return fmt::format("{}, line {}", where, interpreter.line()); };
  try {
    return interpreter.run(body);
  } catch (const Raised& raised) {
    throw Error({.id = "data.chat-template",
                 .what = raised.words,
                 .where = place(),
                 .fix = "the model's template refuses these messages: change them as it says"});
  } catch (const Problem& problem) {
    throw Error({.id = "data.chat-template",
                 .what = problem.what,
                 .where = place(),
                 .fix = "the template does not fit these messages: compare their keys with what it reads"});
  }
}

}  // namespace deltaw::text::jinja
