#include "io/pickle.h"

#include <algorithm>
#include <array>
#include <utility>

#include "deltaw/error.h"

namespace deltaw::io {
namespace {

constexpr size_t kMostDimensions = 64;
// Python writes the items of a list or dictionary in portions of a thousand.
constexpr size_t kMostOnTheStack = 1 << 16;
// A tensor takes some 90 bytes of a pickle and 40 values that are kept.
constexpr size_t kFreeValues = 4096;

struct StorageName {
  std::string_view name;
  Dtype dtype;
};
constexpr std::array<StorageName, 10> kStorages{{{"DoubleStorage", Dtype::f64},
                                                 {"FloatStorage", Dtype::f32},
                                                 {"HalfStorage", Dtype::f16},
                                                 {"BFloat16Storage", Dtype::bf16},
                                                 {"LongStorage", Dtype::i64},
                                                 {"IntStorage", Dtype::i32},
                                                 {"ShortStorage", Dtype::i16},
                                                 {"CharStorage", Dtype::i8},
                                                 {"ByteStorage", Dtype::u8},
                                                 {"BoolStorage", Dtype::boolean}}};

constexpr std::string_view kDictionary = "collections.OrderedDict";
constexpr std::string_view kTensor = "torch._utils._rebuild_tensor";
constexpr std::string_view kTensor2 = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kSize = "torch.Size";

}  // namespace

void PickleReader::fail(const std::string& what) const {
  throw Error(
      {.id = "format.pickle",
       .what = what + " (byte " + std::to_string(at_) + " of the pickle)",
       .where = where_,
       .fix = "take the safetensors file; or save the tensors alone, with torch.save(model.state_dict(), FILE)"});
}

std::vector<PickledTensor> PickleReader::read_tensors() {
  Value all = read();
  std::vector<PickledTensor> result;
  if (all.kind != Kind::dictionary) fail("the pickle holds no dictionary of tensors");
  for (size_t i = 0; i + 1 < all.items->size(); i += 2) {
    const Value &name = (*all.items)[i], &value = (*all.items)[i + 1];
    if (name.kind != Kind::text || !is_utf8(name.text)) fail("a key of the dictionary is no text");
    if (value.kind != Kind::tensor) fail("the entry '" + std::string(name.text.substr(0, 200)) + "' is no tensor");
    result.push_back(tensors_[static_cast<size_t>(value.number)]);
    result.back().name = name.text;
  }
  return result;
}

std::vector<std::string> PickleReader::read_texts() {
  Value all = read();
  std::vector<std::string> result;
  if (all.kind != Kind::list) fail("a list of texts is expected here");
  for (const Value& item : *all.items) {
    if (item.kind != Kind::text) fail("a list of texts is expected here");
    result.emplace_back(item.text);
  }
  return result;
}

PickleReader::Value PickleReader::read() {
  stack_.clear();
  memo_.clear();
  while (step(static_cast<unsigned char>(take(1)[0]))) {
  }
  if (stack_.size() != 1) fail("the pickle ends with " + std::to_string(stack_.size()) + " values, not one");
  return pop();
}

// The instructions of protocols 2 to 5 that data of this kind is made of, by their names in pickletools.
bool PickleReader::step(unsigned char code) {
  switch (code) {
    case 0x80:  // PROTO
      number(1);
      return true;
    case 0x95:  // FRAME
      number(8);
      return true;
    case '.':  // STOP
      return false;

    case 'N':  // NONE
      push(Kind::none);
      return true;
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      push(Kind::boolean, code == 0x88);
      return true;
    case 'J':  // BININT
      push(Kind::integer, static_cast<int32_t>(number(4)));
      return true;
    case 'K':  // BININT1
      push(Kind::integer, static_cast<int64_t>(number(1)));
      return true;
    case 'M':  // BININT2
      push(Kind::integer, static_cast<int64_t>(number(2)));
      return true;
    case 0x8a: {  // LONG1: two's complement of as many bytes as it takes
      const auto size = static_cast<size_t>(number(1));
      if (size > 8) {  // the magic number of torch.save, which nobody asks for
        take(size);
        push(Kind::real);
        return true;
      }
      const uint64_t value = number(size);
      const int unused = 64 - 8 * static_cast<int>(size);
      push(Kind::integer, size == 0 ? 0 : static_cast<int64_t>(value << unused) >> unused);
      return true;
    }
    case 'G':  // BINFLOAT
      take(8);
      push(Kind::real);
      return true;
    case 'X':  // BINUNICODE
    case 'T':  // BINSTRING
      push(Kind::text, 0, take(number(4)));
      return true;
    case 0x8c:  // SHORT_BINUNICODE
    case 'U':   // SHORT_BINSTRING
      push(Kind::text, 0, take(number(1)));
      return true;
    case 0x8d:  // BINUNICODE8
      push(Kind::text, 0, take(number(8)));
      return true;

    case '(':  // MARK
      push(Kind::mark);
      return true;
    case ']':  // EMPTY_LIST
      push(container(Kind::list, {}));
      return true;
    case '}':  // EMPTY_DICT
      push(container(Kind::dictionary, {}));
      return true;
    case ')':  // EMPTY_TUPLE
      push_tuple(0);
      return true;
    case 0x85:  // TUPLE1
    case 0x86:  // TUPLE2
    case 0x87:  // TUPLE3
      push_tuple(code - 0x84);
      return true;
    case 't': {  // TUPLE
      Items items = pop_to_mark();
      push(container(Kind::tuple, std::move(items)));
      return true;
    }
    case 'a': {  // APPEND
      const Value item = pop();
      spend(1);
      items_of(top(), Kind::list)->push_back(item);
      return true;
    }
    case 'e': {  // APPENDS
      const Items items = pop_to_mark();
      spend(items.size());
      Items* list = items_of(top(), Kind::list);
      list->insert(list->end(), items.begin(), items.end());
      return true;
    }
    case 's': {  // SETITEM
      const Value value = pop(), key = pop();
      spend(2);
      Items* dictionary = items_of(top(), Kind::dictionary);
      dictionary->push_back(key);
      dictionary->push_back(value);
      return true;
    }
    case 'u': {  // SETITEMS
      const Items items = pop_to_mark();
      if (items.size() % 2 != 0) fail("a key without a value");
      spend(items.size());
      Items* dictionary = items_of(top(), Kind::dictionary);
      dictionary->insert(dictionary->end(), items.begin(), items.end());
      return true;
    }

    case 'q':  // BINPUT
      remember(number(1));
      return true;
    case 'r':  // LONG_BINPUT
      remember(number(4));
      return true;
    case 0x94:  // MEMOIZE
      remember(memo_.size());
      return true;
    case 'h':  // BINGET
      recall(number(1));
      return true;
    case 'j':  // LONG_BINGET
      recall(number(4));
      return true;

    case 'c': {  // GLOBAL
      const std::string_view module = line();
      push(function(module, line()));
      return true;
    }
    case 0x93: {  // STACK_GLOBAL
      const Value name = pop(), module = pop();
      if (name.kind != Kind::text || module.kind != Kind::text) fail("the name of a function is no text");
      push(function(module.text, name.text));
      return true;
    }
    case 'R': {  // REDUCE
      Value arguments = pop();
      const Value callee = pop();
      if (callee.kind != Kind::function) fail("a call of what is no function");
      push(call(callee, *items_of(arguments, Kind::tuple)));
      return true;
    }
    case 'b':  // BUILD: the versions of modules that state_dict() keeps beside the tensors
      pop();
      items_of(top(), Kind::dictionary);
      return true;
    case 'Q':  // BINPERSID
      push(storage_of(pop()));
      return true;
    default:
      fail("the instruction " + std::to_string(code) + ", which no file of tensors needs");
  }
}

std::string_view PickleReader::take(uint64_t size) {
  if (size > bytes_.size() - at_) fail("it is cut short");
  const std::string_view taken = bytes_.substr(at_, size);
  at_ += size;
  return taken;
}

uint64_t PickleReader::number(size_t size) {
  uint64_t value = 0;
  const std::string_view digits = take(size);
  for (size_t i = 0; i < size; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(digits[i])) << (8 * i);
  return value;
}

std::string_view PickleReader::line() {
  const size_t end = bytes_.find('\n', at_);
  if (end == std::string_view::npos) fail("it is cut short");
  const std::string_view text = take(end - at_);
  take(1);
  return text;
}

PickleReader::Value PickleReader::pop() {
  const Value value = top();
  stack_.pop_back();
  return value;
}

PickleReader::Value& PickleReader::top() {
  if (stack_.empty() || stack_.back().kind == Kind::mark) fail("a value is missing");
  return stack_.back();
}

PickleReader::Items PickleReader::pop_to_mark() {
  const auto mark = std::find_if(stack_.rbegin(), stack_.rend(), [](const Value& v) { return v.kind == Kind::mark; });
  if (mark == stack_.rend()) fail("a mark is missing");
  Items items(mark.base(), stack_.end());
  stack_.erase(mark.base() - 1, stack_.end());
  return items;
}

PickleReader::Items* PickleReader::items_of(Value& value, Kind kind) {
  if (value.kind != kind) fail("a value of another kind stands where a list, a tuple or a dictionary should");
  return value.items;
}

/// Counts values that are kept: a small file must not fill the memory.
void PickleReader::spend(size_t values) {
  spent_ += values;
  if (spent_ > kFreeValues + bytes_.size()) fail("more values than tensors are described with");
}

PickleReader::Value PickleReader::container(Kind kind, Items items) {
  spend(1 + items.size());
  return {.kind = kind, .items = &containers_.emplace_back(std::move(items))};
}

void PickleReader::push(Value value) {
  if (stack_.size() == kMostOnTheStack) fail("more values at a time than tensors are described with");
  stack_.push_back(value);
}

void PickleReader::push(Kind kind, int64_t number, std::string_view text) {
  push(Value{.kind = kind, .number = number, .text = text});
}

void PickleReader::push_tuple(size_t count) {
  Items items(count);
  for (size_t i = count; i-- > 0;) items[i] = pop();
  push(container(Kind::tuple, std::move(items)));
}

void PickleReader::remember(uint64_t place) {
  const auto [entry, is_new] = memo_.insert_or_assign(place, top());
  static_cast<void>(entry);
  if (is_new) spend(1);
}

void PickleReader::recall(uint64_t place) {
  const auto entry = memo_.find(place);
  if (entry == memo_.end()) fail("nothing is at that place of the memo");
  push(entry->second);
}

PickleReader::Value PickleReader::function(std::string_view module, std::string_view name) {
  const std::string full = std::string(module.substr(0, 200)) + "." + std::string(name.substr(0, 200));
  bool known = full == kDictionary || full == kTensor || full == kTensor2 || full == kParameter || full == kSize;
  for (const StorageName& storage : kStorages) {
    known |= name == storage.name && (module == "torch" || module == "torch.cuda");
  }
  if (!known) fail("the pickle asks for " + full + "; only tensors are read from it, and nothing was executed");
  return {.kind = Kind::function, .text = names_.emplace_back(full)};
}

PickleReader::Value PickleReader::call(const Value& function, const Items& arguments) {
  if (function.text == kDictionary && arguments.empty()) return container(Kind::dictionary, {});
  if (function.text == kSize && arguments.size() == 1 && arguments[0].kind == Kind::tuple) return arguments[0];
  if (function.text == kParameter && !arguments.empty() && arguments[0].kind == Kind::tensor) return arguments[0];
  if (function.text == kTensor || function.text == kTensor2) return tensor_of(arguments);
  fail("a call of " + std::string(function.text) + " with other arguments than torch.save gives it");
}

// storage, offset, shape, strides, and what only autograd needs.
PickleReader::Value PickleReader::tensor_of(const Items& arguments) {
  const bool whole = arguments.size() >= 4 && arguments[0].kind == Kind::storage && arguments[1].kind == Kind::integer;
  if (!whole) fail("a tensor without storage, offset, shape and strides");
  PickledTensor tensor{.storage = static_cast<size_t>(arguments[0].number),
                       .offset = arguments[1].number,
                       .shape = sizes(arguments[2]),
                       .strides = sizes(arguments[3])};
  if (tensor.offset < 0 || tensor.shape.size() != tensor.strides.size()) fail("a tensor that cannot be");
  spend(2 + 2 * tensor.shape.size());
  tensors_.push_back(std::move(tensor));
  return {.kind = Kind::tensor, .number = static_cast<int64_t>(tensors_.size()) - 1};
}

// ("storage", its type, key, device, elements), and in old files what it is a view of, or None.
PickleReader::Value PickleReader::storage_of(const Value& id) {
  const Items* parts = id.kind == Kind::tuple ? id.items : nullptr;
  const bool whole = parts && parts->size() >= 5 && (*parts)[0].text == "storage" &&
                     (*parts)[1].kind == Kind::function && (*parts)[2].kind == Kind::text &&
                     (*parts)[4].kind == Kind::integer && (*parts)[4].number >= 0;
  if (!whole) fail("a storage without type, key and size");
  if (parts->size() > 5 && (*parts)[5].kind != Kind::none) fail("a storage that is a view of another one");
  const std::string_view type = (*parts)[1].text.substr((*parts)[1].text.rfind('.') + 1);
  const auto row = std::find_if(kStorages.begin(), kStorages.end(), [&](const auto& s) { return s.name == type; });
  if (row == kStorages.end()) fail("a storage of the type " + std::string(type));
  const PickledStorage storage{std::string((*parts)[2].text), row->dtype, (*parts)[4].number};
  const auto [place, is_new] = storage_places_.emplace(storage.key, storages_.size());
  if (is_new) storages_.push_back(storage);
  const PickledStorage& known = storages_[place->second];
  if (known.dtype != storage.dtype || known.count != storage.count)
    fail("the storage '" + storage.key + "' has two types or sizes");
  return {.kind = Kind::storage, .number = static_cast<int64_t>(place->second)};
}

std::vector<int64_t> PickleReader::sizes(const Value& tuple) const {
  if (tuple.kind != Kind::tuple || tuple.items->size() > kMostDimensions) fail("a shape that is no tuple of sizes");
  std::vector<int64_t> result;
  for (const Value& size : *tuple.items) {
    if (size.kind != Kind::integer || size.number < 0) fail("a shape that is no tuple of sizes");
    result.push_back(size.number);
  }
  return result;
}

}  // namespace deltaw::io
