// Images as batches: read, and made fit for the model, when a batch is asked for.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "data/image_sets.h"
#include "deltaw/batch.h"
#include "deltaw/data.h"
#include "deltaw/image.h"
#include "deltaw/image_model.h"
#include "deltaw/slow_rows.h"

namespace deltaw::tasks {

/// What training does to an image, as torchvision's RandomResizedCrop and RandomHorizontalFlip.
struct Augmentation {
  bool flip = false;                        // every second image, left to right
  bool crop = false;                        // a part of it, stretched to the model's size
  std::array<double, 2> scale = {0.08, 1};  // the least and the greatest share of the image's area
};

/// A random part of the image in another shape, from 3:4 to 4:3, as RandomResizedCrop draws it.
struct Part {
  int64_t top = 0, left = 0, height = 0, width = 0;
};
Part draw_part(int64_t height, int64_t width, const std::array<double, 2>& scale, uint64_t seed);

/// Images of which each has a label or several.
class LabelledImages : public RowSource {
 public:
  static constexpr const char* kName = "LabelledImages";
  virtual const std::vector<Example>& rows() const = 0;
};

///   pixel_values   [rows, 3, height, width] float32
///   labels         [rows] float64: class numbers or scores; [rows, classes] where rows have several
///
/// A row costs the tokens that the model makes of an image. What is drawn follows from seed, epoch and the row: any
/// batch size draws the same.
class ImageRows final : public LabelledImages, public SlowRows {
 public:
  /// Each example's text names its image (data/image_sets.h).
  ImageRows(Dataset rows, ImageProcessor processor, const ReadsImages& model, Augmentation augmentation,
            LoaderOptions loader = {});

  int64_t size() const override { return static_cast<int64_t>(rows_.rows.size()); }
  int64_t cost(int64_t /*row*/) const override { return tokens_; }
  std::string fingerprint() const override;
  /// Images are read by several threads. Throws format.image and io.*, with the image and its row.
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;

  LoaderOptions loader() const override { return loader_; }

  const std::vector<Example>& rows() const override { return rows_.rows; }

 private:
  Image read(const Example& row) const;
  Image seen(int64_t row, const Draw& draw) const;

  Dataset rows_;
  data::ImageFiles files_;
  ImageProcessor processor_;
  Augmentation augmentation_;
  LoaderOptions loader_;
  int64_t tokens_;
};

/// Noise with labels, for timing and to compare models on. All of it follows from the seed.
class NoiseRows final : public LabelledImages {
 public:
  NoiseRows(int64_t count, const LabelSet& labels, const ReadsImages& model, uint64_t seed);

  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  int64_t cost(int64_t /*row*/) const override { return tokens_; }
  std::string fingerprint() const override { return "noise"; }
  const std::vector<Example>& rows() const override { return rows_; }
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;

 private:
  std::vector<Example> rows_;
  int64_t height_, width_, tokens_;
  uint64_t seed_;
};

}  // namespace deltaw::tasks
