#include "tasks/common/batch_stream.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <omp.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "core/log.h"
#include "deltaw/slow_rows.h"

namespace deltaw::tasks {
namespace {

/// A thread that runs a parallel region makes threads of its own for it, as many as the training has. torch sets their
/// number when it first looks at it, and has a note of that in each library.
void compute_on_one_core() {
  at::get_num_threads();
  at::internal::lazy_init_num_threads();
  omp_set_num_threads(1);
}

}  // namespace

NextPlan one_by_one(std::vector<std::vector<int64_t>> batches, const Draw& draw) {
  return [batches = std::move(batches), draw, next = size_t{0}]() mutable -> std::optional<BatchPlan> {
    if (next == batches.size()) return std::nullopt;
    return BatchPlan{std::move(batches[next++]), draw};
  };
}

BatchStream::BatchStream(const RowSource& rows, NextPlan plan, int64_t at_once) : rows_(rows), plan_(std::move(plan)) {
  const auto* slow = dynamic_cast<const SlowRows*>(&rows);
  if (!slow) return;
  const LoaderOptions loader = slow->loader();
  const int64_t workers = loader.workers();
  if (workers == 0) return;
  ahead_ = static_cast<size_t>(std::max(workers * loader.dataloader_prefetch_factor, at_once));
  start_workers(workers);
}

BatchStream::~BatchStream() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  planned_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

std::optional<Batch> BatchStream::next() {
  if (workers_.empty()) {
    const std::optional<BatchPlan> plan = plan_();
    if (!plan) return std::nullopt;
    return rows_.collate(plan->positions, plan->draw);
  }
  plan_ahead();
  if (pending_.empty()) return std::nullopt;
  std::unique_lock lock(mutex_);
  while (!pending_.front().made) {
    if (begun_ < pending_.size()) {
      make_one(lock);
    } else {
      made_.wait(lock);
    }
  }
  Pending first = std::move(pending_.front());
  pending_.pop_front();
  --begun_;
  lock.unlock();
  if (first.problem) std::rethrow_exception(first.problem);
  return std::move(first.batch);
}

// One more than is to be there once the first of them has been delivered.
void BatchStream::plan_ahead() {
  while (pending_.size() <= ahead_) {  // only this thread changes its size
    std::optional<BatchPlan> plan = plan_();
    if (!plan) return;
    const std::lock_guard lock(mutex_);
    pending_.push_back({.plan = std::move(*plan)});
    planned_.notify_one();
  }
}

// Where the system gives fewer threads, those do the work.
void BatchStream::start_workers(int64_t count) {
  const at::ThreadLocalState state;
  workers_.reserve(static_cast<size_t>(count));
  try {
    for (int64_t i = 0; i < count; ++i) {
      workers_.emplace_back([this, state] {
        const at::ThreadLocalStateGuard as_the_one_that_asks(state);
        compute_on_one_core();
        work();
      });
    }
  } catch (const std::system_error&) {
    log().info("{} of {} threads make batches: the system gives no more", workers_.size(), count);
  }
}

void BatchStream::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    planned_.wait(lock, [&] { return stopped_ || begun_ < pending_.size(); });
    if (stopped_) return;
    make_one(lock);
  }
}

void BatchStream::make_one(std::unique_lock<std::mutex>& lock) {
  Pending& pending = pending_[begun_++];  // stays where it is while others come and go at both ends
  lock.unlock();
  make(pending);
  lock.lock();
  pending.made = true;
  made_.notify_one();
}

void BatchStream::make(Pending& pending) const {
  try {
    pending.batch = rows_.collate(pending.plan.positions, pending.plan.draw);
  } catch (...) {
    pending.problem = std::current_exception();
  }
}

}  // namespace deltaw::tasks
