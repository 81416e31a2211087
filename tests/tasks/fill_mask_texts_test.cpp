// Files of texts to rows that tokens are masked in, and what a model puts there (tests/golden/fill_mask, by oracle/).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "deltaw/task.h"
#include "support/data.h"
#include "support/temporary.h"
#include "tasks/fill_mask/predictions.h"
#include "tasks/fill_mask/rows.h"
#include "tasks/fill_mask/texts.h"

namespace deltaw {
namespace {

using namespace fill_mask;  // NOLINT
using test::error_of;
using test::fixture;
using test::put;
using Ids = std::vector<int64_t>;

class FillMaskTexts : public testing::Test {
 protected:
  fill_mask::EncodedTexts encoded(const std::vector<std::string>& texts, EncodeTexts options) const {
    Dataset dataset;
    for (const std::string& text : texts) dataset.rows.push_back({.text = text});
    return fill_mask::encode_texts(dataset, tokenizer, options);
  }
  Ids ids(const std::vector<std::string>& tokens) const {
    Ids found;
    for (const std::string& token : tokens) found.push_back(tokenizer.token_to_id(token).value());
    return found;
  }
  static std::vector<std::string> texts_of(const Dataset& dataset) {
    std::vector<std::string> texts;
    for (const Example& row : dataset.rows) texts.push_back(row.text);
    return texts;
  }

  test::TemporaryFolder folder;
  std::filesystem::path golden = fixture("golden/fill_mask");
  Json facts = read_json(golden / "case.json");
  Tokenizer tokenizer = Tokenizer::from_folder(golden);
};

TEST_F(FillMaskTexts, AreLinesThatAreNotBlankOrRows) {
  put(folder / "a.txt", "a man\n\n  \nthe bank\n");
  put(folder / "b.txt", "was sold");
  put(folder / "c.csv", "text,label\na firm,1\n");
  const std::string a = (folder / "a.txt").string(), b = (folder / "b.txt").string(), c = (folder / "c.csv").string();
  EXPECT_EQ(texts_of(read_texts(DataFiles(std::vector<std::string>{a, b}), {})),
            (std::vector<std::string>{"a man", "the bank", "was sold"}));
  EXPECT_EQ(texts_of(read_texts(c, {})), (std::vector<std::string>{"a firm"}));
  EXPECT_EQ(error_of([&] { read_texts(DataFiles(std::vector<std::string>{a, c}), {}); }).id(), "config.file-format");
  put(folder / "blank.txt", "\n \n");
  EXPECT_EQ(error_of([&] { read_texts((folder / "blank.txt").string(), {}); }).id(), "data.empty-file");
  EXPECT_EQ(error_of([&] { read_split({}, Split::train, 1); }).id(), "config.no-data");
}

TEST_F(FillMaskTexts, AreHeldOutOrHaveAFileOfTheirOwn) {
  put(folder / "a.txt", "1\n2\n3\n4\n5\n6\n7\n8\n");
  put(folder / "b.txt", "x\n");
  DataOptions data{.train_file = (folder / "a.txt").string(), .validation_split = 0.25};
  std::vector<std::string> kept = texts_of(read_split(data, Split::train, 3));
  const std::vector<std::string> out = texts_of(read_split(data, Split::validation, 3));
  EXPECT_EQ(kept.size(), 6u);
  EXPECT_EQ(out.size(), 2u);
  kept.insert(kept.end(), out.begin(), out.end());
  std::sort(kept.begin(), kept.end());
  EXPECT_EQ(kept, (std::vector<std::string>{"1", "2", "3", "4", "5", "6", "7", "8"}));
  data.validation_file = (folder / "b.txt").string();
  EXPECT_EQ(read_split(data, Split::train, 3).rows.size(), 8u);
  EXPECT_EQ(texts_of(read_split(data, Split::validation, 3)), (std::vector<std::string>{"x"}));
}

TEST_F(FillMaskTexts, LineByLineAreRowsThatLoseTheirEnd) {
  const auto found = encoded({"a man", "the bank was sold", "[SEP]", "fish"}, {.max_length = 5, .line_by_line = true});
  ASSERT_EQ(found.rows.size(), 3u);
  EXPECT_EQ(found.left_out, 1) << "a text of special tokens";
  EXPECT_EQ(found.rows[0].ids, ids({"[CLS]", "a", "man", "[SEP]"}));
  EXPECT_EQ(found.units[0], (Units{-1, 0, 1, -1}));
  EXPECT_EQ(found.rows[1].ids, ids({"[CLS]", "the", "bank", "was", "[SEP]"}));
  EXPECT_EQ(found.rows[1].truncated, 1);
  EXPECT_EQ(found.rows[2].index, 2);
  EXPECT_EQ(encoded({"a man", "fish", "bank"}, {.max_length = 9, .line_by_line = true, .most = 2}).rows.size(), 2u);
}

TEST_F(FillMaskTexts, ElseAreJoinedAndCutIntoBlocks) {
  const auto found = encoded({"a man", "the bank was sold", "fishing"}, {.max_length = 6});
  ASSERT_EQ(found.rows.size(), 3u);
  EXPECT_EQ(found.rows[0].ids, ids({"[CLS]", "a", "man", "[SEP]", "[CLS]", "the"}));
  EXPECT_EQ(found.units[0], (Units{-1, 0, 1, -1, -1, 2}));
  EXPECT_EQ(found.rows[1].ids, ids({"bank", "was", "sold", "[SEP]", "[CLS]", "fish"}));
  EXPECT_EQ(found.units[1], (Units{0, 1, 2, -1, -1, 3}));
  EXPECT_EQ(found.rows[2].ids, ids({"##ing", "[SEP]"})) << "the last one may be shorter";
  EXPECT_EQ(found.rows[2].index, 2);
  EXPECT_EQ(encoded({"a man", "the bank was sold", "fishing"}, {.max_length = 6, .most = 2}).rows.size(), 2u);
  EXPECT_EQ(encoded({"a man"}, {.max_length = 3}).rows.size(), 1u) << "a block of special tokens is none";
}

TEST_F(FillMaskTexts, HaveWordsAsUnitsWhereTheyAreAskedFor) {
  const auto found =
      encoded({"fishing firms, fish. [MASK] sold"}, {.max_length = 20, .line_by_line = true, .whole_words = true});
  EXPECT_EQ(found.rows[0].ids,
            ids({"[CLS]", "fish", "##ing", "firm", "##s", ",", "fish", ".", "[MASK]", "sold", "[SEP]"}));
  EXPECT_EQ(found.units[0], (Units{-1, 0, 0, 1, 1, 2, 3, 4, -1, 5, -1}));
  const auto blocks = encoded({"fishing", "firms"}, {.max_length = 3, .whole_words = true});
  ASSERT_EQ(blocks.rows.size(), 3u);
  EXPECT_EQ(blocks.units[0], (Units{-1, 0, 0}));
  EXPECT_EQ(blocks.units[1], (Units{-1, -1, 0})) << "a word that a block cuts";
  EXPECT_EQ(blocks.units[2], (Units{0, -1}));
}

class Fillings : public FillMaskTexts {
 protected:
  std::unique_ptr<Predictions> predicted(int64_t batch_size, int64_t top_k, int64_t max_length = 0) {
    Dataset dataset;
    for (const Json& row : facts["rows"]) dataset.rows.push_back({.text = row["text"]});
    std::vector<Json> names(dataset.rows.size());
    return fillings_of({.task = *task, .model = *model, .batch_size = batch_size},
                       encode_rows(dataset, tokenizer, max_length), std::move(names),
                       {.tokenizer = tokenizer, .mask_id = tokenizer.mask_id().value(), .pad_id = 0, .top_k = top_k});
  }
  std::unique_ptr<Model> model = load_model(golden.string(), {.task_type = "fill-mask", .dtype = "float32"});
  std::unique_ptr<Task> task = task_of(*model);
};

void expect_fillings(const Json& own, const Json& expected) {
  ASSERT_EQ(own.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i].is_array()) {
      expect_fillings(own[i], expected[i]);
      continue;
    }
    EXPECT_NEAR(own[i]["score"].get<double>(), expected[i]["score"].get<double>(), 1e-5);
    for (const char* key : {"token", "token_str", "sequence"}) EXPECT_EQ(own[i][key], expected[i][key]) << key;
  }
}

