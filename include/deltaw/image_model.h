// Models that read images.
#pragma once

#include "deltaw/model.h"

namespace deltaw {

/// What every model of images says of those that it reads.
class ReadsImages {
 public:
  virtual ~ReadsImages() = default;

  /// The tokens that an image of this size becomes.
  virtual int64_t image_tokens(int64_t height, int64_t width) const = 0;
  int64_t image_height() const { return image_height_; }  // that it was trained on
  int64_t image_width() const { return image_width_; }

 protected:
  int64_t image_height_ = 0, image_width_ = 0;
};

/// A model of images alone.
class ImageModel : public Model, public ReadsImages {
 public:
  /// What the head reads, [batch, width], of pixel_values [batch, 3, height, width] as an ImageProcessor makes them
  /// (deltaw/image.h). Positions are stretched where the image has another size than those that the model was trained
  /// on; pixels behind the last whole patch are not seen. Throws data.image-size for less than one patch.
  virtual Tensor image_features(const Tensor& pixel_values, Call& call) const = 0;

  /// Logits [batch, labels].
  Tensor forward_images(const Tensor& pixel_values, Call& call) const {
    return logits(image_features(pixel_values, call), call);
  }

  /// It reads no text. Throws internal.not-text.
  Tensor features(const ModelInput& input, Call& call) const override;
};

}  // namespace deltaw
