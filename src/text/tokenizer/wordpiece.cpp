#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

/// Longest piece first, from left to right; a word that cannot be covered is unknown as a whole.
class WordPieceModel final : public Model {
 public:
  explicit WordPieceModel(const TokenizerValue& part)
      : vocabulary_(part.at("vocab")),
        prefix_(part.text("continuing_subword_prefix")),
        longest_word_(part.count("max_input_chars_per_word")) {
    const std::string unknown = part.text("unk_token");
    unknown_ = vocabulary_.id(unknown);
    if (unknown_ < 0) {
      throw Error{{.id = "format.vocabulary",
                   .what = "the unknown token \"" + unknown + "\" is not in the vocabulary",
                   .where = part.at("unk_token").where(),
                   .fix = "take the tokenizer's files from the checkpoint again"}};
    }
  }

  void tokenize(std::string_view word, std::vector<WordToken>& out) const override {
    const size_t first = out.size();
    const auto size = static_cast<uint32_t>(word.size());
    std::string candidate;
    bool known = word.size() <= static_cast<size_t>(longest_word_) || count_code_points(word) <= longest_word_;
    for (uint32_t begin = 0; begin < size && known;) {
      candidate.assign(begin > 0 ? prefix_ : "");
      candidate.append(word.substr(begin, vocabulary_.longest()));
      const size_t added = begin > 0 ? prefix_.size() : 0;
      trim_to_character(word, begin, candidate, added);
      int32_t id = -1;
      while (candidate.size() > added && (id = vocabulary_.id(candidate)) < 0) candidate.resize(last_start(candidate));
      known = id >= 0;
      const auto end = static_cast<uint32_t>(begin + candidate.size() - added);
      out.push_back({id, begin, end});
      begin = end;
    }
    if (known) return;
    out.resize(first);
    out.push_back({unknown_, 0, size});
  }

  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  /// The bound of bytes may fall inside a character.
  static void trim_to_character(std::string_view word, uint32_t begin, std::string& candidate, size_t added) {
    size_t end = begin + candidate.size() - added;
    while (end > begin && end < word.size() && (static_cast<unsigned char>(word[end]) & 0xC0) == 0x80) --end;
    candidate.resize(end - begin + added);
  }

  Vocabulary vocabulary_;
  std::string prefix_;
  int64_t longest_word_;
  int32_t unknown_ = -1;
};

}  // namespace

std::unique_ptr<Model> make_wordpiece(const TokenizerValue& part) {
  return std::make_unique<WordPieceModel>(part);
}

}  // namespace deltaw::text
