// Classes that are words: their sentences, their place among the images, and the loss.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "deltaw/error.h"
#include "deltaw/task.h"
#include "deltaw/tokenizer.h"
#include "support/data.h"
#include "support/temporary.h"
#include "support/two_towers.h"
#include "tasks/common/losses.h"
#include "tasks/common/tower_texts.h"
#include "tasks/zero_shot_image_classification/prompts.h"
#include "tasks/zero_shot_image_classification/rows.h"
#include "tasks/zero_shot_image_classification/task.h"

namespace deltaw::zero_shot {
namespace {

using tasks::TowerTexts;
using tasks::unit_rows;
using test::error_of;
using test::pair_folder;
using test::put;
using test::TemporaryFolder;

std::unique_ptr<Model> pair_of(const std::string& name) {
  return load_model(pair_folder(name).string(), {.dtype = "float64"});
}

const TwoTowerModel& towers(const Model& model) {
  return tasks::as_two_towers(model);
}

Tokenizer words() {
  const TemporaryFolder folder;
  put(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nphoto\nof\nred\nblue\ngreen\nsketch\n.\n");
  put(folder / "tokenizer_config.json", R"({"tokenizer_class": "BertTokenizer"})");
  return Tokenizer::from_folder(folder.path());
}

TEST(ZeroShot, AClassIsTheMeanOfItsSentencesAsUnitVectors) {
  const auto model = pair_of("vit_bert");
  const Tokenizer tokenizer = words();
  const auto embeds = [&](const std::vector<std::string>& texts) {
    return tasks::unit_text_embeds(towers(*model), nullptr, TowerTexts(texts, tokenizer, towers(*model)));
  };
  const Tensor classes =
      ClassSentences(towers(*model), tokenizer, {"red", "blue"}, {"a photo of {}.", "sketch of {}"}).embeds(nullptr);
  const Tensor red = embeds({"a photo of red.", "sketch of red"}),
               blue = embeds({"a photo of blue.", "sketch of blue"});
  EXPECT_TRUE(at::allclose(red.norm(2, 1), at::ones({2}, at::kDouble)));
  EXPECT_TRUE(at::allclose(classes, unit_rows(at::stack({red.mean(0), blue.mean(0)})), 1e-9, 1e-9));
  EXPECT_GT((red[0] - red[1]).abs().max().item<double>(), 1e-3);
  EXPECT_GT((classes[0] - classes[1]).abs().max().item<double>(), 1e-3);
}

TEST(ZeroShot, TextsArePaddedToTheOneLengthOfATowerThatReadsPadding) {
  const auto model = pair_of("siglip"), clip = pair_of("clip_quick");
  const int64_t length = towers(*model).text_length();
  ASSERT_GT(length, 4);
  const std::vector<EncodedRow> rows = {{.ids = {5, 6, 7}}, {.ids = {5, 6}}};
  const Batch batch = TowerTexts(rows, /*pad_id=*/1, /*pads_left=*/false, towers(*model)).collate({0, 1}, {});
  EXPECT_EQ(batch["input_ids"].size(1), length);
  EXPECT_EQ(batch["input_ids"][0][length - 1].item<int64_t>(), 1);
  EXPECT_EQ(batch["attention_mask"][0].sum().item<int64_t>(), 3);
  const Batch left = TowerTexts(rows, 1, /*pads_left=*/true, towers(*model)).collate({1}, {});
  EXPECT_EQ(left["input_ids"][0][length - 1].item<int64_t>(), 6);
  EXPECT_EQ(left["input_ids"][0][0].item<int64_t>(), 1);
  EXPECT_EQ(TowerTexts(rows, 1, false, towers(*clip)).collate({0, 1}, {})["input_ids"].size(1), 3);
}

TEST(ZeroShot, LogitsAreTheModelsOwnOrCosinesOverATemperature) {
  for (const char* name : {"clip_quick", "siglip"}) {
    const auto model = pair_of(name);
    const auto own = zero_shot::make_task(0), other = zero_shot::make_task(0.25);
    const auto rows = own->random_rows(*model, 5, 0, 3);
    const Batch batch = rows->collate({0, 1, 2, 3, 4}, {});
    const at::NoGradGuard no_grad;
    Call call;
    const Tensor images = towers(*model).image_embeds(batch["pixel_values"].to(at::kDouble), call);
    const Tensor classes = batch["class_embeds"].to(at::kDouble);
    const Tensor cosines = at::matmul(unit_rows(images), classes.t());
    EXPECT_TRUE(at::allclose(other->outputs(*model, batch, call).at(0), cosines / 0.25, 1e-6, 1e-6));
    const Tensor logits = own->outputs(*model, batch, call).at(0);
    EXPECT_TRUE(at::allclose(logits, towers(*model).logits_per_image(images, classes, call), 1e-6, 1e-6)) << name;
    EXPECT_NEAR(own->loss(*model, {logits}, batch, call, {.total_weight = 10}).item<double>(),
                at::cross_entropy_loss(logits, batch["labels"].to(at::kLong)).item<double>() / 2, 1e-9);
  }
}

TEST(ZeroShot, ScoresOfAModelOfSinglePairsDoNotAddUpToOne) {
  for (const char* name : {"clip_quick", "siglip"}) {
    const auto model = pair_of(name);
    const auto task = zero_shot::make_task(0);
    const auto rows = task->random_rows(*model, 2, 0, 3);
    const auto scorer = task->scorer(*model, nullptr, *rows, {});
    score(*task, *model, nullptr, *rows, 2, *scorer);
    const Json row = scorer->row(0);
    double sum = 0;
    for (const Json& entry : row["scores"]) sum += entry["score"].get<double>();
    const double first = row["scores"][0]["score"], logit = row["logits"][std::stoul(row["label"].get<std::string>())];
    const bool alone = std::abs(first - 1 / (1 + std::exp(-logit))) < 1e-6;
    EXPECT_EQ(alone, std::string(name) == "siglip") << sum;
  }
}

TEST(ZeroShot, TemplatesNeedAPlaceForTheClass) {
  const TemporaryFolder folder;
  put(folder / "good.txt", "a photo of a {}.\n\n  {} in a field\n");
  EXPECT_EQ(read_templates(folder / "good.txt"), (std::vector<std::string>{"a photo of a {}.", "{} in a field"}));
  put(folder / "bad.txt", "a photo of a {}.\na photo\n");
  const Error bad = error_of([&] { read_templates(folder / "bad.txt"); });
  EXPECT_EQ(bad.id(), "config.template");
  EXPECT_TRUE(bad.parts().where.ends_with("bad.txt, line 2")) << bad.what();
  put(folder / "empty.txt", "\n");
  EXPECT_EQ(error_of([&] { read_templates(folder / "empty.txt"); }).id(), "config.template");
}

TEST(ZeroShot, ModelsOfOneInputAreRefused) {
  const auto model = load_model(test::fixture("golden/models/bert_cls").string(), {.dtype = "float32"});
  EXPECT_EQ(error_of([&] { tasks::as_two_towers(*model); }).id(), "config.unsupported");
}

}  // namespace
}  // namespace deltaw::zero_shot
