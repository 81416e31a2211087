// Two LoRAs as one, against what PEFT's add_weighted_adapter makes of them.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deltaw/error.h"
#include "support/model_calls.h"
#include "support/opened.h"

namespace deltaw {
namespace {

using test::differs;
using test::error_of;
using test::fixture;
using test::logit_tolerance;
using test::logits_of;

class Combine : public testing::Test {
 protected:
  Adapter both(const std::vector<std::string>& names, const std::vector<double>& weights) const {
    std::vector<Adapter> parts;
    for (const std::string& name : names) parts.push_back(Adapter::load(*model, fixture("golden/combined/" + name)));
    return Adapter::compose(std::move(parts), weights);
  }
  ExportReport exported(const Adapter& adapter, int64_t rank, Combination combination) const {
    return export_lora(adapter, folder / "lora", rank, test::probe_of(io.input()), {}, combination);
  }
  // What is in the folder gives the logits that PEFT's combination of that name gives.
  void expect_logits(const std::string& kind) const {
    const Adapter lora = Adapter::load(*model, folder / "lora");
    const Tensor expected = io[kind + ".logits"];
    EXPECT_EQ(differs(logits_of(*model, &lora, io.input()), expected, logit_tolerance(expected)), "") << kind;
  }

  test::Golden io{fixture("golden/combined/io.safetensors")};
  Json facts = read_json(fixture("golden/combined/case.json"));
  std::unique_ptr<Model> model = load_model(test::base_folder(facts["base"]), {.dtype = "float32"});
  std::vector<double> weights = facts["weights"].get<std::vector<double>>();
  test::TemporaryFolder folder;
};

TEST_F(Combine, LinearSumsTheFactorsAsPeftDoes) {
  const ExportReport report = exported(both({"first", "second"}, weights), 0, Combination::linear);
  EXPECT_EQ(report.rank, 3);
  EXPECT_FALSE(report.exact);
  EXPECT_GT(report.largest_error, 0.1) << "it is not the sum of the updates";
  expect_logits("linear");
  const test::Golden written(folder / "lora" / "adapter_model.safetensors");
  size_t compared = 0;
  for (const std::string& name : io.names("linear.base_model")) {
    EXPECT_EQ(differs(written["base_model" + name], io["linear.base_model" + name], 1e-6), "") << name;
    ++compared;
  }
  EXPECT_EQ(compared, 14u);  // A and B of query, value and intermediate.dense in two layers, and of the embeddings
}

TEST_F(Combine, TheSumIsPeftsCatAndCutItsSvd) {
  const Adapter adapter = both({"first", "second"}, weights);
  const ExportReport cat = exported(adapter, 0, Combination::sum);
  EXPECT_EQ(cat.rank, 6);
  EXPECT_TRUE(cat.exact);
  expect_logits("cat");
  std::filesystem::remove_all(folder / "lora");
  EXPECT_FALSE(exported(adapter, 3, Combination::sum).exact);
  expect_logits("svd");
}

TEST_F(Combine, LinearOfOneIsThatOne) {
  const Adapter alone = Adapter::load(*model, fixture("golden/combined/second"));
  const ExportReport report = exported(alone, 0, Combination::linear);
  EXPECT_LT(report.largest_error, 1e-6);
  EXPECT_TRUE(report.passed) << report.problem;
}

TEST_F(Combine, LinearRefusesWhatIsNoPlainLoraOfOneRank) {
  const auto refusal = [&](const std::string& method, const Json& options) {
    AdapterConfig config;
    config.method = method;
    config.options = options;
    config.target_modules = Json::array({"query"});
    std::vector<Adapter> parts;
    parts.push_back(Adapter::load(*model, fixture("golden/combined/first")));
    parts.push_back(Adapter::create(*model, config, 1));
    const Adapter adapter = Adapter::compose(std::move(parts));
    return error_of([&] { exported(adapter, 0, Combination::linear); });
  };
  EXPECT_NE(refusal("lora", {{"r", 4}}).parts().what.find("3 and 4"), std::string::npos);
  EXPECT_NE(refusal("moslora", {{"r", 3}}).parts().what.find("moslora"), std::string::npos);
  EXPECT_EQ(refusal("lora", {{"r", 3}, {"init_lora_weights", "pissa"}}).id(), "config.conflict");
  EXPECT_EQ(refusal("lora", {{"r", 3}, {"lora_bias", true}}).id(), "config.conflict");
  EXPECT_EQ(refusal("lora", {{"r", 3}}).id(), "none");
  EXPECT_EQ(error_of([&] {
              exported(both({"first", "second"}, weights), 3, Combination::linear);
            }).id(),
            "config.conflict");
}

}  // namespace
}  // namespace deltaw
