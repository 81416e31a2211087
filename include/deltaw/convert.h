// Models from one kind of file to another.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "deltaw/progress.h"

namespace deltaw {

struct ConvertReport {
  int64_t tensors = 0;
  int64_t parameters = 0;
  std::string problem;  // what is wrong with the folder that was read back, or nothing
};

/// Writes a model as a checkpoint folder that transformers loads, each tensor in the type that it was stored in, or in
/// `stored`; blocks of a GGUF file become float32, which holds them exactly. Reads it back and compares every tensor.
/// `model` is held in float32 or wider; modules that were drawn are left out. `companions` adds files before the folder
/// takes its name. Of a folder that exists it replaces what merge_checkpoint() would. Throws numeric.non-finite for
/// numbers that the type cannot hold.
ConvertReport convert_checkpoint(const Model& model, const std::filesystem::path& output,
                                 const std::function<void(const std::filesystem::path&)>& companions = {},
                                 std::optional<at::ScalarType> stored = {}, const Progress& progress = {});

/// Writes the tensors of a checkpoint folder, pytorch_model.bin for one, as safetensors into `output`, whatever model
/// they are of: each under its name and in its type, or in `stored` where it holds floating-point numbers. A second
/// name of the word embeddings is left out. config.json and the other small files are copied. Reads the folder back and
/// compares every tensor. Of a folder that exists it replaces what merge_checkpoint() would.
ConvertReport convert_folder(const std::filesystem::path& folder, const std::filesystem::path& output,
                             std::optional<at::ScalarType> stored = {}, const Progress& progress = {});

/// A model of two checkpoint folders, an encoder of images and one of texts, side by side with projections into one
/// space, as transformers' VisionTextDualEncoderModel.from_vision_text_pretrained makes it: in float32, with a
/// logit_scale of 2.6592. Of a pair such as CLIP its own tower is taken. What neither folder has (the projections,
/// perhaps a pooler) is drawn and listed in new_modules(); convert_checkpoint() leaves it out, so that whoever loads
/// the folder draws and trains it. Throws config.unsupported for towers that do not fit, and what load_model() throws.
std::unique_ptr<Model> join_towers(const std::filesystem::path& vision, const std::filesystem::path& text,
                                   int64_t projection_dim);

/// The formats that LoRAs of image models are converted to: diffusers, kohya, peft.
std::vector<std::string> lora_format_names();

struct LoraConversion {
  std::map<std::string, int64_t> layers;  // by the part of the pipeline: "unet", "text_encoder"
  int64_t rank = 0;                       // the highest
  std::vector<std::string> left_out;      // tensors that are of no layer of the pipeline's models
  std::string problem;                    // what is wrong with what was read back, or nothing
};

/// Writes a LoRA of an image model, a file of diffusers or kohya's scripts or PEFT's folder, as another of these; that
/// of a text encoder goes into a folder text_encoder inside PEFT's. `model_name_or_path` is the pipeline, or its UNet
/// beside which text_encoder is looked for: its files say which layer a name means, and their weights are not read.
/// Factors stay as they are in their types. Alphas do too, but for diffusers, whose files have room for none beside the
/// metadata: the scale goes into the second factor. Reads the result back and compares every layer. Throws
/// format.no-such-layer where no tensor is of the pipeline, config.unsupported for other methods, config.no-export for
/// what the format cannot hold.
LoraConversion convert_lora(const std::filesystem::path& adapter, const std::string& model_name_or_path,
                            const std::string& format, const std::filesystem::path& output);

/// How a GGUF file is written.
struct GgufOptions {
  /// F32, F16, BF16 or Q8_0 for all matrices. `auto` leaves every tensor in its own; blocks of a base that change
  /// become Q8_0.
  std::string type = "auto";
  /// Of a folder: llama.cpp's name for how its tokenizer cuts words (tokenizer.ggml.pre); empty: the one that follows
  /// from it.
  std::string pre_tokenizer = {};
  /// Of a folder: writes the tokenizer's files and the chat template, as into a folder of the model.
  std::function<void(const std::filesystem::path&)> companions = {};
  Progress progress = {};
};

/// Writes base and adapter as model.gguf into a folder, with a Modelfile. Of a base that is a GGUF file its values and
/// tensors are taken, and in place of what the adapter changes the merged numbers; of a folder all is written as
/// llama.cpp's converter does. Reads the file back and compares every tensor; rounding_share says what rounding costs.
/// Throws config.unsupported for models, tokenizers and heads that llama.cpp does not have or would compute in another
/// way, and for a vocabulary that grew over a GGUF file, and what merge_checkpoint() throws.
MergeReport merge_gguf(const Adapter& adapter, const std::filesystem::path& output, const Probe& probe,
                       const GgufOptions& options = {});

/// Writes a model as model.gguf into a folder, as merge_gguf() does. `model` is held in float32 or wider.
ConvertReport convert_gguf(const Model& model, const std::filesystem::path& output, const GgufOptions& options = {});

}  // namespace deltaw
