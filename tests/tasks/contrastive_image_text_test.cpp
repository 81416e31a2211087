// Images and captions that are compared: losses and steps against transformers and PEFT (written by
// oracle/make_contrastive.py), accumulated rows, scores by hand.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "deltaw/image_model.h"
#include "deltaw/train.h"
#include "support/allocations.h"
#include "support/tiny_model.h"
#include "support/two_towers.h"
#include "tasks/common/image_rows.h"
#include "tasks/common/losses.h"
#include "tasks/contrastive_image_text/losses.h"
#include "tasks/contrastive_image_text/rows.h"
#include "tasks/contrastive_image_text/scorer.h"
#include "train/adamw.h"
#include "train/tiny_run.h"

namespace deltaw::contrastive {
namespace {

using test::differs;
using test::error_of;
using test::Golden;
using test::pair_folder;

const Task& the_task() {
  static const std::unique_ptr<Task> task = find_task("contrastive-image-text").make();
  return *task;
}

std::unique_ptr<Model> load_pair(const std::string& name, const char* dtype = "float64") {
  return load_model(pair_folder(name).string(), {.dtype = dtype});
}

/// Images that are there already.
class Pictures final : public RowSource {
 public:
  explicit Pictures(Tensor pixel_values) : pixel_values_(std::move(pixel_values)) {}
  int64_t size() const override { return pixel_values_.size(0); }
  int64_t cost(int64_t /*row*/) const override { return 1; }
  std::string fingerprint() const override { return "pictures"; }
  Batch collate(const std::vector<int64_t>& positions, const Draw& /*draw*/) const override {
    const Tensor places = at::tensor(at::IntArrayRef(positions), at::kLong);
    return {.rows = static_cast<int64_t>(positions.size()),
            .tensors = {{"pixel_values", pixel_values_.index_select(0, places)}},
            .positions = positions,
            .costs = std::vector<int64_t>(positions.size(), 1)};
  }

 private:
  Tensor pixel_values_;
};

std::vector<int64_t> numbers(const Tensor& tensor) {
  const Tensor values = tensor.contiguous();
  return {values.const_data_ptr<int64_t>(), values.const_data_ptr<int64_t>() + values.numel()};
}

/// The rows of a fixture: five pairs that all differ, then six with images and captions that occur several times.
PairRows fixture_rows(const Golden& io, const TwoTowerModel& model) {
  std::vector<EncodedRow> captions;
  const std::vector<int64_t> lengths = numbers(io["attention_mask"].sum(1));
  for (size_t i = 0; i < lengths.size(); ++i) {
    captions.push_back({.ids = numbers(io["input_ids"][static_cast<int64_t>(i)].narrow(0, 0, lengths[i]))});
  }
  std::vector<Pair> pairs;
  for (int64_t row = 0; row < io["rows"].size(0); ++row) {
    const std::vector<int64_t> pair = numbers(io["rows"][row]);
    pairs.push_back({.image = pair[0], .caption = pair[1]});
  }
  return {std::move(pairs), std::make_shared<const Pictures>(io["pixel_values"]),
          std::make_shared<const tasks::TowerTexts>(std::move(captions), io["padding"].item<int64_t>(),
                                                    /*pads_left=*/false, model)};
}

Batch first_rows(const PairRows& rows) {
  return rows.collate({0, 1, 2, 3, 4}, {});
}
Batch other_rows(const PairRows& rows) {
  return rows.collate({5, 6, 7, 8, 9, 10}, {});
}

class AgainstPeft : public testing::TestWithParam<std::string> {
 protected:
  /// PEFT's LoRA over both towers, and the scale beside it.
  Adapter adapter(const Model& model) const {
    const std::filesystem::path folder = pair_folder(GetParam()) / "lora";
    const Json values = read_json(folder / "adapter_config.json");
    const AdapterConfig config{.method = "lora",
                               .options = {{"r", values["r"]}, {"lora_alpha", values["lora_alpha"]}},
                               .target_modules = values["target_modules"],
                               .modules_to_save = {"logit_scale"}};
    Adapter adapter = Adapter::create(model, config, 1);
    const Golden stored(folder / "adapter_model.safetensors");
    const at::NoGradGuard no_grad;
    for (const NamedTensor& tensor : adapter.trained()) {
      if (tensor.name == "logit_scale") continue;
      tensor.value.copy_(stored["base_model.model." + tensor.name].reshape(tensor.value.sizes()));
    }
    return adapter;
  }
  static std::string key_of(const NamedTensor& tensor) {
    return tensor.name == "logit_scale" ? tensor.name : "base_model.model." + tensor.name;
  }
  static Tensor loss_of(const Model& model, const Adapter& adapter, const Batch& batch, int64_t step = 1) {
    Call call{.adapter = &adapter, .training = true, .step = step};
    return the_task().loss(model, the_task().outputs(model, batch, call), batch, call, {.total_weight = 1});
  }
  static void clear(const Adapter& adapter) {
    for (const NamedTensor& tensor : adapter.trained()) tensor.value.mutable_grad() = Tensor();
  }

