// Images as batches, what training draws of them, scores of classes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <random>
#include <set>

#include "core/files.h"
#include "deltaw/task.h"
#include "support/data.h"
#include "support/temporary.h"
#include "tasks/common/class_logits.h"
#include "tasks/common/image_rows.h"
#include "tasks/common/image_scorer.h"
#include "tasks/image_classification/reader.h"

namespace deltaw {
namespace {

using namespace tasks;  // NOLINT
using image_classification::as_image_model;
using test::error_of;
using test::fixture;
using test::put;
using test::TemporaryFolder;

constexpr int64_t kSide = 16;  // of what the fixture reads

std::unique_ptr<Model> model_of(ModelOptions options = {}) {
  options.task_type = "image-classification";
  options.dtype = "float32";
  options.ignore_mismatched_sizes = true;
  return load_model(fixture("golden/models/vit_cls").string(), options);
}

const Task& task() {
  static const std::unique_ptr<Task> task = find_task("image-classification").make();
  return *task;
}

/// Grey images of noise in one file, which the processor leaves as they are: a value is a byte.
class ImageBatches : public testing::Test {
 protected:
  static constexpr int64_t kCount = 24;

  void SetUp() override {
    std::mt19937 engine(3);
    std::string bytes = std::string("\0\0\x08\3", 4);
    for (const int64_t size : {kCount, kSide, kSide}) {
      bytes += std::string("\0\0\0", 3) + static_cast<char>(size);
    }
    for (int64_t i = 0; i < kCount * kSide * kSide; ++i) bytes += static_cast<char>(engine());
    put(file(), bytes);
    put(folder_ / "preprocessor_config.json",
        R"({"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "do_rescale": false,
            "do_normalize": false})");
    pixels_ = at::empty({kCount, kSide, kSide}, at::kFloat);
    for (int64_t i = 0; i < pixels_.numel(); ++i) {
      pixels_.data_ptr<float>()[i] = static_cast<uint8_t>(bytes[static_cast<size_t>(16 + i)]);
    }
  }

  std::filesystem::path file() const { return folder_ / "images-idx3-ubyte"; }

  ImageRows rows(const Augmentation& augmentation) const {
    Dataset set{.file = "rows.csv"};
    for (int64_t i = 0; i < kCount; ++i) {
      set.rows.push_back({.text = file().string() + "#" + std::to_string(i), .label = static_cast<double>(i % 3)});
      set.rows.back().line = i + 2;
    }
    return {std::move(set), ImageProcessor::from_folder(folder_.path()), as_image_model(*model_), augmentation};
  }

  /// All rows, so many in a batch.
  static Tensor all(const ImageRows& rows, int64_t batch, const Draw& draw) {
    std::vector<Tensor> parts;
    for (int64_t begin = 0; begin < kCount; begin += batch) {
      std::vector<int64_t> positions;
      for (int64_t i = begin; i < std::min(begin + batch, kCount); ++i) positions.push_back(i);
      parts.push_back(rows.collate(positions, draw)["pixel_values"]);
    }
    return at::cat(parts);
  }

  Tensor colours() const { return pixels_.unsqueeze(1).expand({kCount, 3, kSide, kSide}); }

  TemporaryFolder folder_;
  std::unique_ptr<Model> model_ = model_of();
  Tensor pixels_;
};

TEST_F(ImageBatches, AreWhatTheProcessorMakesOfThemWithLabelsAndCosts) {
  const ImageRows plain = rows({});
  EXPECT_TRUE(at::equal(all(plain, 5, {}), colours()));
  const Batch batch = plain.collate({7, 2}, {});
  EXPECT_TRUE(at::equal(batch["pixel_values"][0][1], pixels_[7]));
  EXPECT_TRUE(at::equal(batch["labels"], at::tensor({1.0, 2.0}, at::kDouble)));
  EXPECT_EQ(batch.positions, (std::vector<int64_t>{7, 2}));
  EXPECT_EQ(batch.costs, (std::vector<int64_t>{17, 17})) << "16 patches and the class";
}

TEST_F(ImageBatches, AreTurnedLeftToRightOrLeft) {
  const Tensor seen = all(rows({.flip = true}), kCount, {.seed = 5});
  int64_t turned = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    const bool same = at::equal(seen[i], colours()[i]);
    ASSERT_TRUE(same || at::equal(seen[i], colours()[i].flip({2}))) << i;
    turned += !same;
  }
  EXPECT_GT(turned, kCount / 4);
  EXPECT_LT(turned, kCount * 3 / 4);
}

