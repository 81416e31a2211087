#include "tasks/common/metrics.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/suggest.h"
#include "deltaw/error.h"

namespace deltaw::tasks {
namespace {

struct Counts {
  double hits = 0;
  double predicted = 0;
  double labelled = 0;

  double f1() const { return predicted + labelled > 0 ? 2 * hits / (predicted + labelled) : 0; }
};

std::map<int64_t, Counts> count_classes(const Classes& predicted, const Classes& labels) {
  std::map<int64_t, Counts> counts;
  for (size_t i = 0; i < labels.size(); ++i) {
    counts[predicted[i]].predicted += 1;
    counts[labels[i]].labelled += 1;
    if (predicted[i] == labels[i]) counts[labels[i]].hits += 1;
  }
  return counts;
}

double mean(const Values& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

bool constant(const Values& values) {
  return std::all_of(values.begin(), values.end(), [&](double value) { return value == values.front(); });
}

// Ranks from 1; equal values share the mean of theirs.
Values ranks(const Values& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  Values result(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) result[order[i]] = static_cast<double>(begin + 1 + end) / 2;
    begin = end;
  }
  return result;
}

/// One of every `step` values, from `first` on.
Values column(const Values& values, size_t first, size_t step) {
  Values result;
  for (size_t i = first; i < values.size(); i += step) result.push_back(values[i]);
  return result;
}

/// The mean over the scores that are defined.
Score mean_of(const std::vector<Score>& scores) {
  Values defined;
  for (const Score& score : scores) {
    if (score) defined.push_back(*score);
  }
  return defined.empty() ? std::nullopt : Score(mean(defined));
}

/// The log-odds of one class of a row, which order rows as its probabilities do and never saturate.
double log_odds(const double* logits, int64_t outputs, int64_t chosen) {
  double greatest = -std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < outputs; ++i) {
    if (i != chosen) greatest = std::max(greatest, logits[i]);
  }
  double sum = 0;
  for (int64_t i = 0; i < outputs; ++i) {
    if (i != chosen) sum += std::exp(logits[i] - greatest);
  }
  return logits[chosen] - greatest - std::log(sum);
}

/// Of one class against all others.
Score class_auc(const Values& logits, int64_t outputs, const Classes& labels, int64_t chosen) {
  Values scores;
  Values is_chosen;
  for (size_t row = 0; row < labels.size(); ++row) {
    scores.push_back(log_odds(&logits[row * static_cast<size_t>(outputs)], outputs, chosen));
    is_chosen.push_back(labels[row] == chosen ? 1 : 0);
  }
  return roc_auc(scores, is_chosen);
}

Score classes_auc(const Values& logits, int64_t outputs, const Classes& labels) {
  if (outputs == 2) return class_auc(logits, outputs, labels, 1);
  std::vector<Score> each;
  for (int64_t i = 0; i < outputs; ++i) each.push_back(class_auc(logits, outputs, labels, i));
  return mean_of(each);
}

/// What was decided of each class in each row, and what is right.
struct Decisions {
  const Values& logits;
  const Values& labels;
  std::vector<Counts> classes;
  double rows = 0, right_rows = 0;

