// The least causal model whose every token depends on all before it, for tests of evaluation.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "deltaw/evaluate.h"
#include "deltaw/model.h"
#include "support/temporary.h"

namespace deltaw::test {

/// The scores of what follows are the sum of what each token read so far says for it: one row of the table a token.
class CountingModel final : public Model {
 public:
  CountingModel(const std::filesystem::path& folder, int64_t vocabulary, int64_t positions) {
    folder_ = folder;
    config_ = {{"model_type", "counting"}, {"eos_token_id", 3}};
    head_ = {.task_type = "CAUSAL_LM", .architecture = "CountingForCausalLM"};
    vocab_size_ = vocabulary;
    max_positions_ = positions;
    table = at::zeros({vocabulary, vocabulary}, at::kFloat);
  }

  Tensor features(const ModelInput& input, Call& call) const override {
    EXPECT_LE(input.input_ids.size(1), max_positions_);
    const Tensor read = at::one_hot(input.input_ids, vocab_size_).to(at::kFloat).unsqueeze(1);
    const Tensor all = (call.cache ? call.cache->append(0, read, read).first : read).squeeze(1);
    const Tensor counts = (all * input.attention_mask.gt(0).to(at::kFloat).unsqueeze(2)).cumsum(1);
    const int64_t now = input.input_ids.size(1);
    return counts.narrow(1, counts.size(1) - now, now);
  }

  Tensor logits(const Tensor& features, Call& /*call*/) const override { return at::matmul(features, table); }

  void draw_table(uint64_t seed) { table.normal_(0, 0.5, at::make_generator<at::CPUGeneratorImpl>(seed)); }

  Tensor table;  // [vocabulary, vocabulary]
};

/// The model, and words for its tokens: the five special ones of BERT, then `words`.
struct Counting {
  TemporaryFolder folder;
  CountingModel model;
  Tokenizer tokenizer;

  Counting(const std::vector<std::string>& words, int64_t positions)
      : model(folder.path(), static_cast<int64_t>(words.size()) + 5, positions), tokenizer(make_tokenizer(words)) {}

  LanguageModel lm(int64_t batch_size = 3) const { return {model, nullptr, tokenizer, /*pad_id=*/0, batch_size}; }

  int64_t id(const std::string& word) const { return tokenizer.token_to_id(word).value(); }

  /// What follows `before` is `after`, unless a greater weight is against it.
  void say(const std::string& before, const std::string& after, double weight) {
    model.table[id(before)][id(after)] = weight;
  }

  /// Of ids[first, end), each given those from `begin` on.
  double nll(const std::vector<int64_t>& ids, int64_t begin, int64_t first, int64_t end) const {
    double sum = 0;
    for (int64_t i = first; i < end; ++i) {
      Tensor scores = at::zeros({model.vocab_size()}, at::kDouble);
      for (int64_t k = begin; k < i; ++k) scores += model.table[ids[static_cast<size_t>(k)]].to(at::kDouble);
      sum -= at::log_softmax(scores, 0)[ids[static_cast<size_t>(i)]].item<double>();
    }
    return sum;
  }

 private:
  Tokenizer make_tokenizer(const std::vector<std::string>& words) const {
    std::string lines = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (const std::string& word : words) lines += word + "\n";
    put(folder / "vocab.txt", lines);
    return Tokenizer::from_folder(folder.path());
  }
};

}  // namespace deltaw::test
