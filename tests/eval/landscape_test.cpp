// Between adapters: where they stand, what lies between them, and the scores of a grid around them.
#include "deltaw/landscape.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>

#include "deltaw/error.h"
#include "support/opened.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::base_folder;
using test::error_of;

ModelInput input_of(const std::string& base) {
  return test::Golden(test::fixture("golden/models/" + base + "/io.safetensors")).input();
}

Adapter make(const Model& model, const std::string& method, uint64_t seed, Json more = Json::object()) {
  const MethodSpec& spec = find_method(method);
  if (spec.on_layers() && !more.contains("target_modules")) more["target_modules"] = "all-linear";
  AdapterConfig config = test::small_config(spec, more);
  if (!spec.on_layers()) config.target_modules = Json();
  config.task_type = model.task_type();
  Adapter adapter = Adapter::create(model, config, seed, test::tiny_calibration);
  test::randomise(adapter, seed + 10, 0.1);
  return adapter;
}

Tensor weights(const Model& model, const Adapter& point) {
  std::vector<Tensor> all;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->value.defined()) all.push_back(point.value(*parameter).detach().flatten());
  }
  return at::cat(all);
}

double largest(const Tensor& tensor) {
  return tensor.abs().max().item<double>();
}

class Landscape : public testing::Test {
 protected:
  Tensor logits(const Adapter& adapter) const { return test::logits_of(*model, &adapter, input); }

  std::unique_ptr<Model> model = load_model(base_folder("bert_cls"), {.dtype = "float64"});
  ModelInput input = input_of("bert_cls");
  Adapter lora = make(*model, "lora", 1), full = make(*model, "full", 2), randlora = make(*model, "randlora", 3);
  std::vector<NamedAdapter> three = {{"lora", lora}, {"full", full}, {"randlora", randlora}};
};

TEST(LandscapeOfMethods, HasEachAdapterAtItsPlace) {
  for (const std::string base : {"bert_cls", "gpt2"}) {
    const auto model = load_model(base_folder(base), {.dtype = "float64"});
    const ModelInput input = input_of(base);
    const Adapter other = make(*model, "lora", 1);
    for (const MethodSpec* spec : method_table()) {
      if (!spec->mergeable()) continue;
      SCOPED_TRACE(spec->id + " on " + base);
      const Adapter adapter = make(*model, spec->id, 2);
      const UpdateSpan span(*model, {{"other", other}, {"this", adapter}});
      EXPECT_EQ(span.method(1), spec->id);
      const auto off = [&](const std::vector<double>& shares, const Adapter& from) {
        const Adapter point = span.at(shares);
        return largest(test::logits_of(*model, &point, input) - test::logits_of(*model, &from, input));
      };
      EXPECT_LT(off({0, 1}, adapter), 1e-9);
      EXPECT_LT(off({1, 0}, other), 1e-9);
      EXPECT_GT(off({0.5, 0.5}, adapter), 1e-6);
    }
  }
}

TEST_F(Landscape, OfABf16ModelRoundsOnce) {
  const auto half = load_model(base_folder("bert_cls"), {.dtype = "bf16"});
  const Adapter a = make(*half, "lora", 1), b = make(*half, "full", 2);
  const UpdateSpan span(*half, {{"a", a}, {"b", b}});
  const Adapter point = span.at({0.25, 0.75});
  const Parameter& weight = half->layers()[3]->weight;
  ASSERT_EQ(point.value(weight).scalar_type(), at::kBFloat16);
  const Tensor W0 = weight.value.to(at::kDouble), left = merge_layer(*a.layer(*half->layers()[3]), W0, {}).weight;
  const Tensor expected = left * 0.25 + b.value(weight).detach().to(at::kDouble) * 0.75;
  EXPECT_LE(largest((point.value(weight).to(at::kDouble) - expected) / expected.abs().clamp_min(1e-3)), 1.0 / 255);
}

TEST_F(Landscape, HasTheMeanOfTheUpdatesInTheMiddle) {
  const Adapter other = make(*model, "lora", 5);
  const UpdateSpan span(*model, {{"a", lora}, {"b", other}});
  const Adapter middle = span.at(span.shares_at(span.distance(0, 1) / 2, 0));
  for (const AdaptedLayer* layer : lora.layers()) {
    const Params &a = layer->params, &b = other.layer(*layer->base)->params;
    const double scale = layer->update().scale;
    const Tensor mean = (at::mm(a["lora_B"], a["lora_A"]) + at::mm(b["lora_B"], b["lora_A"])).detach() * (scale / 2);
    const Tensor of_factors = at::mm(a["lora_B"] + b["lora_B"], a["lora_A"] + b["lora_A"]).detach() * (scale / 4);
    const Tensor& W = middle.value(layer->base->weight);
    EXPECT_LT(largest(W - layer->base->weight.value - mean), 1e-12);
    EXPECT_GT(largest(W - layer->base->weight.value - of_factors), 1e-4);
  }
}

