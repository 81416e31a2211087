#include "tasks/zero_shot_image_classification/rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace deltaw::zero_shot {

std::string RowsWithClasses::fingerprint() const {
  return fmt::format("{}, {}", images_->fingerprint(), fmt::join(labels_.names, "\n"));
}

Batch RowsWithClasses::collate(const std::vector<int64_t>& positions, const Draw& draw) const {
  Batch batch = images_->collate(positions, draw);
  batch.tensors["class_embeds"] = class_embeds_;
  return batch;
}

LoaderOptions RowsWithClasses::loader() const {
  const auto* slow = dynamic_cast<const SlowRows*>(images_.get());
  return slow ? slow->loader() : LoaderOptions{.dataloader_num_workers = 0};
}

}  // namespace deltaw::zero_shot
