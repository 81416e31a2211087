// Prompts that start from a text: PEFT's own rows (tests/golden/prompts), and what must be refused.
#include <gtest/gtest.h>

#include "core/files.h"
#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "support/opened.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::base_folder;
using test::error_of;
using test::fixture;

const char* const kText = "Do these sentences mean the same?";

// A base with the tokenizer beside it.
void make_base(const std::filesystem::path& folder) {
  for (const std::filesystem::path& part : {fixture("golden/models/bert_cls"), fixture("golden/prompts/tokenizer")}) {
    std::filesystem::copy(part, folder, std::filesystem::copy_options::recursive);
  }
}

Adapter create(const Model& model, Json options) {
  options["method"] = "prompt_tuning";
  return Adapter::create(model, adapter_config_from_json(options, "test"), 1);
}

class PromptStart : public testing::TestWithParam<std::string> {};

TEST_P(PromptStart, IsThatOfPeft) {
  const std::filesystem::path folder = fixture("golden/prompts/" + GetParam());
  const auto model = load_model(base_folder("bert_cls"), {.dtype = "float32"});
  AdapterConfig config = adapter_config_from_json(read_json(folder / "adapter_config.json"), "test");
  config.options["tokenizer_name_or_path"] = fixture("golden/prompts/tokenizer").string();
  const Adapter theirs = Adapter::load(*model, folder);
  const Adapter ours = Adapter::create(*model, config, 1);
  EXPECT_TRUE(ours.whole()["prompt"].equal(theirs.whole()["prompt"]));
}

INSTANTIATE_TEST_SUITE_P(Cases, PromptStart, testing::Values("repeated", "cut"),
                         [](const auto& info) { return info.param; });

TEST(PromptText, IsReadByTheModelsTokenizer) {
  const test::TemporaryFolder folder, saved;
  make_base(folder.path());
  const auto model = load_model(folder.path().string(), {.dtype = "float32"});
  const Adapter adapter =
      create(*model, {{"num_virtual_tokens", 3}, {"prompt_tuning_init", "TEXT"}, {"prompt_tuning_init_text", kText}});
  const Tensor expected = model->shape().word_embeddings.index_select(0, at::tensor({2, 5, 6}));  // [CLS] do these
  EXPECT_TRUE(adapter.whole()["prompt"].equal(expected));
  adapter.save(saved.path());
  // PEFT reads no such file without the name of a tokenizer.
  EXPECT_EQ(read_json(saved / "adapter_config.json")["tokenizer_name_or_path"], folder.path().string());
  std::filesystem::remove(folder / "tokenizer.json");
  EXPECT_TRUE(Adapter::load(*model, saved.path()).whole()["prompt"].equal(expected)) << "reading needs no tokenizer";
}

TEST(PromptText, RefusesWhatItCannotRead) {
  const test::TemporaryFolder folder;
  make_base(folder.path());
  const auto model = load_model(folder.path().string(), {.dtype = "float32"});
  const auto refusal = [&](const Json& options) { return error_of([&] { create(*model, options); }); };
  EXPECT_EQ(refusal({{"prompt_tuning_init", "TEXT"}}).parts().where, "key \"prompt_tuning_init_text\"");
  for (const char* start : {"RANDOM", "SAMPLE_VOCAB"}) {
    const Json unused = {{"prompt_tuning_init", start}, {"prompt_tuning_init_text", kText}};
    EXPECT_EQ(refusal(unused).id(), "config.unsupported") << start;
  }

  Json words = read_json(folder / "tokenizer.json");
  words["model"]["vocab"]["same"] = 61;  // one more than the model has
  write_json(folder / "tokenizer.json", words);
  const Json text = {{"prompt_tuning_init", "TEXT"}, {"prompt_tuning_init_text", kText}};
  EXPECT_EQ(refusal(text).id(), "config.unsupported");
  std::filesystem::remove(folder / "tokenizer.json");
  EXPECT_EQ(refusal(text).id(), "io.not-found");
}

}  // namespace
}  // namespace deltaw