TEST_F(Landscape, TakesHeadsAndBiasesAsValues) {
  const Adapter biased = make(*model, "lora", 6, {{"bias", "all"}});
  const UpdateSpan span(*model, {{"a", lora}, {"b", biased}});
  const Adapter point = span.at({0.25, 0.75});
  int64_t compared = 0;
  for (const Parameter* parameter : model->parameters()) {
    if (!lora.overrides(*parameter) && !biased.overrides(*parameter)) continue;
    const Tensor expected = lora.value(*parameter) * 0.25 + biased.value(*parameter) * 0.75;
    EXPECT_LT(largest(point.value(*parameter) - expected), 1e-12) << parameter->name;
    ++compared;
  }
  EXPECT_GT(compared, 10);
}

TEST(LandscapeOfTokens, TakesTrainedRowsOfEmbeddings) {
  const auto model = load_model(base_folder("gpt2"), {.dtype = "float64"});
  const Adapter plain = make(*model, "lora", 1), rows = make(*model, "lora", 2, {{"trainable_token_indices", {3, 5}}});
  const UpdateSpan span(*model, {{"a", plain}, {"b", rows}});
  const Adapter point = span.at({0.5, 0.5});
  for (const Parameter* parameter : model->parameters()) {
    if (!rows.tokens(*parameter)) continue;
    EXPECT_LT(largest(point.value(*parameter) - (parameter->value + rows.whole_value(*parameter)) / 2), 1e-12);
  }
  const ModelInput input = input_of("gpt2");
  const Adapter end = span.at({0, 1});
  EXPECT_LT(largest(test::logits_of(*model, &end, input) - test::logits_of(*model, &rows, input)), 1e-9);
}

TEST_F(Landscape, MeasuresDistancesOverAllWeights) {
  const UpdateSpan span(*model, three);
  const auto at = [&](double x, double y) { return weights(*model, span.at(span.shares_at(x, y))); };
  const Tensor origin = at(0, 0);
  for (const auto& [x, y] : std::vector<std::pair<double, double>>{{1, 0}, {0, 1}, {0.3, -0.4}, {-2, 1.5}}) {
    EXPECT_NEAR((at(x, y) - origin).norm().item<double>(), std::hypot(x, y), 1e-8);
  }
  for (size_t i = 0; i < 3; ++i) {
    const auto& [x, y] = span.places()[i];
    std::vector<double> own(3, 0);
    own[i] = 1;
    const std::vector<double> shares = span.shares_at(x, y);
    for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(shares[j], own[j], 1e-12);
    const Tensor there = weights(*model, span.at(own));
    EXPECT_NEAR((there - weights(*model, span.at({0, 0, 0}))).norm().item<double>(), span.norm(i), 1e-8);
    EXPECT_NEAR((there - origin).norm().item<double>(), span.distance(0, i), 1e-8);
  }
  EXPECT_DOUBLE_EQ(span.places()[1][0], span.distance(0, 1));
  EXPECT_DOUBLE_EQ(span.places()[1][1], 0);
  EXPECT_GT(span.places()[2][1], 0);
}

TEST_F(Landscape, RefusesWhatSpansNothing) {
  const auto refused = [&](const Model& base, const std::vector<NamedAdapter>& adapters) {
    return error_of([&] { UpdateSpan(base, adapters); });
  };
  EXPECT_EQ(refused(*model, {{"a", lora}}).id(), "config.bad-value");
  EXPECT_EQ(refused(*model, {{"a", lora}, {"b", full}, {"c", randlora}, {"d", lora}}).id(), "config.bad-value");
  const Error same = refused(*model, {{"a", lora}, {"b", full}, {"again", lora}});
  EXPECT_EQ(same.id(), "config.conflict");
  EXPECT_NE(same.parts().what.find("'a' and 'again' are one"), std::string::npos);
  for (const char* method : {"prompt_tuning", "prefix_tuning", "houlsby"}) {
    const Adapter other = make(*model, method, 4, {{"target_modules", nullptr}});
    const Error error = refused(*model, {{"a", lora}, {"prompts", other}});
    EXPECT_EQ(error.id(), "config.not-mergeable");
    EXPECT_EQ(error.parts().where, "prompts");
    EXPECT_NE(error.parts().what.find(method), std::string::npos);
  }
  const auto copy = load_model(base_folder("bert_cls"), {.dtype = "float64"});
  EXPECT_EQ(refused(*copy, {{"a", lora}, {"b", full}}).id(), "config.conflict");
  const auto codes = load_model(base_folder("bert_cls"), {.dtype = "float32", .load_in_8bit = true});
  const Adapter one = make(*codes, "lora", 1), two = make(*codes, "lora", 2);
  EXPECT_EQ(refused(*codes, {{"a", one}, {"b", two}}).id(), "config.quantised");
}

