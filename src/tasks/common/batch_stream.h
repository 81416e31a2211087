// The batches of a source, one after the other: made by threads ahead of time where the source is worth it
// (deltaw/slow_rows.h), and otherwise when they are asked for.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "deltaw/batch.h"

namespace deltaw::tasks {

/// The rows of a batch, and what is random in it.
struct BatchPlan {
  std::vector<int64_t> positions;
  Draw draw = {};
};

/// Gives the batches in their order, and nothing when there are no more.
using NextPlan = std::function<std::optional<BatchPlan>()>;

/// All of them with the same key.
NextPlan one_by_one(std::vector<std::vector<int64_t>> batches, const Draw& draw = {});

class BatchStream {
 public:
  /// `plan` is called in next(), some batches ahead. `at_once`: how many batches are asked for without a pause; so many
  /// are made ahead at least. `rows` must outlive the stream.
  BatchStream(const RowSource& rows, NextPlan plan, int64_t at_once = 1);
  /// Waits for the batches that are being made, and for no others.
  ~BatchStream();
  BatchStream(const BatchStream&) = delete;
  BatchStream& operator=(const BatchStream&) = delete;

  /// The next batch; while others make it, the thread that asks makes one of those behind it. Nothing after the
  /// last. Throws what making that batch threw; the one behind it can be asked for.
  std::optional<Batch> next();

 private:
  struct Pending {
    BatchPlan plan;
    Batch batch = {};
    std::exception_ptr problem = {};
    bool made = false;
  };

  void start_workers(int64_t count);
  void work();
  void make_one(std::unique_lock<std::mutex>& lock);  // the first that nobody has begun
  void make(Pending& pending) const;
  void plan_ahead();

  const RowSource& rows_;
  NextPlan plan_;
  size_t ahead_ = 0;  // batches that are made while nobody asks, at most

  std::mutex mutex_;
  std::condition_variable planned_, made_;
  std::deque<Pending> pending_;  // not yet delivered; the first begun_ are at work or made
  size_t begun_ = 0;
  bool stopped_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace deltaw::tasks
