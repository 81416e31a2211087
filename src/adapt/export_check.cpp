#include "adapt/export_check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "adapt/compared_outputs.h"
#include "adapt/intended.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

// Whether two tensors are one for both adapters, as they stand in the file.
bool same_beside(const Adapter& adapter, const Adapter& written, const Parameter& parameter) {
  if (adapter.overrides(parameter) != written.overrides(parameter)) return false;
  if (adapter.overrides(parameter) && !ops::host_equal(adapter.value(parameter), written.value(parameter)))
    return false;
  const TrainedTokens *own = adapter.tokens(parameter), *other = written.tokens(parameter);
  if (!own || !other) return own == other;
  return ops::host_equal(own->indices, other->indices) && ops::host_equal(own->rows, other->rows);
}

struct LayerError {
  double share = 0;  // || dW - B A || / || dW ||
  double noise = 0;  // what of it may come of computing in float32
};

// Of the factors in the file, whatever made them.
LayerError error_of(const AdaptedLayer& layer, const AdaptedLayer& written) {
  const Tensor W0 = layer.base->matrix();
  const auto update_of = [](const AdaptedLayer& l) { return l.method->update(l.info, l.params, *l.base->view); };
  const Update update = update_of(layer), lora = update_of(written);
  double apart = 0, whole = 0, slack = 0;
  each_block(update, W0, [&](int64_t begin, const Columns& block) {
    const int64_t n = block.weight.size(1);
    const Tensor before = W0.narrow(1, begin, n).to(at::kDouble);
    apart += ops::host_number((block.weight - columns_of(lora, W0, begin, n).weight).square().sum());
    whole += ops::host_number((block.weight - before).square().sum());
    slack += ops::host_number(block.slack.square().sum());
  });
  if (whole == 0) return {.share = apart == 0 ? 0.0 : 1.0};
  return {std::sqrt(apart / whole), std::sqrt(slack / whole)};
}

// What is wrong with a LoRA that was read back, or nothing; `expected` are the shares that each layer was cut by.
std::string factors_problem(const Adapter& adapter, const Adapter& written, const std::vector<double>& expected,
                            ExportReport& report) {
  if (written.layers().size() != adapter.layers().size())
    return fmt::format("{} layers are there in place of {}", written.layers().size(), adapter.layers().size());
  std::string problem;
  double worst = -1;
  for (size_t i = 0; i < expected.size(); ++i) {
    const AdaptedLayer &layer = *adapter.layers()[i], *other = written.layer(*layer.base);
    if (!other) return layer.info.name + " has no factors";
    const LayerError error = error_of(layer, *other);
    if (error.share > report.largest_error || report.worst_layer.empty()) {
      report.largest_error = error.share;
      report.worst_layer = layer.info.name;
    }
    const double off = std::abs(error.share - expected[i]);
    if (!(off <= 1e-4 + error.noise) && !(off <= worst)) {
      worst = off;
      problem = fmt::format("the factors of {} are {:.3g} of its update away from it, and {:.3g} was to be",
                            layer.info.name, error.share, expected[i]);
    }
    const auto bias_of_layer = [](const AdaptedLayer& l) {
      const Update u = l.update();
      return u.bias.defined() ? u.bias.detach().to(at::kDouble) * u.scale : Tensor();
    };
    const Tensor bias = bias_of_layer(layer), own = bias_of_layer(*other);
    if (bias.defined() != own.defined() ||
        (bias.defined() && !ops::host_flag(at::isclose(bias, own, 1e-5, 1e-7).all())))
      return layer.info.name + " has another bias";
  }
  for (const Parameter* parameter : adapter.model().parameters()) {
    if (!same_beside(adapter, written, *parameter)) return parameter->name + " is not the adapter's";
  }
  return problem;
}

}  // namespace

void check_exported(ExportReport& report, const Adapter& adapter, const Adapter& written,
                    const std::vector<double>& cut, const Probe& probe) {
  const Model& model = adapter.model();
  report.problem = factors_problem(adapter, written, cut, report);
  const Compared logits{
      .base = probe(model, nullptr), .adapter = probe(model, &adapter), .written = probe(model, &written)};
  report.max_difference = logits.difference();
  if (!report.exact) report.kept_share = std::max(0.0, 1 - logits.share());
  // A model that computes in bf16 rounds the two on different ways; then the factors decide alone.
  const bool decides = report.exact && model.dtype() != at::kBFloat16;
  if (report.problem.empty() && decides && !(logits.difference() <= logits.tolerance())) {
    report.problem = fmt::format("the logits are {:.3g} from the adapter's, more than {:.3g}", logits.difference(),
                                 logits.tolerance());
  }
  report.passed = report.problem.empty();
}

}  // namespace deltaw
