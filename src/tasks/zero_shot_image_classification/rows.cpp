#include "tasks/zero_shot_image_classification/rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace deltaw::zero_shot {

std::string RowsWithClasses::fingerprint() const {
  return fmt::format("{}, {}", images_->fingerprint(), fmt::join(labels_.names, "\n"));
}

Batch RowsWithClasses::collate(const std::vector<int64_t>& positions, const Draw& draw) const {
  Batch batch = images_->collate(positions, draw);
  batch.tensors["class_embeds"] = class_embeds_;
  return batch;
}

std::map<std::string, at::Tensor> RowsWithClasses::tensors_of(const Adapter& adapter) const {
  const auto moves = [&](const std::string& name) { return name.starts_with("text_"); };
  const auto& layers = adapter.layers();
  const auto& parameters = adapter.model().parameters();
  const bool moves_texts =
      std::any_of(layers.begin(), layers.end(), [&](const AdaptedLayer* layer) { return moves(layer->info.name); }) ||
      std::any_of(parameters.begin(), parameters.end(), [&](const Parameter* parameter) {
        return moves(parameter->name) && (adapter.overrides(*parameter) || adapter.tokens(*parameter));
      });
  if (!sentences_ || !moves_texts) return {};
  return {{"class_embeds", sentences_->embeds(&adapter)}};
}

LoaderOptions RowsWithClasses::loader() const {
  const auto* slow = dynamic_cast<const SlowRows*>(images_.get());
  return slow ? slow->loader() : LoaderOptions{.dataloader_num_workers = 0};
}

}  // namespace deltaw::zero_shot