TEST_F(ImageBatches, DrawTheSameInBatchesOfAnySizeAndOtherwiseInAnotherEpochOrRun) {
  const ImageRows cropped = rows({.flip = true, .crop = true});
  const Draw draw{.seed = 5, .epoch = 3, .step = 9, .micro_step = 1};
  const Tensor seen = all(cropped, kCount, draw);
  EXPECT_TRUE(at::equal(all(cropped, 1, {.seed = 5, .epoch = 3}), seen));
  EXPECT_TRUE(at::equal(all(cropped, 7, draw), seen));
  EXPECT_TRUE(at::equal(cropped.collate({9, 4}, draw)["pixel_values"][1], seen[4]));
  for (const Draw& other : {Draw{.seed = 5, .epoch = 4}, Draw{.seed = 6, .epoch = 3}}) {
    const Tensor differing = all(cropped, kCount, other).ne(seen).flatten(1).any(1);
    EXPECT_EQ(differing.sum().item<int64_t>(), kCount);
  }
}

TEST_F(ImageBatches, AreWholeWhereAPartMustHaveTheirWholeArea) {
  const Tensor seen = all(rows({.crop = true, .scale = {1, 1}}), kCount, {});
  EXPECT_TRUE(at::equal(seen, colours()));
}

TEST_F(ImageBatches, AreOtherRowsWhereTheirFilesLabelsOrPartsAre) {
  std::set<std::string> prints{rows({}).fingerprint(), rows({.flip = true}).fingerprint(),
                               rows({.flip = true, .crop = true}).fingerprint(),
                               rows({.flip = true, .crop = true, .scale = {0.5, 1}}).fingerprint()};
  EXPECT_EQ(prints.size(), 4);
  EXPECT_EQ(rows({}).fingerprint(), rows({}).fingerprint());
}

TEST_F(ImageBatches, ThatAreDamagedEndTheBatchWithTheirFileAndRow) {
  const std::string png = read_file(fixture("golden/colours/red/0.png"));
  Dataset set{.file = "rows.csv"};
  for (const char* name : {"a.png", "b.png", "c.png"}) {
    const bool damaged = name[0] == 'b';
    set.rows.push_back({.text = put(folder_ / name, damaged ? png.substr(0, 60) : png).string()});
    set.rows.back().line = static_cast<int64_t>(set.rows.size()) + 1;
  }
  const ImageRows images(set, ImageProcessor::from_folder(folder_.path()), as_image_model(*model_), {});
  EXPECT_EQ(images.collate({0, 2}, {}).rows, 2);
  const Error error = error_of([&] { images.collate({0, 1, 2}, {}); });
  EXPECT_EQ(error.id(), "format.image");
  EXPECT_NE(error.parts().where.find("b.png (row 3 of rows.csv)"), std::string::npos) << error.parts().where;
}

// ---- parts of images ----

TEST(ImageParts, HaveTheAreasAndTheShapesOfRandomResizedCrop) {
  constexpr int64_t kHeight = 300, kWidth = 400, kDraws = 4000;
  const std::array<double, 2> scale{0.2, 0.6};
  double areas = 0, logs = 0;
  std::set<int64_t> tops, lefts;
  for (uint64_t seed = 0; seed < kDraws; ++seed) {
    const Part part = draw_part(kHeight, kWidth, scale, seed);
    ASSERT_GE(part.top, 0);
    ASSERT_GE(part.left, 0);
    ASSERT_LE(part.top + part.height, kHeight);
    ASSERT_LE(part.left + part.width, kWidth);
    const double area = static_cast<double>(part.height * part.width) / (kHeight * kWidth);
    const double shape = static_cast<double>(part.width) / static_cast<double>(part.height);
    ASSERT_GT(area, scale[0] - 0.01);
    ASSERT_LT(area, scale[1] + 0.01);
    ASSERT_GT(shape, 0.74);
    ASSERT_LT(shape, 1.35);
    areas += area / kDraws;
    logs += std::log(shape) / kDraws;
    tops.insert(part.top);
    lefts.insert(part.left);
  }
  EXPECT_NEAR(areas, 0.4, 0.01) << "areas are drawn evenly";
  EXPECT_NEAR(logs, 0, 0.02) << "and shapes by their logarithm";
  EXPECT_GT(tops.size(), 120);
  EXPECT_GT(lefts.size(), 160);
  EXPECT_EQ(*tops.begin(), 0);
}

