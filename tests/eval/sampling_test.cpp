#include "eval/sampling.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/files.h"
#include "eval/stop_texts.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::eval {
namespace {

Tensor scores_of(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).to(at::kFloat);
}

// Scores before a draw: what Sampler::next makes of logits when it samples.
Tensor processed(const Tensor& logits, const std::vector<int64_t>& history, const GenerateOptions& options) {
  return warped(penalised(logits, history, options.repetition_penalty), options);
}

TEST(Processors, AgreeWithTransformers) {
  const Json fixture = read_json(test::fixture("golden/sampling/processors.json"));
  const auto history = fixture["history"].get<std::vector<int64_t>>();
  ASSERT_GE(fixture["cases"].size(), 10u);
  for (const Json& entry : fixture["cases"]) {
    const std::string settings = entry["settings"].dump();
    GenerateOptions options;
    options.temperature = 1;
    read_fields(fields_of(options), entry["settings"], "fixture");
    const Tensor scores = processed(scores_of(entry["logits"].get<std::vector<double>>()), history, options);
    ASSERT_EQ(scores.size(0), static_cast<int64_t>(entry["expected"].size()));
    for (int64_t i = 0; i < scores.size(0); ++i) {
      const Json& expected = entry["expected"][static_cast<size_t>(i)];
      const double score = scores[i].item<double>();
      if (expected.is_null()) {
        EXPECT_EQ(score, -std::numeric_limits<double>::infinity()) << settings << ", token " << i;
      } else {
        EXPECT_NEAR(score, expected.get<double>(), 1e-6 * std::max(1.0, std::abs(score)))
            << settings << ", token " << i;
      }
    }
  }
}

// Probabilities 0.5, 0.25, 0.125, 0.125 by hand.
TEST(Processors, LeaveOutWhatTheirNamesSay) {
  const Tensor scores = scores_of({std::log(0.25), std::log(0.5), std::log(0.125), std::log(0.125)});
  const auto left = [&](GenerateOptions options) {
    options.temperature = 1;
    const Tensor finite = warped(scores, options).isfinite();
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < 4; ++i) {
      if (finite[i].item<bool>()) ids.push_back(i);
    }
    return ids;
  };
  using Ids = std::vector<int64_t>;
  EXPECT_EQ(left({}), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(left({.top_k = 1}), (Ids{1}));
  EXPECT_EQ(left({.top_k = 3}), (Ids{0, 1, 2, 3}));  // the third place is shared
  EXPECT_EQ(left({.top_p = 0.7}), (Ids{0, 1}));
  EXPECT_EQ(left({.top_p = 0.1}), (Ids{1}));
  EXPECT_EQ(left({.min_p = 0.3}), (Ids{0, 1}));
  EXPECT_EQ(left({.min_p = 1}), (Ids{1}));
}

TEST(Sampler, TakesTheLikeliestTokenAtTemperatureZero) {
  const Tensor logits = scores_of({1, 3, 2.9, -1});
  GenerateOptions options;
  options.top_k = 1;
  EXPECT_EQ(Sampler(options, 0).next(logits, {0}), 1);
  options.repetition_penalty = 1.5;
  EXPECT_EQ(Sampler(options, 0).next(logits, {1}), 2);
  options.repetition_penalty = 2;
  EXPECT_EQ(Sampler(options, 0).next(scores_of({-1, -1.5, -3}), {0}), 1);  // a negative score falls
}

TEST(Sampler, DrawsByProbability) {
  const std::vector<double> probabilities = {0.1, 0.4, 0.2, 0.3};
  Tensor logits = at::empty({4}, at::kFloat);
  for (int64_t i = 0; i < 4; ++i) logits[i].fill_(std::log(probabilities[static_cast<size_t>(i)]));
  Sampler sampler({.temperature = 1}, 0);
  constexpr int kDraws = 20000;
  std::vector<int> counts(4);
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sampler.next(logits, {}))];
  for (size_t i = 0; i < 4; ++i) {
    const double p = probabilities[i];
    EXPECT_NEAR(counts[i], p * kDraws, 5 * std::sqrt(kDraws * p * (1 - p))) << "token " << i;
  }
}

