#include "io/hub/choice.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/temporary.h"

namespace deltaw::io::hub {
namespace {

using test::error_of;
using Names = std::vector<std::string>;

Names chosen(const Names& paths, const RepoName& name = {.id = "org/x"}, const Wishes& wishes = {}) {
  Listing listing;
  for (const std::string& path : paths) listing.files.push_back({.path = path});
  Names names;
  for (const File& file : choose(listing, name, wishes).files) names.push_back(file.path);
  return names;
}

Error refused(const Names& paths, const RepoName& name = {.id = "org/x"}, const Wishes& wishes = {}) {
  return error_of([&] { chosen(paths, name, wishes); });
}

TEST(HubPatterns, MatchAsPythonsFnmatch) {
  for (const auto& [pattern, path] :
       std::vector<std::pair<const char*, const char*>>{{"*.json", "config.json"},
                                                        {"*.json", "a/b.json"},
                                                        {"data/*.json", "data/sub/file.json"},
                                                        {"*", ""},
                                                        {"a?c", "abc"},
                                                        {"[ab]c", "bc"},
                                                        {"[!ab]c", "cc"},
                                                        {"[a-c]x", "bx"},
                                                        {"[]]", "]"},
                                                        {"[", "["},
                                                        {"[a", "[a"},
                                                        {"sub/", "sub/x/y"},
                                                        {"**.x", "a.x"},
                                                        {"a*b*c", "a1b2b3c"},
                                                        {"[!]]", "x"},
                                                        {"*Q4_K_M*.gguf", "x-Q4_K_M-1.gguf"}}) {
    EXPECT_TRUE(matches(pattern, path)) << pattern << " " << path;
  }
  for (const auto& [pattern, path] : std::vector<std::pair<const char*, const char*>>{{"*.json", "config.jsonl"},
                                                                                      {"a?c", "ac"},
                                                                                      {"[!ab]c", "ac"},
                                                                                      {"A", "a"},
                                                                                      {"", "a"},
                                                                                      {"a", ""},
                                                                                      {"sub/", "sub"},
                                                                                      {"[a-c]x", "dx"},
                                                                                      {"a*b*c", "a1b2"},
                                                                                      {"[", "x"}}) {
    EXPECT_FALSE(matches(pattern, path)) << pattern << " " << path;
  }
  EXPECT_FALSE(matches("*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(1000, 'a')));  // and soon
}

TEST(HubChoice, TakesSafetensorsFirst) {
  EXPECT_EQ(chosen({"README.md", "config.json", "flax_model.msgpack", "model.safetensors", "onnx/model.onnx",
                    "pytorch_model.bin", "tokenizer.json", "original/consolidated.00.pth", "modeling_x.py",
                    "training_args.bin"}),
            (Names{"config.json", "model.safetensors", "tokenizer.json"}));
  EXPECT_EQ(chosen({"config.json", "consolidated.safetensors", "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors", "model.safetensors.index.json"}),
            (Names{"config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                   "model.safetensors.index.json"}));
  EXPECT_EQ(
      chosen({"config.json", "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json", "training_args.bin"}),
      (Names{"config.json", "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"}));
  EXPECT_EQ(chosen({"a.safetensors", "config.json", "model.safetensors.index.json"}),
            (Names{"a.safetensors", "config.json", "model.safetensors.index.json"}));
}

TEST(HubChoice, TakesAnAdapterWithWhatItNeeds) {
  EXPECT_EQ(chosen({"adapter_config.json", "adapter_model.bin", "adapter_model.safetensors",
                    "checkpoint-5/adapter_model.safetensors", "optimizer.pt", "tokenizer.json"}),
            (Names{"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}));
  EXPECT_EQ(chosen({"adapter_config.json", "adapter_model.bin"}), (Names{"adapter_config.json", "adapter_model.bin"}));
}

TEST(HubChoice, TakesOfAPipelineTheFoldersThatAreRead) {
  const Names others = {"README.md",
                        "feature_extractor/preprocessor_config.json",
                        "safety_checker/config.json",
                        "safety_checker/model.safetensors",
                        "unet/onnx/model.safetensors",
                        "v1-5-pruned-emaonly.safetensors",
                        "v1-5-pruned.ckpt"};
  const Names read = {"model_index.json",
                      "scheduler/scheduler_config.json",
                      "text_encoder/config.json",
                      "tokenizer/merges.txt",
                      "tokenizer/special_tokens_map.json",
                      "tokenizer/tokenizer_config.json",
                      "tokenizer/vocab.json",
                      "unet/config.json",
                      "vae/config.json"};
  const auto chosen_of = [&](const Names& weights) {
    Names all = others;
    for (const Names& more : {read, weights}) all.insert(all.end(), more.begin(), more.end());
    std::sort(all.begin(), all.end());
    Names got;
    for (const std::string& name : chosen(all)) {
      if (std::find(read.begin(), read.end(), name) == read.end()) got.push_back(name);
    }
    EXPECT_EQ(chosen(all).size(), read.size() + got.size()) << "all that is no weight";
    return got;
  };
  const auto weights_of = [](const std::string& variant, const std::string& ending, const std::string& text = "model") {
    const std::string rest = variant + ending;
    return Names{"text_encoder/" + text + rest, "unet/diffusion_pytorch_model" + rest,
                 "vae/diffusion_pytorch_model" + rest};
  };
  const auto with = [](Names names, const Names& more) {
    names.insert(names.end(), more.begin(), more.end());
    return names;
  };
  const Names whole = weights_of("", ".safetensors"), half = weights_of(".fp16", ".safetensors"),
              torch = weights_of("", ".bin", "pytorch_model");
  EXPECT_EQ(chosen_of(with(with(whole, half), torch)), whole);
  EXPECT_EQ(chosen_of(half), half);
  EXPECT_EQ(chosen_of(torch), torch);
  const Names shards = {"text_encoder/model.safetensors", "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
                        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
                        "unet/diffusion_pytorch_model.safetensors.index.json"};
  EXPECT_EQ(chosen_of(with(shards, {"unet/diffusion_pytorch_model.fp16.safetensors"})), shards);
  const Names pixels = {"model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
                        "unet/diffusion_pytorch_model.safetensors"};
  EXPECT_EQ(chosen(pixels), pixels) << "no autoencoder, no text";
  const Error error = refused({"model_index.json", "transformer/diffusion_pytorch_model.safetensors"});
  EXPECT_NE(error.parts().what.find("unet"), std::string::npos);
}

TEST(HubChoice, TakesAModelOfDiffusersAlone) {
  const Names model = {"config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"};
  Names all = model;
  all.insert(all.begin() + 1, "diffusion_pytorch_model.bin");
  EXPECT_EQ(chosen(all), model);
}

TEST(HubChoice, TakesTheGgufFileOfAName) {
  const Names files = {"M-Q4_K_M.gguf", "M-UD-Q4_K_M.gguf", "Q8_0/M-Q8_0-00001-of-00002.gguf",
                       "Q8_0/M-Q8_0-00002-of-00002.gguf", "mmproj-M-Q8_0.gguf"};
  const auto named = [](const char* quantisation) { return RepoName{.id = "org/x", .quantisation = quantisation}; };
  EXPECT_EQ(chosen(files, named("q8_0")),
            (Names{"Q8_0/M-Q8_0-00001-of-00002.gguf", "Q8_0/M-Q8_0-00002-of-00002.gguf"}));
  EXPECT_EQ(chosen(files, named("UD-Q4_K_M")), Names{"M-UD-Q4_K_M.gguf"});
  EXPECT_EQ(chosen(files, named("M-Q4_K_M.gguf")), Names{"M-Q4_K_M.gguf"});
  EXPECT_NE(std::string(refused(files, named("Q4_K_M")).what()).find("several of its GGUF files"), std::string::npos);
  EXPECT_EQ(chosen({"M-IQ4_XS.gguf", "M-Q4_XS.gguf"}, named("Q4_XS")), Names{"M-Q4_XS.gguf"}) << "a whole name";
  EXPECT_NE(std::string(refused(files, named("K_M")).what()).find("several of its"), std::string::npos);
  EXPECT_NE(std::string(refused(files, named("_0x")).what()).find("no GGUF file of"), std::string::npos);
  EXPECT_NE(std::string(refused(files).what()).find("M-UD-Q4_K_M.gguf"), std::string::npos);
  EXPECT_EQ(chosen({"only-f16.gguf", "README.md"}), Names{"only-f16.gguf"});
  const Names folders = {"BF16/M-00001-of-00002.gguf", "BF16/M-00002-of-00002.gguf", "Q4_0/M.gguf", "UD-Q4_0/M.gguf"};
  EXPECT_EQ(chosen(folders, named("bf16")), (Names{"BF16/M-00001-of-00002.gguf", "BF16/M-00002-of-00002.gguf"}));
  EXPECT_NE(std::string(refused(folders, named("Q4_0")).what()).find("several of its"), std::string::npos);
}

TEST(HubChoice, NeverTakesPrograms) {
  const Names all = {"a.PY", "b.sh", "c.so", "config.json", "d.exe", "e.ipynb"};
  Listing listing;
  for (const std::string& path : all) listing.files.push_back({.path = path});
  const Choice choice = choose(listing, {.id = "org/x"}, {.include = {"*"}});
  ASSERT_EQ(choice.files.size(), 1u);
  EXPECT_EQ(choice.files[0].path, "config.json");
  EXPECT_EQ(choice.code.size(), 5u);
}

TEST(HubChoice, FollowsIncludeAndExclude) {
  const Names files = {"a.json", "b.json", "model.safetensors", "sub/c.json"};
  EXPECT_EQ(chosen(files, {.id = "x"}, {.include = {"*.json"}, .exclude = {"sub/"}}), (Names{"a.json", "b.json"}));
  EXPECT_EQ(chosen({"config.json", "model.safetensors"}, {.id = "x"}, {.exclude = {"*.safetensors"}}),
            Names{"config.json"});
  EXPECT_EQ(refused(files, {.id = "x"}, {.include = {"*.gguf"}}).id(), "config.hub-choice");
  EXPECT_EQ(refused(files, {.id = "x"}, {.include = {"*"}, .exclude = {"*"}}).id(), "config.hub-choice");
  EXPECT_EQ(refused({"config.json", "tf_model.h5"}).id(), "config.hub-choice");
  EXPECT_EQ(refused({}).id(), "config.hub-choice");
}

TEST(HubChoice, TakesTheTablesOfADataSet) {
  EXPECT_EQ(chosen({"README.md", "data/train-0.parquet", "dataset_infos.json", "dev.JSONL.gz", "load.py", "train.csv",
                    "x.jpg"},
                   {.id = "org/rows", .type = RepoType::dataset}),
            (Names{"data/train-0.parquet", "dev.JSONL.gz", "train.csv"}));
}

}  // namespace
}  // namespace deltaw::io::hub