TEST(ImageParts, AreTheMiddleAsFarAsShapesAllowWhereNoneFits) {
  const auto middle = [](int64_t height, int64_t width) {
    const Part part = draw_part(height, width, {1, 1}, 1);
    return std::vector<int64_t>{part.top, part.left, part.height, part.width};
  };
  EXPECT_EQ(middle(100, 900), (std::vector<int64_t>{0, 383, 100, 133}));
  EXPECT_EQ(middle(900, 90), (std::vector<int64_t>{390, 0, 120, 90}));
  EXPECT_EQ(middle(100, 100), (std::vector<int64_t>{0, 0, 100, 100}));
  EXPECT_EQ(draw_part(1, 1, {0.08, 1}, 4).width, 1);
}

// ---- loss and scores ----

Tensor logits_of_classes() {
  at::Generator generator = at::detail::createCPUGenerator(4);
  return at::randn({40, 7}, generator);
}

Json scores(const Model& model, const Tensor& logits, const Tensor& labels) {
  const auto scorer = image_scorer(labels_of(model), logits.size(0), image_metrics(labels_of(model)));
  for (const int64_t begin : {20, 0}) {
    std::vector<int64_t> positions;
    for (int64_t i = begin + 19; i >= begin; --i) positions.push_back(i);
    const Tensor places = at::tensor(positions, at::kLong);
    scorer->add({logits.index_select(0, places)},
                {.rows = 20, .tensors = {{"labels", labels.index_select(0, places)}}, .positions = positions});
  }
  return scorer->metrics();
}

TEST(ImageScores, CountTheClassAndTheFiveLikeliest) {
  const auto model = model_of({.num_labels = 7});
  const Tensor logits = logits_of_classes();
  const Tensor labels = at::remainder(at::arange(40, at::kLong), 7).to(at::kDouble);
  const Json found = scores(*model, logits, labels);
  int64_t right = 0, among = 0;
  for (int64_t i = 0; i < 40; ++i) {
    const Tensor own = logits[i][i % 7];
    const auto better = logits[i].gt(own).sum().item<int64_t>();
    right += better == 0;
    among += better < 5;
  }
  EXPECT_NEAR(found["accuracy"].get<double>(), static_cast<double>(right) / 40, 1e-12);
  EXPECT_NEAR(found["top5_accuracy"].get<double>(), static_cast<double>(among) / 40, 1e-12);
  EXPECT_TRUE(found.contains("f1"));
  EXPECT_NEAR(found["loss"].get<double>(), at::cross_entropy_loss(logits, labels.to(at::kLong)).item<double>(), 1e-6);
}

TEST(ImageScores, OfFiveClassesAreWithoutTheFiveLikeliest) {
  const auto names = [](size_t count) {
    LabelSet set;
    for (size_t i = 0; i < count; ++i) set.names.push_back(std::to_string(i));
    return set;
  };
  const auto has_top = [](const LabelSet& set) {
    const std::vector<std::string> all = image_metrics(set);
    return std::find(all.begin(), all.end(), "top5_accuracy") != all.end();
  };
  EXPECT_FALSE(has_top(names(5)));
  EXPECT_TRUE(has_top(names(6)));
  EXPECT_FALSE(has_top({.multi_label = true, .names = names(9).names}));
  EXPECT_EQ(error_of([&] { check_image_metric("top5_accuracy", names(5)); }).id(), "config.unknown-metric");
  EXPECT_EQ(error_of([&] { check_image_metric("top5_accuracy", names(6)); }).id(), "none");
}

