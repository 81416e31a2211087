// Images beside the classes that they may have.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>

#include "deltaw/batch.h"
#include "deltaw/data.h"
#include "deltaw/slow_rows.h"

namespace deltaw::zero_shot {

///   pixel_values, labels   as of tasks::ImageRows
///   class_embeds           [classes, width]: a vector of length 1 for each class, the same in every batch
class RowsWithClasses final : public RowSource, public SlowRows {
 public:
  static constexpr const char* kName = "RowsWithClasses";
  RowsWithClasses(std::shared_ptr<const RowSource> images, LabelSet labels, at::Tensor class_embeds)
      : images_(std::move(images)), labels_(std::move(labels)), class_embeds_(std::move(class_embeds)) {}

  int64_t size() const override { return images_->size(); }
  int64_t cost(int64_t row) const override { return images_->cost(row); }
  std::string fingerprint() const override;
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;

  LoaderOptions loader() const override;

  const LabelSet& labels() const { return labels_; }

 private:
  std::shared_ptr<const RowSource> images_;
  LabelSet labels_;
  at::Tensor class_embeds_;
};

}  // namespace deltaw::zero_shot