  Decisions(const Values& logits, int64_t outputs, const Values& labels)
      : logits(logits), labels(labels), classes(static_cast<size_t>(outputs)) {
    for (size_t begin = 0; begin < labels.size(); begin += classes.size()) {
      bool right = true;
      for (size_t i = 0; i < classes.size(); ++i) {
        const bool predicted = logits[begin + i] > 0, labelled = labels[begin + i] > 0;
        classes[i].predicted += predicted;
        classes[i].labelled += labelled;
        classes[i].hits += predicted && labelled;
        right = right && predicted == labelled;
      }
      rows += 1;
      right_rows += right;
    }
  }
};

Score micro_f1(const Decisions& decisions) {
  Counts all;
  for (const Counts& one : decisions.classes) {
    all.hits += one.hits;
    all.predicted += one.predicted;
    all.labelled += one.labelled;
  }
  return all.f1();
}

/// The mean over the classes, each counting `weight` of it.
template <class Weight>
Score mean_f1(const Decisions& decisions, const Weight& weight) {
  double sum = 0, weights = 0;
  for (const Counts& one : decisions.classes) {
    sum += weight(one) * one.f1();
    weights += weight(one);
  }
  return weights > 0 ? sum / weights : 0;
}

Score mean_auc(const Decisions& decisions) {
  std::vector<Score> each;
  const size_t outputs = decisions.classes.size();
  for (size_t i = 0; i < outputs; ++i) {
    each.push_back(roc_auc(column(decisions.logits, i, outputs), column(decisions.labels, i, outputs)));
  }
  return mean_of(each);
}

using DecisionMetric = std::function<Score(const Decisions&)>;

const std::map<std::string, DecisionMetric>& decision_metrics() {
  static const std::map<std::string, DecisionMetric> table = {
      {"accuracy", [](const Decisions& d) { return d.rows > 0 ? Score(d.right_rows / d.rows) : std::nullopt; }},
      {"f1_macro", [](const Decisions& d) { return mean_f1(d, [](const Counts&) { return 1.0; }); }},
      {"f1_micro", micro_f1},
      {"f1_weighted", [](const Decisions& d) { return mean_f1(d, [](const Counts& c) { return c.labelled; }); }},
      {"roc_auc", mean_auc},
  };
  return table;
}

/// Logits [rows, outputs] and the class that each row says.
struct Said {
  const Values& logits;
  Classes classes;
  int64_t outputs;
};

using ClassMetric = std::function<Score(const Said&, const Classes&)>;
using ValueMetric = std::function<Score(const Values&, const Values&)>;

const std::map<std::string, ClassMetric>& class_metrics() {
  static const std::map<std::string, ClassMetric> table = {
      {"accuracy", [](const Said& s, const Classes& l) { return accuracy(s.classes, l); }},
      {"f1", [](const Said& s,
                const Classes& l) { return f1(s.classes, l, s.outputs == 2 ? Average::binary : Average::macro); }},
      {"f1_macro", [](const Said& s, const Classes& l) { return f1(s.classes, l, Average::macro); }},
      {"f1_weighted", [](const Said& s, const Classes& l) { return f1(s.classes, l, Average::weighted); }},
      {"matthews_correlation", [](const Said& s, const Classes& l) { return matthews_correlation(s.classes, l); }},
      {"roc_auc", [](const Said& s, const Classes& l) { return classes_auc(s.logits, s.outputs, l); }},
  };
  return table;
}

const std::map<std::string, ValueMetric>& value_metrics() {
  static const std::map<std::string, ValueMetric> table = {
      {"mse", mse}, {"pearson", pearson}, {"r2", r2}, {"rmse", rmse}, {"spearmanr", spearman}};
  return table;
}

template <class Table>
const auto& find_metric(const Table& table, const std::string& name, const char* kind) {
  const auto found = table.find(name);
  if (found != table.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& entry : table) known.push_back(entry.first);
  throw Error{{.id = "config.unknown-metric",
               .what = fmt::format("there is no metric '{}' for {}", name, kind),
               .where = "metrics",
               .fix = suggest_names(name, known, fmt::format("Use one of {}.", fmt::join(known, ", ")))}};
}

Json to_json(const Score& score) {
  return score && std::isfinite(*score) ? Json(*score) : Json(nullptr);
}

}  // namespace

Score accuracy(const Classes& predicted, const Classes& labels) {
  if (labels.empty()) return std::nullopt;
  double hits = 0;
  for (size_t i = 0; i < labels.size(); ++i) hits += predicted[i] == labels[i] ? 1 : 0;
  return hits / static_cast<double>(labels.size());
}

Score f1(const Classes& predicted, const Classes& labels, Average average) {
  if (labels.empty()) return std::nullopt;
  const auto counts = count_classes(predicted, labels);
  if (average == Average::binary) {
    const auto positive = counts.find(1);
    return positive == counts.end() ? 0 : positive->second.f1();
  }
  double sum = 0;
  for (const auto& [_, count] : counts) sum += count.f1() * (average == Average::weighted ? count.labelled : 1);
  return sum / static_cast<double>(average == Average::weighted ? labels.size() : counts.size());
}

Score matthews_correlation(const Classes& predicted, const Classes& labels) {
  if (labels.empty()) return std::nullopt;
  const auto rows = static_cast<double>(labels.size());
  double hits = 0;
  double both = 0;
  double predicted_squares = 0;
  double label_squares = 0;
  for (const auto& [_, count] : count_classes(predicted, labels)) {
    hits += count.hits;
    both += count.predicted * count.labelled;
    predicted_squares += count.predicted * count.predicted;
    label_squares += count.labelled * count.labelled;
  }
  const double spread = (rows * rows - predicted_squares) * (rows * rows - label_squares);
  return spread > 0 ? (hits * rows - both) / std::sqrt(spread) : 0;
}

Score mse(const Values& predicted, const Values& labels) {
  if (labels.empty()) return std::nullopt;
  double sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) sum += (predicted[i] - labels[i]) * (predicted[i] - labels[i]);
  return sum / static_cast<double>(labels.size());
}

Score rmse(const Values& predicted, const Values& labels) {
  const Score squared = mse(predicted, labels);
  return squared ? Score(std::sqrt(*squared)) : std::nullopt;
}

