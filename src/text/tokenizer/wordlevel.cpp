#include <fmt/format.h>

#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

/// Every word is one token. Which words there are is the pre-tokenizer's part.
class WordLevel final : public Model {
 public:
  explicit WordLevel(const TokenizerValue& part)
      : vocabulary_(part.at("vocab")), unknown_token_(part.text("unk_token")), where_(part.at("unk_token").where()) {
    unknown_ = vocabulary_.id(unknown_token_);
  }

  void tokenize(std::string_view word, std::vector<WordToken>& out) const override {
    const int32_t id = vocabulary_.id(word);
    if (id < 0 && unknown_ < 0) refuse(word);
    out.push_back({id < 0 ? unknown_ : id, 0, static_cast<uint32_t>(word.size())});
  }

  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  /// As in the reference library, a file may lack the unknown token as long as all words are known.
  [[noreturn]] void refuse(std::string_view word) const {
    throw Error{{.id = "data.unknown-word",
                 .what = fmt::format("the vocabulary has neither '{}' nor the unknown token '{}'", word.substr(0, 100),
                                     unknown_token_),
                 .where = where_,
                 .fix = "name a token of the vocabulary as unk_token, or leave the text out"}};
  }

  Vocabulary vocabulary_;
  std::string unknown_token_;
  std::string where_;
  int32_t unknown_ = -1;
};

}  // namespace

std::unique_ptr<Model> make_wordlevel(const TokenizerValue& part) {
  return std::make_unique<WordLevel>(part);
}

}  // namespace deltaw::text
