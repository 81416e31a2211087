// Byte-level texts: every byte stands as one printable character, so that no text is unknown.
#include <algorithm>
#include <array>
#include <utility>

#include "text/tokenizer/parts.h"
#include "text/tokenizer/regex.h"

namespace deltaw::text {
namespace {

constexpr char32_t kBlankByte = 0x120;  // stands for the byte 0x20

/// Printable Latin-1 bytes stand for themselves, the others for U+0100 and on, in order.
std::array<char32_t, 256> make_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    alphabet[byte] = printable ? byte : next++;
  }
  return alphabet;
}

const std::array<char32_t, 256>& alphabet() {
  static const std::array<char32_t, 256> table = make_alphabet();
  return table;
}

const std::array<int16_t, 0x180>& bytes_of_alphabet() {
  static const std::array<int16_t, 0x180> table = [] {
    std::array<int16_t, 0x180> result{};
    result.fill(-1);
    for (size_t byte = 0; byte < 256; ++byte) result[alphabet()[byte]] = static_cast<int16_t>(byte);
    return result;
  }();
  return table;
}

class ByteLevel final : public PreTokenizer {
 public:
  explicit ByteLevel(const TokenizerValue& part)
      : add_prefix_space_(part.flag("add_prefix_space")), use_regex_(part.flag("use_regex", true)) {
    part.flag("trim_offsets");
  }

  void cut(Pieces& pieces) const override {
    Pieces result;
    result.buffer.text.reserve(pieces.buffer.text.size() * 5 / 4 + 16);
    result.buffer.spans.reserve(result.buffer.text.capacity());
    result.list.reserve(pieces.list.size() + pieces.buffer.text.size() / 4);
    std::vector<Stretch> stretches;
    for (const Piece& piece : pieces.list) {
      if (piece.added >= 0) {
        const auto begin = static_cast<uint32_t>(result.buffer.text.size());
        result.buffer.append(pieces.buffer, piece.begin, piece.end);
        result.list.push_back({begin, static_cast<uint32_t>(result.buffer.text.size()), piece.added});
      } else if (add_prefix_space_ && pieces.buffer.text[piece.begin] != ' ') {
        Aligned prefixed{" ", {pieces.buffer.spans[piece.begin]}};
        prefixed.append(pieces.buffer, piece.begin, piece.end);
        words(prefixed, {0, static_cast<uint32_t>(prefixed.text.size()), -1}, stretches, result);
      } else {
        words(pieces.buffer, piece, stretches, result);
      }
    }
    pieces = std::move(result);
  }

 private:
  void words(const Aligned& from, const Piece& piece, std::vector<Stretch>& stretches, Pieces& out) const {
    stretches.clear();
    if (use_regex_) {
      static const Regex words(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
      words.find(std::string_view(from.text).substr(piece.begin, piece.end - piece.begin), stretches);
    } else {
      stretches.push_back({0, piece.end - piece.begin, true});
    }
    for (const Stretch& stretch : stretches) {
      if (stretch.begin == stretch.end) continue;
      const auto begin = static_cast<uint32_t>(out.buffer.text.size());
      for (uint32_t at = piece.begin + stretch.begin; at < piece.begin + stretch.end; ++at) {
        const auto byte = static_cast<unsigned char>(from.text[at]);
        if (byte > ' ' && byte < 0x7F) {
          out.buffer.text.push_back(static_cast<char>(byte));
          out.buffer.spans.push_back(from.spans[at]);
        } else {
          out.buffer.push(alphabet()[byte], from.spans[at]);
        }
      }
      out.list.push_back({begin, static_cast<uint32_t>(out.buffer.text.size()), -1});
    }
  }

  bool add_prefix_space_;
  bool use_regex_;
};

/// Appends the bytes that `token` stands for; false where a character stands for none.
bool append_bytes(const std::string& token, std::string& out) {
  const size_t before = out.size();
  for (size_t at = 0; at < token.size();) {
    const CodePoint c = decode(token, at);
    const int16_t byte = c.value < bytes_of_alphabet().size() ? bytes_of_alphabet()[c.value] : int16_t{-1};
    if (byte < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(byte));
    at += c.bytes;
  }
  return true;
}

class ByteLevelDecoder final : public Decoder {
 public:
  void decode(std::vector<std::string>& tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) {
      if (!append_bytes(token, bytes)) bytes += token;
    }
    tokens.assign(1, repaired(bytes));
  }

  bool settled(const std::vector<std::string>& tokens) const override {
    std::string bytes;
    for (size_t i = tokens.size(); i > 0 && bytes.size() < 4; --i) {
      std::string more;
      if (!append_bytes(tokens[i - 1], more)) more = tokens[i - 1];
      bytes.insert(0, more);
    }
    // A text cut within a character may go on; repairing closes the character with the same U+FFFD only when not.
    for (size_t back = 1; back <= std::min<size_t>(3, bytes.size()); ++back) {
      const auto lead = static_cast<unsigned char>(bytes[bytes.size() - back]);
      if ((lead & 0xC0) == 0x80) continue;
      return lead < 0xC2 || lead > 0xF4 || width(static_cast<char>(lead)) <= back;
    }
    return true;
  }
};

bool is_blank(char32_t c) {
  return c == kBlankByte || is_space(c);
}

}  // namespace

std::unique_ptr<PreTokenizer> make_byte_level(const TokenizerValue& part) {
  return std::make_unique<ByteLevel>(part);
}

std::unique_ptr<Decoder> make_byte_level_decoder(const TokenizerValue&) {
  return std::make_unique<ByteLevelDecoder>();
}

void trim_offsets(Encoding& encoding, bool add_prefix_space) {
  for (size_t i = 0; i < encoding.tokens.size(); ++i) {
    const std::string& token = encoding.tokens[i];
    int64_t leading = 0;
    for (size_t at = 0; at < token.size() && is_blank(text::decode(token, at).value); at += width(token[at])) ++leading;
    int64_t trailing = 0;
    for (size_t end = token.size(); end > 0; ++trailing) {
      const size_t last = last_start(std::string_view(token).substr(0, end));
      if (!is_blank(text::decode(token, last).value)) break;
      end = last;
    }
    auto& [begin, end] = encoding.offsets[i];
    if (leading > 0) {
      if ((i == 0 || begin == 0) && add_prefix_space && leading == 1) leading = 0;
      begin = std::min(begin + leading, end);
    }
    if (trailing > 0 && end >= trailing) end = std::max(end - trailing, begin);
  }
}

}  // namespace deltaw::text
