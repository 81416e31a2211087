#include "models/gguf_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "deltaw/error.h"
#include "deltaw/family.h"
#include "models/gguf.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using io::GgufType;

/// What people call the model: the folder's name, of one in the Hugging Face cache the repository's.
std::string name_of(const fs::path& folder) {
  fs::path path = fs::absolute(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  if (path.parent_path().filename() != "snapshots") return path.filename().string();
  const std::string repository = path.parent_path().parent_path().filename().string();
  const size_t end = repository.rfind("--");
  return end == std::string::npos ? repository : repository.substr(end + 2);
}

io::GgufValue typed(const std::string& key, const Json& value) {
  const GgufType type = value.is_boolean()        ? GgufType::boolean
                        : value.is_number_float() ? GgufType::f32
                        : value.is_number()       ? GgufType::u32
                                                  : GgufType::text;
  return {.key = key, .type = type, .value = value};
}

const GgufForm& form_of(const Model& model) {
  const FamilySpec* family = model.family();
  if (family && family->gguf && family->gguf->describe) {
    if (model.is_causal()) return *family->gguf;
    throw Error({.id = "config.unsupported",
                 .what = fmt::format("a GGUF file holds language models, and this is a {}", model.architecture()),
                 .where = config_file(model.folder()).string(),
                 .fix = "write a folder (--to hf)"});
  }
  std::set<std::string> known;
  for (const FamilySpec* other : family_table()) {
    if (other->gguf && other->gguf->describe) known.insert(other->model_type);
  }
  throw Error({.id = "config.unsupported",
               .what = fmt::format("models of type {} are not written as GGUF files",
                                   family ? "'" + family->model_type + "'" : "another program's"),
               .where = config_file(model.folder()).string() + ", key \"model_type\"",
               .fix = fmt::format("write a folder (--to hf); GGUF files are written of {}", fmt::join(known, ", "))});
}

}  // namespace

std::string size_label(int64_t numbers) {
  constexpr std::pair<double, char> kUnits[] = {{1e12, 'T'}, {1e9, 'B'}, {1e6, 'M'}, {1e3, 'K'}};
  const auto* unit = std::find_if(std::begin(kUnits), std::end(kUnits) - 1,
                                  [&](const auto& each) { return static_cast<double>(numbers) > each.first; });
  const double scaled = static_cast<double>(numbers) / unit->first;
  const int behind = scaled < 0.5 ? 2 : scaled < 9.5 ? 1 : 0;  // two digits in all
  return fmt::format("{:.{}f}{}", scaled, behind, unit->second);
}

GgufHeader gguf_header(const Model& model) {
  const GgufForm& form = form_of(model);
  Json config = model.family()->settled ? model.family()->settled(model.config()) : model.config();
  config["vocab_size"] = model.vocab_size();
  GgufFacts facts{.values = Json::object(), .where = config_file(model.folder()).string()};
  form.describe(config, facts);
  int64_t numbers = 0;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->exists() && parameter->tied_to.empty()) numbers += parameter->numel();
  }
  GgufHeader header{.vectors = std::move(facts.vectors), .lost = std::move(facts.lost)};
  header.values = {typed("general.architecture", form.architecture), typed("general.type", "model"),
                   typed("general.name", name_of(model.folder())), typed("general.size_label", size_label(numbers))};
  for (const auto& [key, value] : facts.values.items()) {
    header.values.push_back(typed(form.architecture + "." + key, value));
  }
  header.values.push_back(typed("general.quantization_version", 2));
  return header;
}

}  // namespace deltaw
