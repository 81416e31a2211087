#include "core/chart/scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace deltaw::chart {
namespace {

double round_step(double span, int count) {
  const double rough = span / count, power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power * (1 + 1e-9)) return factor * power;
  }
  return 10 * power;
}

// A span that numbers can be told apart in.
bool is_flat(double low, double high) {
  return !(high - low > 1e-12 * std::max({1.0, std::abs(low), std::abs(high)}));
}

std::vector<double> multiples(double first, double last, double step) {
  std::vector<double> all;
  for (double i = first; i <= last; ++i) all.push_back(i * step);
  return all;
}

}  // namespace

std::vector<double> ticks(double low, double high, int count) {
  if (is_flat(low, high)) return {low};
  const double step = round_step(high - low, count), slack = 1e-9;
  return multiples(std::ceil(low / step - slack), std::floor(high / step + slack), step);
}

std::vector<double> levels(double low, double high, int count) {
  if (is_flat(low, high)) {
    const double off = 0.05 * std::max(std::abs(low), 1e-3);
    return {low - off, high + off};
  }
  const double step = round_step(high - low, count), slack = 1e-9;
  return multiples(std::floor(low / step + slack), std::ceil(high / step - slack), step);
}

std::string tick_text(double value, double step) {
  if (std::abs(value) < 1e-9 * std::abs(step)) return "0";
  const double size = std::max(std::abs(value), std::abs(step));
  if (size >= 1e6 || size < 1e-4) return fmt::format("{:.4g}", value);
  const int digits = step == 0 ? 4 : std::max(0, static_cast<int>(std::ceil(-std::log10(std::abs(step)) - 1e-9)));
  return fmt::format("{:.{}f}", value, digits);
}

std::string short_text(double value) {
  return std::isfinite(value) ? fmt::format("{:.4g}", value) : "none";
}

std::string colour(double share) {
  using Rgb = std::array<double, 3>;
  constexpr std::array<Rgb, 7> kStops = {
      {{45, 20, 84}, {54, 62, 128}, {42, 104, 142}, {36, 146, 134}, {84, 184, 107}, {165, 214, 68}, {250, 231, 80}}};
  const double place = std::clamp(share, 0.0, 1.0) * static_cast<double>(kStops.size() - 1);
  const auto below = std::min(static_cast<size_t>(place), kStops.size() - 2);
  const double part = place - static_cast<double>(below);
  std::string text = "#";
  for (size_t i = 0; i < 3; ++i) {
    const double value = kStops[below][i] + part * (kStops[below + 1][i] - kStops[below][i]);
    text += fmt::format("{:02x}", static_cast<int>(std::lround(value)));
  }
  return text;
}

}  // namespace deltaw::chart
