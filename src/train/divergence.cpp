#include "train/divergence.h"

#include <algorithm>

namespace deltaw {
namespace train {
namespace {

constexpr size_t kLastSteps = 8;

// A run is far off where the loss of its last batches is this many times what it began with, and what guessing costs.
constexpr double kFirstTimes = 2, kChanceTimes = 3;
// Of validation rows, which a model that learnt its training rows by heart gets wrong with great confidence.
constexpr double kEvalTimes = 10;

}  // namespace

void LossTrace::add(double loss) {
  if (!first) first = loss;
  last.push_back(loss);
  if (last.size() > kLastSteps) last.erase(last.begin());
}

std::optional<double> LossTrace::end(int64_t steps) const {
  if (steps < 2 || last.empty()) return std::nullopt;
  const size_t count = std::min(last.size(), static_cast<size_t>(steps / 2));
  std::vector<double> values(last.end() - static_cast<std::ptrdiff_t>(count), last.end());
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(count / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace train

bool has_diverged(const TrainResult& result, const Json& metrics) {
  if (result.last_loss > std::max(train::kFirstTimes * result.first_loss, train::kChanceTimes * result.chance_loss)) {
    return true;
  }
  const auto loss = metrics.find("eval_loss");
  return loss != metrics.end() && loss->is_number() &&
         loss->get<double>() > train::kEvalTimes * std::max(result.first_loss, result.chance_loss);
}

}  // namespace deltaw
