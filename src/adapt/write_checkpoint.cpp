#include "adapt/write_checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>

#include "adapt/adapter_folder.h"
#include "core/files.h"
#include "core/output_folder.h"
#include "deltaw/convert.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "deltaw/new_model.h"
#include "deltaw/pipeline.h"
#include "io/checkpoint.h"
#include "io/write_weights.h"
#include "models/loader.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

// Leaves out what is one tensor with another still; false where the update has parted the two.
bool drop_tied(const Model& model, std::vector<NamedTensor>& tensors) {
  bool all_tied = true;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->tied_to.empty()) continue;
    const auto named = [&](const std::string& name) {
      return std::find_if(tensors.begin(), tensors.end(),
                          [&](const NamedTensor& tensor) { return tensor.name == name; });
    };
    const auto own = named(parameter->name);
    if (ops::host_equal(own->value, named(parameter->tied_to)->value)) {
      tensors.erase(own);
    } else {
      all_tied = false;
    }
  }
  return all_tied;
}

/// The type that most numbers have.
at::ScalarType usual_type(const std::vector<NamedTensor>& tensors) {
  std::map<at::ScalarType, int64_t> counts;
  for (const NamedTensor& tensor : tensors) counts[tensor.value.scalar_type()] += tensor.value.numel();
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

/// Whether it belongs to a module that the checkpoint lacks.
bool is_drawn(const Model& model, const Parameter& parameter) {
  const std::vector<std::string>& drawn = model.new_modules();
  return std::any_of(drawn.begin(), drawn.end(),
                     [&](const std::string& name) { return parameter.name.starts_with(name + "."); });
}

/// The word embeddings, by the family of the config.json; null for a family that is unknown, and where there are none.
const io::TensorBytes* words_of(const io::Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  const Json type = config.value(io::model_type_key(config), Json());
  const FamilySpec* family = type.is_string() ? find_family(type.get<std::string>()) : nullptr;
  return family ? checkpoint.find(family->word_embeddings + ".weight") : nullptr;
}

/// The tensors of a folder's files, a second name of the word embeddings left out.
std::vector<NamedTensor> tensors_of(const std::shared_ptr<const io::Checkpoint>& checkpoint,
                                    std::optional<at::ScalarType> stored, const Progress& progress) {
  const io::TensorBytes* words = words_of(*checkpoint);
  const std::vector<std::string> names = checkpoint->names();
  std::vector<NamedTensor> tensors;
  for (const std::string& name : names) {
    const io::TensorBytes& bytes = *checkpoint->find(name);
    if (progress) progress(static_cast<int64_t>(&name - names.data()) + 1, static_cast<int64_t>(names.size()));
    if (words && &bytes != words && bytes.data == words->data && bytes.shape == words->shape) continue;
    const at::ScalarType own = scalar_type(bytes.dtype);
    const bool changes = stored && at::isFloatingType(own);
    const Tensor value = to_tensor(bytes, own, checkpoint);
    tensors.push_back({name, changes ? rounded(name, value, *stored) : value});
  }
  return tensors;
}

/// Writes the weights beside a config.json, under the name that its library looks for.
void write_named(const std::filesystem::path& folder, const std::vector<io::TensorBytes>& tensors, const Json& config) {
  io::write_weights(folder, tensors, io::kLargestShard,
                    io::is_diffusers(config) ? io::kDiffusersWeights : io::kTransformersWeights);
}

/// Says in a config.json which type the weights were given. diffusers has no key for it.
void name_type(Json& config, std::optional<at::ScalarType> stored) {
  if (!stored || io::is_diffusers(config)) return;
  config.erase("torch_dtype");  // transformers 5 writes the shorter name, and reads both
  config["dtype"] = type_name(*stored);
}

/// The text encoder that is a part of a denoiser, in a folder of its own inside the other's: its tensors are taken out
/// of `tensors`, and get the names that its checkpoint has for them.
void write_text_encoder(const std::filesystem::path& folder, const Model& text_encoder,
                        std::vector<NamedTensor>& tensors, std::optional<at::ScalarType> stored) {
  const io::Checkpoint before(text_encoder.folder());
  const auto is_own = [](const NamedTensor& tensor) { return tensor.name.starts_with(kTextEncoderScope); };
  const auto first = std::stable_partition(tensors.begin(), tensors.end(), std::not_fn(is_own));
  std::vector<io::TensorBytes> bytes;
  for (auto tensor = first; tensor != tensors.end(); ++tensor) {
    std::string name = tensor->name.substr(kTextEncoderScope.size());
    if (!before.find(name)) name.insert(0, "text_model.");
    bytes.push_back(to_bytes(name, tensor->value));
  }
  const std::filesystem::path own = folder / kTextEncoderScope.substr(0, kTextEncoderScope.size() - 1);
  std::filesystem::create_directories(own);
  Json config = before.config();
  write_named(own, bytes, config);
  name_type(config, stored);
  write_json(own / "config.json", config, KeyOrder::kept);
  tensors.erase(first, tensors.end());
}

/// Whatever a checkpoint's folder holds beside weights.
void copy_small_files(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    const std::string ending = entry.path().extension().string();
    const bool small = ending == ".json" || ending == ".txt" || ending == ".model" || ending == ".jinja";
    if (!entry.is_regular_file() || !small || io::is_weights_index(entry.path()) ||
        entry.path().filename() == "config.json")
      continue;
    std::filesystem::copy_file(entry.path(), to / entry.path().filename());
  }
}

