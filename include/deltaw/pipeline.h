// The other parts of a diffusers pipeline: the text encoder for prompts, and the autoencoder that makes the latents.
//
//   const auto unet = load_model("stable-diffusion");
//   const PipelineParts parts = load_parts(dynamic_cast<const Denoiser&>(*unet));
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/autoencoder.h"
#include "deltaw/denoiser.h"
#include "deltaw/tokenizer.h"

namespace deltaw {

/// A text encoder with its tokenizer: CLIPTextModel. Every text becomes length() tokens: what is longer is cut, the
/// rest is filled with the tokenizer's padding token, which the encoder reads like any other.
class PromptEncoder {
 public:
  /// Of the folders text_encoder/ and tokenizer/ of a pipeline. Throws what load_model and Tokenizer::from_folder
  /// throw, and config.unsupported for an encoder of another kind.
  PromptEncoder(const std::filesystem::path& text_encoder, const std::filesystem::path& tokenizer,
                at::ScalarType dtype = at::kFloat);

  /// The last hidden states of all tokens, [texts, length(), width()]. May be called from any thread.
  Tensor encode(const std::vector<std::string>& texts) const;
  /// The ids that are read, [texts, length()] int64.
  Tensor ids(const std::vector<std::string>& texts) const;
  /// Whether not all of a text is read.
  bool cuts(const std::string& text) const;

  int64_t length() const { return length_; }
  int64_t width() const { return model_->shape().hidden; }

 private:
  std::unique_ptr<Model> model_;
  Tokenizer tokenizer_;
  int64_t length_ = 0, pad_id_ = 0;
};

struct PipelineParts {
  std::unique_ptr<Autoencoder> autoencoder = {};  // null: the denoiser sees pixels
  std::unique_ptr<PromptEncoder> prompts = {};    // null: it reads no text
};

/// What a denoiser needs, from the folders beside its own (or inside it): vae/ where there is one, text_encoder/ and
/// tokenizer/ where it reads a text. They compute in float32, or in float64 where it does. Throws config.unsupported
/// where it sees neither grey, nor coloured, nor pictures of that autoencoder, or reads other texts, io.not-found where
/// a folder is missing.
PipelineParts load_parts(const Denoiser& model);

}  // namespace deltaw
