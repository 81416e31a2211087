// LoRAs of image models from one kind of file to another, by the names of the pipeline's layers.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

#include "adapt/adapter_folder.h"
#include "adapt/lora_adapter.h"
#include "adapt/lora_writer.h"
#include "core/output_folder.h"
#include "core/printable.h"
#include "deltaw/convert.h"
#include "deltaw/error.h"
#include "io/checkpoint.h"
#include "io/resolve_model.h"
#include "models/legacy_names.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

using Shapes = std::map<std::string, std::vector<int64_t>>;  // of weights, by module

/// What the pipeline's files say.
struct Pipeline {
  std::string name;
  Json unet_config;
  std::vector<LoraModules> parts;
  std::map<std::string, Shapes> shapes;  // by part

  void add(const std::string& part, Shapes of_part);
};

struct LoraForm {
  const char* name;
  void (*write)(const std::vector<LoraPart>& parts, const Pipeline& pipeline, const fs::path& folder);
  const char* file;  // that is the result; empty: the folder is
};

constexpr LoraForm kForms[] = {{"diffusers",
                                [](const std::vector<LoraPart>& parts, const Pipeline&, const fs::path& folder) {
                                  write_diffusers_lora(parts, folder);
                                },
                                kDiffusersLora},
                               {"kohya",
                                [](const std::vector<LoraPart>& parts, const Pipeline& pipeline,
                                   const fs::path& folder) { write_kohya_lora(parts, pipeline.unet_config, folder); },
                                kKohyaLora},
                               {"peft",
                                [](const std::vector<LoraPart>& parts, const Pipeline& pipeline,
                                   const fs::path& folder) { write_peft_lora(parts, pipeline.name, folder); },
                                ""}};

/// Of the modules whose weights are matrices or kernels.
Shapes shapes_in(const io::Checkpoint& checkpoint) {
  const std::string ending = ".weight";
  Shapes shapes;
  for (const std::string& stored : checkpoint.names()) {
    const std::string name = present_name(stored);
    const std::vector<int64_t>& shape = checkpoint.find(stored)->shape;
    if (name.ends_with(ending) && (shape.size() == 2 || shape.size() == 4))
      shapes[name.substr(0, name.size() - ending.size())] = shape;
  }
  return shapes;
}

void Pipeline::add(const std::string& part, Shapes of_part) {
  std::vector<std::string> modules;
  for (const auto& [module, shape] : of_part) modules.push_back(module);
  parts.emplace_back(part, modules);
  shapes[part] = std::move(of_part);
}

Pipeline open_pipeline(const std::string& name) {
  const fs::path folder = io::resolve_model(name);
  const io::Checkpoint unet(folder);
  if (!io::is_diffusers(unet.config())) {
    throw Error({.id = "config.unsupported",
                 .what = "the model is none of diffusers, and LoRAs of image models alone are converted",
                 .where = folder.string(),
                 .fix = "give the pipeline that the LoRA is of, or its UNet"});
  }
  Pipeline pipeline{.name = name, .unet_config = unet.config(), .parts = {}, .shapes = {}};
  pipeline.add(kUnetPart, shapes_in(unet));
  const fs::path text = fs::absolute(folder).lexically_normal().parent_path() / kTextPart;
  std::error_code unseen;
  if (io::is_pipeline(text.parent_path()) && fs::is_directory(text, unseen))
    pipeline.add(kTextPart, shapes_in(io::Checkpoint(text)));
  return pipeline;
}

/// The files of an adapter: that of a LoRA, or PEFT's of each part.
std::vector<LoraFile> files_of(const fs::path& adapter) {
  if (const fs::path file = find_lora_file(adapter); !file.empty()) return {LoraFile(file)};
  open_adapter_folder(adapter);  // what is none says why
  return peft_parts(adapter);
}

struct Contents {
  std::vector<LoraPart> parts;
  std::vector<std::string> left;
};

