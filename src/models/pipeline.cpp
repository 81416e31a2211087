#include "deltaw/pipeline.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "deltaw/error.h"
#include "models/clip_text.h"
#include "models/gguf.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr const char *kTextModel = "clip_text_model", *kTextEncoder = "text_encoder";

/// The encoder alone: every token's last state.
class PromptModel final : public Model {
 public:
  PromptModel(const FamilyInput& input, const fs::path& folder) {
    const ConfigValues values = config_of(input);
    values.accept_only("use_attention_mask", false);
    const ClipTextConfig config = ClipTextConfig::from_json(values);
    const std::string base = "text_model";
    Loader load(*this, input, base);
    encoder_ = std::make_unique<ClipTextEncoder>(load, config, base);
    load.finish({"embeddings.position_ids"});
    folder_ = folder;
    vocab_size_ = config.vocab_size;
    max_positions_ = config.max_position_embeddings;
    position_table_ = true;
    shape_ = {.layers = config.num_hidden_layers, .hidden = config.hidden_size, .heads = config.num_attention_heads};
  }

  Tensor features(const ModelInput& input, Call& call) const override {
    return encoder_->states(input, Reads::every, call);
  }
  Tensor logits(const Tensor& features, Call& /*call*/) const override { return features; }

 private:
  std::unique_ptr<ClipTextEncoder> encoder_;
};

/// A text encoder before it is loaded. Throws config.unsupported for one of another kind.
FamilyInput open_text_encoder(const fs::path& folder, at::ScalarType dtype) {
  FamilyInput input{.checkpoint = std::make_shared<const io::Checkpoint>(folder), .dtype = dtype};
  const ConfigValues values(input.checkpoint->config(), config_file(folder).string());
  if (values.get<std::string>("model_type") != kTextModel) {
    values.refuse("model_type", fmt::format("supported: {}, which Stable Diffusion 1 and 2 have", kTextModel));
  }
  input.family = find_tower_family(kTextModel);
  return input;
}

std::unique_ptr<Model> load_prompt_model(const fs::path& folder, at::ScalarType dtype) {
  return std::make_unique<PromptModel>(open_text_encoder(folder, dtype), folder);
}

/// Its tensors as if they stood in the checkpoint of a whole pipeline.
std::shared_ptr<const io::Checkpoint> in_pipeline(const io::Checkpoint& text, const Model& owner) {
  const io::Checkpoint::Part part{&text,
                                  [](const std::string& name) { return fmt::format("{}.{}", kTextEncoder, name); }};
  return std::make_shared<const io::Checkpoint>(owner.folder(), owner.config(), std::vector{part},
                                                std::vector<io::TensorBytes>());
}

/// One whose layers `owner` gets.
std::unique_ptr<Model> load_as_part(const fs::path& folder, Model& owner) {
  FamilyInput input = open_text_encoder(folder, owner.dtype());
  const Json config = input.checkpoint->config();
  input.checkpoint = in_pipeline(*input.checkpoint, owner);
  FamilyInput whole = input;
  whole.family = owner.family();
  whole.head = owner.head_spec();
  whole.labels = owner.label_names();
  Loader load(owner, whole, "");
  const PartOfModel part{
      .whole = &load, .scope = kTextEncoder, .config = config, .where = config_file(folder).string()};
  input.part = &part;
  auto loaded = std::make_unique<PromptModel>(input, folder);
  load.finish({});
  return loaded;
}

/// The folder of a part: inside the denoiser's, where the first pipelines have it, or beside it. Empty: there is none.
fs::path folder_of_part(const Denoiser& model, const char* name) {
  const fs::path folder = model.folder().has_filename() ? model.folder() : model.folder().parent_path();
  std::error_code code;
  for (const fs::path& place : {folder / name, folder.parent_path() / name}) {
    if (fs::is_directory(place, code)) return place;
  }
  return {};
}

fs::path needed_part(const Denoiser& model, const char* name) {
  fs::path found = folder_of_part(model, name);
  if (!found.empty()) return found;
  throw Error(
      {.id = "io.not-found",
       .what = fmt::format("the model reads a text with each picture, and there is no folder {} beside it", name),
       .where = model.folder().string(),
       .fix = "give the whole pipeline, with unet/, vae/, text_encoder/, tokenizer/ and scheduler/"});
}

[[noreturn]] void refuse_parts(const Denoiser& model, const std::string& what, const std::string& fix) {
  throw Error({.id = "config.unsupported", .what = what, .where = model.folder().string(), .fix = fix});
}

