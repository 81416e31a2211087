#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "text/tokenizer/unicode.h"

namespace deltaw::text::jinja {
namespace {

constexpr size_t kMaxWork = 30'000'000;
constexpr size_t kMaxText = 64 << 20;
constexpr size_t kMaxItems = 1'000'000;
constexpr int kMaxDepth = 400;

void check_depth(const Object& object) {
  if (object.depth > kMaxDepth) throw Problem{fmt::format("values are nested deeper than {}", kMaxDepth)};
}

int depth_of(const Value& value) {
  return value.shared() && !value.is(Kind::names) && !value.is(Kind::loop) ? value.shared()->depth : 0;
}

bool is_sequence(Kind kind) {
  return kind == Kind::list || kind == Kind::tuple || kind == Kind::range || kind == Kind::view ||
         kind == Kind::iterator;
}

}  // namespace

void Work::charge(size_t units) {
  spent_ += units;
  if (spent_ > kMaxWork) throw Problem{"the template does not come to an end (too many operations)"};
}

void Work::charge_text(size_t bytes) {
  if (bytes > kMaxText) throw Problem{fmt::format("a text grows beyond {} MiB", kMaxText >> 20)};
  charge(1 + bytes / 64);
}

void Work::charge_items(size_t count) {
  if (count > kMaxItems) throw Problem{fmt::format("a list grows beyond {} items", kMaxItems)};
  charge(1 + count);
}

Value Value::none() {
  Value value;
  value.kind_ = Kind::none;
  return value;
}

Value Value::boolean(bool b) {
  Value value;
  value.kind_ = Kind::boolean;
  value.integer_ = b;
  return value;
}

Value Value::integer(int64_t i) {
  Value value;
  value.kind_ = Kind::integer;
  value.integer_ = i;
  return value;
}

Value Value::real(double d) {
  Value value;
  value.kind_ = Kind::real;
  value.real_ = d;
  return value;
}

Value Value::string(std::string text) {
  auto object = std::make_shared<Text>();
  object->text = std::move(text);
  return Value::object(Kind::string, std::move(object));
}

Value Value::undefined(std::string why) {
  auto object = std::make_shared<Text>();
  object->text = std::move(why);
  return Value::object(Kind::undefined, std::move(object));
}

Value Value::object(Kind kind, std::shared_ptr<Object> object) {
  Value value;
  value.kind_ = kind;
  value.object_ = std::move(object);
  return value;
}

Value Value::sequence(Kind kind, std::vector<Value> items, std::string name) {
  auto object = std::make_shared<Sequence>();
  for (const Value& item : items) object->depth = std::max(object->depth, depth_of(item) + 1);
  object->items = std::move(items);
  object->name = std::move(name);
  check_depth(*object);
  return Value::object(kind, std::move(object));
}

const std::string& Value::text() const {
  static const std::string nothing = "a value is undefined";
  return object_ ? as<Text>().text : nothing;
}

const std::vector<Value>& Value::items() const {
  return as<Sequence>().items;
}

Value Value::marked_safe() const {
  Value value = *this;
  value.safe_ = true;
  return value;
}

const Value* Dict::find(const std::string& key) const {
  const auto found = by_text.find(key);
  return found == by_text.end() ? nullptr : &entries[found->second].second;
}

const Value* Dict::find(const Value& key) const {
  if (key.is(Kind::string)) return find(key.text());
  if (by_text.size() == entries.size()) return nullptr;
  Work unlimited;
  for (const auto& [known, value] : entries) {
    if (!known.is(Kind::string) && equal(known, key, unlimited)) return &value;
  }
  return nullptr;
}

void Dict::set(Value key, Value value) {
  if (!key.is(Kind::string) && !key.is(Kind::none) && !key.is_number()) {
    throw Problem{fmt::format("a value of type {} is no key of a dict", type_name(key))};
  }
  depth = std::max(depth, depth_of(value) + 1);
  check_depth(*this);
  if (const Value* known = find(key)) {
    *const_cast<Value*>(known) = std::move(value);
    return;
  }
  if (key.is(Kind::string)) by_text.emplace(key.text(), entries.size());
  entries.emplace_back(std::move(key), std::move(value));
}

const Value* Names::find(std::string_view name) const {
  for (const auto& [known, value] : entries) {
    if (known == name) return &value;
  }
  return nullptr;
}

void Names::set(const std::string& name, Value value) {
  if (name.starts_with('_')) throw Problem{fmt::format("a namespace takes no name with an underscore: '{}'", name)};
  for (auto& [known, old] : entries) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  entries.emplace_back(name, std::move(value));
}

std::vector<const Value*> Arguments::bind(std::string_view callee, const std::vector<std::string_view>& names) const {
  if (positional.size() > names.size()) {
    throw Problem{fmt::format("{} takes at most {} arguments, not {}", callee, names.size(), positional.size())};
  }
  std::vector<const Value*> bound(names.size(), nullptr);
  for (size_t i = 0; i < positional.size(); ++i) bound[i] = &positional[i];
  for (const auto& [name, value] : named) {
    const auto at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) throw Problem{fmt::format("{} has no argument '{}'", callee, name)};
    const Value*& place = bound[static_cast<size_t>(at - names.begin())];
    if (place) throw Problem{fmt::format("{} gets its argument '{}' twice", callee, name)};
    place = &value;
  }
  return bound;
}

Value make_dict(std::shared_ptr<Dict> dict) {
  return Value::object(Kind::dict, std::move(dict));
}

