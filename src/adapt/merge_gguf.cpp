// A model, or base and adapter, as one GGUF file.
#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "adapt/adapter_folder.h"
#include "adapt/builder.h"
#include "adapt/compared_outputs.h"
#include "adapt/gguf_plan.h"
#include "adapt/merge.h"
#include "core/output_folder.h"
#include "deltaw/convert.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

void write(const GgufPlan& plan, const fs::path& output) {
  write_folder(
      output, [&](const fs::path& folder) { write_gguf_plan(plan, folder); }, is_read_as_model);
}

/// The narrowest type that the adapter's tensors are stored in.
std::string type_of_changed(const GgufPlan& plan) {
  constexpr size_t kNumbers = 32;  // whole blocks of every type
  std::string name;
  size_t narrowest = sizeof(float) * kNumbers;
  for (const GgufTensorPlan& tensor : plan.tensors) {
    if (!tensor.changed) continue;
    const io::DtypeBlock block = io::dtype_block(tensor.dtype);
    const size_t bytes = block.bytes * kNumbers / static_cast<size_t>(block.numbers);
    if (name.empty() || bytes < narrowest) name = io::dtype_name(tensor.dtype);
    narrowest = std::min(narrowest, bytes);
  }
  return name;
}

}  // namespace

MergeReport merge_gguf(const Adapter& adapter, const fs::path& output, const Probe& probe, const GgufOptions& options) {
  const at::NoGradGuard no_grad;
  refuse_unmergeable(adapter);
  const auto original = original_of(adapter.model());
  std::map<std::string, Tensor> merged;
  for (NamedTensor& tensor : merged_tensors(adapter, *original, at::kFloat, options.progress)) {
    merged[tensor.name] = std::move(tensor.value);
  }
  const GgufPlan plan = gguf_plan(*original, merged, options);
  write(plan, output);

  MergeReport report;
  report.layers = static_cast<int64_t>(adapter.layers().size());
  report.tensors = static_cast<int64_t>(plan.tensors.size());
  report.dtype = type_of_changed(plan);
  report.problem = problem_of(plan, output / kGgufFile);
  const auto written = load_model((output / kGgufFile).string(), {.dtype = "float32"});
  const Adapter moved = AdapterBuilder::moved(adapter, *original);
  const Compared logits{
      .base = probe(*original, nullptr), .adapter = probe(*original, &moved), .written = probe(*written, nullptr)};
  report.max_difference = logits.difference();
  report.rounding_share = logits.share();
  report.passed = report.problem.empty();
  if (adapter.model().quantisation_error()) {
    report.quantisation_difference = ops::host_number((logits.adapter - probe(adapter.model(), &adapter)).abs().max());
  }
  return report;
}

ConvertReport convert_gguf(const Model& model, const fs::path& output, const GgufOptions& options) {
  const at::NoGradGuard no_grad;
  std::map<std::string, Tensor> numbers;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->value.defined()) numbers[parameter->name] = parameter->value.to(at::kFloat);
  }
  const GgufPlan plan = gguf_plan(model, numbers, options);
  write(plan, output);
  ConvertReport report{.tensors = static_cast<int64_t>(plan.tensors.size())};
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->tied_to.empty()) report.parameters += parameter->numel();
  }
  report.problem = problem_of(plan, output / kGgufFile);
  return report;
}

}  // namespace deltaw
