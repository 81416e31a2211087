// The unigram model: of all ways to cut a word into pieces, the one with the highest sum of scores.
#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "text/tokenizer/byte_pieces.h"
#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

constexpr double kUnknownPenalty = 10.0;  // below the lowest score

/// All pieces but the one of id `without`; the children of a node lie side by side, ordered by their byte.
class Trie {
 public:
  Trie() = default;
  Trie(const Vocabulary& vocabulary, int32_t without) {
    std::vector<int32_t> order;
    order.reserve(static_cast<size_t>(vocabulary.size()));
    for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.size()); ++id) {
      if (id != without) order.push_back(id);
    }
    const auto piece = [&](size_t i) -> const std::string& { return vocabulary.piece(order[i]); };
    std::sort(order.begin(), order.end(),
              [&](int32_t a, int32_t b) { return vocabulary.piece(a) < vocabulary.piece(b); });
    struct Range {
      size_t begin;
      size_t end;
      size_t depth;
    };
    std::vector<Range> ranges{{0, order.size(), 0}};  // of each node, the pieces that begin with its text
    nodes_.emplace_back();
    for (size_t node = 0; node < nodes_.size(); ++node) {
      auto [begin, end, depth] = ranges[node];
      for (; begin < end && piece(begin).size() == depth; ++begin) nodes_[node].id = vocabulary.id(piece(begin));
      nodes_[node].first = static_cast<uint32_t>(nodes_.size());
      while (begin < end) {
        const char byte = piece(begin)[depth];
        size_t next = begin;
        while (next < end && piece(next)[depth] == byte) ++next;
        nodes_.push_back({.byte = byte});
        ranges.push_back({begin, next, depth + 1});
        ++nodes_[node].count;
        begin = next;
      }
    }
  }

  /// Calls `visit(bytes, id)` for every piece that `text` begins with, the shortest first.
  template <class Visit>
  void prefixes(std::string_view text, const Visit& visit) const {
    const Node* node = nodes_.data();
    for (size_t at = 0; at < text.size();) {
      const Node* first = nodes_.data() + node->first;
      const Node* last = first + node->count;
      const auto byte = static_cast<unsigned char>(text[at++]);
      node = std::lower_bound(first, last, byte, [](const Node& child, unsigned char value) {
        return static_cast<unsigned char>(child.byte) < value;
      });
      if (node == last || static_cast<unsigned char>(node->byte) != byte) return;
      if (node->id >= 0) visit(at, node->id);
    }
  }

 private:
  struct Node {
    char byte = 0;
    uint16_t count = 0;
    uint32_t first = 0;
    int32_t id = -1;
  };
  std::vector<Node> nodes_;
};

class Unigram final : public Model {
 public:
  explicit Unigram(const TokenizerValue& part)
      : behind_(part.text(kBehind, "")), byte_fallback_(part.flag("byte_fallback", false)) {
    std::vector<std::string> pieces;
    double lowest = std::numeric_limits<double>::infinity();
    for (const TokenizerValue& item : part.at("vocab").items()) {
      const std::vector<TokenizerValue> pair = item.items();
      if (pair.size() != 2 || !pair[1].json().is_number()) item.fail("expected a piece and its score");
      pieces.push_back(pair[0].text());
      scores_.push_back(pair[1].json().get<double>());
      if (!std::isfinite(scores_.back())) pair[1].fail("the score is not finite");
      lowest = std::min(lowest, scores_.back());
    }
    vocabulary_ = Vocabulary(std::move(pieces), part.at("vocab"));
    unknown_score_ = rounded(lowest - kUnknownPenalty);
    if (part.has("unk_id")) {
      const int64_t unknown = part.count("unk_id");
      if (!vocabulary_.has(unknown)) {
        part.at("unk_id").fail(fmt::format("{} is no id of a vocabulary of {} pieces", unknown, vocabulary_.size()));
      }
      unknown_ = static_cast<int32_t>(unknown);
    }
    trie_ = Trie(vocabulary_, behind_.empty() ? -1 : unknown_);  // SentencePiece finds its unknown token in no text
    if (byte_fallback_) bytes_ = BytePieces(vocabulary_);
    if (!behind_.empty()) tokens_before_ = best_path(behind_).size();
  }