Contents read(const fs::path& adapter, const Pipeline& pipeline) {
  Contents contents;
  for (const LoraFile& file : files_of(adapter)) {
    std::vector<LoraPart> parts = file.placed(pipeline.parts, contents.left);
    for (LoraPart& part : parts) {
      const Shapes& shapes = pipeline.shapes.at(part.part);
      for (LoraLayer& layer : part.layers) layer = fitted(std::move(layer), shapes.at(layer.module), file.path());
    }
    std::move(parts.begin(), parts.end(), std::back_inserter(contents.parts));
  }
  return contents;
}

bool near(const Tensor& a, double a_scale, const Tensor& b, double b_scale) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  if (a.sizes() != b.sizes()) return false;
  const Tensor x = a.to(at::kDouble) * a_scale, y = b.to(at::kDouble) * b_scale;
  return ops::host_flag((x - y).abs().le(x.abs() * 1e-6).all());
}

std::string problem_of(const std::vector<LoraPart>& wanted, const std::vector<LoraPart>& found) {
  if (wanted.size() != found.size())
    return fmt::format("{} parts are there in place of {}", found.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (found[i].part != wanted[i].part) return wanted[i].part + " is not there";
    std::map<std::string, const LoraLayer*> layers;
    for (const LoraLayer& layer : found[i].layers) layers[layer.module] = &layer;
    if (layers.size() != wanted[i].layers.size())
      return fmt::format("{} layers of {} are there in place of {}", layers.size(), wanted[i].part,
                         wanted[i].layers.size());
    for (const LoraLayer& layer : wanted[i].layers) {
      const auto own = layers.find(layer.module);
      if (own == layers.end()) return fmt::format("{} of {} is not there", layer.module, wanted[i].part);
      const LoraLayer& other = *own->second;
      const double before = layer.scale(), after = other.scale();
      if (!near(layer.A, 1, other.A, 1) || !near(layer.B, before, other.B, after) ||
          !near(layer.bias, before, other.bias, after) || !near(layer.magnitude, 1, other.magnitude, 1))
        return fmt::format("the factors of {} are not what they were", layer.module);
    }
  }
  return "";
}

const LoraForm& form_named(const std::string& name) {
  const auto* found =
      std::find_if(std::begin(kForms), std::end(kForms), [&](const LoraForm& form) { return form.name == name; });
  if (found != std::end(kForms)) return *found;
  throw Error({.id = "config.out-of-range",
               .what = "there is no format '" + name + "'",
               .where = "key \"to\"",
               .fix = suggest_names(name, lora_format_names())});
}

void refuse_none(const fs::path& adapter, const Contents& contents, const std::string& model) {
  if (!contents.parts.empty()) return;
  throw Error({.id = "format.no-such-layer",
               .what = fmt::format("none of the adapter's {} tensors is of a layer of the pipeline: {}",
                                   contents.left.size(), printable(fmt::format("{}", fmt::join(contents.left, ", ")))),
               .where = adapter.string(),
               .fix = fmt::format("give the model that it was made for; this one is {}", model)});
}

}  // namespace

std::vector<std::string> lora_format_names() {
  std::vector<std::string> names;
  for (const LoraForm& form : kForms) names.emplace_back(form.name);
  return names;
}

LoraConversion convert_lora(const fs::path& adapter, const std::string& model_name_or_path, const std::string& format,
                            const fs::path& output) {
  const LoraForm& form = form_named(format);
  const Pipeline pipeline = open_pipeline(model_name_or_path);
  const Contents contents = read(adapter, pipeline);
  refuse_none(adapter, contents, model_name_or_path);
  LoraConversion result;
  result.left_out = contents.left;
  for (const LoraPart& part : contents.parts) {
    result.layers[part.part] = static_cast<int64_t>(part.layers.size());
    for (const LoraLayer& layer : part.layers) result.rank = std::max(result.rank, layer.rank());
  }
  write_folder(
      output, [&](const fs::path& folder) { form.write(contents.parts, pipeline, folder); }, is_read_as_model);
  const Contents written = read(output / form.file, pipeline);
  result.problem = problem_of(contents.parts, written.parts);
  if (result.problem.empty() && !written.left.empty()) result.problem = written.left.front() + " is of no layer";
  return result;
}

}  // namespace deltaw
