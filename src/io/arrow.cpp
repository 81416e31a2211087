#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "io/arrow_array.h"
#include "io/column_error.h"
#include "io/column_file.h"
#include "io/file_bytes.h"

namespace deltaw::io {
namespace {

constexpr std::string_view kFileMark("ARROW1\0\0", 8);
constexpr std::string_view kEndMark = "ARROW1";

enum Header : uint8_t { kSchema = 1, kDictionaryBatch = 2, kRecordBatch = 3 };

struct Message {
  std::string bytes;
  std::string body;

  FlatTable table() const { return FlatTable::root(bytes); }
};

/// A batch of a dictionary, which lives on.
struct KeptBatch {
  Message message;
  std::vector<std::unique_ptr<std::string>> unpacked;
};

class Reader {
 public:
  Reader(const std::filesystem::path& path, const TakeColumnRow& take)
      : file_(path), take_(take), allowance_(file_.size()) {}

  int64_t number() const { return number_; }

  void read() {
    if (file_.size() >= kFileMark.size() && file_.read(0, kFileMark.size()) == kFileMark) {
      read_file();
    } else {
      read_stream();
    }
  }

 private:
  /// What stands at the end of a file says where its batches are.
  void read_file() {
    const std::string footer = footer_bytes();
    const FlatTable table = FlatTable::root(footer);
    const auto schema = table.table(1);
    if (!schema) throw ColumnError("it does not say which columns it has");
    take_schema(*schema);
    for (const int field : {2, 3}) {  // dictionaries, batches of rows
      const FlatVector blocks = table.vector(field, 24);
      for (uint64_t i = 0; i < blocks.size(); ++i) {
        const auto begin = blocks.number<int64_t>(i);
        if (begin < 0) throw ColumnError(FlatTable::kOutside);
        auto at = static_cast<uint64_t>(begin);
        std::optional<Message> message = next(at, file_.size());
        if (!message) throw ColumnError("a batch is missing");
        handle(std::move(*message));
      }
    }
  }

  std::string footer_bytes() const {
    const uint64_t marks = kFileMark.size() + 4 + kEndMark.size();
    if (file_.size() < marks || file_.read(file_.size() - kEndMark.size(), kEndMark.size()) != kEndMark) {
      throw ColumnError("it does not end as an Arrow file does: it is cut short, perhaps");
    }
    const uint64_t place = file_.size() - kEndMark.size() - 4;
    const auto size = load<uint32_t>(file_.read(place, 4));
    if (size > place - kFileMark.size()) throw ColumnError("its description is longer than the file");
    return file_.read(place - size, size);
  }

  /// The end must be marked: without it, a stream that is cut between two batches would look whole.
  void read_stream() {
    uint64_t at = 0;
    while (std::optional<Message> message = next(at, file_.size())) handle(std::move(*message));
    if (!has_schema_) throw ColumnError("it does not say which columns it has");
  }

  /// The message at `at`, which moves behind it; nothing where the stream says that it ends.
  std::optional<Message> next(uint64_t& at, uint64_t end) {
    if (end - std::min(at, end) < 4)
      throw ColumnError("it ends where a batch or its end should stand: it is cut short");
    auto size = load<uint32_t>(file_.read(at, 4));
    at += 4;
    if (size == UINT32_MAX) {  // older streams begin with the length
      size = load<uint32_t>(file_.read(at, 4));
      at += 4;
    }
    if (size == 0) return std::nullopt;
    if (size > INT32_MAX) throw ColumnError("it does not begin as an Arrow file or stream does");
    if (size > end - at) throw ColumnError("it ends inside of a message: it is cut short, perhaps");
    Message message{.bytes = file_.read(at, size), .body = {}};
    at += size;
    const auto body = message.table().get<int64_t>(3, 0);
    if (body < 0 || static_cast<uint64_t>(body) > end - at) {
      throw ColumnError("it ends inside of a batch: it is cut short, perhaps");
    }
    message.body = file_.read(at, static_cast<uint64_t>(body));
    at += static_cast<uint64_t>(body);
    return message;
  }

  void handle(Message message) {
    const FlatTable table = message.table();
    const auto header = table.table(2);
    if (!header) throw ColumnError("a message says nothing");
    switch (table.get<uint8_t>(1, 0)) {
      case kSchema:
        take_schema(*header);
        break;
      case kDictionaryBatch:
        add_dictionary(std::move(message));
        break;
      case kRecordBatch:
        read_batch(*header, message.body);
        break;
      default:
        throw ColumnError("it holds tensors or other things that are no rows", ColumnError::Kind::unsupported);
    }
  }

  void take_schema(const FlatTable& schema) {
    if (has_schema_) throw ColumnError("it describes its columns twice");
    columns_ = read_arrow_schema(schema);
    for (const ArrowField& column : columns_) find_dictionaries(column);
    has_schema_ = true;
  }

  void find_dictionaries(const ArrowField& field) {
    if (field.dictionary) {
      ArrowField values = field;
      values.dictionary.reset();
      dictionary_fields_.emplace(*field.dictionary, std::move(values));
    }
    for (const ArrowField& child : field.children) find_dictionaries(child);
  }

  void add_dictionary(Message message) {
    KeptBatch& kept = kept_.emplace_back(KeptBatch{std::move(message), {}});
    const FlatTable dictionary = *kept.message.table().table(2);
    const auto id = dictionary.get<int64_t>(0, 0);
    const auto field = dictionary_fields_.find(id);
    const auto data = dictionary.table(1);
    if (field == dictionary_fields_.end() || !data) throw ColumnError("a dictionary belongs to no column");
    ArrowBatch batch(*data, kept.message.body);
    auto values = std::make_shared<const ArrowArray>(field->second, batch, dictionaries_);
    kept.unpacked = batch.take_unpacked();
    auto& parts = dictionaries_[id];
    if (dictionary.get<uint8_t>(2, 0) == 0) parts.clear();
    parts.push_back(std::move(values));
  }

  void read_batch(const FlatTable& header, std::string_view body) {
    if (!has_schema_) throw ColumnError("rows stand before it says which columns it has");
    ArrowBatch batch(header, body);
    std::vector<ArrowArray> arrays;
    arrays.reserve(columns_.size());
    for (const ArrowField& column : columns_) arrays.emplace_back(column, batch, dictionaries_);
    for (uint64_t i = 0; i < static_cast<uint64_t>(batch.length()); ++i) {
      ++number_;
      Json row = Json::object();
      for (size_t column = 0; column < arrays.size(); ++column) {
        allowance_.spend(kValueBytes + columns_[column].name.size());
        row[columns_[column].name] = arrays[column].value(i, allowance_);
      }
      take_(row, number_);
    }
  }

  FileBytes file_;
  const TakeColumnRow& take_;
  Allowance allowance_;
  std::vector<ArrowField> columns_;
  std::map<int64_t, ArrowField> dictionary_fields_;
  ArrowDictionaries dictionaries_;
  std::deque<KeptBatch> kept_;
  bool has_schema_ = false;
  int64_t number_ = 0;
};

}  // namespace

void each_arrow_row(const std::filesystem::path& path, const TakeColumnRow& take) {
  Reader reader(path, take);
  try {
    reader.read();
  } catch (const ColumnError& error) {
    throw column_file_error(error, {.id = "format.arrow", .name = "Arrow file", .path = path, .row = reader.number()});
  }
}

}  // namespace deltaw::io
