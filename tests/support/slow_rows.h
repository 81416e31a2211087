// Rows that take a while to be made, as a source of images has them.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "deltaw/slow_rows.h"
#include "deltaw/text_rows.h"

namespace deltaw::test {

/// Rows that take a while: the first one of a batch settles how long, so that later batches overtake. Each batch has a
/// tensor "key" that follows from the draw.
template <class Rows>
class Late final : public Rows, public SlowRows {
 public:
  Late(const Rows& rows, int64_t workers, int64_t prefetch_factor = 2)
      : Rows(rows), loader_{workers, prefetch_factor} {}

  LoaderOptions loader() const override { return loader_; }

  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override {
    note(draw);
    if (while_made) while_made(positions);
    std::this_thread::sleep_for(std::chrono::milliseconds(delay >= 0 ? delay : positions.front() * 7 % 5));
    Batch batch = Rows::collate(positions, draw);
    const int64_t alive = ++alive_;
    int64_t most = most_alive_;
    while (most < alive && !most_alive_.compare_exchange_weak(most, alive)) {
    }
    auto* key = new int64_t[4]{static_cast<int64_t>(draw.seed), draw.epoch, draw.step, draw.micro_step};
    const auto free_key = [this](void* data) {
      delete[] static_cast<int64_t*>(data);
      --alive_;
    };
    batch.tensors["key"] = at::from_blob(key, {1, 4}, free_key, at::kLong);
    ++made_;
    return batch;
  }

  int64_t alive() const { return alive_; }  // batches
  int64_t most_alive() const { return most_alive_; }
  int64_t made() const { return made_; }
  std::set<std::thread::id> threads() const {
    const std::lock_guard lock(mutex_);
    return threads_;
  }
  /// In the order of steps, whoever came first.
  std::vector<std::vector<int64_t>> draws() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::vector<int64_t>> sorted = draws_;
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }

  std::function<void(const std::vector<int64_t>&)> while_made = {};
  int64_t delay = -1;  // of every batch, in milliseconds

 private:
  void note(const Draw& draw) const {
    const std::lock_guard lock(mutex_);
    threads_.insert(std::this_thread::get_id());
    draws_.push_back({static_cast<int64_t>(draw.seed), draw.epoch, draw.step, draw.micro_step});
  }

  LoaderOptions loader_;
  mutable std::atomic<int64_t> alive_ = 0, most_alive_ = 0, made_ = 0;
  mutable std::mutex mutex_;
  mutable std::set<std::thread::id> threads_;
  mutable std::vector<std::vector<int64_t>> draws_;
};

using LateRows = Late<TextRows>;

}  // namespace deltaw::test
