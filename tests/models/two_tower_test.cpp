// CLIP, SigLIP and pairs of other encoders, against transformers and PEFT (tests/golden/two_towers, written by
// oracle/).
#include "deltaw/two_tower_model.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "adapt/targets.h"
#include "deltaw/convert.h"
#include "support/checkpoint_folder.h"
#include "support/tiny_model.h"
#include "support/two_towers.h"
#include "train/adamw.h"

namespace deltaw {
namespace {

using test::as_pair;
using test::differs;
using test::error_of;
using test::Golden;
using test::logit_tolerance;
using test::pair_folder;
using test::pair_logits;
using test::pair_loss;
using test::PairBatch;

const std::vector<std::string> kPairs = {"clip_quick", "clip_gelu",    "siglip",
                                         "vit_bert",   "clip_roberta", "registers_albert"};

std::unique_ptr<Model> load_pair(const std::string& name, const char* dtype = "float64") {
  return load_model(pair_folder(name).string(), {.dtype = dtype});
}

class TwoTowers : public testing::TestWithParam<std::string> {
 protected:
  const Golden io{pair_folder(GetParam()) / "io.safetensors"};

  Adapter lora(const Model& model) const {
    return Adapter::load(model, pair_folder(GetParam()) / "lora", {.trainable = true});
  }
};

TEST_P(TwoTowers, GiveTheEmbeddingsAndLogitsOfTransformers) {
  for (const char* dtype : {"float32", "float64"}) {
    const bool wide = std::string(dtype) == "float64";
    const std::string ending = wide ? "64" : "";
    const auto model = load_pair(GetParam(), dtype);
    EXPECT_TRUE(model->new_modules().empty());
    const at::NoGradGuard no_grad;
    Call call;
    const PairBatch batch(io);
    const auto expect_same = [&](const Tensor& found, const std::string& key) {
      const Tensor expected = io[key + ending];
      EXPECT_EQ(differs(found, expected, wide ? 1e-9 : logit_tolerance(expected)), "") << key << " " << dtype;
    };
    expect_same(as_pair(*model).image_embeds(batch.pixel_values, call), "image_embeds");
    expect_same(as_pair(*model).text_embeds(batch.texts, call), "text_embeds");
    expect_same(pair_logits(*model, batch, call), "logits");
  }
}

TEST_P(TwoTowers, ComputeInBf16) {
  const auto model = load_pair(GetParam(), "bf16");
  const Tensor expected = io["logits"], found = pair_logits(*model, nullptr, PairBatch(io));
  EXPECT_EQ(found.scalar_type(), at::kFloat);
  EXPECT_EQ(differs(found, expected, 16 * expected.abs().max().item<double>() / 256), "");
}

// Both of transformers' kinds of loss, with the gradient of every tensor of the model, scale and bias among them.
TEST_P(TwoTowers, HaveTheLossAndEveryGradientOfTransformers) {
  const auto model = load_pair(GetParam());
  const Adapter adapter = Adapter::create(*model, {.method = "full"}, 1);
  Call call{.adapter = &adapter, .training = true};
  const Tensor loss = pair_loss(*model, PairBatch(io), call);
  EXPECT_EQ(differs(loss.reshape({1}), io["loss64"], 1e-9), "");
  loss.backward();
  std::set<std::string> expected;
  for (const std::string& name : io.names("full.")) expected.insert(name);
  for (const NamedTensor& tensor : adapter.trained()) {
    ASSERT_TRUE(expected.erase(tensor.name)) << "transformers has no gradient of " << tensor.name;
    const Tensor gradient = io["full." + tensor.name];
    const double scale = std::max(1.0, gradient.abs().max().item<double>());
    EXPECT_EQ(differs(tensor.value.grad(), gradient, 1e-6 * scale), "") << tensor.name;
  }
  EXPECT_TRUE(expected.empty()) << "not trained here: " << *expected.begin();
}

TEST_P(TwoTowers, GiveTheLogitsOfPeftsAdapterOfBoth) {
  for (const char* dtype : {"float32", "float64"}) {
    const bool wide = std::string(dtype) == "float64";
    const auto model = load_pair(GetParam(), dtype);
    const Adapter adapter = lora(*model);
    const Tensor expected = io[wide ? "lora.logits64" : "lora.logits"];
    EXPECT_EQ(differs(pair_logits(*model, &adapter, PairBatch(io)), expected, wide ? 1e-7 : logit_tolerance(expected)),
              "");
  }
}

TEST_P(TwoTowers, TakeTenStepsOfAdamWAsPeft) {
  const auto model = load_pair(GetParam());
  const Adapter adapter = lora(*model);
  const Json facts = read_json(pair_folder(GetParam()) / "case.json");
  const std::vector<std::string> loose = facts["rounding_only"];
  std::vector<NamedTensor> moved;  // the oracle decays every tensor, so the names that would be spared are hidden
  for (const NamedTensor& tensor : adapter.trained()) moved.push_back({fmt::format("w{}", moved.size()), tensor.value});
  train::AdamW adamw(moved, {.weight_decay = 0.01});
  for (int64_t step = 1; step <= 10; ++step) {
    Call call{.adapter = &adapter, .training = true, .step = step};
    const Tensor loss = pair_loss(*model, PairBatch(io, step % 2 == 1 ? "" : "batch1."), call);
    EXPECT_NEAR(loss.item<double>(), io["lora.losses"][step - 1].item<double>(), 1e-7) << "step " << step;
    loss.backward();
    for (const NamedTensor& tensor : adapter.trained()) {
      if (step > 1) break;
      const Tensor gradient = io["lora.grad.base_model.model." + tensor.name].reshape(tensor.value.sizes());
      const double scale = std::max(1.0, gradient.abs().max().item<double>());
      EXPECT_EQ(differs(tensor.value.grad(), gradient, 1e-7 * scale), "") << tensor.name;
    }
    adamw.step(0.01);
    for (const NamedTensor& tensor : moved) tensor.value.mutable_grad() = Tensor();
  }
  EXPECT_EQ(adapter.trained().size(), io.names("lora.grad.").size());
  for (const NamedTensor& tensor : adapter.trained()) {
    const std::string key = "base_model.model." + tensor.name;
    const bool by_rounding = std::find(loose.begin(), loose.end(), key) != loose.end();
    const Tensor expected = io["lora.step10." + key].reshape(tensor.value.sizes());  // the file's has a kernel's shape
    EXPECT_EQ(differs(tensor.value, expected, by_rounding ? 1e-5 : 1e-8), "") << key;
  }
}

TEST_P(TwoTowers, HaveTheSameGradientsWhereBlocksAreComputedAgain) {
  const auto model = load_pair(GetParam(), "float32");
  const Adapter adapter = lora(*model);
  std::vector<std::vector<Tensor>> found;
  for (const bool recompute : {false, true}) {
    Call call{.adapter = &adapter, .training = true, .seed = 7, .recompute = recompute};
    for (const NamedTensor& tensor : adapter.trained()) tensor.value.mutable_grad() = Tensor();
    pair_loss(*model, PairBatch(io), call).backward();
    std::vector<Tensor>& gradients = found.emplace_back();
    for (const NamedTensor& tensor : adapter.trained()) gradients.push_back(tensor.value.grad().clone());
  }
  for (size_t i = 0; i < found[0].size(); ++i) EXPECT_TRUE(found[0][i].equal(found[1][i])) << i;
}

TEST_P(TwoTowers, MergeAnAdapterIntoACheckpoint) {
  const auto model = load_pair(GetParam(), "float32");
  const Adapter adapter = lora(*model);
  const test::TemporaryFolder folder;
  const PairBatch batch(io);
  const Probe probe = [&](const Model& of, const Adapter* with) { return pair_logits(of, with, batch); };
  const MergeReport report = merge_checkpoint(adapter, folder / "merged", probe);
  EXPECT_TRUE(report.passed) << report.problem;
  const auto merged = load_model((folder / "merged").string(), {.dtype = "float32"});
  const Tensor expected = io["lora.logits"];
  EXPECT_EQ(differs(pair_logits(*merged, nullptr, batch), expected, logit_tolerance(expected)), "");
}

TEST_P(TwoTowers, AreAdaptedByEveryMethodOnItsDefaultLayers) {
  const auto model = load_pair(GetParam());
  const PairBatch batch(io);
  const Tensor plain = pair_logits(*model, nullptr, batch);
  for (const MethodSpec* spec : method_table()) {
    SCOPED_TRACE(spec->id);
    const AdapterConfig config{.method = spec->id, .options = test::small_options(*spec)};
    if (spec->on(ActsOn::virtual_tokens)) {
      EXPECT_EQ(error_of([&] { Adapter::create(*model, config, 1); }).id(), "config.no-virtual-tokens");
      continue;
    }
    const Adapter adapter = Adapter::create(*model, config, 1);
    if (adapter.trained().empty()) continue;  // the head alone, of which there is none
    test::draw_trained(adapter);
    EXPECT_NE(differs(pair_logits(*model, &adapter, batch), plain, 1e-6), "");
    std::set<std::string> towers;
    for (const AdaptedLayer* layer : adapter.layers()) towers.insert(layer->info.name.substr(0, 5));
    EXPECT_TRUE(towers.empty() || (towers.contains("text_") && towers.contains("visio")));
  }
}

INSTANTIATE_TEST_SUITE_P(Pairs, TwoTowers, testing::ValuesIn(kPairs), [](const auto& i) { return i.param; });

class Pair : public test::CheckpointFolder {
 protected:
  void copy(const std::string& name) const {
    std::filesystem::copy(pair_folder(name), folder.path(),
                          std::filesystem::copy_options::overwrite_existing | std::filesystem::copy_options::recursive);
  }
  Tensor logits(const Model& model) const { return pair_logits(model, nullptr, PairBatch(io())); }
  /// Of one of the configurations in config.json.
  void edit_part(const std::string& part, const Json& changes) const {
    Json config = read_json(folder / "config.json");
    config[part].update(changes);
    write_json(folder / "config.json", config);
  }
  Error refused() const {
    return error_of([&] { load(); });
  }
};

TEST_F(Pair, SaysWhatItReads) {
  const auto clip = load_pair("clip_quick"), siglip = load_pair("siglip"), dual = load_pair("registers_albert");
  const TwoTowerModel& pair = as_pair(*clip);
  EXPECT_EQ(pair.image_height(), 8);
  EXPECT_EQ(pair.image_tokens(12, 8), 1 + 3 * 2);
  EXPECT_EQ(as_pair(*siglip).image_tokens(12, 8), 3 * 2);
  EXPECT_EQ(as_pair(*dual).image_tokens(12, 8), 5 + 3 * 2);
  EXPECT_EQ(pair.projection_dim(), 10);
  EXPECT_EQ(as_pair(*siglip).projection_dim(), 16);
  EXPECT_EQ(pair.text_length(), 0);
  EXPECT_EQ(as_pair(*siglip).text_length(), 12);
  EXPECT_EQ(clip->max_positions(), 12);
  EXPECT_EQ(clip->vocab_size(), 59);
  EXPECT_EQ(dual->vocab_size(), 61);
  EXPECT_EQ(clip->task_type(), "zero-shot-image-classification");
  EXPECT_EQ(dual->architecture(), "VisionTextDualEncoderModel");
  Call call;
  EXPECT_EQ(pair.logit_scale(call).dim(), 0);
  EXPECT_FALSE(pair.logit_bias(call).defined());
  EXPECT_EQ(as_pair(*siglip).logit_bias(call).dim(), 0);
  EXPECT_EQ(error_of([&] {
              clip->forward({.input_ids = at::zeros({1, 3}, at::kLong)}, call);
            }).id(),
            "internal.two-towers");
}

// A text that is not padded to the model's length would be pooled at another place.
TEST_F(Pair, OfSiglipWantsTextsOfOneLength) {
  const auto model = load_pair("siglip");
  Call call;
  const ModelInput text{.input_ids = at::ones({2, 5}, at::kLong), .attention_mask = at::ones({2, 5}, at::kLong)};
  const Error error = error_of([&] { as_pair(*model).text_embeds(text, call); });
  EXPECT_EQ(error.id(), "data.text-length");
  EXPECT_NE(error.parts().fix.find("12 tokens"), std::string::npos) << error.what();
}

TEST_F(Pair, OfClipRefusesLongerTexts) {
  const auto model = load_pair("clip_quick");
  Call call;
  const ModelInput text{.input_ids = at::ones({2, 13}, at::kLong), .attention_mask = at::ones({2, 13}, at::kLong)};
  EXPECT_EQ(error_of([&] { as_pair(*model).text_embeds(text, call); }).id(), "data.too-long");
}

TEST_F(Pair, FillsInWhatTheTowersConfigurationsDoNotSay) {
  for (const char* name : {"clip_quick", "siglip"}) {
    copy(name);
    const Tensor expected = logits(*load());
    Json config = read_json(folder / "config.json");
    for (const char* part : {"text_config", "vision_config", "text_config_dict", "vision_config_dict"}) {
      if (!config.contains(part)) continue;
      for (const char* key : {"hidden_act", "layer_norm_eps", "attention_dropout"}) config[part].erase(key);
    }
    write_json(folder / "config.json", config);
    EXPECT_TRUE(logits(*load()).equal(expected)) << name;
  }
}

TEST_F(Pair, TrainsItsScaleWhereModulesToSaveNamesIt) {
  copy("siglip");
  const auto model = load();
  const Adapter adapter =
      Adapter::create(*model, {.target_modules = {"q_proj"}, .modules_to_save = {"logit_scale", "logit_bias"}}, 1);
  Call call{.adapter = &adapter, .training = true};
  pair_loss(*model, PairBatch(io()), call).backward();
  const test::TemporaryFolder saved;
  for (const NamedTensor& tensor : adapter.trained()) {
    if (!tensor.name.starts_with("logit_")) continue;
    EXPECT_EQ(differs(tensor.value.grad(), io()["full." + tensor.name], 1e-6), "") << tensor.name;
    const at::NoGradGuard no_grad;
    tensor.value.fill_(0.5);
  }
  adapter.save(saved.path());
  const Adapter again = Adapter::load(*model, saved.path());
  Call reading{.adapter = &again};
  EXPECT_EQ(as_pair(*model).logit_scale(reading).item<double>(), 0.5);
  EXPECT_EQ(as_pair(*model).logit_bias(reading).item<double>(), 0.5);
}

TEST_F(Pair, DrawsProjectionsThatTheCheckpointLacks) {
  copy("vit_bert");
  const Golden stored(folder / "model.safetensors");
  std::vector<NamedTensor> tensors;
  for (const std::string& name : stored.names("")) {
    if (!name.ends_with("_projection.weight")) tensors.push_back({name, stored[name].clone()});
  }
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  io::write_safetensors(folder / "fewer.safetensors", bytes);
  std::filesystem::rename(folder / "fewer.safetensors", folder / "model.safetensors");
  const auto model = load();
  EXPECT_EQ(model->new_modules(), (std::vector<std::string>{"visual_projection", "text_projection"}));
  const Adapter adapter = Adapter::create(*model, {}, 1);
  std::set<std::string> trained;
  for (const NamedTensor& tensor : adapter.trained()) trained.insert(tensor.name);
  EXPECT_TRUE(trained.contains("visual_projection.weight") && trained.contains("text_projection.weight"));
}

// Many checkpoints of BERT and all classifiers of ViT's kind have no pooler.
TEST_F(Pair, DrawsAPoolerThatTheCheckpointLacks) {
  copy("vit_bert");
  const Golden stored(folder / "model.safetensors");
  std::vector<NamedTensor> tensors;
  for (const std::string& name : stored.names("")) {
    if (name.find(".pooler.") == std::string::npos) tensors.push_back({name, stored[name].clone()});
  }
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  io::write_safetensors(folder / "fewer.safetensors", bytes);
  std::filesystem::rename(folder / "fewer.safetensors", folder / "model.safetensors");
  const auto model = load();
  EXPECT_EQ(model->new_modules(), (std::vector<std::string>{"text_model.pooler.dense", "vision_model.pooler.dense"}));
  const test::TemporaryFolder saved;
  const Adapter adapter = Adapter::create(*model, {}, 1);
  test::draw_trained(adapter);
  adapter.save(saved.path());
  const Tensor expected = pair_logits(*model, &adapter, PairBatch(io()));
  const auto again = load();  // draws other poolers where the adapter does not have them
  EXPECT_EQ(differs(pair_logits(*again, nullptr, PairBatch(io())), pair_logits(*model, nullptr, PairBatch(io())), 0),
            "");
  const Adapter read = Adapter::load(*again, saved.path());
  EXPECT_EQ(differs(pair_logits(*again, &read, PairBatch(io())), expected, 1e-5), "");
}

TEST_F(Pair, ReadsAndWritesAdaptersAsPeftNamesModulesInMemory) {
  for (const char* name : {"vit_bert", "registers_albert"}) {
    const auto model = load_pair(name, "float32");
    const std::filesystem::path theirs = pair_folder(name) / "lora_in_memory";
    const Golden expected(pair_folder(name) / "io.safetensors");
    const PairBatch batch(expected);
    const Adapter adapter = Adapter::load(*model, theirs);
    EXPECT_EQ(differs(pair_logits(*model, &adapter, batch), expected["lora.logits"],
                      logit_tolerance(expected["lora.logits"])),
              "");
    const test::TemporaryFolder saved;
    adapter.save(saved.path());
    const auto tensors = [](const std::filesystem::path& folder) {
      const std::vector<std::string> names = Golden(folder / "adapter_model.safetensors").names("");
      return std::set<std::string>(names.begin(), names.end());
    };
    EXPECT_EQ(tensors(saved.path()), tensors(theirs)) << name;
  }
}

TEST_F(Pair, IsMadeOfTwoCheckpoints) {
  const std::filesystem::path vit = test::fixture("golden/models/vit_cls"),
                              bert = test::fixture("golden/models/bert_base");
  const auto joined = join_towers(vit, bert, 6);
  EXPECT_EQ(joined->new_modules(),
            (std::vector<std::string>{"vision_model.pooler.dense", "visual_projection", "text_projection"}));
  EXPECT_TRUE(convert_checkpoint(*joined, folder / "pair").problem.empty());
  const Golden written(folder / "pair" / "model.safetensors"), words(bert / "model.safetensors");
  const auto model = load_model((folder / "pair").string(), {.dtype = "float32"});
  EXPECT_EQ(model->new_modules(), joined->new_modules()) << "what was drawn is not written";
  Call call;
  EXPECT_NEAR(as_pair(*model).logit_scale(call).item<double>(), 2.6592, 1e-6);
  EXPECT_EQ(as_pair(*model).projection_dim(), 6);
  EXPECT_EQ(differs(written["text_model.embeddings.LayerNorm.weight"],
                    words[words.has("embeddings.LayerNorm.weight") ? "embeddings.LayerNorm.weight"
                                                                   : "bert.embeddings.LayerNorm.weight"],
                    0),
            "");
  EXPECT_TRUE(written.names("vision_model.classifier").empty());
  EXPECT_EQ(error_of([&] { join_towers(bert, bert, 6); }).id(), "config.unsupported");
}

TEST_F(Pair, TakesItsOwnTowerOfAPair) {
  const auto joined = join_towers(pair_folder("clip_gelu"), pair_folder("vit_bert"), 10);
  EXPECT_EQ(joined->new_modules(), (std::vector<std::string>{"visual_projection", "text_projection"}));
  EXPECT_TRUE(convert_checkpoint(*joined, folder / "pair").problem.empty());
  EXPECT_TRUE(Golden(folder / "pair" / "model.safetensors").has("vision_model.post_layernorm.weight"));
}

TEST_F(Pair, RefusesTowersThatGiveNoVector) {
  copy("vit_bert");
  const auto expect = [&](const std::string& part, const std::string& type, const std::string& said) {
    copy("vit_bert");
    edit_part(part, {{"model_type", type}, {"embedding_size", 12}});
    const Error error = refused();
    EXPECT_NE(std::string(error.what()).find(said), std::string::npos) << type << ": " << error.what();
    return error.id();
  };
  EXPECT_EQ(expect("text_config", "llama", "is no encoder of texts"), "config.unsupported");
  EXPECT_EQ(expect("text_config", "vit", "is no encoder of texts"), "config.unsupported");
  EXPECT_EQ(expect("vision_config", "bert", "reads no images"), "config.unsupported");
  EXPECT_EQ(expect("vision_config", "swin", "vision_config"), "config.unsupported");
  EXPECT_EQ(expect("text_config", "electra", "has no pooler"), "config.unsupported");
  copy("siglip");
  edit_part("text_config", {{"projection_size", 20}});
  EXPECT_NE(std::string(refused().what()).find("projection_size"), std::string::npos);
  copy("siglip");
  edit_part("vision_config", {{"vision_use_head", false}});
  EXPECT_NE(std::string(refused().what()).find("vision_use_head"), std::string::npos);
}

TEST_F(Pair, NamesTheTowerThatATensorIsMissingIn) {
  copy("vit_bert");
  edit_part("text_config", {{"num_hidden_layers", 3}});
  const Error error = refused();
  EXPECT_EQ(error.id(), "format.missing-tensor");
  EXPECT_NE(error.parts().what.find("'text_model.encoder.layer.2."), std::string::npos) << error.what();
  copy("vit_bert");
  edit_part("vision_config", {{"num_hidden_layers", 1}});
  EXPECT_EQ(refused().id(), "format.unexpected-tensor");
}

// transformers' classifiers of images alone read the mean of the patches.
TEST_F(Pair, HasAClassifierOfImages) {
  for (const char* name : {"clip_images", "siglip_images"}) {
    copy(name);
    for (const char* dtype : {"float32", "float64"}) {
      const auto model = load({.dtype = dtype});
      const Tensor expected = io()[std::string(dtype) == "float64" ? "logits64" : "logits"];
      const double tolerance = std::string(dtype) == "float64" ? 1e-9 : logit_tolerance(expected);
      const Tensor found = test::logits_of(*model, nullptr, test::input_of(io()));
      EXPECT_EQ(differs(found, expected, tolerance), "") << name;
    }
  }
  for (const char* name : {"clip_quick", "siglip"}) {
    const auto model = load_model(pair_folder(name).string(), {.task_type = "image-classification", .num_labels = 4});
    EXPECT_EQ(model->new_modules(), std::vector<std::string>{"classifier"});
    EXPECT_EQ(model->num_labels(), 4);
  }
}

}  // namespace
}  // namespace deltaw
