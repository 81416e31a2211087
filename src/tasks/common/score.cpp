#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/task.h"
#include "tasks/common/batch_stream.h"

namespace deltaw {

void score(const Task& task, const Model& model, const Adapter* adapter, const RowSource& rows, int64_t batch_size,
           Scorer& scorer, const Progress& progress) {
  const at::NoGradGuard no_grad;  // no inference mode: what the model caches now may serve training later
  int64_t done = 0;
  tasks::BatchStream stream(rows, tasks::one_by_one(plan_evaluation(costs_of(rows), batch_size)));
  while (const std::optional<Batch> batch = stream.next()) {
    if (task.weight(*batch) > 0) {
      Call call{.adapter = adapter};
      scorer.add(task.outputs(model, *batch, call), *batch);
    }
    done += batch->rows;
    if (progress) progress(done, rows.size());
  }
}

std::vector<CalibrationBatch> calibration_batches(const Task& task, const RowSource& rows, int64_t batch_size,
                                                  uint64_t seed, int64_t samples) {
  std::vector<std::vector<int64_t>> plan;
  // In the order of training without group_by_length.
  for (std::vector<int64_t>& positions :
       plan_batches(costs_of(rows), batch_size, seed, /*epoch=*/0, /*group_by_length=*/false)) {
    positions.resize(std::min(static_cast<size_t>(samples), positions.size()));
    if (positions.empty()) break;
    samples -= static_cast<int64_t>(positions.size());
    plan.push_back(std::move(positions));
  }
  std::vector<CalibrationBatch> batches;
  tasks::BatchStream stream(rows, tasks::one_by_one(std::move(plan), {.seed = seed}));
  while (std::optional<Batch> batch = stream.next()) {
    const int64_t count = batch->rows;
    const auto loss = [&task, batch = std::move(*batch)](const Model& model, Call& call) {
      return task.loss(model, task.outputs(model, batch, call), batch, call, {.total_weight = task.weight(batch)});
    };
    batches.push_back({.rows = count, .loss = loss});
  }
  return batches;
}

Probe probe_of(const Task& task, Batch batch) {
  return [&task, batch = std::move(batch)](const Model& model, const Adapter* adapter) {
    const at::NoGradGuard no_grad;
    Call call{.adapter = adapter};
    return task.comparable(model, task.outputs(model, batch, call), batch, call);
  };
}

}  // namespace deltaw