/// The first tensor that is not in the folder as it was written, or nothing.
std::string problem_of(const std::filesystem::path& folder, const std::vector<NamedTensor>& tensors) {
  const auto written = std::make_shared<const io::Checkpoint>(folder);
  for (const NamedTensor& tensor : tensors) {
    const io::TensorBytes* bytes = written->find(tensor.name);
    if (!bytes) continue;  // tied to another
    const bool same = scalar_type(bytes->dtype) == tensor.value.scalar_type() &&
                      ops::host_equal(to_tensor(*bytes, tensor.value.scalar_type(), written), tensor.value);
    if (!same) return tensor.name + " is not what was written";
  }
  written->check_lengths();
  return "";
}

}  // namespace

const char* type_name(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return "float64";
    case at::kFloat:
      return "float32";
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    default:
      return c10::toString(type);
  }
}

Tensor rounded(const std::string& name, const Tensor& tensor, at::ScalarType type) {
  Tensor result = tensor.detach().to(type).contiguous();
  if (ops::host_flag(result.isfinite().all())) return result;
  throw Error({.id = "numeric.non-finite",
               .what = fmt::format("the tensor holds values that are not finite in {}", type_name(type)),
               .where = name,
               .fix = "its values do not fit the type, or the model or adapter is broken: nothing was written"});
}

void write_checkpoint(const std::filesystem::path& folder, const Model& model, std::vector<NamedTensor> tensors,
                      std::optional<at::ScalarType> stored) {
  if (const auto* denoiser = dynamic_cast<const Denoiser*>(&model); denoiser && denoiser->text_encoder()) {
    write_text_encoder(folder, *denoiser->text_encoder(), tensors, stored);
  }
  const at::ScalarType usual = usual_type(tensors);
  const bool tied = drop_tied(model, tensors);
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  Json config = model.config();
  write_named(folder, bytes, config);
  if (!io::is_diffusers(config)) config["architectures"] = {model.architecture()};
  if (!tied) config["tie_word_embeddings"] = false;
  if (!stored && !std::filesystem::is_directory(model.folder())) stored = usual;  // a GGUF file has a type a tensor
  name_type(config, stored);
  write_json(folder / "config.json", config);
}

void write_new_model(const Model& model, const std::filesystem::path& folder) {
  std::vector<NamedTensor> tensors;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->exists()) tensors.push_back({parameter->name, parameter->value});
  }
  write_checkpoint(folder, model, std::move(tensors), std::nullopt);
}

ConvertReport convert_folder(const std::filesystem::path& folder, const std::filesystem::path& output,
                             std::optional<at::ScalarType> stored, const Progress& progress) {
  const at::NoGradGuard no_grad;
  const auto checkpoint = std::make_shared<const io::Checkpoint>(folder);
  const std::vector<NamedTensor> tensors = tensors_of(checkpoint, stored, progress);
  checkpoint->check_lengths();
  ConvertReport report{.tensors = static_cast<int64_t>(tensors.size())};
  for (const NamedTensor& tensor : tensors) report.parameters += tensor.value.numel();
  Json config = checkpoint->config();
  name_type(config, stored);
  write_folder(
      output,
      [&](const std::filesystem::path& inside) {
        std::vector<io::TensorBytes> bytes;
        for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
        write_named(inside, bytes, config);
        write_json(inside / "config.json", config, KeyOrder::kept);
        copy_small_files(folder, inside);
      },
      is_read_as_model);
  report.problem = problem_of(output, tensors);
  return report;
}

ConvertReport convert_checkpoint(const Model& model, const std::filesystem::path& output,
                                 const std::function<void(const std::filesystem::path&)>& companions,
                                 std::optional<at::ScalarType> stored, const Progress& progress) {
  const at::NoGradGuard no_grad;
  const auto count = static_cast<int64_t>(model.parameters().size());
  ConvertReport report;
  std::vector<NamedTensor> tensors;
  for (const Parameter* parameter : model.parameters()) {
    if (progress) progress(parameter->slot + 1, count);
    if (!parameter->value.defined() || is_drawn(model, *parameter)) continue;
    tensors.push_back(
        {parameter->name, rounded(parameter->name, parameter->value, stored.value_or(parameter->stored))});
    ++report.tensors;
    if (parameter->tied_to.empty()) report.parameters += parameter->numel();
  }
  write_folder(
      output,
      [&](const std::filesystem::path& folder) {
        write_checkpoint(folder, model, tensors, stored);
        if (companions) companions(folder);
      },
      is_read_as_model);
  report.problem = problem_of(output, tensors);
  return report;
}

}  // namespace deltaw
