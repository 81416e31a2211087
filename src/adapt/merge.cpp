#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "adapt/adapter_folder.h"
#include "adapt/builder.h"
#include "adapt/compared_outputs.h"
#include "adapt/merge.h"
#include "adapt/merge_check.h"
#include "adapt/unread_modules.h"
#include "adapt/write_checkpoint.h"
#include "core/files.h"
#include "core/output_folder.h"
#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "deltaw/pipeline.h"
#include "ops/host_read.h"
#include "ops/linear/weight.h"

namespace deltaw {
namespace {

// One half of the way, 0 or 1: tensors are made, then compared.
Progress half_of(const Progress& progress, int64_t which) {
  return [=](int64_t done, int64_t all) {
    if (progress) progress(which * all + done, 2 * all);
  };
}

}  // namespace

MergedLayer merge_layer(const AdaptedLayer& layer, const Tensor& weight, const Tensor& bias) {
  const at::NoGradGuard no_grad;
  const Update u = layer.update();
  // In float32 at least, whatever the checkpoint's type; rounded once at the end.
  const at::ScalarType type = at::promote_types(weight.scalar_type(), at::kFloat);
  const Tensor merged = ops::updated_weight(u, matrix_of(layer.info.kind, weight).to(type));
  Tensor merged_bias = bias;
  if (bias.defined() && u.out_gain.defined() && u.gain_on_bias) merged_bias = bias.to(type) * u.out_gain.to(type);
  if (u.bias.defined()) {
    if (!bias.defined()) {
      throw Error({.id = "config.not-mergeable",
                   .what = "the adapter has a bias and the layer has none that it could be added to",
                   .where = layer.info.name,
                   .fix = "use the adapter beside its base model: --adapter_name_or_path"});
    }
    merged_bias = merged_bias.to(type) + u.bias.to(type) * u.scale;
  }
  return {as_stored(layer.info, merged.to(weight.scalar_type())),
          merged_bias.defined() ? merged_bias.to(weight.scalar_type()) : merged_bias};
}

std::vector<NamedTensor> merged_tensors(const Adapter& adapter, const Model& original,
                                        std::optional<at::ScalarType> stored, const Progress& progress) {
  std::map<int64_t, Tensor> changed;  // by slot
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Layer& base = *original.layers()[layer->base->index];
    const Tensor bias = adapter.overrides(base.bias) ? adapter.value(base.bias) : base.bias.value;
    // Over the original's weights: the adapter's own model may hold them in fewer bits.
    const AdaptedLayer moved{.info = layer->info, .base = &base, .method = layer->method, .params = layer->params};
    const MergedLayer merged = merge_layer(moved, base.weight.value, bias);
    changed[base.weight.slot] = merged.weight;
    if (merged.bias.defined()) changed[base.bias.slot] = merged.bias;
  }
  std::vector<NamedTensor> tensors;
  for (const Parameter* parameter : original.parameters()) {
    if (progress) progress(parameter->slot + 1, static_cast<int64_t>(original.parameters().size()));
    if (!parameter->value.defined()) continue;
    Tensor value = parameter->value;
    if (const auto found = changed.find(parameter->slot); found != changed.end()) {
      value = found->second;
    } else if (adapter.overrides(*parameter) || adapter.tokens(*parameter)) {
      value = adapter.whole_value(*parameter);
    }
    tensors.push_back({parameter->name, rounded(parameter->name, value, stored.value_or(parameter->stored))});
  }
  return tensors;
}

std::unique_ptr<Model> original_of(const Model& model) {
  bool wide = model.dtype() == at::kDouble;
  for (const Parameter* parameter : model.parameters()) wide |= parameter->exists() && parameter->stored == at::kDouble;
  ModelOptions options{.task_type = model.task_type(), .dtype = wide ? "float64" : "float32"};
  if (model.head_spec().has_labels()) {
    if (model.head_spec().problem_type) options.problem_type = model.config().at("problem_type").get<std::string>();
    options.label_names = model.label_names();
    options.ignore_mismatched_sizes = true;
  }
  for (const auto& [name, rows] : model.added_rows()) {
    options.vocab_size = model.vocab_size();
    options.embeddings[name] = rows.added;
  }
  auto original = load_model(model.folder().string(), options);
  extend_like(*original, model);
  return original;
}

void refuse_unmergeable(const Adapter& adapter) {
  if (adapter.spec().mergeable()) return;
  throw Error(
      {.id = "config.not-mergeable",
       .what = fmt::format("the method {} is no update of weights and cannot be merged into them", adapter.spec().id),
       .where = "key \"adapter_name_or_path\"",
       .fix = "use the adapter beside its base model: --adapter_name_or_path"});
}

MergeReport merge_checkpoint(const Adapter& adapter, const std::filesystem::path& output, const Probe& probe,
                             const std::function<void(const std::filesystem::path&)>& companions,
                             std::optional<at::ScalarType> stored, const Progress& progress) {
  const Model& model = adapter.model();
  refuse_unmergeable(adapter);
  const auto original = original_of(model);
  write_folder(
      output,
      [&](const std::filesystem::path& folder) {
        std::vector<NamedTensor> tensors = merged_tensors(adapter, *original, stored, half_of(progress, 0));
        for (const NamedTensor& tensor : unread_tensors(*original)) {
          const at::ScalarType type = stored.value_or(tensor.value.scalar_type());
          tensors.push_back({tensor.name, rounded(tensor.name, tensor.value, type)});
        }
        write_checkpoint(folder, *original, std::move(tensors), stored);
        const auto generation = model.folder() / "generation_config.json";
        if (std::filesystem::exists(generation)) write_file(folder / generation.filename(), read_file(generation));
        if (companions) companions(folder);
      },
      is_read_as_model);

  MergeReport report;
  report.layers = static_cast<int64_t>(adapter.layers().size());
  check_merged(report, adapter, *original, output, probe, stored, half_of(progress, 1));
  if (model.quantisation_error()) {
    const Adapter moved = AdapterBuilder::moved(adapter, *original);
    const Tensor unquantised = probe(*original, &moved);
    report.quantisation_difference = ops::host_number((unquantised - probe(model, &adapter)).abs().max());
  }
  return report;
}

}  // namespace deltaw