  void tokenize(std::string_view word, std::vector<WordToken>& out) const override {
    const std::vector<WordToken> path = behind_.empty() ? best_path(word) : path_behind(word);
    for (const WordToken& token : path) {
      if (token.id != unknown_) {
        out.push_back(token);
      } else {
        add_unknown(word, token, out);
      }
    }
  }

  const Vocabulary& vocabulary() const override { return vocabulary_; }
  int32_t shown_as_text() const override { return unknown_; }

 private:
  struct Node {
    double score = 0.0;
    int32_t id = -1;
    int32_t begin = -1;  // of the best piece that ends here; -1: none does
  };

  double rounded(double score) const { return behind_.empty() ? score : static_cast<float>(score); }

  /// A token that reaches across the place where the word begins counts as one before it.
  std::vector<WordToken> path_behind(std::string_view word) const {
    std::vector<WordToken> path = best_path(behind_ + std::string(word));
    if (path.size() >= tokens_before_) path.erase(path.begin(), path.begin() + static_cast<ptrdiff_t>(tokens_before_));
    const auto before = static_cast<uint32_t>(behind_.size());
    for (WordToken& token : path) {
      token.begin = std::max(token.begin, before) - before;
      token.end = std::max(token.end, before + 1) - before;
    }
    return path;
  }

  /// The best pieces in order, unknown ones side by side joined.
  std::vector<WordToken> best_path(std::string_view word) const {
    std::vector<Node> nodes(word.size() + 1);
    const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
      score = rounded(score + nodes[begin].score);
      if (nodes[end].begin < 0 || score > nodes[end].score) nodes[end] = {score, id, static_cast<int32_t>(begin)};
    };
    for (size_t at = 0; at < word.size();) {
      const size_t character = width(word[at]);
      bool known = false;
      trie_.prefixes(word.substr(at), [&](size_t bytes, int32_t id) {
        offer(at, at + bytes, scores_[static_cast<size_t>(id)], id);
        known = known || bytes == character;
      });
      if (!known) {
        if (unknown_ < 0) no_unknown(word.substr(at, character));
        offer(at, at + character, unknown_score_, unknown_);
      }
      at += character;
    }
    std::vector<WordToken> path;
    for (auto end = static_cast<uint32_t>(word.size()); end > 0;) {
      const Node& node = nodes[end];
      const auto begin = static_cast<uint32_t>(node.begin);
      if (!path.empty() && unknown_ >= 0 && node.id == unknown_ && path.back().id == unknown_) {
        path.back().begin = begin;
      } else {
        path.push_back({node.id, begin, end});
      }
      end = begin;
    }
    std::reverse(path.begin(), path.end());
    return path;
  }

  void add_unknown(std::string_view word, const WordToken& token, std::vector<WordToken>& out) const {
    const std::string_view text = word.substr(token.begin, token.end - token.begin);
    const int32_t joined = vocabulary_.id(text);
    if (joined >= 0) {
      out.push_back({joined, token.begin, token.end});
    } else if (byte_fallback_ && bytes_.cover(text)) {
      for (const char byte : text) out.push_back({bytes_.id(byte), token.begin, token.end});
    } else {
      out.push_back(token);
    }
  }

  [[noreturn]] static void no_unknown(std::string_view character) {
    throw Error{{.id = "data.unknown-character",
                 .what = fmt::format("the character \"{}\" is not in the vocabulary", character),
                 .where = "the text to encode",
                 .fix = "the tokenizer names no unknown token (unk_id); use one that does, or remove the character"}};
  }

  Vocabulary vocabulary_;
  std::vector<double> scores_;
  Trie trie_;
  BytePieces bytes_;
  double unknown_score_ = 0.0;
  int32_t unknown_ = -1;
  std::string behind_;
  size_t tokens_before_ = 0;  // of behind_ alone
  bool byte_fallback_;
};

}  // namespace

std::unique_ptr<Model> make_unigram(const TokenizerValue& part) {
  return std::make_unique<Unigram>(part);
}

}  // namespace deltaw::text
