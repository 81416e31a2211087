#include "adapt/merge_check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "adapt/builder.h"
#include "adapt/compared_outputs.h"
#include "adapt/intended.h"
#include "adapt/write_checkpoint.h"
#include "deltaw/pipeline.h"
#include "ops/host_read.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"

namespace deltaw {
namespace {

constexpr int64_t kBlock = int64_t{1} << 21;  // elements that are widened to float64 at a time

bool is_half(at::ScalarType type) {
  return at::isReducedFloatingType(type);
}

// One tensor beside what it should be.
struct Held {
  std::string name;
  at::ScalarType type = at::kFloat;
  int64_t wrong = 0, count = 0;  // elements
  double off = 0;                // the largest distance of a wrong one
  double update = 0;             // the largest element of what the adapter changes

  void add(const Tensor& actual, const Columns& expected, const Tensor& before) {
    const Tensor bad = is_rounded(actual, expected, type).logical_not();
    count += bad.numel();
    if (before.defined()) update = std::max(update, ops::host_number((expected.weight - before).abs().max()));
    const int64_t found = ops::host_integer(bad.sum());
    if (found == 0) return;
    wrong += found;
    const Tensor apart = (actual.to(at::kDouble) - expected.weight).abs();
    off = std::max(off, ops::host_number(apart.masked_fill(bad.logical_not(), 0).max()));
  }

  // By how much it is worse than others: an update left out counts as much in a layer where it is small.
  double severity() const { return update > 0 ? off / update : off; }

  std::string describe() const {
    return fmt::format(
        "{} of {} numbers of {} are not the intended ones rounded once to {}; the largest error is {:.3g}{}", wrong,
        count, name, type_name(type), off,
        update > 0 ? fmt::format(", the largest change by the adapter {:.3g}", update)
                   : ", and the adapter does not change the tensor");
  }
};

class Check {
 public:
  Check(const Adapter& adapter, const Model& original, const Model& merged, std::optional<at::ScalarType> stored)
      : adapter_(AdapterBuilder::moved(adapter, original)), original_(original), merged_(merged), stored_(stored) {
    for (const AdaptedLayer* layer : adapter_.layers()) {
      layers_[layer->base->weight.slot] = layer;
      if (layer->base->bias.value.defined()) layers_[layer->base->bias.slot] = layer;
    }
    for (const Parameter* parameter : merged.parameters()) by_name_[parameter->name] = parameter;
  }

  const Adapter& adapter() const { return adapter_; }
  int64_t tensors() const { return tensors_; }
  const std::set<at::ScalarType>& changed_types() const { return changed_types_; }

  // What is wrong with the tensors, or nothing.
  std::string tensors_problem(const Progress& progress) {
    std::vector<Held> wrong;
    for (const Parameter* parameter : original_.parameters()) {
      if (progress) progress(parameter->slot + 1, static_cast<int64_t>(original_.parameters().size()));
      if (!parameter->value.defined()) continue;
      ++tensors_;
      const at::ScalarType type = stored_.value_or(parameter->stored);
      const auto found = by_name_.find(parameter->name);
      if (found == by_name_.end() || !found->second->value.defined()) return "there is no tensor " + parameter->name;
      const Parameter& written = *found->second;
      if (written.stored != type) {
        return fmt::format("{} is stored in {}, not in {}", parameter->name, type_name(written.stored),
                           type_name(type));
      }
      const Held held = compared(*parameter, written.value, type);
      if (held.update > 0) changed_types_.insert(type);
      if (held.wrong > 0) wrong.push_back(held);
    }
    if (wrong.empty()) return {};
    const auto& worst = *std::max_element(wrong.begin(), wrong.end(),
                                          [](const Held& a, const Held& b) { return a.severity() < b.severity(); });
    return fmt::format("{} ({} of {} tensors are wrong)", worst.describe(), wrong.size(), tensors_);
  }

  // What is wrong with the intended tensors: single columns of them beside what the layers do to single inputs.
  std::string operation_problem() const {
    for (const AdaptedLayer* layer : adapter_.layers()) {
      if (layer->info.kind == LayerKind::conv2d) continue;
      const Update update = raw_update(*layer);
      const Tensor W0 = matrix_of(layer->info.kind, layer->base->weight.value);
      const Columns bias = bias_of(update, adapter_.value(layer->base->bias));
      const int64_t last = layer->info.d_in - 1;
      for (const int64_t j : {int64_t{0}, last / 3, last}) {
        Columns expected = columns_of(update, W0, j, 1);
        if (bias.weight.defined()) {
          expected.weight = expected.weight + bias.weight.unsqueeze(1);
          expected.slack = expected.slack + bias.slack.unsqueeze(1);
        }
        const Tensor apart = (expected.weight.squeeze(1) - column(*layer, j)).abs();
        // The products of a layer are sums over all inputs, whatever these are: more roundings than merging has.
        if (ops::host_flag(apart.le(expected.slack.squeeze(1) * 8).all())) continue;
        return fmt::format("the weights of {} are not what the adapter makes of column {}: they are {:.3g} apart",
                           layer->info.name, j, ops::host_number(apart.max()));
      }
    }
    return {};
  }