TEST_F(Landscape, RefusesAPlaneThroughALine) {
  std::vector<Adapter> adapters;
  for (const double size : {1.0, 2.0, 3.5}) {
    adapters.push_back(make(*model, "lora", 1));
    const at::NoGradGuard no_grad;
    for (const NamedTensor& tensor : adapters.back().trained()) {
      if (tensor.name.find("lora_A") == std::string::npos) tensor.value.mul_(size);
    }
  }
  const Error error = error_of([&] {
    UpdateSpan(*model, {{"a", adapters[0]}, {"b", adapters[1]}, {"c", adapters[2]}});
  });
  EXPECT_EQ(error.id(), "config.conflict");
  EXPECT_NE(error.parts().what.find("on one line"), std::string::npos);
}

// The square of the distance from the first adapter.
ScorePoint square(const Model& model, const UpdateSpan& span) {
  return [&model, origin = weights(model, span.at({1, 0, 0}))](const Adapter& point) -> Json {
    return {{"loss", (weights(model, point) - origin).square().sum().item<double>()}, {"rows", 3}, {"name", "x"}};
  };
}

TEST_F(Landscape, ScoresAGridAroundTheAdapters) {
  const UpdateSpan span(*model, three);
  const Json found = landscape(span, {.points = 5, .margin = 0.1}, square(*model, span));
  EXPECT_EQ(found["kind"], "plane");
  const std::vector<double> x = found["x"], y = found["y"];
  ASSERT_EQ(x.size(), 5u);
  const double left = std::min(0.0, span.places()[2][0]), right = std::max(span.distance(0, 1), span.places()[2][0]);
  const double top = span.places()[2][1], margin = 0.1 * std::max(right - left, top);
  EXPECT_NEAR(x.front(), left - margin, 1e-12);
  EXPECT_NEAR(x.back(), right + margin, 1e-12);
  EXPECT_NEAR(y.front(), -margin, 1e-12);
  EXPECT_NEAR(y.back(), top + margin, 1e-12);
  for (size_t j = 0; j < 5; ++j) {
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_NEAR(found["scores"]["loss"][j][i].get<double>(), x[i] * x[i] + y[j] * y[j], 1e-7);
    }
  }
  EXPECT_EQ(found["scores"].size(), 2u);  // "name" is no number
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(found["adapters"][i]["scores"]["loss"].get<double>(), std::pow(span.distance(0, i), 2), 1e-7);
    EXPECT_EQ(found["adapters"][i]["name"], three[i].name);
    EXPECT_NEAR(found["distances"][0][i].get<double>(), span.distance(0, i), 1e-12);
  }
  double lowest = 1e9, highest = 0;
  for (const Json& row : found["scores"]["loss"]) {
    for (const Json& value : row) {
      lowest = std::min(lowest, value.get<double>());
      highest = std::max(highest, value.get<double>());
    }
  }
  EXPECT_EQ(found["lowest"]["loss"], lowest);
  EXPECT_EQ(found["highest"]["loss"], highest);
  EXPECT_NE(found["interpolated"].get<std::string>().find("never the factors"), std::string::npos);
  EXPECT_EQ(error_of([&] { landscape(span, {.points = 1}, square(*model, span)); }).id(), "config.out-of-range");
  EXPECT_EQ(error_of([&] { landscape(span, {.points = 2, .metric = "f1"}, square(*model, span)); }).id(),
            "config.unknown-metric");
}

TEST_F(Landscape, OfTwoIsALine) {
  const UpdateSpan span(*model, {three[0], three[1]});
  const ScorePoint first = [&](const Adapter& point) -> Json {
    return {{"loss", (weights(*model, point) - weights(*model, span.at({1, 0}))).norm().item<double>()}};
  };
  const Json found = landscape(span, {.points = 7, .margin = 0}, first);
  EXPECT_EQ(found["kind"], "line");
  EXPECT_FALSE(found.contains("y"));
  for (size_t i = 0; i < 7; ++i) {
    EXPECT_NEAR(found["scores"]["loss"][i].get<double>(), static_cast<double>(i) / 6 * span.distance(0, 1), 1e-7);
  }
  EXPECT_TRUE(landscape_svg(found).ends_with("</svg>\n"));
}

