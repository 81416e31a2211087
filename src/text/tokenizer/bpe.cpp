#include <array>

#include <fmt/format.h>

#include "text/tokenizer/bpe_merges.h"
#include "text/tokenizer/byte_pieces.h"
#include "text/tokenizer/parts.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text {
namespace {

[[noreturn]] void bad_merges(const TokenizerValue& part, std::string what) {
  throw Error{{.id = "format.merges",
               .what = std::move(what),
               .where = part.where(),
               .fix = "take the tokenizer's files from the checkpoint again"}};
}

std::pair<std::string, std::string> halves_of(const TokenizerValue& merge) {
  if (merge.json().is_array()) {
    if (merge.json().size() != 2) bad_merges(merge, fmt::format("a merge has {} parts, not 2", merge.json().size()));
    const std::vector<TokenizerValue> items = merge.items();
    return {items[0].text(), items[1].text()};
  }
  const std::string line = merge.text();
  const size_t blank = line.find(' ');
  if (blank == std::string::npos || line.find(' ', blank + 1) != std::string::npos) {
    bad_merges(merge, fmt::format("the merge \"{}\" does not have two parts", line));
  }
  return {line.substr(0, blank), line.substr(blank + 1)};
}

/// Byte-pair encoding over the characters of a word.
class Bpe final : public Model {
 public:
  explicit Bpe(const TokenizerValue& part)
      : vocabulary_(part.at("vocab")),
        prefix_(part.text("continuing_subword_prefix", "")),
        suffix_(part.text("end_of_word_suffix", "")),
        fuse_unknown_(part.flag("fuse_unk", false)),
        ignore_merges_(part.flag("ignore_merges", false)) {
    if (part.has("dropout") && part.at("dropout").json() != 0.0) part.unsupported("BPE dropout is not implemented");
    if (part.has("unk_token")) {
      const std::string unknown = part.text("unk_token");
      unknown_ = vocabulary_.id(unknown);
      if (unknown_ < 0) {
        part.at("unk_token").fail(fmt::format("the unknown token \"{}\" is not in the vocabulary", unknown));
      }
    }
    read_merges(part.at("merges"),
                part.has(kMergeRanks) ? part.at(kMergeRanks).items() : std::vector<TokenizerValue>());
    for (char32_t c = 0; c < characters_.size(); ++c) {
      std::string text;
      text::append(text, c);
      characters_[c] = vocabulary_.id(text);
    }
    if (part.flag("byte_fallback", false)) bytes_ = BytePieces(vocabulary_);
    // A blank that is in the vocabulary ends whatever unknown characters stand before it.
    cuts_before_blanks_ =
        blanks_only_begin_ && prefix_.empty() && suffix_.empty() && !ignore_merges_ && vocabulary_.id(kBlank) >= 0;
  }

  void tokenize(std::string_view word, std::vector<WordToken>& out) const override {
    if (ignore_merges_) {
      const int32_t whole = vocabulary_.id(word);
      if (whole >= 0) {
        out.push_back({whole, 0, static_cast<uint32_t>(word.size())});
        return;
      }
    }
    std::vector<WordToken> symbols = symbols_of(word);
    merge_all(merges_, symbols);
    out.insert(out.end(), symbols.begin(), symbols.end());
  }

  const Vocabulary& vocabulary() const override { return vocabulary_; }
  bool cuts_before_blanks() const override { return cuts_before_blanks_; }

