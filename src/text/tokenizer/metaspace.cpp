// Blanks written as a visible character, as SentencePiece does.
#include <utility>

#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

enum class Prepend { kNever, kFirst, kAlways };

struct Settings {
  char32_t blank;
  std::string blank_text;
  Prepend prepend;
  bool split;
};

Settings read_settings(const TokenizerValue& part) {
  const std::string blank = part.text("replacement");
  if (count_code_points(blank) != 1) part.at("replacement").fail("expected one character");
  // Early files say add_prefix_space only.
  const std::string scheme = part.text("prepend_scheme", part.flag("add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    part.at("prepend_scheme").unsupported("the prepend scheme \"" + scheme + "\" is not known");
  }
  return {decode(blank, 0).value, blank,
          scheme == "always" ? Prepend::kAlways : (scheme == "first" ? Prepend::kFirst : Prepend::kNever),
          part.flag("split", true)};
}

class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(const TokenizerValue& part)
      : settings_(read_settings(part)), find_blank_(find_text(settings_.blank_text)) {}

  void cut(Pieces& pieces) const override {
    Pieces result;
    result.buffer.text.reserve(pieces.buffer.text.size() * 3 / 2 + 16);
    result.buffer.spans.reserve(result.buffer.text.capacity());
    result.list.reserve(pieces.list.size());
    for (const Piece& piece : pieces.list) {
      const auto begin = static_cast<uint32_t>(result.buffer.text.size());
      if (piece.added >= 0) {
        result.buffer.append(pieces.buffer, piece.begin, piece.end);
      } else {
        rewrite(pieces.buffer, piece, result.buffer);
      }
      result.list.push_back({begin, static_cast<uint32_t>(result.buffer.text.size()), piece.added});
    }
    pieces = std::move(result);
    if (settings_.split) split(pieces, find_blank_, SplitBehavior::kMergedWithNext);
  }

 private:
  void rewrite(const Aligned& from, const Piece& piece, Aligned& out) const {
    const std::string& blank = settings_.blank_text;
    const std::string_view text = std::string_view(from.text).substr(piece.begin, piece.end - piece.begin);
    const bool starts_blank = text.starts_with(' ') || text.starts_with(blank);
    if (!starts_blank && (settings_.prepend == Prepend::kAlways ||
                          (settings_.prepend == Prepend::kFirst && from.spans[piece.begin].begin == 0))) {
      out.text += blank;
      out.spans.resize(out.text.size(), from.spans[piece.begin]);
    }
    for (uint32_t at = piece.begin; at < piece.end; ++at) {
      if (from.text[at] == ' ') {
        out.text += blank;
      } else {
        out.text.push_back(from.text[at]);
      }
      out.spans.resize(out.text.size(), from.spans[at]);
    }
  }

  Settings settings_;
  Finder find_blank_;
};

class MetaspaceDecoder final : public Decoder {
 public:
  explicit MetaspaceDecoder(const TokenizerValue& part) : settings_(read_settings(part)) {}

  void decode(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      const bool drop = i == 0 && settings_.prepend != Prepend::kNever;
      std::string result;
      for (size_t at = 0; at < tokens[i].size();) {
        const CodePoint c = text::decode(tokens[i], at);
        if (c.value != settings_.blank) {
          result.append(tokens[i], at, c.bytes);
        } else if (!drop) {
          result += ' ';
        }
        at += c.bytes;
      }
      tokens[i] = std::move(result);
    }
  }

 private:
  Settings settings_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_metaspace(const TokenizerValue& part) {
  return std::make_unique<Metaspace>(part);
}

std::unique_ptr<Decoder> make_metaspace_decoder(const TokenizerValue& part) {
  return std::make_unique<MetaspaceDecoder>(part);
}

}  // namespace deltaw::text
