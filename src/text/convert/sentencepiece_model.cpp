#include "text/convert/sentencepiece_model.h"

#include <bit>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "core/files.h"
#include "deltaw/error.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text {
namespace {

/// Reads the fields of one protocol buffer message in order.
class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}

  /// Goes to the next field; false at the end. Skips what the caller did not read of the last one.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    field_ = tag >> 3;
    wire_ = static_cast<uint32_t>(tag & 7);
    if (field_ == 0 || field_ >> 29 != 0) fail(fmt::format("a field has the number {}", field_));
    switch (wire_) {
      case 0:
        number_ = varint();
        break;
      case 1:
        bytes_ = take(8);
        break;
      case 2:
        bytes_ = take(varint());
        break;
      case 5:
        bytes_ = take(4);
        break;
      default:
        fail(fmt::format("field {} has the wire type {}", field_, wire_));
    }
    return true;
  }

  uint64_t field() const { return field_; }

  std::string_view bytes() const {
    expect(2);
    return bytes_;
  }
  std::string text() const {
    if (repaired(bytes()) != bytes_) fail(fmt::format("field {} is not UTF-8", field_));
    return std::string(bytes_);
  }
  bool flag() const {
    expect(0);
    return number_ != 0;
  }
  /// An int32: negative ones are written with ten bytes.
  int64_t number() const {
    expect(0);
    return static_cast<int32_t>(static_cast<uint32_t>(number_));
  }
  float real() const {
    expect(5);
    uint32_t bits = 0;
    for (size_t i = 0; i < 4; ++i) bits |= static_cast<uint32_t>(static_cast<unsigned char>(bytes_[i])) << 8 * i;
    return std::bit_cast<float>(bits);
  }

  [[noreturn]] void fail(std::string what) const {
    throw Error{{.id = "format.sentencepiece",
                 .what = std::move(what),
                 .where = where_,
                 .fix = "take the file from the checkpoint again; it is no complete SentencePiece model"}};
  }

 private:
  void expect(uint32_t wire) const {
    if (wire_ != wire) fail(fmt::format("field {} has the wire type {}, not {}", field_, wire_, wire));
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail("a number has more than ten bytes");
  }

  std::string_view take(uint64_t count) {
    if (count > rest_.size()) {
      fail(fmt::format("{} bytes are announced where {} are left", count, rest_.size()));
    }
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
  const std::string& where_;
  uint64_t field_ = 0;
  uint32_t wire_ = 0;
  uint64_t number_ = 0;
  std::string_view bytes_;
};

SentencePieceModel::Piece read_piece(Message message) {
  SentencePieceModel::Piece piece;
  while (message.next()) {
    if (message.field() == 1) piece.text = message.text();
    if (message.field() == 2) piece.score = message.real();
    if (message.field() == 3) {
      const int64_t type = message.number();
      if (type < 1 || type > 6) message.fail(fmt::format("a piece has the type {}", type));
      piece.type = static_cast<SentencePieceModel::PieceType>(type);
    }
  }
  if (!std::isfinite(piece.score)) message.fail("a score is not finite");
  return piece;
}

void read_trainer(Message message, SentencePieceModel& model) {
  while (message.next()) {
    switch (message.field()) {
      case 3: {
        const int64_t kind = message.number();
        if (kind < 1 || kind > 4) message.fail(fmt::format("the model is of type {}", kind));
        model.kind = static_cast<SentencePieceModel::Kind>(kind);
        break;
      }
      case 24:
        model.blank_is_suffix = message.flag();
        break;
      case 35:
        model.byte_fallback = message.flag();
        break;
      case 40:
        model.unk_id = message.number();
        break;
      case 45:
        model.unk_piece = message.text();
        break;
      case 46:
        model.bos_piece = message.text();
        break;
      case 47:
        model.eos_piece = message.text();
        break;
      default:
        break;
    }
  }
}

void read_normalizer(Message message, SentencePieceModel& model) {
  while (message.next()) {
    if (message.field() == 2) model.charsmap = message.bytes();
    if (message.field() == 3) model.add_dummy_prefix = message.flag();
    if (message.field() == 4) model.remove_extra_whitespaces = message.flag();
  }
}

}  // namespace

SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& where) {
  SentencePieceModel model;
  Message message(bytes, where);
  while (message.next()) {
    if (message.field() == 1) model.pieces.push_back(read_piece({message.bytes(), where}));
    if (message.field() == 2) read_trainer({message.bytes(), where}, model);
    if (message.field() == 3) read_normalizer({message.bytes(), where}, model);
  }
  const auto size = static_cast<int64_t>(model.pieces.size());
  if (size == 0) message.fail("it has no pieces");
  if (model.unk_id < 0 || model.unk_id >= size) {
    message.fail(fmt::format("the unknown piece has the id {}, and there are {} pieces", model.unk_id, size));
  }
  return model;
}

SentencePieceModel read_sentencepiece(const std::filesystem::path& file) {
  return parse_sentencepiece(read_file(file), file.string());
}

}  // namespace deltaw::text
