// Rows that take time to make: images that are decoded and resized. Their batches are made by threads, ahead of time.
#pragma once

#include <cstdint>

#include "deltaw/options.h"

namespace deltaw {

/// How batches are made while the model computes, under the names of Hugging Face's TrainingArguments. Whatever is set
/// here, a run sees the same batches.
struct LoaderOptions {
  int64_t dataloader_num_workers = -1;     // threads; 0: the training thread makes each batch when it needs it
  int64_t dataloader_prefetch_factor = 2;  // batches of each thread that may wait or be at work

  void fields(FieldVisitor& f);

  /// dataloader_num_workers, or for -1 half of the cores that this process may use, one to four: while a model trains
  /// on the same cores, more threads take more memory and no less time.
  int64_t workers() const;
};

/// What a RowSource is, too, whose collate() is worth threads: `class Photos : public RowSource, public SlowRows`. Each
/// thread calls it by itself, and computes on one core there. All other sources, texts above all, are collated where
/// their batches are asked for. A source that wraps another hands on what that one says.
class SlowRows {
 public:
  virtual ~SlowRows() = default;
  virtual LoaderOptions loader() const = 0;
};

}  // namespace deltaw
