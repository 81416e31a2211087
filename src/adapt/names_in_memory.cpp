#include "adapt/names_in_memory.h"

#include <algorithm>
#include <filesystem>

#include "adapt/adapter_file.h"
#include "core/files.h"
#include "deltaw/error.h"
#include "io/checkpoint.h"

namespace deltaw {
namespace {

void replace_all(std::string& text, const std::string& piece, const std::string& other) {
  for (size_t at = text.find(piece); at != std::string::npos; at = text.find(piece, at + other.size())) {
    text.replace(at, piece.size(), other);
  }
}

bool is_split(const std::string& in_memory) {
  return in_memory.find('|') != std::string::npos;
}

std::vector<std::string> names_of(const std::string& in_memory) {
  std::vector<std::string> names(1);
  for (const char c : in_memory) {
    if (c == '|') {
      names.emplace_back();
    } else {
      names.back() += c;
    }
  }
  return names;
}

bool has(const std::string& name, const std::string& piece) {
  return name.find(piece) != std::string::npos;
}

/// By the module of transformers that PEFT names for a class without a task: "transformers.models.vit.modeling_vit".
std::string type_of_class(const Json& config) {
  const Json mapping = config.value("auto_mapping", Json());
  const Json library = mapping.is_object() ? mapping.value("parent_library", Json()) : Json();
  if (!library.is_string()) return {};
  const std::string& path = library.get_ref<const std::string&>();
  const std::string before = ".modeling_";
  const size_t at = path.rfind(before);
  return at == std::string::npos ? "" : path.substr(at + before.size());
}

std::string type_of_base(const Json& config) {
  const Json base = config.value("base_model_name_or_path", Json());
  if (!base.is_string()) return {};
  const auto file = std::filesystem::path(base.get<std::string>()) / "config.json";
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) return {};
  try {
    const Json settings = read_json(file);
    const Json type = settings.is_object() ? settings.value(io::model_type_key(settings), Json()) : Json();
    return type.is_string() ? type.get<std::string>() : "";
  } catch (const Error&) {  // it is the base's, and nothing is asked of it here
    return {};
  }
}

/// transformers' models call their base by their model_type, with underscores.
const FamilySpec* family_of(const std::string& name) {
  for (const FamilySpec* family : family_table()) {
    std::string own = family->model_type;
    std::replace(own.begin(), own.end(), '-', '_');
    if (own == name || family->model_type == name) return family;
  }
  return nullptr;
}

const FamilySpec* family_of_adapter(const std::vector<std::string>& names, const Json& config) {
  if (const FamilySpec* family = family_of(type_of_class(config))) return family;
  if (const FamilySpec* family = family_of(type_of_base(config))) return family;
  for (const std::string& name : names) {
    if (!name.starts_with(kModel)) continue;
    const std::string below = name.substr(kModel.size());
    if (const FamilySpec* family = family_of(below.substr(0, below.find('.')))) return family;
  }
  return nullptr;
}

}  // namespace

std::string name_in_memory(const FamilySpec* family, std::string name) {
  if (!family) return name;
  for (const auto& [own, other] : family->names_in_memory) {
    if (!is_split(other)) replace_all(name, own, other);
  }
  return name;
}

std::vector<std::string> split_in_memory(const FamilySpec* family, const std::string& name) {
  std::vector<std::string> parts;
  if (!family) return parts;
  for (const auto& [own, others] : family->names_in_memory) {
    if (!is_split(others) || !has(name, own)) continue;
    for (const std::string& other : names_of(others)) {
      std::string part = name;
      replace_all(part, own, other);
      parts.push_back(name_in_memory(family, part));
    }
  }
  return parts;
}

std::string names_of_adapter(const std::vector<std::string>& names, const Json& config) {
  const FamilySpec* family = family_of_adapter(names, config);
  if (!family || family->names_in_memory.empty()) return {};
  const auto is_own = [&](const std::string& name) { return name_in_memory(family, name) != name; };
  if (std::any_of(names.begin(), names.end(), is_own)) return "as in the checkpoint, of transformers 4";
  std::vector<std::string> others;
  for (const auto& pair : family->names_in_memory) {
    for (const std::string& other : names_of(pair.second)) others.push_back(other);
  }
  const auto is_other = [&](const std::string& name) {
    return std::any_of(others.begin(), others.end(), [&](const std::string& other) { return has(name, other); });
  };
  return std::any_of(names.begin(), names.end(), is_other) ? "in memory, of transformers 5" : "";
}

}  // namespace deltaw