TEST_F(Fillings, AreThoseOfThePipeline) {
  for (const int64_t batch_size : {1, 4}) {
    const auto predictions = predicted(batch_size, 4);
    ASSERT_EQ(predictions->size(), static_cast<int64_t>(facts["rows"].size()));
    for (int64_t i = 0; i < predictions->size(); ++i) {
      const Json& expected = facts["rows"][static_cast<size_t>(i)];
      SCOPED_TRACE(expected["text"].get<std::string>());
      const Json line = predictions->row(i);
      if (expected["predictions"].is_null()) {
        EXPECT_EQ(line["error"], "the row has no mask token [MASK]");
        EXPECT_EQ(line.size(), 1u);
      } else {
        expect_fillings(line["predictions"], expected["predictions"]);
      }
    }
  }
  EXPECT_EQ(predicted(4, 2)->row(0)["predictions"].size(), 2u);
  EXPECT_EQ(predicted(4, 1000)->row(0)["predictions"].size(), static_cast<size_t>(model->vocab_size()));
}

TEST_F(Fillings, AreMadeOfTheLogitsOfTheMasks) {
  const auto predictions = predicted(4, 1);
  const auto tensors = predictions->tensors();
  std::vector<std::string> names;
  for (const auto& [name, logits] : tensors) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"logits.0", "logits.1", "logits.4", "logits.5"}));
  EXPECT_EQ(tensors[1].second.sizes(), (std::vector<int64_t>{2, model->vocab_size()}));
  const Json second = predictions->row(1)["predictions"][1][0];
  const Tensor scores = tensors[1].second[1].softmax(0);
  EXPECT_EQ(scores.argmax().item<int64_t>(), second["token"].get<int64_t>());
  EXPECT_NEAR(scores.max().item<double>(), second["score"].get<double>(), 1e-6);
}

TEST_F(Fillings, SayWhereTheMaskWasCutOff) {
  EXPECT_EQ(predicted(4, 1, /*max_length=*/4)->row(0)["error"], "no mask token [MASK] stands within max_length");
}

TEST_F(Fillings, OfEveryTokenInTurnHaveTheScoresOfTransformers) {
  const std::vector<std::string> lines = facts["lines"];
  auto found = encoded(lines, {.max_length = 40, .line_by_line = true});
  const auto rows =
      std::make_shared<const MaskedRows>(std::move(found.rows), std::move(found.units),
                                         Masking{{}, tokenizer.mask_id().value(), model->vocab_size()}, 0, false);
  const UnitsInTurn turns(rows);
  const auto scorer = task->scorer(*model, nullptr, turns, {});
  score(*task, *model, nullptr, turns, 3, *scorer);
  const Json scores = scorer->metrics(), expected = facts["in_turn"];
  EXPECT_NEAR(scores["loss"].get<double>(), expected["eval_loss"].get<double>(), 1e-5);
  EXPECT_EQ(scores["tokens"], expected["eval_tokens"]);
  EXPECT_NEAR(scores["accuracy"].get<double>(), expected["eval_accuracy"].get<double>(), 1e-9);
}

}  // namespace
}  // namespace deltaw
