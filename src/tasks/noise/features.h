// What a denoiser of latents and of texts sees of pictures and captions, made once and kept.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "deltaw/pipeline.h"

namespace deltaw::noise {

/// Latents and states of texts by their names, as long as they take no more than `most_bytes` together; what comes
/// later is made each time it is asked for. Each is made by one core, alone: neither threads nor batches change a byte.
class Features {
 public:
  Features(std::shared_ptr<const PipelineParts> parts, int64_t most_bytes);

  bool has_latents() const { return parts_->autoencoder != nullptr; }
  bool reads_text() const { return parts_->prompts != nullptr; }
  const Autoencoder& autoencoder() const { return *parts_->autoencoder; }
  const PromptEncoder& prompts() const { return *parts_->prompts; }

  /// A picture [channels, height, width] in [-1, 1], and whether it is the same whenever it is asked for.
  struct Picture {
    Tensor pixels;
    bool fixed = false;
  };
  /// Of the picture that `name` names, each [latent_channels, rows, columns] float32. One that is kept is not asked for
  /// again.
  LatentDistribution latents(const std::string& name, const std::function<Picture()>& picture) const;
  /// Of a caption, [tokens, width] float32.
  Tensor states(const std::string& caption) const;
  /// What a batch has of a caption: its states; or its ids, [tokens] int64, where the model makes states of them.
  Tensor text(const std::string& caption) const;

  /// How many of both are kept.
  size_t kept() const;

 private:
  using Tensors = std::vector<Tensor>;
  Tensors made(std::map<std::string, Tensors>& of, const std::string& name,
               const std::function<Tensors(bool& fixed)>& make) const;

  std::shared_ptr<const PipelineParts> parts_;
  int64_t most_bytes_;
  mutable std::mutex guard_;
  mutable int64_t bytes_ = 0;
  mutable std::map<std::string, Tensors> latents_, states_;
};

}  // namespace deltaw::noise
