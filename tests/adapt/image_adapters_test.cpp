// Adapters that PEFT made over CLIP and SigLIP: what they hold of modules that nothing reads, and what they say of
// tasks that PEFT has not.
#include <gtest/gtest.h>

#include <set>

#include "adapt/unread_modules.h"
#include "support/compared.h"
#include "support/fixture_input.h"
#include "support/tiny_model.h"
#include "support/two_towers.h"

namespace deltaw {
namespace {

using test::error_of;
using test::Golden;
using test::pair_folder;

class OfImages : public testing::TestWithParam<std::string> {
 protected:
  OfImages() { std::filesystem::copy(pair_folder(GetParam()) / "lora", folder.path()); }

  void edit_config(const std::string& key, const Json& value) const {
    Json config = read_json(folder / "adapter_config.json");
    config[key] = value;
    write_json(folder / "adapter_config.json", config);
  }
  std::string differs(const Adapter& adapter) const {
    const Tensor expected = io["lora.logits"];
    return test::differs(test::logits_of(*model, &adapter, test::input_of(io)), expected,
                         test::logit_tolerance(expected));
  }

  const std::unique_ptr<Model> model = load_model(pair_folder(GetParam()).string(), {.dtype = "float32"});
  const Golden io{pair_folder(GetParam()) / "io.safetensors"};
  const test::TemporaryFolder folder;
};

TEST_P(OfImages, AreReadWithTensorsThatNoOutputFollowsFrom) {
  const Adapter adapter = Adapter::load(*model, folder.path());
  EXPECT_EQ(differs(adapter), "");
  const test::TemporaryFolder again;
  adapter.save(again.path());
  EXPECT_EQ(differs(Adapter::load(*model, again.path())), "");
}

TEST_P(OfImages, AreStillReadStrictly) {
  const io::SafetensorsFile file(folder / "adapter_model.safetensors");
  std::vector<io::TensorBytes> tensors = file.tensors();
  tensors.push_back(tensors.front());
  tensors.back().name = "base_model.model.vision_model.no_such_module.lora_A.weight";
  io::write_safetensors(folder / "new", tensors, file.metadata());
  std::filesystem::rename(folder / "new", folder / "adapter_model.safetensors");
  const Error error = error_of([&] { Adapter::load(*model, folder.path()); });
  EXPECT_EQ(error.id(), "format.unexpected-tensor");
  EXPECT_NE(error.parts().what.find("holds 1 tensors"), std::string::npos) << error.what();
}

TEST_P(OfImages, AreReadWhateverTaskOfTextsTheyName) {
  for (const char* task : {"SEQ_CLS", "FEATURE_EXTRACTION", "CAUSAL_LM"}) {
    edit_config("task_type", task);
    EXPECT_EQ(differs(Adapter::load(*model, folder.path())), "") << task;
  }
  edit_config("task_type", "contrastive-image-text");  // which is another head of the family
  EXPECT_EQ(error_of([&] { Adapter::load(*model, folder.path()); }).id(), "config.task-type");
}

INSTANTIATE_TEST_SUITE_P(Peft, OfImages, testing::Values("clip_images", "siglip_images"),
                         [](const auto& info) { return info.param; });

TEST(UnreadModules, AreThoseOfTheCheckpointAlone) {
  const auto unread = [](const std::string& base) {
    return unread_modules(*load_model(test::fixture(base).string(), {.dtype = "float32"}));
  };
  const auto siglip = unread("golden/two_towers/siglip_images");
  for (const char* module : {"vision_model.head", "vision_model.head.attention", "vision_model.head.mlp.fc1"}) {
    EXPECT_TRUE(siglip.contains(module)) << module;
  }
  EXPECT_FALSE(siglip.contains("vision_model.post_layernorm"));
  EXPECT_EQ(unread("golden/two_towers/clip_images"), std::set<std::string>{"vision_model.post_layernorm"});
  EXPECT_EQ(unread("golden/models/bert_cls"), std::set<std::string>());
}

// transformers draws what a file lacks of its class, and warns.
TEST(UnreadTensors, AreWrittenInMergedCheckpoints) {
  const auto expect_whole = [](const std::filesystem::path& base) {
    const auto model = load_model(base.string(), {.dtype = "float32"});
    Adapter adapter =
        Adapter::create(*model, adapter_config_from_json({{"r", 2}, {"target_modules", {"fc1"}}}, "test"), 1);
    test::randomise(adapter, 2);
    const test::TemporaryFolder folder;
    merge_checkpoint(adapter, folder / "merged", [](const Model&, const Adapter*) { return at::zeros({1}); });
    const Golden before(base / "model.safetensors"), after(folder / "merged" / "model.safetensors");
    const std::vector<std::string> names = before.names(""), written = after.names("");
    EXPECT_EQ(std::set(written.begin(), written.end()), std::set(names.begin(), names.end())) << base;
    for (const std::string& name : names) {
      if (name.find("fc1.weight") != std::string::npos || name.starts_with("classifier.")) continue;
      EXPECT_TRUE(after[name].equal(before[name])) << name;
    }
  };
  expect_whole(pair_folder("clip_images"));
  expect_whole(pair_folder("siglip_images"));
  expect_whole(test::fixture("golden/models/dinov2_cls"));

  // A buffer is none, which old files have.
  const test::TemporaryFolder old;
  std::filesystem::copy(test::fixture("golden/models/llama_heads"), old.path());
  const auto file = std::make_unique<io::SafetensorsFile>(old / "model.safetensors");
  std::vector<io::TensorBytes> tensors = file->tensors();
  const std::vector<float> numbers(4, 1.0f);
  tensors.push_back(tensors.front());
  tensors.back().name = "model.layers.0.self_attn.rotary_emb.inv_freq";
  tensors.back().dtype = io::Dtype::f32;
  tensors.back().shape = {4};
  tensors.back().data = reinterpret_cast<const std::byte*>(numbers.data());
  io::write_safetensors(old / "new", tensors, file->metadata());
  std::filesystem::rename(old / "new", old / "model.safetensors");
  EXPECT_TRUE(unread_tensors(*load_model(old.path().string(), {.dtype = "float32"})).empty());

  // Those of another class are not of the one that is written.
  const std::string base = pair_folder("clip_quick").string();
  EXPECT_TRUE(unread_tensors(*load_model(base, {.task_type = "image-classification", .num_labels = 2})).empty());
}

TEST(UnreadModules, AreNoOtherHeads) {
  const std::string base = test::fixture("golden/models/bert_cls").string();
  const auto model = load_model(base, {.task_type = "FEATURE_EXTRACTION", .dtype = "float32"});
  EXPECT_FALSE(unread_modules(*model).contains("classifier"));
}

// PEFT saves modules, and passes over what is a tensor of none.
TEST(SavedTensors, MayBeMissingInPeftsFile) {
  const auto model = load_model(pair_folder("clip_quick").string(), {.dtype = "float32"});
  const test::TemporaryFolder folder;
  std::filesystem::copy(pair_folder("clip_quick") / "lora", folder.path());
  Json config = read_json(folder / "adapter_config.json");
  config["modules_to_save"] = {"logit_scale", "class_embedding"};
  write_json(folder / "adapter_config.json", config);
  const Golden io(pair_folder("clip_quick") / "io.safetensors");
  const Adapter adapter = Adapter::load(*model, folder.path());
  EXPECT_EQ(test::differs(test::pair_logits(*model, &adapter, test::PairBatch(io)), io["lora.logits"],
                          test::logit_tolerance(io["lora.logits"])),
            "");
  config["modules_to_save"] = {"visual_projection"};  // a module
  write_json(folder / "adapter_config.json", config);
  EXPECT_NE(error_of([&] { Adapter::load(*model, folder.path()); }).id(), "none");
}

}  // namespace
}  // namespace deltaw