TEST_F(Landscape, HasNoNumberWhereTheModelHasNone) {
  const UpdateSpan span(*model, three);
  int64_t calls = 0;
  const ScorePoint score = [&](const Adapter& /*point*/) -> Json {
    if (++calls == 5) throw Error({.id = "numeric.non-finite", .what = "a loss", .where = "", .fix = ""});
    return {{"loss", calls}};
  };
  const Json found = landscape(span, {.points = 2}, score);
  EXPECT_EQ(found["scores"]["loss"], Json::parse("[[4, null], [6, 7]]"));
  EXPECT_EQ(found["lowest"]["loss"], 4);
  const ScorePoint broken = [](const Adapter& /*point*/) -> Json {
    throw Error({.id = "data.label", .what = "", .where = "", .fix = ""});
  };
  EXPECT_EQ(error_of([&] { landscape(span, {.points = 2}, broken); }).id(), "data.label");
}

TEST_F(Landscape, GoesOnWhereItWasStopped) {
  const UpdateSpan span(*model, three);
  const Json whole = landscape(span, {.points = 3}, square(*model, span));
  int64_t calls = 0;
  const ScorePoint counted = [&, score = square(*model, span)](const Adapter& point) {
    ++calls;
    return score(point);
  };
  Json kept;
  const auto run = [&](int64_t points, int64_t stops_after, const std::string& fingerprint = "rows") {
    calls = 0;
    return landscape(span, {.points = points}, counted,
                     {.stop = [&, stops_after] { return calls == stops_after; },
                      .keep = [&](const Json& so_far) { kept = so_far; },
                      .begun = Json::parse(kept.is_null() ? "{}" : kept.dump()),
                      .fingerprint = fingerprint});
  };
  EXPECT_TRUE(run(3, 7).is_null());
  EXPECT_EQ(kept["scores"].size(), 7u);
  EXPECT_TRUE(run(3, 2).is_null());
  EXPECT_EQ(kept["scores"].size(), 9u);
  EXPECT_EQ(run(3, -1), whole);
  EXPECT_EQ(calls, 3);
  run(3, -1, "other rows");
  EXPECT_EQ(calls, 12);
  run(2, -1, "other rows");
  EXPECT_EQ(calls, 7);
}

/// Counts how often batches are made.
class CountedRows final : public RowSource {
 public:
  explicit CountedRows(std::unique_ptr<RowSource> rows) : rows_(std::move(rows)) {}
  int64_t size() const override { return rows_->size(); }
  int64_t cost(int64_t row) const override { return rows_->cost(row); }
  std::string fingerprint() const override { return rows_->fingerprint(); }
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override {
    ++calls;
    return rows_->collate(positions, draw);
  }
  mutable std::atomic<int64_t> calls = 0;

 private:
  std::unique_ptr<RowSource> rows_;
};

TEST_F(Landscape, ScoresAsEvaluationDoes) {
  const auto task = task_of(*model);
  const auto rows = std::make_shared<const CountedRows>(task->random_rows(*model, 10, 8, 3));
  const auto evaluated = [&](const Adapter& adapter) {
    const auto scorer = task->scorer(*model, &adapter, *rows, {"accuracy"});
    score(*task, *model, &adapter, *rows, 4, *scorer);
    return scorer->metrics();
  };
  const UpdateSpan span(*model, three);
  const Json loras = evaluated(lora), fulls = evaluated(full), randloras = evaluated(randlora);
  rows->calls = 0;
  const Json found =
      landscape(span, {.points = 3, .metric = "accuracy"}, score_point(*task, *model, rows, 4, {"accuracy"}));
  EXPECT_EQ(rows->calls, 3);  // batches, each made once
  size_t i = 0;
  for (const Json& expected : {loras, fulls, randloras}) {
    const Json& scores = found["adapters"][i++]["scores"];
    EXPECT_NEAR(scores["loss"].get<double>(), expected["loss"].get<double>(), 1e-6);
    EXPECT_EQ(scores["accuracy"], expected["accuracy"]);
  }
  EXPECT_NE(found["scores"]["loss"][0][0], found["scores"]["loss"][2][2]);
}

}  // namespace
}  // namespace deltaw
