// The values a template computes with. They are Python's, as far as templates can tell.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "deltaw/options.h"

namespace deltaw::text::jinja {

/// An operation that has no meaning; the interpreter adds the line.
struct Problem {
  std::string what;
};

/// What one rendering may cost, so that no template runs for ever or fills the memory.
class Work {
 public:
  /// One unit is an operation or 64 bytes of text. Throws Problem where the sum passes the limit.
  void charge(size_t units = 1);
  void charge_text(size_t bytes);   // also throws where a single text is too long
  void charge_items(size_t count);  // the same for lists

 private:
  size_t spent_ = 0;
};

enum class Kind : uint8_t {
  undefined,
  none,
  boolean,
  integer,
  real,
  string,
  list,
  tuple,
  dict,
  range,
  view,      // of a dict: keys(), values(), items()
  iterator,  // what Python's generators are: read once, without a length
  names,     // namespace()
  loop,
  callable,
};

/// A text, a sequence, a dict, ...: shared, and never changed once made, but for namespaces, loops and iterators.
struct Object {
  virtual ~Object() = default;
  int depth = 0;  // of nested containers
};

class Value {
 public:
  Value() = default;  // undefined
  static Value none();
  static Value boolean(bool value);
  static Value integer(int64_t value);
  static Value real(double value);
  static Value string(std::string value);
  static Value undefined(std::string why);  // `why` is what a use of it is refused with
  static Value object(Kind kind, std::shared_ptr<Object> object);
  static Value list(std::vector<Value> items) { return sequence(Kind::list, std::move(items)); }
  static Value tuple(std::vector<Value> items) { return sequence(Kind::tuple, std::move(items)); }
  static Value iterator(std::vector<Value> items) { return sequence(Kind::iterator, std::move(items)); }
  /// Throws Problem where containers are nested too deep.
  static Value sequence(Kind kind, std::vector<Value> items, std::string name = "");

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_number() const { return kind_ == Kind::boolean || kind_ == Kind::integer || kind_ == Kind::real; }
  bool is_whole() const { return kind_ == Kind::boolean || kind_ == Kind::integer; }
  bool as_bool() const { return integer_ != 0; }   // of a boolean
  int64_t as_integer() const { return integer_; }  // of a boolean or an integer
  double as_real() const { return is_whole() ? static_cast<double>(integer_) : real_; }
  const std::string& text() const;          // of a string, or why it is undefined
  const std::vector<Value>& items() const;  // of any kind of sequence
  const std::shared_ptr<Object>& shared() const { return object_; }
  template <class T>
  T& as() const {
    return static_cast<T&>(*object_);
  }

  /// Marked by the filter `safe`: Python would escape what is joined to it, so joining is refused.
  bool safe() const { return safe_; }
  Value marked_safe() const;

 private:
  Kind kind_ = Kind::undefined;
  bool safe_ = false;
  int64_t integer_ = 0;
  double real_ = 0;
  std::shared_ptr<Object> object_;
};

struct Text : Object {
  std::string text;
};

struct Sequence : Object {
  std::vector<Value> items;
  std::string name;   // "dict_items" of a view, "range(0, 3)" of a range
  bool used = false;  // an iterator that was read
};

/// Keys in order of insertion, found by value: 1, 1.0 and True are one key.
struct Dict : Object {
  std::vector<std::pair<Value, Value>> entries;
  std::unordered_map<std::string, size_t> by_text;

  const Value* find(const Value& key) const;
  const Value* find(const std::string& key) const;
  void set(Value key, Value value);  // throws Problem for keys that Python cannot hash
};

struct Names : Object {
  std::vector<std::pair<std::string, Value>> entries;

  const Value* find(std::string_view name) const;
  void set(const std::string& name, Value value);  // throws Problem for names with an underscore before them
};

struct Loop : Object {
  std::vector<Value> items;
  size_t index = 0;
};

/// Positional and keyword arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// The arguments of `callee` by place in `names`, null where one is missing. Throws Problem for one too many.
  std::vector<const Value*> bind(std::string_view callee, const std::vector<std::string_view>& names) const;
};

Value make_dict(std::shared_ptr<Dict> dict);  // throws Problem where containers are nested too deep
Value from_json(const Json& json);            // throws Problem for whole numbers beyond 64 bits

bool truth(const Value& value);
std::string_view type_name(const Value& value);  // Python's
[[noreturn]] void fail_undefined(const Value& value);

bool equal(const Value& a, const Value& b, Work& work);
/// Below zero, zero or above. Throws Problem where Python has no order. A NaN is equal to everything.
int compare(const Value& a, const Value& b, Work& work);
bool contains(const Value& container, const Value& item, Work& work);

/// Python's iteration: items, keys of a dict, characters of a text; an undefined value has none. Throws Problem.
std::vector<Value> iterate(const Value& value, Work& work);
int64_t length(const Value& value);  // throws Problem

}  // namespace deltaw::text::jinja
