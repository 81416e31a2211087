#include "tasks/feature_extraction/modules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/files.h"
#include "core/json.h"
#include "deltaw/error.h"
#include "tasks/common/losses.h"

namespace deltaw::feature_extraction {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModules = "modules.json";
constexpr const char* kPoolingFolder = "1_Pooling";
constexpr const char* kLength = "sentence_bert_config.json";
constexpr const char* kPrompts = "config_sentence_transformers.json";
constexpr int64_t kLongest = 1'000'000;  // a model_max_length beyond it means that nobody knows

[[noreturn]] void refuse(const std::string& what, const fs::path& file, const std::string& fix) {
  throw Error({.id = "format.unsupported", .what = what, .where = file.string(), .fix = fix});
}

[[noreturn]] void refuse_form(const std::string& what, const fs::path& file) {
  throw Error({.id = "format.json", .what = what, .where = file.string(), .fix = "take it from its source again"});
}

std::string text_of(const Json& object, const char* key, const fs::path& file) {
  const auto found = object.find(key);
  if (found != object.end() && found->is_string()) return found->get<std::string>();
  refuse_form(fmt::format("a module has no text \"{}\"", key), file);
}

/// "Pooling" of "sentence_transformers.models.Pooling".
std::string class_of(const Json& module, const fs::path& file) {
  const std::string type = text_of(module, "type", file);
  return type.substr(type.rfind('.') + 1);
}

/// The file of a module's folder below the model's, which it must not leave.
fs::path file_below(const fs::path& folder, const std::string& path, const char* name) {
  const fs::path relative = fs::path(path).lexically_normal();
  const bool leaves = relative.is_absolute() || (!relative.empty() && *relative.begin() == "..");
  if (leaves) refuse_form(fmt::format("the path '{}' of a module leaves the folder", path), folder / kModules);
  return folder / relative / name;
}

/// The modes that a file of Pooling sets, by their present names or, as older files have it, by a truth value each.
std::vector<std::string> modes_of(const Json& config, const fs::path& file) {
  constexpr std::pair<const char*, const char*> kOlder[] = {
      {"pooling_mode_cls_token", "cls"},
      {"pooling_mode_max_tokens", "max"},
      {"pooling_mode_mean_tokens", "mean"},
      {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"},
      {"pooling_mode_weightedmean_tokens", "weightedmean"},
      {"pooling_mode_lasttoken", "lasttoken"}};
  if (!config.is_object()) refuse_form("the file is no object", file);
  std::vector<std::string> modes;
  if (const auto mode = config.find("pooling_mode"); mode != config.end()) {
    for (const Json& name : mode->is_array() ? *mode : Json::array({*mode})) {
      if (!name.is_string()) refuse_form("\"pooling_mode\" is no text", file);
      modes.push_back(name.get<std::string>());
    }
  } else {
    for (const auto& [key, name] : kOlder) {
      if (config.value(key, Json(false)) == Json(true)) modes.emplace_back(name);
    }
  }
  if (modes.empty()) modes.emplace_back("mean");
  return modes;
}

std::string pooling_of(const Json& config, const fs::path& file) {
  const std::vector<std::string> modes = modes_of(config, file);
  const auto& known = poolings();
  if (modes.size() == 1 && std::find(known.begin(), known.end(), modes[0]) != known.end()) return modes[0];
  refuse(fmt::format("the pooling {} is not implemented", fmt::join(modes, " beside ")), file,
         fmt::format("--pooling takes {} in its place", fmt::join(known, ", ")));
}

Json object_in(const fs::path& file) {
  if (!fs::is_regular_file(file)) return Json::object();
  Json config = read_json(file);
  if (!config.is_object()) refuse_form("the file is no object", file);
  return config;
}

/// A model_max_length of transformers is 1e30 where nobody knows.
int64_t length_in(const Json& config, const char* key, const fs::path& file) {
  const Json length = config.value(key, Json());
  if (length.is_null() || (length.is_number() && length > kLongest)) return 0;
  if (length.is_number_integer() && length > 0) return length.get<int64_t>();
  refuse_form(fmt::format("\"{}\" is no number of tokens", key), file);
}

int64_t length_of(const fs::path& folder) {
  const fs::path file = folder / kLength, tokenizer = folder / "tokenizer_config.json";
  const Json config = object_in(file);
  if (config.value("do_lower_case", Json()) == Json(true)) {
    refuse("do_lower_case is not implemented", file,
           "set it to false where the tokenizer makes small letters itself, as uncased ones do");
  }
  const int64_t own = length_in(config, "max_seq_length", file);
  return own > 0 ? own : length_in(object_in(tokenizer), "model_max_length", tokenizer);
}

void read_prompts(const fs::path& file, Modules& modules) {
  const Json config = object_in(file);
  const Json prompts = config.value("prompts", Json());
  if (!prompts.is_null() && !prompts.is_object()) refuse_form("\"prompts\" is no object", file);
  for (const auto& [name, text] : prompts.items()) {
    if (!text.is_string()) refuse_form(fmt::format("the prompt \"{}\" is no text", name), file);
    modules.prompts[name] = text.get<std::string>();
  }
  const Json chosen = config.value("default_prompt_name", Json());
  if (chosen.is_string()) modules.prompt_name = chosen.get<std::string>();
}

Modules modules_of(const fs::path& folder, const std::string& pooling) {
  const fs::path file = folder / kModules;
  const Json list = read_json(file);
  if (!list.is_array()) refuse_form("the file is no list of modules", file);
  Modules modules{.max_seq_length = length_of(folder)};
  read_prompts(folder / kPrompts, modules);
  for (const Json& module : list) {
    if (!module.is_object()) refuse_form("a module is no object", file);
    const std::string name = class_of(module, file);
    if (name == "Pooling") {
      const fs::path own = file_below(folder, text_of(module, "path", file), "config.json");
      const Json config = read_json(own);
      modules.pooling = pooling.empty() ? pooling_of(config, own) : pooling;
      modules.include_prompt = !config.is_object() || config.value("include_prompt", Json()) != Json(false);
    } else if (name == "Normalize") {
      modules.normalize = true;
    } else if (name != "Transformer") {
      refuse(fmt::format("the module {} is not implemented", name), file,
             "use a model of Transformer, Pooling and Normalize, or take the module out of the list");
    }
  }
  return modules;
}

}  // namespace

const std::vector<std::string>& poolings() {
  static const std::vector<std::string> names = {"mean", "cls", "max"};
  return names;
}

std::string Modules::prompt() const {
  if (prompt_name.empty()) return {};
  const auto found = prompts.find(prompt_name);
  if (found == prompts.end()) {
    std::vector<std::string> names;
    for (const auto& [name, text] : prompts) names.push_back(name);
    throw Error({.id = "config.unknown-prompt",
                 .what = fmt::format("the model has no prompt '{}'", prompt_name),
                 .where = fmt::format("key \"prompt_name\" or {}", kPrompts),
                 .fix = names.empty() ? "it has none at all: put the words into the texts"
                                      : fmt::format("--prompt_name none or {}", fmt::join(names, " or "))});
  }
  if (!include_prompt && !found->second.empty()) {
    refuse("pooling that leaves out a prompt (include_prompt false) is not implemented",
           fs::path(kPoolingFolder) / "config.json", "--prompt_name none goes without one");
  }
  return found->second;
}

std::optional<Modules> read_modules(const std::vector<fs::path>& folders, const std::string& pooling) {
  for (const fs::path& folder : folders) {
    if (fs::is_regular_file(folder / kModules)) return modules_of(folder, pooling);
  }
  return std::nullopt;
}

void write_modules(const Modules& modules, int64_t width, const fs::path& folder) {
  Json list = Json::array();
  const auto add = [&](const char* path, const char* type) {
    const size_t number = list.size();
    list.push_back({{"idx", number},
                    {"name", std::to_string(number)},
                    {"path", path},
                    {"type", std::string("sentence_transformers.models.") + type}});
  };
  add("", "Transformer");
  add(kPoolingFolder, "Pooling");
  if (modules.normalize) add("2_Normalize", "Normalize");
  write_json(folder / kModules, list, KeyOrder::kept);
  fs::create_directories(folder / kPoolingFolder);
  write_json(folder / kPoolingFolder / "config.json",
             {{"word_embedding_dimension", width},
              {"pooling_mode_cls_token", modules.pooling == "cls"},
              {"pooling_mode_mean_tokens", modules.pooling == "mean"},
              {"pooling_mode_max_tokens", modules.pooling == "max"},
              {"pooling_mode_mean_sqrt_len_tokens", false},
              {"include_prompt", modules.include_prompt}},
             KeyOrder::kept);
  Json length = {{"max_seq_length", nullptr}, {"do_lower_case", false}};
  if (modules.max_seq_length > 0) length["max_seq_length"] = modules.max_seq_length;
  write_json(folder / kLength, length, KeyOrder::kept);
  write_json(folder / kPrompts,
             {{"prompts", modules.prompts},
              {"default_prompt_name", modules.prompt_name.empty() ? Json() : Json(modules.prompt_name)},
              {"similarity_fn_name", "cosine"}},
             KeyOrder::kept);
}

Tensor embedding_of(const Tensor& states, const Tensor& mask, const Modules& modules) {
  const Tensor wide = states.scalar_type() == at::kDouble ? states : states.to(at::kFloat);
  const Tensor token = mask.ne(0).unsqueeze(2);
  Tensor pooled;
  if (modules.pooling == "cls") {
    const Tensor first = mask.ne(0).to(at::kInt).argmax(1);  // padding may stand on the left
    pooled = wide.gather(1, first.view({-1, 1, 1}).expand({-1, 1, wide.size(2)})).squeeze(1);
  } else if (modules.pooling == "max") {
    pooled = wide.masked_fill(token.logical_not(), -std::numeric_limits<double>::infinity()).amax(1);
  } else {
    const Tensor weight = token.to(wide.scalar_type());
    pooled = (wide * weight).sum(1) / weight.sum(1);
  }
  return modules.normalize ? tasks::unit_rows(pooled) : pooled;
}

}  // namespace deltaw::feature_extraction