TEST(ImageScores, SayTheLikeliestClassesOfAnImageWithProbabilities) {
  const auto model = model_of({.num_labels = 7});
  const Tensor logits = logits_of_classes();
  const auto scorer = image_scorer(labels_of(*model), 40, {});
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < 40; ++i) positions.push_back(i);
  scorer->add({logits}, {.rows = 40, .tensors = {{"labels", at::zeros({40}, at::kDouble)}}, .positions = positions});
  const Json row = scorer->row(3);
  ASSERT_EQ(row["scores"].size(), 5);
  EXPECT_EQ(row["scores"][0]["label"], row["label"]);
  const Tensor probabilities = logits[3].to(at::kDouble).softmax(0);
  EXPECT_NEAR(row["scores"][0]["score"].get<double>(), probabilities.max().item<double>(), 1e-12);
  EXPECT_GT(row["scores"][3]["score"], row["scores"][4]["score"]);
  EXPECT_EQ(row["logits"].size(), 7);
}

TEST(ImageTask, TakesNoiseForRowsToTimeAStepWith) {
  for (const char* type : {"single_label_classification", "multi_label_classification", "regression"}) {
    const auto model = model_of({.num_labels = std::string(type) == "regression" ? 1 : 3, .problem_type = type});
    const auto rows = task().random_rows(*model, 4, 0, 5);
    EXPECT_EQ(error_of([&] { task().check(*model, nullptr, *rows, "noise"); }).id(), "none") << type;
    EXPECT_GT(task().chance_loss(*model, *rows), 0) << type;
  }
}

TEST(ImageTask, HasTheLossOfItsKindOfLabels) {
  struct Case {
    const char* type;
    int64_t labels;
  };
  for (const Case& c :
       {Case{"single_label_classification", 7}, Case{"multi_label_classification", 4}, Case{"regression", 1}}) {
    const auto model = model_of({.num_labels = c.labels, .problem_type = c.type});
    const auto noise = task().random_rows(*model, 6, 0, 9);
    const Batch batch = noise->collate({0, 1, 2, 3, 4, 5}, {});
    EXPECT_TRUE(at::equal(noise->collate({4}, {})["pixel_values"][0], batch["pixel_values"][4]));
    Call call;
    const at::NoGradGuard no_grad;
    const Outputs outputs = task().outputs(*model, batch, call);
    ASSERT_EQ(outputs.at(0).sizes(), (std::vector<int64_t>{6, c.labels})) << c.type;
    const Tensor logits = outputs.at(0), labels = batch["labels"];
    const Tensor expected = model->is_regression() ? (logits.squeeze(1) - labels).square().mean()
                            : model->is_multi_label()
                                ? at::binary_cross_entropy_with_logits(logits, labels.to(at::kFloat))
                                : at::cross_entropy_loss(logits, labels.to(at::kLong));
    const Tensor loss = task().loss(*model, outputs, batch, call, {.total_weight = 12});
    EXPECT_NEAR(loss.item<double>(), expected.item<double>() / 2, 1e-6) << c.type << ": a half of a step";
  }
}

TEST(ImageTask, RefusesModelsOfTextAndLabelsThatTheModelLacks) {
  const auto text = load_model(fixture("golden/models/bert_cls").string(), {.dtype = "float32"});
  EXPECT_EQ(error_of([&] { as_image_model(*text); }).id(), "config.unsupported");
  const auto model = model_of();
  const TemporaryFolder folder;
  put(folder / "preprocessor_config.json", R"({"size": 16})");
  const auto check = [&](const Example& row) {
    const ImageRows rows({.rows = {row}}, ImageProcessor::from_folder(folder.path()), as_image_model(*model), {});
    return error_of([&] { task().check(*model, nullptr, rows, "train"); }).id();
  };
  EXPECT_EQ(check({.label = 2}), "none");
  for (const Example& row :
       {Example{.label = 3}, Example{.label = -1}, Example{.label = 0.5}, Example{.label = 0, .labels = {1, 0, 0}}}) {
    EXPECT_EQ(check(row), "data.label");
  }
}

}  // namespace
}  // namespace deltaw
