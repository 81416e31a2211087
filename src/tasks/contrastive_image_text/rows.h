// Pairs of an image and a caption as batches.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/batch.h"
#include "deltaw/slow_rows.h"
#include "tasks/common/tower_texts.h"

namespace deltaw::contrastive {

/// The numbers of an image and of a caption that belong together.
struct Pair {
  int64_t image = 0;
  int64_t caption = 0;
};

///   pixel_values               [rows, 3, height, width]
///   input_ids, attention_mask  [captions, length], and token_type_ids where there are any, of the different captions
///                              of the batch
///   text_rows                  [rows] int64: which of them is the row's
///   image_ids, caption_ids     [rows] int64: the numbers of the pair; equal numbers mean the same image or caption
class PairRows final : public RowSource, public SlowRows {
 public:
  static constexpr const char* kName = "PairRows";
  /// `images` gives pixel_values for each image, and `captions` are all different.
  PairRows(std::vector<Pair> pairs, std::shared_ptr<const RowSource> images,
           std::shared_ptr<const tasks::TowerTexts> captions);

  int64_t size() const override { return static_cast<int64_t>(pairs_.size()); }
  /// Tokens of both towers.
  int64_t cost(int64_t row) const override;
  std::string fingerprint() const override;
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;
  LoaderOptions loader() const override;

  const std::vector<Pair>& pairs() const { return pairs_; }
  int64_t images() const { return images_->size(); }
  const tasks::TowerTexts& captions() const { return *captions_; }

 private:
  std::vector<Pair> pairs_;
  std::shared_ptr<const RowSource> images_;
  std::shared_ptr<const tasks::TowerTexts> captions_;
};

}  // namespace deltaw::contrastive