Score r2(const Values& predicted, const Values& labels) {
  if (labels.size() < 2 || constant(labels)) return std::nullopt;
  return 1 - *mse(predicted, labels) / *mse(Values(labels.size(), mean(labels)), labels);
}

Score pearson(const Values& predicted, const Values& labels) {
  if (labels.size() < 2 || constant(predicted) || constant(labels)) return std::nullopt;
  const double predicted_mean = mean(predicted);
  const double label_mean = mean(labels);
  double both = 0;
  double predicted_squares = 0;
  double label_squares = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const double p = predicted[i] - predicted_mean;
    const double l = labels[i] - label_mean;
    both += p * l;
    predicted_squares += p * p;
    label_squares += l * l;
  }
  return std::clamp(both / std::sqrt(predicted_squares * label_squares), -1.0, 1.0);
}

Score spearman(const Values& predicted, const Values& labels) {
  return pearson(ranks(predicted), ranks(labels));
}

Score roc_auc(const Values& scores, const Values& labels) {
  if (std::any_of(scores.begin(), scores.end(), [](double score) { return std::isnan(score); })) return std::nullopt;
  const Values places = ranks(scores);
  double positive = 0;
  double sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] <= 0) continue;
    positive += 1;
    sum += places[i];
  }
  const double pairs = positive * (static_cast<double>(labels.size()) - positive);
  return pairs > 0 ? Score((sum - positive * (positive + 1) / 2) / pairs) : std::nullopt;
}

Classes argmax_rows(const Values& logits, int64_t outputs) {
  Classes classes;
  for (auto row = logits.begin(); row != logits.end(); row += outputs) {
    classes.push_back(std::max_element(row, row + outputs) - row);
  }
  return classes;
}

Json compute_metrics(const std::vector<std::string>& names, const Values& logits, int64_t outputs, bool regression,
                     const Values& labels) {
  if (outputs < 1 || logits.size() != labels.size() * static_cast<size_t>(outputs) || (regression && outputs != 1)) {
    throw Error{{.id = "shape.logits",
                 .what = fmt::format("{} logits for {} labels and {} outputs{}", logits.size(), labels.size(), outputs,
                                     regression ? " of a regression" : ""),
                 .where = "metrics",
                 .fix = "Give one row of logits per label; a regression has one output."}};
  }
  const bool broken = std::any_of(logits.begin(), logits.end(), [](double logit) { return std::isnan(logit); });
  const Said said{logits, regression || broken ? Classes() : argmax_rows(logits, outputs), outputs};
  const Classes classes = regression ? Classes() : Classes(labels.begin(), labels.end());
  Json result = Json::object();
  for (const std::string& name : names) {
    if (regression) {
      const ValueMetric& metric = find_metric(value_metrics(), name, "scores");
      result[name] = broken ? Json() : to_json(metric(logits, labels));
    } else {
      const ClassMetric& metric = find_metric(class_metrics(), name, "classes");
      result[name] = broken ? Json() : to_json(metric(said, classes));
    }
  }
  return result;
}

Json multi_label_metrics(const std::vector<std::string>& names, const Values& logits, int64_t outputs,
                         const Values& labels) {
  if (outputs < 1 || logits.size() != labels.size() || logits.size() % static_cast<size_t>(outputs) != 0) {
    throw Error{
        {.id = "shape.logits",
         .what = fmt::format("{} logits for {} decisions and {} outputs", logits.size(), labels.size(), outputs),
         .where = "metrics",
         .fix = "Give each row a logit and a label for every class."}};
  }
  const bool broken = std::any_of(logits.begin(), logits.end(), [](double logit) { return std::isnan(logit); });
  const Decisions decisions(logits, outputs, labels);
  Json result = Json::object();
  for (const std::string& name : names) {
    const DecisionMetric& metric = find_metric(decision_metrics(), name, "rows of several classes");
    result[name] = broken ? Json() : to_json(metric(decisions));
  }
  return result;
}

void check_class_metric(const std::string& name, const LabelSet& labels) {
  if (name == "loss") return;
  const Values zeros(static_cast<size_t>(labels.outputs()));  // the logits of one row
  if (labels.multi_label) {
    multi_label_metrics({name}, zeros, labels.outputs(), zeros);
  } else {
    compute_metrics({name}, zeros, labels.outputs(), labels.regression, {0});
  }
}

bool greater_is_better(const std::string& metric) {
  const std::string name = metric.substr(metric.starts_with("eval_") ? 5 : 0);
  const bool is_error = name.find("mse") != std::string::npos;  // rmse and noise_mse_500 too
  return !is_error && name != "loss" && name != "perplexity";
}

}  // namespace deltaw::tasks