TEST(Sampler, FollowsFromSeedAndRow) {
  const auto drawn = [](int64_t seed, int64_t row) {
    Sampler sampler({.temperature = 1, .seed = seed}, row);
    std::vector<int64_t> tokens;
    for (int i = 0; i < 20; ++i) tokens.push_back(sampler.next(at::zeros({50}), {}));
    return tokens;
  };
  EXPECT_EQ(drawn(1, 0), drawn(1, 0));
  EXPECT_NE(drawn(1, 0), drawn(1, 1));
  EXPECT_NE(drawn(1, 0), drawn(2, 0));
  EXPECT_NE(drawn(1, 1), drawn(2, 0));
}

TEST(Sampler, RefusesWhatIsNotFinite) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (const double temperature : {0.0, 1.0}) {
      const Error error = test::error_of([&] {
        Sampler({.temperature = temperature}, 0).next(scores_of({0, bad, 1}), {1, 2});
      });
      EXPECT_EQ(error.id(), "numeric.non-finite");
    }
  }
}

std::string put_together(StopTexts stops, const std::vector<std::string>& pieces, bool& found) {
  std::string text;
  for (const std::string& piece : pieces) text += stops.put(piece);
  text += stops.end();
  found = stops.found();
  return text;
}

TEST(StopTexts, CutAtTheFirstOneWhereverThePiecesEnd) {
  const std::string text = "one two END three END";
  for (size_t a = 0; a <= text.size(); ++a) {
    for (size_t b = a; b <= text.size(); ++b) {
      bool found = false;
      const std::vector<std::string> pieces = {text.substr(0, a), text.substr(a, b - a), text.substr(b)};
      EXPECT_EQ(put_together(StopTexts({"never", "END"}), pieces, found), "one two ") << a << " " << b;
      EXPECT_TRUE(found);
    }
  }
}

TEST(StopTexts, TakeTheOneThatIsCompleteFirst) {
  for (const std::vector<std::string>& pieces :
       std::vector<std::vector<std::string>>{{"xabcd"}, {"xa", "bcd"}, {"x", "a", "b", "c", "d"}}) {
    bool found = false;
    EXPECT_EQ(put_together(StopTexts({"abcd", "bc"}), pieces, found), "xa");
  }
}

TEST(StopTexts, GiveBackWhatOnlyBeganLikeOne) {
  bool found = true;
  EXPECT_EQ(put_together(StopTexts({"aab"}), {"a", "a", "a"}, found), "aaa");
  EXPECT_FALSE(found);
  StopTexts stops({"\n\n"});
  EXPECT_EQ(stops.put("a\n"), "a");
  EXPECT_EQ(stops.put("b"), "\nb");
  EXPECT_EQ(put_together(StopTexts({"aab"}), {"aaa", "b"}, found), "a");
  EXPECT_EQ(put_together(StopTexts({}), {"a", "b"}, found), "ab");
}

TEST(StopTexts, SeeWhatIsNoTextAndNeverGiveItBack) {
  StopTexts plain({"<end>"});
  EXPECT_EQ(plain.put("one"), "one");
  EXPECT_EQ(plain.put("<mark>", false), "");
  EXPECT_EQ(plain.put("two"), "two");
  EXPECT_EQ(plain.put("<end>", false), "");
  EXPECT_TRUE(plain.found());
  EXPECT_EQ(plain.put("three"), "");

  StopTexts across({"a<end>"});  // text and mark together
  EXPECT_EQ(across.put("ba"), "b");
  EXPECT_EQ(across.put("<e", false), "");
  EXPECT_EQ(across.put("a"), "a");  // another way on: what was text is given back
  EXPECT_EQ(across.put("<end>", false), "");
  EXPECT_TRUE(across.found());
  StopTexts never({"<end>x"});
  EXPECT_EQ(never.put("a"), "a");
  EXPECT_EQ(never.put("<end>", false), "");
  EXPECT_EQ(never.end(), "");
}

}  // namespace
}  // namespace deltaw::eval
