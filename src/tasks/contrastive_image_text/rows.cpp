#include "tasks/contrastive_image_text/rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <map>
#include <string_view>
#include <utility>

#include "core/hash.h"

namespace deltaw::contrastive {

PairRows::PairRows(std::vector<Pair> pairs, std::shared_ptr<const RowSource> images,
                   std::shared_ptr<const tasks::TowerTexts> captions)
    : pairs_(std::move(pairs)), images_(std::move(images)), captions_(std::move(captions)) {}

int64_t PairRows::cost(int64_t row) const {
  const Pair& pair = pairs_[static_cast<size_t>(row)];
  return images_->cost(pair.image) + captions_->cost(pair.caption);
}

std::string PairRows::fingerprint() const {
  const std::string_view bytes(reinterpret_cast<const char*>(pairs_.data()), pairs_.size() * sizeof(Pair));
  return fmt::format("{}; {}; pairs {}", images_->fingerprint(), captions_->fingerprint(), xxh128(bytes));
}

Batch PairRows::collate(const std::vector<int64_t>& positions, const Draw& draw) const {
  std::vector<int64_t> image_ids, caption_ids, text_rows, captions, costs;
  std::map<int64_t, int64_t> rows;  // of `captions`, by number
  for (const int64_t position : positions) {
    const Pair& pair = pairs_[static_cast<size_t>(position)];
    const auto [row, is_new] = rows.emplace(pair.caption, static_cast<int64_t>(captions.size()));
    if (is_new) captions.push_back(pair.caption);
    text_rows.push_back(row->second);
    image_ids.push_back(pair.image);
    caption_ids.push_back(pair.caption);
    costs.push_back(cost(position));
  }
  Batch batch = captions_->collate(captions, draw);
  batch.tensors["pixel_values"] = images_->collate(image_ids, draw)["pixel_values"];
  const auto numbers = [](const std::vector<int64_t>& values) {
    return at::tensor(at::IntArrayRef(values), at::kLong);
  };
  batch.tensors["text_rows"] = numbers(text_rows);
  batch.tensors["image_ids"] = numbers(image_ids);
  batch.tensors["caption_ids"] = numbers(caption_ids);
  batch.rows = static_cast<int64_t>(positions.size());
  batch.positions = positions;
  batch.costs = std::move(costs);
  return batch;
}

LoaderOptions PairRows::loader() const {
  const auto* slow = dynamic_cast<const SlowRows*>(images_.get());
  return slow ? slow->loader() : LoaderOptions{.dataloader_num_workers = 0};
}

}  // namespace deltaw::contrastive