Value from_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value::boolean(json.get<bool>());
    case Json::value_t::number_integer:
      return Value::integer(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        throw Problem{fmt::format("the number {} is beyond 64 bits", json.dump())};
      }
      return Value::integer(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value::real(json.get<double>());
    case Json::value_t::string:
      return Value::string(repaired(json.get_ref<const std::string&>()));
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(from_json(item));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, value] : json.items()) dict->set(Value::string(repaired(key)), from_json(value));
      return make_dict(std::move(dict));
    }
    default:
      return Value::none();
  }
}

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return value.as_integer() != 0;
    case Kind::real:
      return value.as_real() != 0;
    case Kind::string:
      return !value.text().empty();
    case Kind::list:
    case Kind::tuple:
    case Kind::range:
    case Kind::view:
      return !value.items().empty();
    case Kind::dict:
      return !value.as<Dict>().entries.empty();
    default:
      return true;
  }
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return "undefined";
    case Kind::none:
      return "None";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::string:
      return "str";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::dict:
      return "dict";
    case Kind::range:
      return "range";
    case Kind::view:
      return value.as<Sequence>().name;
    case Kind::iterator:
      return "iterator";
    case Kind::names:
      return "namespace";
    case Kind::loop:
      return "loop";
    case Kind::callable:
      return "function";
  }
  return "";
}

void fail_undefined(const Value& value) {
  throw Problem{value.text()};
}

bool equal(const Value& a, const Value& b, Work& work) {
  work.charge();
  if (a.is_number() && b.is_number()) {
    return a.is_whole() && b.is_whole() ? a.as_integer() == b.as_integer() : a.as_real() == b.as_real();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::undefined:
    case Kind::none:
      return true;
    case Kind::string:
      return a.text() == b.text();
    case Kind::list:
    case Kind::tuple:
    case Kind::range:
      return std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(),
                        [&](const Value& x, const Value& y) { return equal(x, y, work); });
    case Kind::dict: {
      const Dict &x = a.as<Dict>(), &y = b.as<Dict>();
      return x.entries.size() == y.entries.size() &&
             std::all_of(x.entries.begin(), x.entries.end(), [&](const auto& entry) {
               const Value* other = y.find(entry.first);
               return other && equal(entry.second, *other, work);
             });
    }
    case Kind::view:
      if (a.shared() != b.shared()) throw Problem{"keys() and items() are not compared: make lists of them"};
      return true;
    default:
      return a.shared() == b.shared();
  }
}

int compare(const Value& a, const Value& b, Work& work) {
  work.charge();
  if (a.is_number() && b.is_number()) {
    if (a.is_whole() && b.is_whole()) return (a.as_integer() > b.as_integer()) - (a.as_integer() < b.as_integer());
    return (a.as_real() > b.as_real()) - (a.as_real() < b.as_real());
  }
  if (a.is(Kind::undefined)) fail_undefined(a);
  if (b.is(Kind::undefined)) fail_undefined(b);
  if (a.is(Kind::string) && b.is(Kind::string)) {
    const int order = a.text().compare(b.text());  // of bytes, which is that of code points
    return (order > 0) - (order < 0);
  }
  if (a.kind() == b.kind() && (a.is(Kind::list) || a.is(Kind::tuple))) {
    const std::vector<Value>&x = a.items(), &y = b.items();
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i], work)) return compare(x[i], y[i], work);
    }
    return (x.size() > y.size()) - (x.size() < y.size());
  }
  throw Problem{fmt::format("a {} and a {} have no order", type_name(a), type_name(b))};
}

bool contains(const Value& container, const Value& item, Work& work) {
  switch (container.kind()) {
    case Kind::string:
      if (item.is(Kind::undefined)) fail_undefined(item);
      if (!item.is(Kind::string)) throw Problem{fmt::format("'in' a text asks for a text, not {}", type_name(item))};
      work.charge_text(container.text().size());
      return container.text().find(item.text()) != std::string::npos;
    case Kind::dict:
      if (item.is(Kind::list) || item.is(Kind::dict)) {
        throw Problem{fmt::format("a value of type {} is no key of a dict", type_name(item))};
      }
      return container.as<Dict>().find(item) != nullptr;
    default: {
      const std::vector<Value> items = iterate(container, work);
      return std::any_of(items.begin(), items.end(), [&](const Value& known) { return equal(known, item, work); });
    }
  }
}

std::vector<Value> iterate(const Value& value, Work& work) {
  if (is_sequence(value.kind())) {
    work.charge(1 + value.items().size() / 2);
    if (!value.is(Kind::iterator)) return value.items();
    if (std::exchange(value.as<Sequence>().used, true)) return {};
    return value.items();
  }
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::undefined:
      break;
    case Kind::string: {
      const std::string& text = value.text();
      work.charge_items(text.size());
      for (size_t at = 0; at < text.size(); at += width(text[at])) {
        items.push_back(Value::string(text.substr(at, width(text[at]))));
      }
      break;
    }
    case Kind::dict:
      work.charge(1 + value.as<Dict>().entries.size());
      for (const auto& [key, unused] : value.as<Dict>().entries) items.push_back(key);
      break;
    default:
      throw Problem{fmt::format("a value of type {} cannot be iterated over", type_name(value))};
  }
  return items;
}

int64_t length(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::string:
      return count_code_points(value.text());
    case Kind::list:
    case Kind::tuple:
    case Kind::range:
    case Kind::view:
      return static_cast<int64_t>(value.items().size());
    case Kind::dict:
      return static_cast<int64_t>(value.as<Dict>().entries.size());
    case Kind::loop:
      return static_cast<int64_t>(value.as<Loop>().items.size());
    default:
      throw Problem{fmt::format("a value of type {} has no length", type_name(value))};
  }
}

}  // namespace deltaw::text::jinja
