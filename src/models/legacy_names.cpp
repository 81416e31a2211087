#include "models/legacy_names.h"

#include <string_view>
#include <utility>

namespace deltaw {
namespace {

// How names end, and how they do in old checkpoints.
constexpr std::pair<std::string_view, std::string_view> kLegacyEndings[] = {
    {"LayerNorm.weight", "LayerNorm.gamma"},   {"LayerNorm.bias", "LayerNorm.beta"},
    {".to_q.weight", ".query.weight"},         {".to_q.bias", ".query.bias"},
    {".to_k.weight", ".key.weight"},           {".to_k.bias", ".key.bias"},
    {".to_v.weight", ".value.weight"},         {".to_v.bias", ".value.bias"},
    {".to_out.0.weight", ".proj_attn.weight"}, {".to_out.0.bias", ".proj_attn.bias"}};

std::string with_ending(const std::string& name, std::string_view ending, std::string_view other) {
  return name.substr(0, name.size() - ending.size()).append(other);
}

}  // namespace

std::string legacy_name(const std::string& name) {
  for (const auto& [ending, old] : kLegacyEndings) {
    if (name.ends_with(ending)) return with_ending(name, ending, old);
  }
  return {};
}

std::string present_name(const std::string& stored) {
  for (const auto& [ending, old] : kLegacyEndings) {
    if (stored.ends_with(old)) return with_ending(stored, old, ending);
  }
  return stored;
}

}  // namespace deltaw
