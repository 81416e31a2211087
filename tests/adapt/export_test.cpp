// Every kind of adapter as a plain LoRA, over the fixtures of the oracle.
#include <gtest/gtest.h>

#include <algorithm>

#include "deltaw/error.h"
#include "support/fixture_input.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::AdapterCase;
using test::differs;
using test::error_of;
using test::fixture;
using test::logit_tolerance;
using test::logits_of;
using test::Opened;

bool is_exact(const std::string& method) {
  return std::set<std::string>{"lora", "adalora", "sora", "moslora", "lora2", "lora_xs", "vera"}.contains(method);
}

class Export : public testing::TestWithParam<AdapterCase> {};

TEST_P(Export, GivesAPlainLora) {
  const Opened c(GetParam().kind, GetParam().name, "float32");
  const std::string method = c.adapter->spec().id;
  const std::filesystem::path output = c.folder / "lora";
  const auto exported = [&](int64_t rank) {
    return export_lora(*c.adapter, output, rank, test::probe_of(test::input_of(c.io)));
  };
  // IA3 scales biases too, for which a plain LoRA has no place.
  const bool scales_biases =
      method == "ia3" && std::any_of(c.adapter->layers().begin(), c.adapter->layers().end(),
                                     [](const AdaptedLayer* layer) { return layer->base->bias.value.defined(); });
  if (!c.adapter->spec().mergeable() || method == "bitfit" || scales_biases) {
    EXPECT_EQ(error_of([&] { exported(4); }).id(), "config.no-export");
    EXPECT_FALSE(std::filesystem::exists(output));
    return;
  }
  int64_t rank = 0;
  if (!is_exact(method)) {
    const std::string id = error_of([&] { exported(0); }).id();
    EXPECT_EQ(id, "config.no-rank");
    EXPECT_FALSE(std::filesystem::exists(output));
    const ExportReport cut = exported(1);
    EXPECT_FALSE(cut.exact);
    EXPECT_GT(cut.largest_error, 0.01);
    rank = 16;  // the width of the fixtures' models: nothing is lost
  }
  const ExportReport report = exported(rank);
  EXPECT_TRUE(report.passed) << report.max_difference;
  EXPECT_LE(report.largest_error, 1e-4);
  const Adapter lora = Adapter::load(*c.model, output);
  EXPECT_EQ(lora.spec().id, "lora");
  EXPECT_EQ(differs(logits_of(*c.model, &lora, test::input_of(c.io)), c.io["logits"], logit_tolerance(c.io["logits"])),
            "");
}

INSTANTIATE_TEST_SUITE_P(Adapters, Export, testing::ValuesIn(test::adapter_cases()),
                         [](const auto& i) { return i.param.name; });

// W0 less the start, plus the trained factors: over the original base, of twice the rank.
TEST(ExportOfAChangedBase, HasTwiceTheRank) {
  for (const char* name : {"lora_pissa", "lora_olora"}) {
    const Opened c("adapters", name, "float32");
    const ExportReport report = export_lora(*c.adapter, c.folder / "lora", 0, test::probe_of(c.io.input()));
    EXPECT_EQ(report.rank, 2 * c.adapter->config().options["r"].get<int64_t>()) << name;
    EXPECT_TRUE(report.exact);
  }
}

// What the second part trains beside its factors is in the LoRA too.
TEST(ExportOfAComposite, KeepsWhatEveryPartTrains) {
  const auto model = load_model(fixture("golden/models/llama_heads").string(), {.dtype = "float32"});
  const auto make = [&](const Json& values, uint64_t seed) {
    Adapter adapter = Adapter::create(*model, adapter_config_from_json(values, "test"), seed);
    test::randomise(adapter, seed + 10);
    return adapter;
  };
  const Tensor ids = at::tensor(std::vector<int64_t>{3, 5, 8, 13, 21, 34, 3, 9}, at::kLong).view({2, 4});
  const Probe probe = test::probe_of({ids, at::ones_like(ids), {}});
  for (const Json& more : {Json{{"trainable_token_indices", {{"embed_tokens", {3, 8}}, {"lm_head", {5}}}}},
                           Json{{"modules_to_save", {"lm_head"}}}}) {
    Json second = {{"method", "lora"}, {"r", 2}, {"target_modules", {"v_proj", "o_proj"}}};
    second.update(more);
    std::vector<Adapter> parts;
    parts.push_back(make({{"method", "lora"}, {"r", 3}, {"target_modules", {"q_proj", "v_proj"}}}, 1));
    parts.push_back(make(second, 2));
    const Adapter both = Adapter::compose(std::move(parts), {1, 0.5});
    const test::TemporaryFolder folder;
    const ExportReport report = export_lora(both, folder / "lora", 0, probe);
    EXPECT_TRUE(report.passed) << more.dump() << ": " << report.max_difference;
    const Adapter lora = Adapter::load(*model, folder / "lora");
    for (const Parameter* parameter : model->parameters()) {
      if (!parameter->exists()) continue;
      EXPECT_TRUE(at::allclose(both.whole_value(*parameter), lora.whole_value(*parameter))) << parameter->name;
    }
  }
}

}  // namespace
}  // namespace deltaw
