// Any update as a plain LoRA: dW = B A with a scale of one; several as one.
#include <fmt/format.h>

#include <algorithm>

#include "adapt/adapter_folder.h"
#include "adapt/added_rows.h"
#include "adapt/builder.h"
#include "adapt/config.h"
#include "adapt/export_check.h"
#include "adapt/export_formats.h"
#include "core/files.h"
#include "core/output_folder.h"
#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "deltaw/export.h"
#include "ops/host_read.h"
#include "ops/linear/weight.h"
#include "ops/sum.h"

namespace deltaw {
namespace {

struct Factors {
  Tensor B, A;
  double error = 0;       // relative, of what was cut
  Tensor bias = {};       // undefined for none
  Tensor magnitude = {};  // [d_out]: the norms of the new weight's rows, where they are other than W0 + B A has
};

// dW's r leading singular triplets, or all of them.
Factors truncated(const Tensor& dense, int64_t r) {
  const auto [U, S, Vt] = at::linalg_svd(dense, /*full_matrices=*/false);
  const int64_t kept = std::min(r, S.size(0));
  const double whole = ops::host_number(S.square().sum());
  const double lost = ops::host_number(S.narrow(0, kept, S.size(0) - kept).square().sum());
  return {(U.narrow(1, 0, kept) * S.narrow(0, 0, kept)).contiguous(), Vt.narrow(0, 0, kept).contiguous(),
          whole > 0 ? std::sqrt(lost / whole) : 0};
}

// Components that are zero on either side add nothing.
Factors without_dead(const Tensor& B, const Tensor& A) {
  const Tensor alive = ops::host_places(B.ne(0).any(0).logical_and(A.ne(0).any(1)));
  return {B.index_select(1, alive), A.index_select(0, alive)};
}

// The norms of the rows of W0 + B A.
Tensor row_norms_with(const AdaptedLayer& layer, const Factors& factors) {
  const Tensor W0 = layer.base->matrix();
  const Tensor weight = W0.to(at::promote_types(W0.scalar_type(), at::kFloat)) + at::mm(factors.B, factors.A);
  return at::linalg_vector_norm(weight, 2, {1});
}

Factors weight_factors(const AdaptedLayer& layer, const Update& u, int64_t rank, bool magnitudes) {
  const bool gained = u.out_gain.defined();
  const bool two_factors = u.left.defined() && !u.dense.defined() && !u.in_gain.defined() && !u.before && !u.beside &&
                           (!gained || magnitudes);
  const int64_t full = std::min(layer.info.d_in, layer.info.d_out);
  if (two_factors) {
    Factors exact = without_dead(u.left * u.scale, u.right.clone());
    const int64_t k = exact.A.size(0);
    if (k < full && (rank == 0 || k <= rank)) {
      if (gained) exact.magnitude = u.out_gain * row_norms_with(layer, exact);
      return exact;
    }
    if (rank > 0 && !gained) return truncated(at::mm(exact.B, exact.A), rank);
  }
  if (rank > 0) {
    const Tensor W0 = layer.base->matrix();
    const Tensor wide = W0.to(at::promote_types(W0.scalar_type(), at::kFloat));
    return truncated(ops::updated_weight(u, wide) - wide, rank);
  }
  throw Error({.id = "config.no-rank",
               .what = fmt::format("the update of '{}' has no factors thinner than the layer", layer.info.name),
               .where = "key \"rank\"",
               .fix = "give the rank to cut it to, for instance --rank 16; the error is measured and printed"});
}

[[noreturn]] void refuse_export(const MethodSpec& spec, const std::string& why) {
  throw Error({.id = "config.no-export",
               .what = fmt::format("the method {} {}, which a LoRA cannot say", spec.id, why),
               .where = "key \"adapter_name_or_path\"",
               .fix = spec.mergeable() ? "`deltaw merge` writes a checkpoint instead"
                                       : "use the adapter beside its base model"});
}

// || left right ||, Frobenius norm.
double norm_of(const Tensor& left, const Tensor& right) {
  const Tensor L = left.to(at::kDouble), R = right.to(at::kDouble);
  return std::sqrt(std::max(0.0, ops::host_number((at::mm(L.t(), L) * at::mm(R, R.t())).sum())));
}

[[noreturn]] void refuse_linear(const std::string& what, const std::string& where) {
  throw Error({.id = "config.conflict",
               .what = "a linear combination " + what,
               .where = where,
               .fix = "take the sum of the adapters instead: combination_type cat, or svd with a rank"});
}

// PEFT's linear: factors are added up, each times the root of its weight and scale, a negative sign on A alone.
Factors linear_factors(const Adapter& adapter, const AdaptedLayer& whole) {
  const std::vector<Adapter>& parts = adapter.parts();
  Factors sum;
  for (size_t i = 0; i < std::max<size_t>(parts.size(), 1); ++i) {
    const Adapter& part = parts.empty() ? adapter : parts[i];
    const AdaptedLayer* layer = part.layer(*whole.base);
    if (!layer) continue;
    const Update u = layer->update();
    const bool plain =
        part.spec().id == "lora" && u.left.sizes() == layer->params.matrix("lora_B").sizes() && !u.bias.defined();
    if (!plain) refuse_linear("is of plain LoRAs, and this is none: " + part.spec().id, whole.info.name);
    const Tensor A = layer->params.matrix("lora_A"), B = layer->params.matrix("lora_B");
    if (sum.A.defined() && sum.A.size(0) != A.size(0)) {
      refuse_linear(fmt::format("needs equal ranks, and these are {} and {}", sum.A.size(0), A.size(0)),
                    whole.info.name);
    }
    const double weight = u.scale * (parts.empty() ? 1 : adapter.weights()[i]), root = std::sqrt(std::abs(weight));
    sum.A = ops::plus(sum.A, A * (weight < 0 ? -root : root));
    sum.B = ops::plus(sum.B, B * root);
  }
  const Update u = whole.update();
  const double norm = norm_of(u.left * u.scale, u.right);
  const double apart = norm_of(at::cat({u.left * u.scale, -sum.B}, 1), at::cat({u.right, sum.A}, 0));
  sum.error = norm > 0 ? apart / norm : 0;
  return sum;
}

std::vector<Factors> factors_of(const Adapter& adapter, int64_t rank, Combination combination, bool magnitudes) {
  const MethodSpec& spec = adapter.spec();
  if (!spec.mergeable() || !spec.on_layers() || spec.on_base()) refuse_export(spec, "is no update of layers' weights");
  std::vector<Factors> factors;
  for (const AdaptedLayer* layer : adapter.layers()) {
    if (combination == Combination::linear) {
      factors.push_back(linear_factors(adapter, *layer));
      continue;
    }
    const Update u = layer->update();
    if (u.gain_on_bias && u.out_gain.defined() && layer->base->bias.value.defined())
      refuse_export(spec, "scales biases");
    factors.push_back(weight_factors(*layer, u, rank, magnitudes));
    if (u.bias.defined()) factors.back().bias = u.bias * u.scale;
  }
  const auto has_magnitude = [](const Factors& f) { return f.magnitude.defined(); };
  if (std::none_of(factors.begin(), factors.end(), has_magnitude)) return factors;
  for (size_t i = 0; i < factors.size(); ++i) {  // one config is for all
    if (!has_magnitude(factors[i])) factors[i].magnitude = row_norms_with(*adapter.layers()[i], factors[i]);
  }
  return factors;
}

// What any part of a composite trains beside its factors; its own configuration is the first part's.
void add_parts(const Adapter& adapter, AdapterConfig& config) {
  if (adapter.parts().empty()) return;
  for (const Adapter& part : adapter.parts()) {
    if (config.bias != "all" && part.config().bias != "none") config.bias = part.config().bias;
  }
  config.trainable_token_indices = Json();
  for (const Parameter* parameter : adapter.model().parameters()) {
    const TrainedTokens* tokens = own_tokens(adapter, *parameter);
    if (!tokens) continue;
    const std::string module = parameter->name.substr(0, parameter->name.rfind('.'));
    config.trainable_token_indices[module] = ops::host_values<int64_t>(tokens->indices);
  }
}

// The configuration of a LoRA with these ranks and a scale of one on every layer.
AdapterConfig lora_config(const Adapter& adapter, const std::vector<Factors>& factors) {
  AdapterConfig config = adapter.config();
  const bool magnitudes = !factors.empty() && factors.front().magnitude.defined();
  config.method = choose_method({{"method", "lora"}, {"use_dora", magnitudes}}, "export").id;
  config.target_modules = Json::array();
  int64_t highest = 1;
  bool biased = false;
  for (const Factors& f : factors) {
    highest = std::max(highest, f.A.size(0));
    biased |= f.bias.defined();
  }
  Json ranks = Json::object();
  for (size_t i = 0; i < factors.size(); ++i) {
    const std::string& name = adapter.layers()[i]->info.name;
    config.target_modules.push_back(name);
    const int64_t rank = std::max<int64_t>(factors[i].A.size(0), 1);
    if (rank != highest) ranks[name] = rank;
  }
  add_parts(adapter, config);
  config.exclude_modules = config.layers_to_transform = config.layers_pattern = Json();
  config.options = {{"r", highest}, {"lora_alpha", highest}, {"rank_pattern", ranks}, {"alpha_pattern", ranks}};
  for (const Parameter* parameter : adapter.model().parameters()) {  // which PEFT would not lower for a plain LoRA
    if (adapter.fixed(*parameter))
      config.modules_to_save.push_back(parameter->name.substr(0, parameter->name.rfind('.')));
  }
  if (find_ties(adapter.model(), config).targets) config.ensure_weight_tying = false;  // each has its own
  if (biased) config.options["lora_bias"] = true;
  if (config.bias != "none" && config.bias != "all") config.bias = "lora_only";
  return config;
}

// The adapter as a LoRA of these factors.
Adapter lora_of(const Adapter& adapter, const std::vector<Factors>& factors) {
  AdapterBuilder builder(adapter.model(), lora_config(adapter, factors), Purpose::reading);
  builder.wrap(0);
  builder.override_parameters();
  builder.train_tokens();
  for (size_t i = 0; i < factors.size(); ++i) {
    Params& params = builder.layers()[i]->params;
    Tensor A = params["lora_A"], B = params["lora_B"];
    if (factors[i].A.size(0) == 0) {  // a layer whose budget ran out: LoRA's rank is at least one
      A.zero_();
      B.zero_();
    } else {
      A.copy_(factors[i].A);
      B.copy_(factors[i].B);
    }
    if (factors[i].bias.defined()) Tensor(params["bias"]).copy_(factors[i].bias);
    if (factors[i].magnitude.defined()) Tensor(params["lora_magnitude_vector"]).copy_(factors[i].magnitude);
  }
  for (const Parameter* parameter : adapter.model().parameters()) {
    if (adapter.overrides(*parameter)) builder.override_of(*parameter) = adapter.value(*parameter).detach().clone();
    if (adapter.tokens(*parameter)) builder.tokens().at(parameter->slot) = *adapter.tokens(*parameter);
  }
  return builder.take();
}

}  // namespace

ExportReport export_adapter(const Adapter& adapter, const std::filesystem::path& output, ExportFormat format,
                            int64_t rank, const Probe& probe,
                            const std::function<void(const std::filesystem::path&)>& companions,
                            Combination combination) {
  const at::NoGradGuard no_grad;
  if (combination == Combination::linear && rank > 0) refuse_linear("keeps the adapters' rank", "key \"rank\"");
  ExportReport report;
  report.layers = static_cast<int64_t>(adapter.layers().size());
  const ExportForm& form = export_form(format);
  const std::vector<Factors> factors = factors_of(adapter, rank, combination, form.magnitudes);
  report.exact = combination == Combination::sum;
  std::vector<double> cut;
  for (const Factors& f : factors) {
    cut.push_back(f.error);
    report.exact &= f.error == 0;
    report.rank = std::max(report.rank, f.A.size(0));
  }
  const Adapter lora = lora_of(adapter, factors);
  write_folder(
      output,
      [&](const std::filesystem::path& folder) {
        form.write(lora, folder);
        if (form.companions && companions) companions(folder);
      },
      is_read_as_model);
  if (form.problem) {
    check_exported(report, adapter, lora, cut, probe);
    if (std::string problem = form.problem(lora, output); !problem.empty()) report.problem = std::move(problem);
    report.passed = report.problem.empty();
  } else {
    check_exported(report, adapter, Adapter::load(adapter.model(), output / form.file), cut, probe);
  }
  return report;
}

ExportReport export_lora(const Adapter& adapter, const std::filesystem::path& output, int64_t rank, const Probe& probe,
                         const std::function<void(const std::filesystem::path&)>& companions, Combination combination) {
  return export_adapter(adapter, output, ExportFormat::lora, rank, probe, companions, combination);
}

}  // namespace deltaw
