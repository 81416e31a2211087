#include "deltaw/slow_rows.h"

#include <algorithm>

#include "core/cores.h"

namespace deltaw {

void LoaderOptions::fields(FieldVisitor& f) {
  f.field(
      "dataloader_num_workers", dataloader_num_workers,
      "Threads that make batches while the model computes; 0: none. -1: half of the cores, one to four. The batches "
      "are the same.",
      at_least(-1));
  f.field("dataloader_prefetch_factor", dataloader_prefetch_factor,
          "Batches that each of these threads makes ahead of time.", at_least(1));
}

int64_t LoaderOptions::workers() const {
  constexpr int64_t kMost = 4;
  if (dataloader_num_workers >= 0) return dataloader_num_workers;
  return std::clamp<int64_t>(usable_cores() / 2, 1, kMost);
}

}  // namespace deltaw