void check_pipeline(const Denoiser& model, const PipelineParts& parts) {
  const int64_t channels = model.in_channels();
  if (parts.autoencoder && parts.autoencoder->latent_channels() != channels) {
    refuse_parts(
        model,
        fmt::format("the model reads pictures of {} channels, and the autoencoder beside it makes latents of {}",
                    channels, parts.autoencoder->latent_channels()),
        "use a model that is told of noise alone: none that fills parts of pictures in, or enlarges them");
  }
  if (!parts.autoencoder && channels != 1 && channels != 3) {
    refuse_parts(
        model,
        fmt::format("the model reads pictures of {} channels: latents, and there is no folder vae beside it", channels),
        "give the whole pipeline, with unet/ and vae/; or a model of grey (1) or coloured (3) pictures");
  }
  if (parts.prompts && parts.prompts->width() != model.cross_attention_dim()) {
    refuse_parts(model,
                 fmt::format("the model reads texts of width {}, and the text encoder beside it makes {}",
                             model.cross_attention_dim(), parts.prompts->width()),
                 "take all parts from one pipeline");
  }
}

}  // namespace

PromptEncoder::PromptEncoder(const fs::path& text_encoder, const fs::path& tokenizer, at::ScalarType dtype)
    : PromptEncoder(load_prompt_model(text_encoder, dtype), nullptr, tokenizer) {}

PromptEncoder::PromptEncoder(const Denoiser& model, const fs::path& tokenizer)
    : PromptEncoder(nullptr, model.text_encoder(), tokenizer) {}

PromptEncoder::PromptEncoder(std::unique_ptr<Model> own, const Model* part, const fs::path& tokenizer)
    : own_(std::move(own)), model_(own_ ? own_.get() : part), tokenizer_(Tokenizer::from_folder(tokenizer)) {
  const int64_t most = tokenizer_.max_length();
  length_ = most > 0 ? std::min(most, model_->max_positions()) : model_->max_positions();
  if (tokenizer_.vocab_size() > model_->vocab_size()) {
    throw Error({.id = "shape.mismatch",
                 .what = fmt::format("the tokenizer has {} tokens, and the text encoder knows {}",
                                     tokenizer_.vocab_size(), model_->vocab_size()),
                 .where = tokenizer.string(),
                 .fix = "take tokenizer and text encoder from one pipeline"});
  }
  const std::optional<int64_t> pad = tokenizer_.pad_id() ? tokenizer_.pad_id() : tokenizer_.eos_id();
  if (!pad) {
    throw Error({.id = "config.no-pad-token",
                 .what = "the tokenizer has no token that fills short texts",
                 .where = tokenizer.string(),
                 .fix = "name it in tokenizer_config.json: \"pad_token\": \"<|endoftext|>\""});
  }
  pad_id_ = *pad;
}

Tensor PromptEncoder::ids(const std::vector<std::string>& texts) const {
  std::vector<int64_t> all;
  for (const std::string& text : texts) {
    std::vector<int64_t> own = tokenizer_.encode(text, {.max_length = length_}).ids;
    own.resize(static_cast<size_t>(length_), pad_id_);
    all.insert(all.end(), own.begin(), own.end());
  }
  return at::tensor(all, at::kLong).view({static_cast<int64_t>(texts.size()), length_});
}

bool PromptEncoder::cuts(const std::string& text) const {
  return static_cast<int64_t>(tokenizer_.encode(text).ids.size()) > length_;
}

Tensor PromptEncoder::encode(const std::vector<std::string>& texts, const ActiveUpdates* adapter) const {
  const at::NoGradGuard no_grad;
  const Tensor tokens = ids(texts);
  Call call{.adapter = is_part() ? adapter : nullptr};
  return model_->features({.input_ids = tokens, .attention_mask = at::ones_like(tokens)}, call);
}

PipelineParts load_parts(const Denoiser& model) {
  const at::ScalarType dtype = model.dtype() == at::kDouble ? at::kDouble : at::kFloat;
  PipelineParts parts;
  if (const fs::path vae = folder_of_part(model, "vae"); !vae.empty()) parts.autoencoder = load_autoencoder(vae, dtype);
  if (model.text_encoder()) {
    parts.prompts = std::make_unique<PromptEncoder>(model, needed_part(model, "tokenizer"));
  } else if (model.cross_attention_dim() > 0) {
    parts.prompts =
        std::make_unique<PromptEncoder>(needed_part(model, kTextEncoder), needed_part(model, "tokenizer"), dtype);
  }
  check_pipeline(model, parts);
  return parts;
}

void add_text_encoder(Denoiser& model) {
  model.text_encoder_ = load_as_part(needed_part(model, kTextEncoder), model);
}

void extend_like(Model& model, const Model& other) {
  const auto* denoiser = dynamic_cast<const Denoiser*>(&other);
  if (denoiser && denoiser->text_encoder()) add_text_encoder(dynamic_cast<Denoiser&>(model));
}

std::map<std::string, fs::path> folders_of_parts(const Model& model) {
  const auto* denoiser = dynamic_cast<const Denoiser*>(&model);
  if (!denoiser || !denoiser->text_encoder()) return {};
  return {{kTextEncoder, denoiser->text_encoder()->folder()}};
}

bool has_text_encoder(const Denoiser& model) {
  return model.cross_attention_dim() > 0 && !folder_of_part(model, kTextEncoder).empty();
}

}  // namespace deltaw
