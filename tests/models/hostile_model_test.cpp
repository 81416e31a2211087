// Configurations of checkpoints that were written to do harm, or by a faulty tool: every one is read, or ends in an
// error that says what is wrong, before memory is asked for.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "deltaw/generate.h"
#include "deltaw/image_model.h"
#include "support/golden.h"
#include "support/mutations.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::ends_clearly;
using test::error_of;
using test::fixture;
using test::put;

constexpr const char* kFamilies[] = {"bert_cls",       "roberta_cls",
                                     "gpt2",           "llama_llama3",
                                     "mistral_window", "qwen3_yarn",
                                     "gemma2",         "phi3_long",
                                     "modernbert_cls", "modernbert_mean",
                                     "deberta_xl",     "vit_oblong",
                                     "deit_cls",       "dinov2_registers_smaller"};

void run(const Model& model) {
  Call call;
  if (const auto* images = dynamic_cast<const ImageModel*>(&model)) {
    images->forward_images(at::ones({1, 3, images->image_height(), images->image_width()}), call);
    return;
  }
  const Tensor ids = at::ones({1, 3}, at::kLong);
  model.forward({.input_ids = ids, .attention_mask = ids}, call);
}

class HostileModel : public testing::TestWithParam<const char*> {
 protected:
  HostileModel() { fs::copy(fixture("golden/models") / GetParam(), folder.path()); }

  /// What the verbs ask of a config.json, in their order.
  void read(const std::string& what) const {
    const std::string path = folder.path().string();
    ends_clearly(what, [&] { task_type_of(path); });
    ends_clearly(what, [&] { stored_labels(path); });
    ends_clearly(what, [&] { run(*load_model(path, {.dtype = "float32"})); });
  }

  test::TemporaryFolder folder;
  fs::path file = folder / "config.json";
};

TEST_P(HostileModel, WithAnyValueOfAnyTypeEndsInAClearError) {
  const Json whole = read_json(file);
  test::each_mutation(
      whole,
      [&](const Json& changed, const std::string& what) {
        put(file, changed.dump());
        read(what);
      },
      /*most_members=*/40);
}

int64_t most_memory() {  // KiB
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST_P(HostileModel, RefusesSizesThatCannotBeBeforeItMakesRoom) {
  const Json whole = read_json(file);
  const int64_t before = most_memory();
  const int64_t huge = int64_t{1} << 40;
  for (const std::string key :
       {"hidden_size", "n_embd", "num_hidden_layers", "n_layer", "vocab_size", "intermediate_size", "n_inner",
        "num_attention_heads", "n_head", "num_key_value_heads", "head_dim", "max_position_embeddings", "n_positions",
        "type_vocab_size", "image_size", "mlp_ratio", "num_labels"}) {
    const bool counts_labels = key == "num_labels";  // which decoders do not read
    if (!whole.contains(key) && !counts_labels) continue;
    for (const int64_t value : {huge, int64_t{1} << 30, int64_t{1'000'000'000}, int64_t{-1}, int64_t{0}}) {
      Json changed = whole;
      changed[key] = value;
      if (counts_labels) changed.erase("id2label");
      if (counts_labels) changed.erase("label2id");
      put(file, changed.dump());
      const Error error = error_of([&] { load_model(folder.path().string(), {.dtype = "float32"}); });
      if (error.id() == "none") {
        const bool as_it_is = !counts_labels && whole[key] == value;
        EXPECT_TRUE(counts_labels || as_it_is || (key == "max_position_embeddings" && value > 0))
            << key << " = " << value;
        continue;
      }
      const std::string family = error.id().substr(0, error.id().find('.'));
      EXPECT_TRUE(family == "config" || family == "shape" || family == "format") << error.what();
      if (value < 1 || value == huge) {
        EXPECT_NE(error.parts().what.find(key), std::string::npos) << error.what();
      }
    }
  }
  EXPECT_LT(most_memory() - before, 200 * 1024);
}

INSTANTIATE_TEST_SUITE_P(Families, HostileModel, testing::ValuesIn(kFamilies),
                         [](const auto& i) { return std::string(i.param); });

TEST(HostileHeads, MustDivideTheWidth) {
  for (const auto& [family, key] : {std::pair{"bert_cls", "num_attention_heads"},
                                    {"gpt2", "n_head"},
                                    {"mistral_window", "num_key_value_heads"},
                                    {"phi3_long", "num_attention_heads"}}) {
    const test::TemporaryFolder folder;
    fs::copy(fixture("golden/models") / family, folder.path());
    Json config = read_json(folder / "config.json");
    config[key] = 7;
    config.erase("head_dim");
    write_json(folder / "config.json", config);
    const Error error = error_of([&] { load_model(folder.path().string(), {.dtype = "float32"}); });
    EXPECT_TRUE(error.id().starts_with("config.")) << family << ": " << error.what();
    EXPECT_NE(error.parts().what.find(key), std::string::npos) << family << ": " << error.what();
  }
}

TEST(HostileGeneration, EndsInAClearError) {
  const test::TemporaryFolder folder;
  fs::copy(fixture("golden/models/gpt2"), folder.path());
  const auto model = load_model(folder.path().string(), {.dtype = "float32"});
  std::string words = "[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\n";
  for (int i = 5; i < model->vocab_size(); ++i) words += fmt::format("w{}\n", i);
  put(folder / "vocab.txt", words);
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
  const Json whole = {{"do_sample", true},      {"temperature", 0.7},  {"top_k", 20},
                      {"top_p", 0.9},           {"min_p", 0.1},        {"repetition_penalty", 1.1},
                      {"eos_token_id", {1, 2}}, {"max_new_tokens", 8}, {"bos_token_id", 1}};
  test::each_mutation(whole, [&](const Json& changed, const std::string& what) {
    put(folder / "generation_config.json", changed.dump());
    ends_clearly(what, [&] {
      GenerateOptions options = default_generation(*model, tokenizer);
      options.max_new_tokens = 2;
      TextGenerator(*model, nullptr, tokenizer, options).run({{1, 2, 3}});
    });
  });
}

}  // namespace
}  // namespace deltaw