  // The original's model with the merged tensors in place.
  Adapter stand_ins() const {
    std::vector<Tensor> tensors(original_.parameters().size());
    for (const Parameter* parameter : original_.parameters()) {
      if (parameter->value.defined()) tensors[parameter->slot] = by_name_.at(parameter->name)->value;
    }
    return AdapterBuilder::standing_in(original_, std::move(tensors));
  }

 private:
  static Update raw_update(const AdaptedLayer& layer) {
    return layer.method->update(layer.info, layer.params, *layer.base->view);
  }

  Held compared(const Parameter& parameter, const Tensor& written, at::ScalarType type) const {
    Held held{.name = parameter.name, .type = type};
    const auto found = layers_.find(parameter.slot);
    if (found == layers_.end()) {
      const bool own = !adapter_.overrides(parameter) && !adapter_.tokens(parameter);
      const Tensor value = adapter_.whole_value(parameter).flatten(), before = parameter.value.flatten();
      for (int64_t begin = 0; begin < value.numel(); begin += kBlock) {
        const auto part = [&](const Tensor& tensor) {
          return tensor.narrow(0, begin, std::min(kBlock, value.numel() - begin)).to(at::kDouble);
        };
        const Tensor expected = part(value);
        held.add(part(written.flatten()), {expected, at::zeros_like(expected)}, own ? Tensor() : part(before));
      }
      return held;
    }
    const AdaptedLayer& layer = *found->second;
    const Update update = raw_update(layer);
    if (parameter.slot == layer.base->bias.slot) {
      held.add(written, bias_of(update, adapter_.value(parameter)), parameter.value.to(at::kDouble));
      return held;
    }
    const Tensor W0 = matrix_of(layer.info.kind, parameter.value), W = matrix_of(layer.info.kind, written);
    each_block(update, W0, [&](int64_t begin, const Columns& block) {
      const int64_t n = block.weight.size(1);
      held.add(W.narrow(1, begin, n), block, W0.narrow(1, begin, n).to(at::kDouble));
    });
    return held;
  }

  Tensor column(const AdaptedLayer& layer, int64_t j) const {
    Call call{.adapter = &adapter_};
    if (layer.info.kind == LayerKind::embedding) {
      const auto& table = static_cast<const Embedding&>(*layer.base);
      return ops::embedding(at::full({1}, j, at::kLong), table, call)[0].to(at::kDouble);
    }
    const Tensor x = at::zeros({1, layer.info.d_in}, at::TensorOptions().dtype(original_.dtype()));
    x.select(1, j).fill_(1);
    return ops::linear(x, static_cast<const Linear&>(*layer.base), call)[0].to(at::kDouble);
  }

  Adapter adapter_;
  const Model& original_;
  const Model& merged_;
  std::optional<at::ScalarType> stored_;
  std::map<int64_t, const AdaptedLayer*> layers_;  // by slot, of weights and biases
  std::map<std::string, const Parameter*> by_name_;
  std::set<at::ScalarType> changed_types_;
  int64_t tensors_ = 0;
};

}  // namespace

void check_merged(MergeReport& report, const Adapter& adapter, const Model& original,
                  const std::filesystem::path& folder, const Probe& probe, std::optional<at::ScalarType> stored,
                  const Progress& progress) {
  const at::NoGradGuard no_grad;
  const auto merged = load_model(folder.string(), {.task_type = original.task_type(),
                                                   .dtype = original.dtype() == at::kDouble ? "float64" : "float32"});
  extend_like(*merged, original);
  Check check(adapter, original, *merged, stored);
  report.problem = check.tensors_problem(progress);
  if (report.problem.empty()) report.problem = check.operation_problem();
  report.tensors = check.tensors();
  bool half = false;
  for (const at::ScalarType type : check.changed_types()) {
    if (report.dtype.empty() || is_half(type)) report.dtype = type_name(type);
    half |= is_half(type);
  }

  const Compared logits{.base = probe(original, nullptr),
                        .adapter = probe(original, &check.adapter()),
                        .written = probe(*merged, nullptr)};
  report.max_difference = logits.difference();
  report.rounding_share = logits.share();
  if (report.problem.empty()) {
    const Adapter stand_ins = check.stand_ins();
    const Compared same{.base = logits.base, .adapter = probe(original, &stand_ins), .written = logits.written};
    const double apart = same.difference();
    if (!(apart <= 1e-5 * std::max(1.0, ops::host_number(same.adapter.abs().max())))) {
      report.problem =
          fmt::format("the folder's configuration makes another model of its tensors: logits {:.3g} apart", apart);
    } else if (!half && !(logits.difference() <= logits.tolerance())) {
      report.problem = fmt::format("the logits are {:.3g} from those of base and adapter, more than {:.3g}",
                                   logits.difference(), logits.tolerance());
    }
  }
  report.passed = report.problem.empty();
}

}  // namespace deltaw