 private:
  /// `ranks` of the merges; where it is empty each has its own.
  void read_merges(const TokenizerValue& part, const std::vector<TokenizerValue>& ranks) {
    if (!part.json().is_array()) part.fail("expected an array of merges");
    if (!ranks.empty() && ranks.size() != part.json().size()) part.fail("expected as many merges as ranks");
    merges_.reserve(part.json().size());
    size_t rank = 0;  // they all count, the line "#version" aside
    for (const TokenizerValue& merge : part.items()) {
      if (merge.json().is_string() && merge.json().get_ref<const std::string&>().starts_with("#version")) continue;
      const auto [left, right] = halves_of(merge);
      if (right.size() < prefix_.size()) {
        bad_merges(merge, fmt::format("the right part \"{}\" is shorter than the prefix \"{}\"", right, prefix_));
      }
      const std::string joined = left + right.substr(prefix_.size());
      for (const std::string* piece : {&left, &right, &joined}) {
        if (vocabulary_.id(*piece) >= 0) continue;
        bad_merges(merge, fmt::format("the merge of \"{}\" and \"{}\" needs the piece \"{}\", which is not in the "
                                      "vocabulary of {} pieces",
                                      left, right, *piece, vocabulary_.size()));
      }
      merges_.set(vocabulary_.id(left), vocabulary_.id(right), {rank_of(ranks, rank), vocabulary_.id(joined)});
      ++rank;
      if (joined.find(kBlank) != std::string::npos && has_blank_inside(joined)) blanks_only_begin_ = false;
    }
  }

  static int32_t rank_of(const std::vector<TokenizerValue>& ranks, size_t merge) {
    return static_cast<int32_t>(ranks.empty() ? static_cast<int64_t>(merge) : ranks[merge].count());
  }

  int32_t character_id(std::string_view word, size_t begin, size_t end) const {
    const bool with_prefix = begin > 0 && !prefix_.empty();
    const bool with_suffix = end == word.size() && !suffix_.empty();
    if (!with_prefix && !with_suffix) {
      const CodePoint c = decode(word, begin);
      return c.value < characters_.size() ? characters_[c.value] : vocabulary_.id(word.substr(begin, end - begin));
    }
    std::string piece = with_prefix ? prefix_ : "";
    piece += word.substr(begin, end - begin);
    if (with_suffix) piece += suffix_;
    return vocabulary_.id(piece);
  }

  static bool has_blank_inside(std::string_view piece) {
    while (piece.starts_with(kBlank)) piece.remove_prefix(std::string_view(kBlank).size());
    return piece.find(kBlank) != std::string_view::npos;
  }

  /// Unknown characters become bytes, else the unknown token, else vanish. The library writes an unknown token down at
  /// the next character of the vocabulary, so after bytes that follow it.
  std::vector<WordToken> symbols_of(std::string_view word) const {
    std::vector<WordToken> symbols;
    symbols.reserve(word.size());
    uint32_t done = 0;     // bytes that the symbols stand for
    uint32_t unknown = 0;  // bytes of the unknown token not yet written
    const auto add = [&](int32_t id, uint32_t bytes) {
      symbols.push_back({id, done, done + bytes});
      done += bytes;
    };
    const auto add_unknown = [&] {
      if (unknown > 0) add(unknown_, unknown);
      unknown = 0;
    };
    for (size_t at = 0; at < word.size();) {
      const uint32_t bytes = width(word[at]);
      const int32_t id = character_id(word, at, at + bytes);
      if (id >= 0) {
        add_unknown();
        add(id, bytes);
      } else if (const std::string_view character = word.substr(at, bytes); bytes_.cover(character)) {
        for (const char byte : character) add(bytes_.id(byte), 1);
      } else if (unknown_ >= 0) {
        if (!fuse_unknown_) add_unknown();
        unknown += bytes;
      }
      at += bytes;
    }
    add_unknown();
    return symbols;
  }

  Vocabulary vocabulary_;
  Merges merges_;
  std::array<int32_t, 0x180> characters_{};
  std::string prefix_;  // of every character but the first
  std::string suffix_;  // of the last character
  BytePieces bytes_;    // none without byte_fallback
  int32_t unknown_ = -1;
  bool blanks_only_begin_ = true;  // no merge has U+2581 after another character
  bool cuts_before_blanks_ = false;
  bool fuse_unknown_;
  bool ignore_merges_;
};

}  // namespace

std::unique_ptr<Model> make_bpe(const TokenizerValue& part) {
  return std::make_unique<Bpe>(part);
}

}  // namespace deltaw::text
