// The other parts of a diffusers pipeline: the text encoder for prompts, and the autoencoder that makes the latents.
//
//   const auto unet = load_model("stable-diffusion");
//   const PipelineParts parts = load_parts(dynamic_cast<const Denoiser&>(*unet));
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
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
  /// By the text encoder that is a part of `model`, which must outlive this.
  PromptEncoder(const Denoiser& model, const std::filesystem::path& tokenizer);

  /// The last hidden states of all tokens, [texts, length(), width()]. May be called from any thread. `adapter` acts
  /// where the encoder is a part of its model.
  Tensor encode(const std::vector<std::string>& texts, const ActiveUpdates* adapter = nullptr) const;
  bool is_part() const { return own_ == nullptr; }
  /// The ids that are read, [texts, length()] int64.
  Tensor ids(const std::vector<std::string>& texts) const;
  /// Whether not all of a text is read.
  bool cuts(const std::string& text) const;

  int64_t length() const { return length_; }
  int64_t width() const { return model_->shape().hidden; }

 private:
  PromptEncoder(std::unique_ptr<Model> own, const Model* part, const std::filesystem::path& tokenizer);

  std::unique_ptr<Model> own_;  // null: it is a part
  const Model* model_;
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
/// a folder is missing. A text encoder that is a part of the model is taken as it is.
PipelineParts load_parts(const Denoiser& model);

/// What the names of a text encoder's modules begin with where it is a part of a denoiser.
inline constexpr std::string_view kTextEncoderScope = "text_encoder.";

/// Makes the text encoder of the model's pipeline a part of it, in the model's dtype: its layers and parameters follow
/// those of the model, with "text_encoder." before their names (kTextEncoderScope). To be called before any adapter is
/// made. Throws as load_parts.
void add_text_encoder(Denoiser& model);
/// Does so where it is a part of `other`, a model that is loaded alike.
void extend_like(Model& model, const Model& other);
/// The folders of those parts of a model that were not read from its own, by name: that of a text encoder.
std::map<std::string, std::filesystem::path> folders_of_parts(const Model& model);
/// Whether there is a folder text_encoder/ that it would be read from.
bool has_text_encoder(const Denoiser& model);

}  // namespace deltaw
