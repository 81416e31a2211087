// Images beside the classes that they may have.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "deltaw/batch.h"
#include "deltaw/data.h"
#include "deltaw/slow_rows.h"
#include "tasks/common/follows_adapter.h"
#include "tasks/zero_shot_image_classification/prompts.h"

namespace deltaw::zero_shot {

///   pixel_values, labels   as of tasks::ImageRows
///   class_embeds           [classes, width]: a vector of length 1 for each class, the same in every batch
class RowsWithClasses final : public RowSource, public SlowRows, public tasks::FollowsAdapter {
 public:
  static constexpr const char* kName = "RowsWithClasses";
  /// The classes are the same for every adapter.
  RowsWithClasses(std::shared_ptr<const RowSource> images, LabelSet labels, at::Tensor class_embeds)
      : images_(std::move(images)), labels_(std::move(labels)), class_embeds_(std::move(class_embeds)) {}
  /// They are where the tower of texts puts their sentences; in batches, with this adapter, which may be null.
  RowsWithClasses(std::shared_ptr<const RowSource> images, LabelSet labels, ClassSentences sentences,
                  const Adapter* adapter)
      : images_(std::move(images)),
        labels_(std::move(labels)),
        sentences_(std::move(sentences)),
        class_embeds_(sentences_->embeds(adapter)) {}

  int64_t size() const override { return images_->size(); }
  int64_t cost(int64_t row) const override { return images_->cost(row); }
  std::string fingerprint() const override;
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;

  LoaderOptions loader() const override;

  /// The vectors of the classes, where the adapter changes the tower of texts.
  std::map<std::string, at::Tensor> tensors_of(const Adapter& adapter) const override;

  const LabelSet& labels() const { return labels_; }

 private:
  std::shared_ptr<const RowSource> images_;
  LabelSet labels_;
  std::optional<ClassSentences> sentences_;
  at::Tensor class_embeds_;
};

}  // namespace deltaw::zero_shot