  const Golden io{pair_folder(GetParam()) / "contrastive.safetensors"};
};

// The first batch has transformers' own loss, the second that which the oracle writes out.
TEST_P(AgainstPeft, HasTheLossAndEveryGradientWithOneRightCaptionAndWithSeveral) {
  const auto model = load_pair(GetParam());
  const PairRows rows = fixture_rows(io, test::as_pair(*model));
  const Adapter own = adapter(*model);
  for (const bool several : {false, true}) {
    const std::string prefix = several ? "several." : "";
    clear(own);
    const Tensor loss = loss_of(*model, own, several ? other_rows(rows) : first_rows(rows));
    EXPECT_NEAR(loss.item<double>(), io[prefix + "loss64"].item<double>(), 1e-11) << prefix;
    loss.backward();
    EXPECT_EQ(own.trained().size(), io.names(prefix + "grad.").size());
    for (const NamedTensor& tensor : own.trained()) {
      const Tensor gradient = io[prefix + "grad." + key_of(tensor)].reshape(tensor.value.sizes());
      const double scale = std::max(1.0, gradient.abs().max().item<double>());
      EXPECT_EQ(differs(tensor.value.grad(), gradient, 1e-9 * scale), "") << prefix << tensor.name;
    }
  }
}

TEST_P(AgainstPeft, TakesTenStepsOfAdamW) {
  const auto model = load_pair(GetParam());
  const PairRows rows = fixture_rows(io, test::as_pair(*model));
  const Adapter own = adapter(*model);
  std::vector<NamedTensor> moved;  // the oracle decays every tensor, so the names that would be spared are hidden
  for (const NamedTensor& tensor : own.trained()) moved.push_back({fmt::format("w{}", moved.size()), tensor.value});
  train::AdamW adamw(moved, {.weight_decay = 0.01});
  for (int64_t step = 1; step <= 10; ++step) {
    const Tensor loss = loss_of(*model, own, step % 2 == 1 ? first_rows(rows) : other_rows(rows), step);
    EXPECT_NEAR(loss.item<double>(), io["losses"][step - 1].item<double>(), 1e-8) << "step " << step;
    loss.backward();
    adamw.step(0.01);
    clear(own);
  }
  for (const NamedTensor& tensor : own.trained()) {
    const Tensor expected = io["step10." + key_of(tensor)].reshape(tensor.value.sizes());
    EXPECT_EQ(differs(tensor.value, expected, 1e-8), "") << tensor.name;
  }
}

TEST_P(AgainstPeft, ScoresTheRowsAsOneBatch) {
  const auto model = load_pair(GetParam());
  const PairRows all = fixture_rows(io, test::as_pair(*model));
  // Two of the pairs twice, so that images and captions count by their rows.
  std::vector<Pair> pairs = all.pairs();
  pairs.push_back(pairs[5]);
  pairs.push_back(pairs[7]);
  const PairRows rows(pairs, std::make_shared<const Pictures>(io["pixel_values"]),
                      std::make_shared<const tasks::TowerTexts>(all.captions().rows(), io["padding"].item<int64_t>(),
                                                                /*pads_left=*/false, test::as_pair(*model)));
  const Adapter own = adapter(*model);
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < rows.size(); ++i) positions.push_back(i);
  const double whole = loss_of(*model, own, rows.collate(positions, {})).item<double>();
  const auto scorer = the_task().scorer(*model, &own, rows, metric_names());
  score(the_task(), *model, &own, rows, /*batch_size=*/4, *scorer);
  const Json scores = scorer->metrics();
  EXPECT_NEAR(scores["loss"].get<double>(), whole, 1e-10);
  EXPECT_EQ(scores["image_to_text_recall_at_10"], 1.0) << "there are nine captions";
  EXPECT_EQ(scores.size(), 7u);
}

INSTANTIATE_TEST_SUITE_P(Pairs, AgainstPeft, testing::Values("clip_quick", "siglip", "vit_bert"),
                         [](const auto& i) { return i.param; });

// ---- what belongs together ----

Tensor ids(const std::vector<int64_t>& values) {
  return at::tensor(at::IntArrayRef(values), at::kLong);
}

TEST(Contrastive, AnImageHasEveryCaptionThatARowGivesIt) {
  // A has the captions x and y, B has y, C has z: y is right for A and B in every row that has it.
  const Tensor found = positives(ids({0, 0, 1, 2}), ids({10, 11, 11, 12}));
  const Tensor expected = at::tensor({1, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1}, at::kInt).view({4, 4});
  EXPECT_TRUE(found.to(at::kInt).equal(expected)) << found;
}

TEST(Contrastive, TheTargetIsSpreadEvenlyOverWhatIsRight) {
  const Tensor logits = at::tensor({0.3, -0.2, 0.9, 0.5, 0.1, -0.4, 0.7, 0.2, 0.6}, at::kDouble).view({3, 3});
  const Tensor right = positives(ids({0, 1, 2}), ids({5, 5, 6}));
  const auto entropy = [](double own, double a, double b, double c) {
    return std::log(std::exp(a) + std::exp(b) + std::exp(c)) - own;
  };
  const double images =
      entropy((0.3 - 0.2) / 2, 0.3, -0.2, 0.9) + entropy((0.5 + 0.1) / 2, 0.5, 0.1, -0.4) + entropy(0.6, 0.7, 0.2, 0.6);
  const double captions = entropy((0.3 + 0.5) / 2, 0.3, 0.5, 0.7) + entropy((-0.2 + 0.1) / 2, -0.2, 0.1, 0.2) +
                          entropy(0.6, 0.9, -0.4, 0.6);
  EXPECT_NEAR(softmax_loss(logits, right).item<double>(), (images + captions) / 6, 1e-12);
}

// ---- steps ----

constexpr int64_t kRows = 32;

/// Noise, of which images and captions occur several times.
std::shared_ptr<const PairRows> noise(const Model& model, int64_t length = 6) {
  const TwoTowerModel& towers = test::as_pair(model);
  constexpr int64_t kImages = 20, kCaptions = 12;
  std::vector<Pair> pairs;
  for (int64_t i = 0; i < kRows; ++i) pairs.push_back({.image = i % kImages, .caption = i % kCaptions});
  std::vector<EncodedRow> captions = random_texts(model, kCaptions, length, 5);
  return std::make_shared<const PairRows>(
      std::move(pairs), std::make_shared<const tasks::NoiseRows>(kImages, LabelSet{.names = {"0"}}, towers, 3),
      std::make_shared<const tasks::TowerTexts>(std::move(captions), /*pad_id=*/0, /*pads_left=*/false, towers));
}

struct Step {
  double loss = 0, norm = 0;
  std::vector<NamedTensor> moved;
};

Step one_step(const Model& model, int64_t batch_size, const AdapterConfig& config, int64_t length = 6) {
  const test::TemporaryFolder folder;
  Adapter adapter = Adapter::create(model, config, 7);
  TrainOptions options = test::tiny_options(folder.path());
  options.per_device_train_batch_size = batch_size;
  options.gradient_accumulation_steps = kRows / batch_size;
  options.max_steps = 1;
  options.warmup_ratio = 0;
  options.max_grad_norm = 0;
  options.adam_epsilon = 1;  // a step in proportion to the gradient, not to its sign
  Trainer trainer(model, adapter, the_task(), options);
  trainer.set_data(noise(model, length));
  Step step;
  trainer.on_event([&](const TrainEvent& event) {
    if (event.kind != TrainEvent::Kind::step) return;
    step.loss = event.values.at("loss");
    step.norm = event.values.at("grad_norm");
  });
  trainer.train();
  for (const NamedTensor& tensor : adapter.trained())
    step.moved.push_back({tensor.name, tensor.value.detach().clone()});
  return step;
}

AdapterConfig saving(std::vector<std::string> modules, Json targets = nullptr) {
  return {.method = "lora",
          .options = {{"r", 3}},
          .target_modules = std::move(targets),
          .modules_to_save = std::move(modules)};
}

TEST(Contrastive, AccumulatedRowsAreOneLargeBatch) {
  const std::vector<std::pair<const char*, std::vector<std::string>>> cases = {
      {"clip_quick", {"visual_projection", "text_projection", "logit_scale"}},
      {"siglip", {"logit_scale", "logit_bias"}},
      {"vit_bert", {"visual_projection", "text_projection", "logit_scale"}}};
  for (const auto& [name, modules] : cases) {
    const auto model = load_pair(name);
    const Step whole = one_step(*model, kRows, saving(modules)), parts = one_step(*model, 8, saving(modules));
    EXPECT_NEAR(parts.loss, whole.loss, 1e-12) << name;
    EXPECT_NEAR(parts.norm, whole.norm, 1e-11 * whole.norm) << name;
    ASSERT_EQ(parts.moved.size(), whole.moved.size());
    std::set<std::string> saved;
    for (size_t i = 0; i < parts.moved.size(); ++i) {
      EXPECT_EQ(differs(parts.moved[i].value, whole.moved[i].value, 1e-11), "") << name << ", " << whole.moved[i].name;
      if (!whole.moved[i].name.ends_with(".lora_A.weight") && !whole.moved[i].name.ends_with(".lora_B.weight"))
        saved.insert(whole.moved[i].name.substr(0, whole.moved[i].name.find('.')));
    }
    EXPECT_EQ(saved, std::set<std::string>(modules.begin(), modules.end())) << name;
  }
}

TEST(Contrastive, ATowerMayBeFrozen) {
  const auto model = load_pair("vit_bert");
  for (const char* tower : {"vision_model", "text_model"}) {
    const AdapterConfig config = saving({}, fmt::format(".*{}.*\\.(query|value)", tower));
    const Step whole = one_step(*model, kRows, config), parts = one_step(*model, 8, config);
    ASSERT_FALSE(parts.moved.empty());
    for (size_t i = 0; i < parts.moved.size(); ++i) {
      EXPECT_TRUE(parts.moved[i].name.starts_with(tower)) << parts.moved[i].name;
      EXPECT_EQ(differs(parts.moved[i].value, whole.moved[i].value, 1e-11), "") << whole.moved[i].name;
    }
  }
}

TEST(Contrastive, TheScaleMayTrainAlone) {
  const auto model = load_pair("clip_quick");
  const AdapterConfig config{.method = "head", .modules_to_save = {"logit_scale"}};
  const Step whole = one_step(*model, kRows, config), parts = one_step(*model, 8, config);
  ASSERT_EQ(parts.moved.size(), 1u);
  EXPECT_EQ(parts.moved[0].name, "logit_scale");
  EXPECT_EQ(differs(parts.moved[0].value, whole.moved[0].value, 1e-12), "");
  EXPECT_GT((parts.moved[0].value - 1.2).abs().item<double>(), 1e-6);
}

TEST(Contrastive, AccumulatedRowsTakeTheMemoryOfOneMicroBatch) {
  const auto model = load_pair("clip_quick");
  const auto most = [&](int64_t batch_size) {
    return test::CountingAllocator::instance().most_during([&] { one_step(*model, batch_size, saving({}), 12); });
  };
  const int64_t parts = most(4), whole = most(kRows);
  EXPECT_LT(parts, whole / 2) << parts << " of " << whole << " bytes";
}

// ---- batches and scores ----

TEST(Contrastive, EqualCaptionsOfABatchAreReadOnce) {
  const auto model = load_pair("vit_bert");
  const auto rows = noise(*model);
  const Batch batch = rows->collate({0, 12, 24, 1, 2}, {});
  EXPECT_EQ(batch["input_ids"].size(0), 3);
  EXPECT_EQ(batch["pixel_values"].size(0), 5);
  EXPECT_TRUE(batch["text_rows"].equal(ids({0, 0, 0, 1, 2})));
  EXPECT_TRUE(batch["image_ids"].equal(ids({0, 12, 4, 1, 2})));
  const at::NoGradGuard no_grad;
  Call call;
  const Outputs outputs = the_task().outputs(*model, batch, call);
  ASSERT_EQ(outputs[1].size(0), 5);
  EXPECT_TRUE(outputs[1][0].equal(outputs[1][2]));
  const Tensor alone = the_task().outputs(*model, rows->collate({2}, {}), call)[1][0];
  EXPECT_EQ(differs(outputs[1][4], alone, 1e-9), "");
}

/// The scores of vectors that are given.
Json scores_of(const std::vector<Pair>& pairs, const Tensor& images, const Tensor& captions) {
  const auto model = load_pair("clip_quick");
  std::vector<EncodedRow> texts(static_cast<size_t>(captions.size(0)), {.ids = {5}});
  const PairRows rows(pairs, std::make_shared<const Pictures>(at::zeros({images.size(0), 3, 8, 8})),
                      std::make_shared<const tasks::TowerTexts>(texts, 0, false, test::as_pair(*model)));
  const auto scorer = the_task().scorer(*model, nullptr, rows, metric_names());
  std::vector<int64_t> image_ids, caption_ids, positions;
  for (const Pair& pair : pairs) {
    positions.push_back(static_cast<int64_t>(positions.size()));
    image_ids.push_back(pair.image);
    caption_ids.push_back(pair.caption);
  }
  scorer->add({images.index_select(0, ids(image_ids)), captions.index_select(0, ids(caption_ids))},
              {.rows = static_cast<int64_t>(pairs.size()),
               .tensors = {{"image_ids", ids(image_ids)}, {"caption_ids", ids(caption_ids)}},
               .positions = positions});
  return scorer->metrics();
}

TEST(Contrastive, AHitIsAnyRightOneAmongTheNearest) {
  // Directions in a plane, by their angle in degrees.
  const auto at_angles = [](const std::vector<double>& degrees) {
    const Tensor angles = at::tensor(degrees, at::kDouble) * (std::acos(-1.0) / 180);
    return at::stack({angles.cos(), angles.sin()}, 1);
  };
  // Image 0 has the captions 0 and 1, of which 1 is far and 0 near; image 1 has caption 2 behind caption 0.
  const std::vector<Pair> pairs = {{0, 0}, {0, 1}, {1, 2}, {2, 0}};
  const Json scores = scores_of(pairs, at_angles({0, 40, 8}), at_angles({5, 170, 90}));
  EXPECT_DOUBLE_EQ(scores["image_to_text_recall_at_1"].get<double>(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(scores["image_to_text_recall_at_5"].get<double>(), 1.0);
  // Caption 1 at 170 degrees lies nearest to image 1 at 40, its own image at 0 is the third.
  EXPECT_DOUBLE_EQ(scores["text_to_image_recall_at_1"].get<double>(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(scores["text_to_image_recall_at_5"].get<double>(), 1.0);
}

TEST(Contrastive, AModelThatTellsNothingApartFindsNothing) {
  const std::vector<Pair> pairs = {{0, 0}, {1, 1}, {2, 2}};
  const Json scores = scores_of(pairs, at::ones({3, 4}, at::kDouble), at::ones({3, 4}, at::kDouble));
  EXPECT_EQ(scores["image_to_text_recall_at_1"], 0.0);
  EXPECT_EQ(scores["text_to_image_recall_at_1"], 0.0);
  EXPECT_NEAR(scores["loss"].get<double>(), std::log(3.0), 1e-9);
}

TEST(Contrastive, BlocksOfTheScoresDoNotShow) {
  constexpr int64_t kImages = 300, kCaptions = 280;
  at::Generator generator = at::detail::createCPUGenerator(4);
  const Tensor images = at::randn({kImages, 6}, generator, at::kDouble),
               captions = at::randn({kCaptions, 6}, generator, at::kDouble);
  std::vector<Pair> pairs;
  for (int64_t i = 0; i < kImages; ++i) pairs.push_back({i, i % kCaptions});
  const Json scores = scores_of(pairs, images, captions);
  const Tensor cosines = tasks::unit_rows(images).mm(tasks::unit_rows(captions).t());
  int64_t images_hit = 0, captions_hit = 0;
  for (int64_t i = 0; i < kImages; ++i) {
    const Tensor row = cosines[i];
    images_hit += row.gt(row[i % kCaptions]).sum().item<int64_t>() < 10;
  }
  for (int64_t j = 0; j < kCaptions; ++j) {
    const Tensor column = cosines.select(1, j);
    double best = column[j].item<double>();
    if (j + kCaptions < kImages) best = std::max(best, column[j + kCaptions].item<double>());
    captions_hit += column.gt(best).sum().item<int64_t>() < 10;
  }
  EXPECT_DOUBLE_EQ(scores["image_to_text_recall_at_10"].get<double>(), static_cast<double>(images_hit) / kImages);
  EXPECT_DOUBLE_EQ(scores["text_to_image_recall_at_10"].get<double>(), static_cast<double>(captions_hit) / kCaptions);
}

TEST(Contrastive, RowsThatNothingCanBeLearnedFromAreRefused) {
  const auto model = load_pair("clip_quick");
  const auto all = noise(*model);
  const auto images = std::make_shared<const Pictures>(at::zeros({2, 3, 8, 8}));
  const auto captions =
      std::make_shared<const tasks::TowerTexts>(std::vector<EncodedRow>{{.ids = {5}}}, 0, false, test::as_pair(*model));
  const PairRows rows({{0, 0}, {1, 0}}, images, captions);
  EXPECT_EQ(error_of([&] { the_task().check(*model, nullptr, rows, "training"); }).id(), "data.one-pair");
  EXPECT_EQ(error_of([&] { the_task().check(*model, nullptr, rows, "validation"); }).id(), "none");
  EXPECT_EQ(error_of([&] { the_task().check(*model, nullptr, *all, "training"); }).id(), "none");
  EXPECT_EQ(error_of([&] { the_task().check_metric(*model, "accuracy"); }).id(), "config.unknown-metric");
}

TEST(Contrastive, ModelsAreComparedByTheDirectionsOfBothTowers) {
  const auto model = load_pair("vit_bert");
  const auto rows = the_task().random_rows(*model, 4, 9, 2);
  EXPECT_EQ(rows->cost(0), (1 + 2 * 2) + 9) << "tokens of an image and of a caption";
  const Batch batch = rows->collate({0, 1, 2, 3}, {});
  const at::NoGradGuard no_grad;
  Call call;
  const Tensor compared = the_task().comparable(*model, the_task().outputs(*model, batch, call), batch, call);
  EXPECT_EQ(compared.sizes(), (std::vector<int64_t>{4, 20}));
  EXPECT_EQ(differs(compared.square().sum(1), at::full({4}, 2.0, at::kDouble), 1e-9), "");
}

}  // namespace
}  // namespace deltaw::contrastive
