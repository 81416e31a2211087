// The part of Python's pickle format that torch.save writes for named tensors. Nothing is executed: a pickle names the
// functions that rebuild its objects, and here a name that is not one of the six below is an error.
// https://github.com/python/cpython/blob/main/Lib/pickletools.py
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io/tensor_file.h"

namespace deltaw::io {

/// Where a tensor's numbers lie: `count` of them, under a key.
struct PickledStorage {
  std::string key;
  Dtype dtype = Dtype::f32;
  int64_t count = 0;
};

/// A view of a storage. Lengths of shape and strides are equal.
struct PickledTensor {
  std::string name;
  size_t storage = 0;  // in PickleReader::storages()
  int64_t offset = 0;  // elements
  std::vector<int64_t> shape, strides;
};

/// Reads pickles that stand one behind the other. Throws format.pickle for one that is cut short, makes no sense or
/// holds what is no dictionary of tensors, naming that. What it keeps is bounded by the bytes that it reads.
class PickleReader {
 public:
  PickleReader(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  /// The tensors of the next one, a dictionary of them, in its order.
  std::vector<PickledTensor> read_tensors();
  /// The texts of the next one, a list of them.
  std::vector<std::string> read_texts();
  /// Passes over the next one, which must be of plain values.
  void skip() { read(); }

  const std::vector<PickledStorage>& storages() const { return storages_; }  // of all so far, each once
  size_t position() const { return at_; }                                    // behind the last one

 private:
  enum class Kind { none, boolean, integer, real, text, list, tuple, dictionary, function, storage, tensor, mark };
  struct Value {
    Kind kind = Kind::none;
    int64_t number = 0;                   // of a boolean or an integer; of a storage or tensor the place in its list
    std::string_view text;                // of a text; of a function its full name
    std::vector<Value>* items = nullptr;  // a dictionary's keys and values in turn
  };
  using Items = std::vector<Value>;

  [[noreturn]] void fail(const std::string& what) const;
  Value read();
  bool step(unsigned char code);  // false: the pickle is at its end

  std::string_view take(uint64_t size);
  uint64_t number(size_t size);  // little endian
  std::string_view line();
  Value pop();
  Value& top();
  Items pop_to_mark();
  Items* items_of(Value& value, Kind kind);
  Value container(Kind kind, Items items);
  void push(Value value);
  void push(Kind kind, int64_t number = 0, std::string_view text = {});
  void push_tuple(size_t count);
  void remember(uint64_t place);
  void recall(uint64_t place);

  Value function(std::string_view module, std::string_view name);
  Value call(const Value& function, const Items& arguments);
  Value tensor_of(const Items& arguments);
  Value storage_of(const Value& id);
  void spend(size_t values);
  std::vector<int64_t> sizes(const Value& tuple) const;

  std::string_view bytes_;
  std::string where_;
  size_t at_ = 0;
  std::vector<Value> stack_;
  std::unordered_map<uint64_t, Value> memo_;
  std::deque<Items> containers_;   // they may hold each other: none owns another
  std::deque<std::string> names_;  // of functions
  std::vector<PickledStorage> storages_;
  std::unordered_map<std::string, size_t> storage_places_;  // by key
  std::vector<PickledTensor> tensors_;
  size_t spent_ = 0;  // values that live until the end
};

}  // namespace deltaw::io
