#include <utility>

#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

class Splitter final : public PreTokenizer {
 public:
  Splitter(Finder find, SplitBehavior behavior, bool invert = false)
      : find_(std::move(find)), behavior_(behavior), invert_(invert) {}

  void cut(Pieces& pieces) const override { split(pieces, find_, behavior_, invert_); }

 private:
  Finder find_;
  SplitBehavior behavior_;
  bool invert_;
};

SplitBehavior behavior_of(const TokenizerValue& part) {
  const std::string name = part.text();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  part.unsupported("the split behavior \"" + name + "\" is not known");
}

/// Words between white space, with every punctuation character on its own.
class BertPreTokenizer final : public PreTokenizer {
 public:
  void cut(Pieces& pieces) const override {
    std::vector<Piece> result;
    result.reserve(pieces.buffer.text.size() / 4 + 8);
    for (const Piece& piece : pieces.list) {
      if (piece.added >= 0) {
        result.push_back(piece);
      } else {
        words(pieces.buffer.text, piece, result);
      }
    }
    pieces.list = std::move(result);
  }

 private:
  static void words(std::string_view text, const Piece& piece, std::vector<Piece>& out) {
    uint32_t begin = piece.begin;
    for (uint32_t at = piece.begin; at < piece.end;) {
      const CodePoint c = decode(text, at);
      const uint32_t next = at + c.bytes;
      const bool space = is_space(c.value);
      if (space || is_punctuation(c.value)) {
        if (begin < at) out.push_back({begin, at, -1});
        if (!space) out.push_back({at, next, -1});
        begin = next;
      }
      at = next;
    }
    if (begin < piece.end) out.push_back({begin, piece.end, -1});
  }
};

/// Runs of word characters and runs of what is neither that nor white space.
void find_whitespace_words(std::string_view text, std::vector<Stretch>& out) {
  const auto kind = [](char32_t c) { return is_word(c) ? 1 : is_space(c) ? 0 : 2; };
  uint32_t begin = 0;
  int previous = -1;
  for (uint32_t at = 0; at < text.size();) {
    const CodePoint c = decode(text, at);
    const int current = kind(c.value);
    if (current != previous && begin < at) {
      out.push_back({begin, at, previous != 0});
      begin = at;
    }
    previous = current;
    at += c.bytes;
  }
  if (begin < text.size()) out.push_back({begin, static_cast<uint32_t>(text.size()), previous != 0});
}

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(const TokenizerValue& part) {
    for (const TokenizerValue& item : part.at("pretokenizers").items()) steps_.push_back(make_pre_tokenizer(item));
  }

  void cut(Pieces& pieces) const override {
    for (const auto& step : steps_) step->cut(pieces);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

template <class Kind>
std::unique_ptr<PreTokenizer> make(const TokenizerValue&) {
  return std::make_unique<Kind>();
}

std::unique_ptr<PreTokenizer> make_sequence(const TokenizerValue& part) {
  return std::make_unique<Sequence>(part);
}

std::unique_ptr<PreTokenizer> make_split(const TokenizerValue& part) {
  return std::make_unique<Splitter>(make_finder(part.at("pattern")), behavior_of(part.at("behavior")),
                                    part.flag("invert"));
}

std::unique_ptr<PreTokenizer> make_digits(const TokenizerValue& part) {
  return std::make_unique<Splitter>(find_characters(is_numeric), part.flag("individual_digits")
                                                                     ? SplitBehavior::kIsolated
                                                                     : SplitBehavior::kContiguous);
}

std::unique_ptr<PreTokenizer> make_punctuation(const TokenizerValue& part) {
  return std::make_unique<Splitter>(find_characters(is_punctuation),
                                    part.has("behavior") ? behavior_of(part.at("behavior")) : SplitBehavior::kIsolated);
}

std::unique_ptr<PreTokenizer> make_whitespace(const TokenizerValue&) {
  return std::make_unique<Splitter>(find_whitespace_words, SplitBehavior::kRemoved, true);
}

std::unique_ptr<PreTokenizer> make_whitespace_split(const TokenizerValue&) {
  return std::make_unique<Splitter>(find_characters(is_space), SplitBehavior::kRemoved);
}

constexpr PartKind<PreTokenizer> kKinds[] = {
    {"BertPreTokenizer", make<BertPreTokenizer>},
    {"ByteLevel", make_byte_level},
    {"Digits", make_digits},
    {"Metaspace", make_metaspace},
    {"Punctuation", make_punctuation},
    {"Sequence", make_sequence},
    {"Split", make_split},
    {"Whitespace", make_whitespace},
    {"WhitespaceSplit", make_whitespace_split},
};

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const TokenizerValue& part) {
  return make_part(part, "pre-tokenizer", kKinds);
}

}  // namespace deltaw::text
