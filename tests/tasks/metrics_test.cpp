#include "tasks/common/metrics.h"

#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "deltaw/error.h"

namespace deltaw::tasks {
namespace {

constexpr double kTolerance = 1e-12;
const double kNan = std::numeric_limits<double>::quiet_NaN();

// python: from sklearn.metrics import *; p=[1,0,1,1,0,0,1,0,1,1]; l=[1,0,0,1,1,0,1,0,0,1]
//         accuracy_score(l,p), f1_score(l,p), matthews_corrcoef(l,p)
TEST(ClassMetrics, AgreeWithScikitLearnOnTwoClasses) {
  const Classes predicted = {1, 0, 1, 1, 0, 0, 1, 0, 1, 1};
  const Classes labels = {1, 0, 0, 1, 1, 0, 1, 0, 0, 1};
  EXPECT_NEAR(*accuracy(predicted, labels), 0.7, kTolerance);
  EXPECT_NEAR(*f1(predicted, labels, Average::binary), 0.7272727272727273, kTolerance);
  EXPECT_NEAR(*matthews_correlation(predicted, labels), 0.408248290463863, kTolerance);
}

// By hand: F1 of the classes is 1, 4/5 and 2/5. Like
//   P=[[1,0,1],[0,0,0],[1,1,0],[0,1,1],[0,0,1]]; L=[[1,0,0],[0,0,0],[1,1,1],[0,1,0],[0,1,1]]
//   sklearn.metrics.f1_score(L, P, average=...), accuracy_score(L, P)
TEST(DecisionMetrics, AreThoseOfTwoMatrices) {
  const Values logits = {1, -1, 2, -1, -2, -1, 3, 1, -1, -1, 1, 1, -1, 0, 1};
  const Values labels = {1, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 1};
  const Json scores = multi_label_metrics({"f1_micro", "f1_macro", "f1_weighted", "accuracy"}, logits, 3, labels);
  EXPECT_NEAR(scores["f1_micro"].get<double>(), 10.0 / 14, kTolerance);
  EXPECT_NEAR(scores["f1_macro"].get<double>(), 2.2 / 3, kTolerance);
  EXPECT_NEAR(scores["f1_weighted"].get<double>(), 5.2 / 7, kTolerance);
  EXPECT_NEAR(scores["accuracy"].get<double>(), 0.2, kTolerance);
  EXPECT_TRUE(multi_label_metrics({"f1_micro"}, {kNan, 1, 1}, 3, {1, 0, 0})["f1_micro"].is_null());
  EXPECT_THROW(multi_label_metrics({"f1"}, logits, 3, labels), Error);
  EXPECT_THROW(multi_label_metrics({"f1_micro"}, logits, 2, labels), Error);
}

// python: p=[0,1,2,2,1,0,2,1,0,2,1,1]; l=[0,2,2,2,1,0,1,1,0,2,0,1]; p4=[0,1,3,1]; l4=[0,1,1,2]
//         f1_score(l,p,average='macro'), matthews_corrcoef(l,p), f1_score(l4,p4,average=...), matthews_corrcoef(l4,p4)
TEST(ClassMetrics, AgreeWithScikitLearnOnMoreClasses) {
  const Classes predicted = {0, 1, 2, 2, 1, 0, 2, 1, 0, 2, 1, 1};
  const Classes labels = {0, 2, 2, 2, 1, 0, 1, 1, 0, 2, 0, 1};
  EXPECT_NEAR(*f1(predicted, labels, Average::macro), 0.7579365079365079, kTolerance);
  EXPECT_NEAR(*matthews_correlation(predicted, labels), 0.6316139407998892, kTolerance);
  // One class is only predicted, one only labelled.
  EXPECT_NEAR(*f1({0, 1, 3, 1}, {0, 1, 1, 2}, Average::macro), 0.375, kTolerance);
  EXPECT_NEAR(*f1({0, 1, 3, 1}, {0, 1, 1, 2}, Average::weighted), 0.5, kTolerance);
  EXPECT_NEAR(*matthews_correlation({0, 1, 3, 1}, {0, 1, 1, 2}), 0.3, kTolerance);
}

// python: matthews_corrcoef([0,1,1],[1,1,1]), f1_score([0,1,1],[0,0,0]), f1_score([0,0],[0,0]), f1_score([1,1],[1,1]),
//         matthews_corrcoef([1,1],[1,1])
TEST(ClassMetrics, AreZeroForConstantPredictionsWhereScikitLearnIs) {
  EXPECT_EQ(matthews_correlation({1, 1, 1}, {0, 1, 1}), 0.0);
  EXPECT_EQ(f1({0, 0, 0}, {0, 1, 1}, Average::binary), 0.0);
  EXPECT_EQ(f1({0, 0}, {0, 0}, Average::binary), 0.0);
  EXPECT_EQ(f1({1, 1}, {1, 1}, Average::binary), 1.0);
  EXPECT_EQ(matthews_correlation({1, 1}, {1, 1}), 0.0);
}

// python: from scipy.stats import *; p=[0.1,2.5,3.75,4.0,1.2,2.5,5.0,0.0]; l=[0.0,2.0,4.25,3.5,1.0,3.0,4.5,1.0]
//         pearsonr(p,l)[0], spearmanr(p,l)[0], np.mean((np.array(p)-np.array(l))**2),
//         pearsonr([1e8+1,1e8+2,1e8+4],[1,2,3])
TEST(ValueMetrics, AgreeWithScipyAndShareRanksAmongTies) {
  const Values predicted = {0.1, 2.5, 3.75, 4.0, 1.2, 2.5, 5.0, 0.0};
  const Values labels = {0.0, 2.0, 4.25, 3.5, 1.0, 3.0, 4.5, 1.0};
  EXPECT_NEAR(*pearson(predicted, labels), 0.9515304362385921, kTolerance);
  EXPECT_NEAR(*spearman(predicted, labels), 0.927710843373494, kTolerance);
  EXPECT_NEAR(*mse(predicted, labels), 0.2875, kTolerance);
  EXPECT_NEAR(*pearson({1e8 + 1, 1e8 + 2, 1e8 + 4}, {1, 2, 3}), 0.9819805060619655, kTolerance);
}

TEST(ValueMetrics, AreEmptyWhereACorrelationIsUndefined) {
  EXPECT_EQ(pearson({1, 1, 1}, {1, 2, 3}), std::nullopt);
  EXPECT_EQ(spearman({1, 2, 3}, {2, 2, 2}), std::nullopt);
  EXPECT_EQ(pearson({1}, {2}), std::nullopt);
  EXPECT_EQ(mse({}, {}), std::nullopt);
}

// python: r2_score(l,p), root_mean_squared_error(l,p), of the rows of the test above
TEST(ValueMetrics, AgreeWithScikitLearnOnWhatIsExplained) {
  const Values predicted = {0.1, 2.5, 3.75, 4.0, 1.2, 2.5, 5.0, 0.0};
  const Values labels = {0.0, 2.0, 4.25, 3.5, 1.0, 3.0, 4.5, 1.0};
  EXPECT_NEAR(*r2(predicted, labels), 0.8804709703613479, kTolerance);
  EXPECT_NEAR(*rmse(predicted, labels), 0.5361902647381804, kTolerance);
  EXPECT_NEAR(*r2({3, 3, 3}, {1, 2, 6}), 0, kTolerance);  // their mean explains nothing
  EXPECT_NEAR(*r2({6, 2, 1}, {1, 2, 6}), -2.5714285714285716, kTolerance);
  EXPECT_EQ(r2({1, 2}, {3, 3}), std::nullopt);
  EXPECT_EQ(r2({1}, {3}), std::nullopt);
  EXPECT_EQ(rmse({}, {}), std::nullopt);
}

// python: roc_auc_score([1,0,0,1,1,0,1,0], [.9,.1,.4,.4,.8,.7,.2,.4])
TEST(RocAuc, AgreesWithScikitLearnAndCountsTiesHalf) {
  const Values scores = {0.9, 0.1, 0.4, 0.4, 0.8, 0.7, 0.2, 0.4};
  EXPECT_NEAR(*roc_auc(scores, {1, 0, 0, 1, 1, 0, 1, 0}), 0.6875, kTolerance);
  EXPECT_EQ(roc_auc({1, 2, 3}, {0, 0, 1}), 1.0);
  EXPECT_EQ(roc_auc({3, 2, 1}, {0, 0, 1}), 0.0);
  EXPECT_EQ(roc_auc({1, 1, 1}, {0, 0, 1}), 0.5);
  EXPECT_EQ(roc_auc({1, 2}, {1, 1}), std::nullopt);
  EXPECT_EQ(roc_auc({1, 2}, {0, 0}), std::nullopt);
  EXPECT_EQ(roc_auc({kNan, 2}, {0, 1}), std::nullopt);
}

// python: x=[[2,0,1],[0,3,1],[1,1,0],[0,1,4],[3,1,2.5],[0,0,1]]; l=[0,1,1,2,2,0]
//         roc_auc_score(l, scipy.special.softmax(x,1), multi_class='ovr'); and of two columns, roc_auc_score(l,
//         softmax[:,1])
TEST(RocAuc, IsOfClassOneOrTheMeanOverMoreClasses) {
  const Values two = {2, 0, 0, 3, 5, 5, 1, 2, 30, 29.5};  // by the difference alone: -2 3 0 1 -0.5
  const Json pair = compute_metrics({"roc_auc"}, two, 2, false, {0, 1, 1, 0, 1});
  EXPECT_NEAR(pair["roc_auc"].get<double>(), 4.0 / 6, kTolerance);
  const Values three = {2, 0, 1, 0, 3, 1, 1, 1, 0, 0, 1, 4, 3, 1, 2.5, 0, 0, 1};
  const Json classes = compute_metrics({"roc_auc"}, three, 3, false, {0, 1, 1, 2, 2, 0});
  EXPECT_NEAR(classes["roc_auc"].get<double>(), 0.875, kTolerance);
  EXPECT_EQ(compute_metrics({"roc_auc"}, two, 2, false, {0, 0, 0, 0, 0}).dump(), R"({"roc_auc":null})");
}

// Of the columns, by hand: 3 of 4 pairs; 2 of 4; one class is in every row, which says nothing.
TEST(RocAuc, IsTheMeanOverColumnsThatHaveBothKinds) {
  const Values logits = {1, 0, 5, 3, 1, 5, 2, 2, 5, 0, 3, 5};
  const Values labels = {1, 1, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1};
  const Json scores = multi_label_metrics({"roc_auc"}, logits, 3, labels);
  EXPECT_NEAR(scores["roc_auc"].get<double>(), 0.625, kTolerance);
}

TEST(ArgmaxRows, TakesTheFirstOfEquals) {
  EXPECT_EQ(argmax_rows({1, 3, 3, 5, -1, 2}, 3), (Classes{1, 0}));
}

TEST(ComputeMetrics, NamesAndOrdersWhatWasAskedFor) {
  const Values logits = {2, 1, 0, 4, 1, 3, 5, 0};  // classes 0 1 1 0
  EXPECT_EQ(compute_metrics({"f1", "accuracy"}, logits, 2, false, {0, 1, 0, 0}).dump(),
            R"({"f1":0.6666666666666666,"accuracy":0.75})");
  const Json scores = compute_metrics({"mse", "pearson", "spearmanr"}, {1, 2, 3}, 1, true, {2, 3, 4});
  EXPECT_EQ(scores.dump(), R"({"mse":1.0,"pearson":1.0,"spearmanr":1.0})");
}

TEST(ComputeMetrics, TakesMacroF1ForMoreThanTwoClasses) {
  const Values logits = {1, 0, 0, 0, 1, 0, 0, 1, 0};  // classes 0 1 1
  const Json result = compute_metrics({"f1", "f1_macro", "f1_weighted"}, logits, 3, false, {0, 1, 2});
  EXPECT_NEAR(result["f1"].get<double>(), (1.0 + 2.0 / 3.0) / 3, kTolerance);
  EXPECT_EQ(result["f1"], result["f1_macro"]);
}

TEST(ComputeMetrics, IsNullWhereAScoreIsUndefinedOrALogitIsNotANumber) {
  EXPECT_EQ(compute_metrics({"pearson"}, {1, 1}, 1, true, {1, 2}).dump(), R"({"pearson":null})");
  EXPECT_EQ(compute_metrics({"accuracy"}, {}, 2, false, {}).dump(), R"({"accuracy":null})");
  EXPECT_EQ(compute_metrics({"accuracy"}, {1, kNan}, 2, false, {0}).dump(), R"({"accuracy":null})");
  EXPECT_EQ(compute_metrics({"spearmanr"}, {1, kNan}, 1, true, {0, 1}).dump(), R"({"spearmanr":null})");
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(compute_metrics({"mse", "pearson"}, {1, infinity}, 1, true, {0, 1}).dump(),
            R"({"mse":null,"pearson":null})");
}

std::string error_id(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.id() + ": " + error.what();
  }
  return "none";
}

TEST(ComputeMetrics, RefusesUnknownNamesAndSizesThatDisagree) {
  const std::string unknown = error_id([] { compute_metrics({"acuracy"}, {1, 0}, 2, false, {0}); });
  EXPECT_TRUE(unknown.starts_with("config.unknown-metric")) << unknown;
  EXPECT_NE(unknown.find("'accuracy'"), std::string::npos) << unknown;
  EXPECT_TRUE(error_id([] {
                compute_metrics({"pearson"}, {1, 0}, 2, false, {0});
              }).starts_with("config.unknown-metric"));
  EXPECT_TRUE(error_id([] { compute_metrics({"accuracy"}, {1, 0, 1}, 2, false, {0}); }).starts_with("shape.logits"));
  EXPECT_TRUE(error_id([] { compute_metrics({"mse"}, {1, 0}, 2, true, {0}); }).starts_with("shape.logits"));
}

TEST(GreaterIsBetter, IsFalseForLossAndErrors) {
  EXPECT_TRUE(greater_is_better("accuracy"));
  EXPECT_TRUE(greater_is_better("eval_pearson"));
  EXPECT_TRUE(greater_is_better("r2"));
  EXPECT_TRUE(greater_is_better("roc_auc"));
  EXPECT_FALSE(greater_is_better("mse"));
  EXPECT_FALSE(greater_is_better("eval_rmse"));
  EXPECT_FALSE(greater_is_better("eval_loss"));
}

}  // namespace
}  // namespace deltaw::tasks
