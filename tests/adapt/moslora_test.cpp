// MoSLoRA's mixers: their starts, and the constant ones.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "deltaw/error.h"
#include "support/model_calls.h"
#include "support/opened.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::error_of;

void make_method(const Json& options) {
  find_method("moslora").make(options, "test");
}

Tensor mixer_of(const std::string& start, int64_t r) {
  const test::TinyModel model(6, 5, at::kFloat);
  const Adapter adapter =
      Adapter::create(model, test::small_config(find_method("moslora"), {{"mixer_init", start}, {"r", r}}), 3);
  return adapter.layers()[0]->params["lora_AB"].detach();
}

TEST(MosLora, StartsItsMixerAsNamed) {
  const int64_t r = 64;
  const auto std_of = [](const Tensor& mixer) { return mixer.std().item<double>(); };
  const auto largest = [](const Tensor& mixer) { return mixer.abs().max().item<double>(); };
  const Tensor kaiming = mixer_of("kaiming", r), xavier = mixer_of("xavier", r), normal = mixer_of("normal", r);
  EXPECT_LE(largest(kaiming), 1 / std::sqrt(64.0));
  EXPECT_GT(largest(kaiming), 0.99 / std::sqrt(64.0));
  EXPECT_LE(largest(xavier), std::sqrt(3 / 64.0));
  EXPECT_GT(largest(xavier), 0.99 * std::sqrt(3 / 64.0));
  EXPECT_NEAR(std_of(xavier), 1 / std::sqrt(64.0), 0.005);
  EXPECT_NEAR(std_of(normal), 1, 0.05);
  EXPECT_GT(largest(normal), 3);
  const Tensor orthogonal = mixer_of("orthogonal", r);
  EXPECT_TRUE(at::mm(orthogonal, orthogonal.t()).allclose(at::eye(r), 1e-5, 1e-5));
  EXPECT_TRUE(mixer_of("identity", r).equal(at::eye(r)));
}

TEST(MosLora, TheButterflyIsOfTheRankOfASubspace) {
  for (const auto& [name, rank] :
       std::vector<std::pair<const char*, int64_t>>{{"moslora_butterfly", 2}, {"moslora_four_subspaces", 2}}) {
    const test::Opened c("dense", name, "float32");
    for (const AdaptedLayer* layer : c.adapter->layers()) {
      EXPECT_EQ(layer->params.all().size(), 2u) << "the mixer is not kept";
      EXPECT_EQ(layer->update().left.size(1), rank);
    }
    const ExportReport report = export_lora(*c.adapter, c.folder / "lora", 0, test::probe_of(c.io.input()));
    EXPECT_EQ(report.rank, rank) << name;
    EXPECT_TRUE(report.exact) << name;
    EXPECT_TRUE(report.passed) << name;
  }
}

TEST(MosLora, RefusesSubspacesThatDoNotFit) {
  const auto refusal = [](Json options) { return error_of([&] { make_method(options); }); };
  EXPECT_EQ(refusal({{"r", 8}, {"mixer_init", "butterfly"}, {"mixer_subspaces", 4}}).id(), "none");
  const Error uneven = refusal({{"r", 6}, {"mixer_init", "butterfly"}, {"mixer_subspaces", 4}});
  EXPECT_NE(uneven.parts().what.find("r = 6"), std::string::npos) << uneven.parts().what;
  const Error idle = refusal({{"r", 8}, {"mixer_subspaces", 4}});
  EXPECT_NE(idle.parts().what.find("mixer_subspaces"), std::string::npos) << idle.parts().what;
  EXPECT_NE(refusal({{"r", 8}, {"mixer_init", "butterfly"}, {"mixer_subspaces", 1}}).id(), "none");
  const test::TinyModel model(6, 5, at::kFloat);
  const Error pattern = error_of([&] {
    Adapter::create(model,
                    test::small_config(find_method("moslora"),
                                       {{"mixer_init", "butterfly"}, {"r", 4}, {"rank_pattern", {{"dense", 3}}}}),
                    1);
  });
  EXPECT_NE(pattern.parts().what.find("rank_pattern"), std::string::npos) << pattern.parts().what;
}

}  // namespace
}  // namespace deltaw
