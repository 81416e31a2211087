// Pairs of texts through tokenizer and encoder, against transformers (tests/golden/segments, written by oracle/), and
// rows that a model has no embeddings for.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deltaw/train.h"
#include "support/golden.h"
#include "support/temporary.h"
#include "tasks/common/check_rows.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

using test::fixture;

Json facts() {
  return read_json(fixture("golden/segments/case.json"));
}

std::vector<std::string> cases() {
  const Json segments = facts().at("segments");
  std::vector<std::string> names;
  for (const auto& [name, gives] : segments.items()) names.push_back(name);
  return names;
}

class Segments : public testing::TestWithParam<std::string> {
 protected:
  std::vector<EncodedRow> rows() const {
    Dataset dataset;
    const Json pairs = facts().at("pairs");
    for (const Json& pair : pairs) {
      dataset.rows.push_back({.text = pair[0], .text_pair = pair[1], .has_pair = true});
    }
    return encode_rows(dataset, tokenizer, 0);
  }
  std::filesystem::path folder = fixture("golden/segments/" + GetParam());
  test::Golden io{folder / "io.safetensors"};
  Tokenizer tokenizer = Tokenizer::from_folder(folder);
};

TEST_P(Segments, AreGivenOrNotAsByTransformers) {
  const bool given = facts()["segments"][GetParam()];
  EXPECT_EQ(tokenizer.gives_type_ids(), given);
  const std::vector<EncodedRow> encoded = rows();
  for (size_t i = 0; i < encoded.size(); ++i) {
    const auto row = static_cast<int64_t>(i), length = static_cast<int64_t>(encoded[i].ids.size());
    EXPECT_EQ(length, io["attention_mask"][row].sum().item<int64_t>());
    EXPECT_TRUE(at::equal(io["input_ids"][row].narrow(0, 0, length), at::tensor(encoded[i].ids))) << "row " << i;
    ASSERT_EQ(encoded[i].type_ids.empty(), !given);
    if (!given) continue;
    EXPECT_TRUE(at::equal(io["token_type_ids"][row].narrow(0, 0, length), at::tensor(encoded[i].type_ids)));
  }
}

TEST_P(Segments, GiveTheLogitsOfTransformers) {
  const auto model = load_model(folder.string(), {.dtype = "float32"});
  const Tensor expected = io["logits"];
  for (const int64_t batch_size : {1, 4}) {
    const Tensor logits = predict_logits(*model, nullptr, {rows(), tokenizer.pad_id().value(), false}, batch_size);
    EXPECT_EQ(test::differs(logits, expected, test::logit_tolerance(expected)), "") << "batches of " << batch_size;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Segments, testing::ValuesIn(cases()), [](const auto& i) { return i.param; });

Error error_of_types(const Model& model, std::vector<int64_t> types) {
  const std::vector<EncodedRow> rows = {{.ids = {2, 7, 3}, .type_ids = std::move(types), .index = 4}};
  return test::error_of([&] { tasks::check_rows(model, nullptr, rows); });
}

TEST(CheckRows, NamesASegmentThatTheModelLacks) {
  const auto model = test::tiny_model();  // two segments
  for (const int64_t type : {2, -1}) {
    const Error error = error_of_types(*model, {0, 1, type});
    EXPECT_EQ(error.id(), "data.token-type");
    EXPECT_NE(error.parts().what.find("segment " + std::to_string(type)), std::string::npos);
    EXPECT_EQ(error.parts().where, "row 5 of the data");
  }
  EXPECT_EQ(test::error_of([&] {
              predict_logits(*model, nullptr, {{{.ids = {2, 7, 3}, .type_ids = {0, 0, 2}}}, 0, false}, 1);
            }).id(),
            "data.token-type");
}

TEST(CheckRows, CountsVirtualTokensAmongThePositions) {
  const auto model = test::tiny_model();  // 40 positions
  AdapterConfig config = test::adapter_config("prompt_tuning", {{"num_virtual_tokens", 4}});
  config.target_modules = Json();
  const Adapter adapter = Adapter::create(*model, config, 1);
  const auto checked = [&](const Adapter* beside, size_t length) {
    const std::vector<EncodedRow> rows = {{.ids = std::vector<int64_t>(length, 7), .index = 4}};
    tasks::check_rows(*model, beside, rows);
  };
  EXPECT_NO_THROW(checked(nullptr, 40));
  EXPECT_NO_THROW(checked(&adapter, 36));
  const Error error = test::error_of([&] { checked(&adapter, 37); });
  EXPECT_EQ(error.id(), "data.too-long");
  EXPECT_NE(error.parts().what.find("37 tokens behind 4 virtual ones"), std::string::npos) << error.what();
  EXPECT_EQ(error.parts().where, "row 5 of the data");
  EXPECT_EQ(error.parts().fix, "--max_length 36");
}

TEST(CheckRows, PassesSegmentsThatAreNotRead) {
  const auto one = load_model(fixture("golden/segments/bert_one_segment").string(), {.dtype = "float32"});
  const std::vector<EncodedRow> zeros = {{.ids = {2, 7, 3}, .type_ids = {0, 0, 0}}};
  const std::vector<EncodedRow> pair = {{.ids = {2, 7, 3}, .type_ids = {0, 0, 1}}};
  tasks::check_rows(*one, nullptr, pair);
  EXPECT_TRUE(at::equal(predict_logits(*one, nullptr, {pair, 0, false}, 1),
                        predict_logits(*one, nullptr, {zeros, 0, false}, 1)));
}

}  // namespace
}  // namespace deltaw
