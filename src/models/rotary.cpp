#include "models/rotary.h"

#include <algorithm>
#include <cmath>

#include "ops/rotate.h"

namespace deltaw {
namespace {

at::Tensor numbers(const ConfigValues& values, const char* key, int64_t count) {
  const Json& list = values.has(key) ? values.json()[key] : Json();
  const bool right = list.is_array() && static_cast<int64_t>(list.size()) == count &&
                     std::all_of(list.begin(), list.end(), [](const Json& v) { return v.is_number(); });
  if (!right) values.refuse(key, "a list of " + std::to_string(count) + " numbers, half the width that turns");
  return at::tensor(list.get<std::vector<float>>());
}

}  // namespace

// With what transformers 4 keeps beside the object moved in.
ConfigValues Rotary::parameters(const ConfigValues& config, int64_t max_positions) {
  const auto given = [&](const char* key) {
    return config.has(key) && config.json()[key].is_object() && !config.json()[key].empty();
  };
  const char* key = given("rope_scaling") ? "rope_scaling" : "rope_parameters";
  Json values = given(key) ? config.json()[key] : Json::object();
  for (const auto& item : values.items()) {
    if (item.value().is_object()) config.refuse(key, "one object for all layers is supported");
  }
  if (!values.contains("rope_type")) values["rope_type"] = values.value("type", Json("default"));
  if (!values.contains("rope_theta")) values["rope_theta"] = config.get_or("rope_theta", 10000.0);
  if (!values.contains("partial_rotary_factor")) {
    values["partial_rotary_factor"] = config.get_or("partial_rotary_factor", 1.0);
  }
  const char* original = "original_max_position_embeddings";
  if (config.has(original)) values[original] = config.json()[original];
  if (!values.contains(original)) values[original] = max_positions;
  return {std::move(values), config.where() + ", key \"" + key + "\""};
}

Rotary::Rotary(const ConfigValues& config, int64_t head_dim, int64_t max_positions, bool partial)
    : max_positions_(max_positions) {
  const ConfigValues values = parameters(config, max_positions);
  type_ = values.get<std::string>("rope_type");
  base_ = values.positive("rope_theta");
  original_ = values.size("original_max_position_embeddings");
  const auto share = values.get<double>("partial_rotary_factor");
  if (!(share > 0) || share > 1 || (share < 1 && !partial)) values.refuse("partial_rotary_factor", "supported: 1");
  width_ = static_cast<int64_t>(static_cast<double>(head_dim) * share);
  if (width_ <= 0 || width_ % 2 != 0) values.refuse("partial_rotary_factor", "an even number of a head's must turn");

  if (type_ == "default") {
    frequencies_ = inverse(base_);
  } else if (type_ == "linear") {
    frequencies_ = inverse(base_) / values.positive("factor");
  } else if (type_ == "dynamic") {
    factor_ = values.positive("factor");
    frequencies_ = inverse(base_);
    if (width_ == 2) values.refuse("rope_type", "heads of more than two numbers");
  } else if (type_ == "yarn") {
    set_yarn(values);
  } else if (type_ == "longrope") {
    set_longrope(values);
  } else if (type_ == "llama3") {
    set_llama3(values);
  } else {
    values.refuse("rope_type", "supported: default, linear, dynamic, yarn, longrope, llama3");
  }
}

void Rotary::check_head_width(const ConfigValues& config, const char* key, int64_t head_dim) {
  constexpr int64_t kWidest = 1 << 16;
  if (head_dim > kWidest) config.complain(key, "heads of at most " + std::to_string(kWidest) + " numbers");
}

at::Tensor Rotary::steps() const {
  return at::arange(0, width_, 2, at::kFloat) / static_cast<double>(width_);
}

at::Tensor Rotary::inverse(double base) const {
  return at::pow(at::Scalar(base), steps()).reciprocal();
}

// Peng et al. 2023, arXiv:2309.00071: fast turns stay, slow ones are stretched, with a ramp between.
void Rotary::set_yarn(const ConfigValues& values) {
  const double factor =
      values.positive_or("factor", static_cast<double>(max_positions_) / static_cast<double>(original_));
  const auto magnitude = [&](double weight) { return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1; };
  const double mscale = values.get_or("mscale", 0.0), mscale_all = values.get_or("mscale_all_dim", 0.0);
  const double usual = mscale != 0 && mscale_all != 0 ? magnitude(mscale) / magnitude(mscale_all) : magnitude(1);
  attention_factor_ = values.get_or("attention_factor", usual);

  const auto width = static_cast<double>(width_);
  const auto pair_of = [&](double turns) {  // that turns so often over the original length
    return width * std::log(static_cast<double>(original_) / (turns * 2 * M_PI)) / (2 * std::log(base_));
  };
  const auto or_default = [](double value, double fallback) { return value == 0 ? fallback : value; };
  double low = pair_of(or_default(values.get_or("beta_fast", 0.0), 32));
  double high = pair_of(or_default(values.get_or("beta_slow", 0.0), 1));
  if (values.get_or("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, width - 1);
  if (low == high) high += 0.001;
  const at::Tensor stretched = ((at::arange(width_ / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor kept = 1 - stretched;
  const at::Tensor wavelengths = at::pow(at::Scalar(base_), steps());
  frequencies_ = (wavelengths * factor).reciprocal() * (1 - kept) + wavelengths.reciprocal() * kept;
}

// Ding et al. 2024, arXiv:2402.13753: a factor for each frequency, one list for short rows and one for long.
void Rotary::set_longrope(const ConfigValues& values) {
  const auto original = static_cast<double>(original_);
  const double factor = values.positive_or("factor", static_cast<double>(max_positions_) / original);
  const double usual = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
  attention_factor_ = values.get_or("attention_factor", usual);
  const at::Tensor wavelengths = at::pow(at::Scalar(base_), steps());
  frequencies_ = (numbers(values, "short_factor", width_ / 2) * wavelengths).reciprocal();
  long_frequencies_ = (numbers(values, "long_factor", width_ / 2) * wavelengths).reciprocal();
}

// Grattafiori et al. 2024, arXiv:2407.21783: long waves are stretched, short ones stay, those between are blended.
void Rotary::set_llama3(const ConfigValues& values) {
  const double factor = values.positive("factor"), low = values.positive("low_freq_factor"),
               high = values.positive("high_freq_factor");
  const auto original = static_cast<double>(original_);
  const at::Tensor plain = inverse(base_);
  const at::Tensor waves = plain.reciprocal() * (2 * M_PI);
  const at::Tensor is_long = waves > original / low, is_short = waves < original / high;
  const at::Tensor part = at::where(is_long, plain / factor, plain);
  const at::Tensor smooth = (waves.reciprocal() * original - low) / (high - low);
  const at::Tensor blended = (1 - smooth) * part / factor + smooth * part;
  frequencies_ = at::where(is_long.logical_or(is_short), part, blended);
}

at::Tensor Rotary::frequencies(int64_t length) const {
  if (type_ == "longrope") return length > original_ ? long_frequencies_ : frequencies_;
  if (type_ != "dynamic" || length <= max_positions_) return frequencies_;
  // In float32, where transformers has it.
  const at::Tensor rows = at::scalar_tensor(length, at::kFloat);
  const at::Tensor stretch = rows * factor_ / static_cast<double>(max_positions_) - (factor_ - 1);
  const auto width = static_cast<double>(width_);
  const at::Tensor base = stretch.pow(width / (width - 2)) * base_;
  return at::pow(base, steps()).reciprocal();
}

Rotary::Turn Rotary::turn(const at::Tensor& positions, int64_t length, at::ScalarType dtype) const {
  const at::Tensor turns = frequencies(length);
  const at::Tensor angles = positions.to(at::kFloat).unsqueeze(-1) * turns;
  const auto part = [&](const at::Tensor& values) { return (values * attention_factor_).to(dtype).unsqueeze(1); };
  return {part(angles.cos()), part(angles.sin())};
}

int64_t length_of_other_turns(const Json& config) {
  const ConfigValues values(config, "config.json");
  if (!values.has("rope_scaling") && !values.has("rope_parameters")) return 0;
  const ConfigValues rope = Rotary::parameters(values, values.size_or("max_position_embeddings", 0));
  return rope.json()["rope_type"] == "longrope" ? rope.size_or("original_max_position_embeddings", 0) : 0;
}

at::Tensor rotated(const at::Tensor& x, const Rotary::Turn& turn) {
  return ops::rotated(x, turn.cos, turn.sin);
}

}  // namespace deltaw
