#include "models/gguf.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>

#include "core/files.h"
#include "core/json_fields.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "io/decode.h"
#include "io/gguf.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// "blk.3.attn_q" -> "blk.{}.attn_q" and "3"; the number is empty where there is none.
std::pair<std::string, std::string> without_number(const std::string& name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const bool digits = end > begin && std::all_of(name.begin() + static_cast<std::ptrdiff_t>(begin),
                                                   name.begin() + static_cast<std::ptrdiff_t>(end),
                                                   [](char c) { return c >= '0' && c <= '9'; });
    if (digits) return {name.substr(0, begin) + "{}" + name.substr(end), name.substr(begin, end - begin)};
    begin = end + 1;
  }
  return {name, ""};
}

std::string with_number(std::string pattern, const std::string& number) {
  const size_t place = pattern.find("{}");
  return place == std::string::npos ? pattern : pattern.replace(place, 2, number);
}

const GgufModule* find_module(const GgufForm& form, const std::string& pattern, std::string GgufModule::*name) {
  const auto found =
      std::find_if(form.modules.begin(), form.modules.end(), [&](const GgufModule& m) { return m.*name == pattern; });
  return found == form.modules.end() ? nullptr : &*found;
}

/// "blk.3.attn_q.weight" -> "blk.3.attn_q" and ".weight".
std::pair<std::string, std::string> without_ending(const std::string& tensor) {
  const size_t dot = std::min(tensor.rfind('.'), tensor.size());
  return {tensor.substr(0, dot), tensor.substr(dot)};
}

std::string architecture_of(const io::GgufFile& file) {
  const Json* named = file.find_value("general.architecture");
  if (named && named->is_string()) return *named;
  throw Error({.id = "format.gguf",
               .what = "the file names no architecture",
               .where = file.path().string() + ", key \"general.architecture\"",
               .fix = "take a file that llama.cpp's convert_hf_to_gguf.py wrote of a model"});
}

/// Several families may share an architecture; the one of its name goes first.
const FamilySpec& family_of(const io::GgufFile& file) {
  const Json* kind = file.find_value("general.type");
  if (kind && *kind == "adapter") {
    throw Error({.id = "config.unsupported",
                 .what = "the file is an adapter of llama.cpp, not a model",
                 .where = file.path().string() + ", key \"general.type\"",
                 .fix = "give the model that it belongs to; adapters are read in PEFT's and MLX's formats"});
  }
  const std::string architecture = architecture_of(file);
  const FamilySpec* found = nullptr;
  std::set<std::string> known;
  for (const FamilySpec* family : family_table()) {
    if (!family->gguf) continue;
    known.insert(family->gguf->architecture);
    if (family->gguf->architecture != architecture) continue;
    if (!found || family->model_type == architecture) found = family;
  }
  if (found) return *found;
  throw Error({.id = "config.unsupported",
               .what = fmt::format("GGUF files of architecture '{}' are not read", architecture),
               .where = file.path().string() + ", key \"general.architecture\"",
               .fix = fmt::format("deltaw reads {}", fmt::join(known, ", "))});
}

Json as_meant(const io::GgufFile& file, const std::string& key, const Json& value) {
  const bool narrow = value.is_number_float() && file.type_of(key).type == io::GgufType::f32;
  return narrow ? Json(meant(static_cast<float>(value.get<double>()))) : value;
}

/// One number for all layers, where each has the same.
Json as_one(const Json& value) {
  if (!value.is_array() || value.empty()) return value;
  const bool equal = std::all_of(value.begin(), value.end(), [&](const Json& item) { return item == value[0]; });
  return equal ? value[0] : value;
}

/// What the families here have not, and would be computed wrongly without a word.
void check_facts(const GgufFacts& facts) {
  const auto refuse = [&](const char* key, const std::string& why) {
    throw Error({.id = "config.unsupported",
                 .what = why,
                 .where = facts.where + ", key \"" + key + "\"",
                 .fix = "use a dense decoder of the families that `deltaw help train` lists"});
  };
  const auto number = [&](const char* key) { return json_as<int64_t>(facts.values.value(key, Json())).value_or(0); };
  if (number("expert_count") > 0) refuse("expert_count", "the model is a mixture of experts");
  if (number("nextn_predict_layers") > 0) refuse("nextn_predict_layers", "the model has layers that predict ahead");
  if (facts.values.value("attention.causal", Json(true)) == false) {
    refuse("attention.causal", "the model is no causal language model");
  }
  const int64_t keys = number("attention.key_length"), values = number("attention.value_length");
  if (keys > 0 && values > 0 && keys != values) {
    refuse("attention.value_length", fmt::format("keys have {} numbers a head and values {}", keys, values));
  }
}

constexpr int64_t kLongestVector = 1 << 16;  // of frequencies and the like

GgufFacts facts_of(const io::GgufFile& file, const GgufForm& form) {
  GgufFacts facts{.values = Json::object(), .where = file.path().string()};
  const std::string prefix = form.architecture + ".";
  for (const auto& [key, value] : file.values().items()) {
    if (key.starts_with(prefix)) facts.values[key.substr(prefix.size())] = as_one(as_meant(file, key, value));
  }
  for (const io::TensorBytes& tensor : file.tensors()) facts.shapes[tensor.name] = tensor.shape;
  for (const std::string& name : form.vectors) {
    const io::TensorBytes* tensor = file.find(name);
    if (!tensor || tensor->count() > kLongestVector) continue;
    std::vector<float> numbers(static_cast<size_t>(tensor->count()));
    io::decode(*tensor, numbers);
    facts.vectors[name] = std::move(numbers);
  }
  return facts;
}

/// Whether the head is the tensor of the word embeddings: it is missing, or stands there a second time.
bool is_tied(const io::GgufFile& file) {
  const io::TensorBytes *head = file.find("output.weight"), *words = file.find("token_embd.weight");
  return !head || (words && head->dtype == words->dtype && head->shape == words->shape &&
                   std::equal(head->data, head->data + head->size(), words->data));
}

/// Ids of tokens; generation ends at the end of a turn as at the end of a text.
void add_tokens(Json& config, const io::GgufFile& file) {
  const auto id = [&](const char* name) {
    const Json* value = file.find_value(fmt::format("tokenizer.ggml.{}_token_id", name));
    return value && value->is_number_integer() ? *value : Json();
  };
  config["bos_token_id"] = id("bos");
  config["pad_token_id"] = id("padding");
  config["eos_token_id"] = id("eos");
  const Json turn = id("eot");
  if (!turn.is_null() && turn != config["eos_token_id"]) {
    config["eos_token_id"] = config["eos_token_id"].is_null() ? turn : Json{config["eos_token_id"], turn};
  }
}

Json config_of(const io::GgufFile& file, const FamilySpec& family) {
  const GgufForm& form = *family.gguf;
  const GgufFacts facts = facts_of(file, form);
  check_facts(facts);
  Json config = {{"architectures", {family.heads.at(0).architecture}}, {"model_type", family.model_type}};
  for (const auto& [key, name] : form.keys) {
    if (const auto found = facts.values.find(key); found != facts.values.end()) config[name] = *found;
  }
  const std::string words = "token_embd.weight";
  if (const io::TensorBytes* table = file.find(words); table && table->shape.size() == 2) {
    config["vocab_size"] = table->shape[0];
  }
  config["tie_word_embeddings"] = is_tied(file);
  add_tokens(config, file);
  if (form.settle) form.settle(config, facts);
  return config;
}

int64_t heads_of(const Json& config, GgufLayout layout) {
  const auto number = [&](const char* key) { return json_as<int64_t>(config.value(key, Json())).value_or(0); };
  const int64_t keys = number("num_key_value_heads");
  return layout == GgufLayout::key_pairs && keys > 0 ? keys : number("num_attention_heads");
}

/// Rows of a head from neighbours to half a head apart, [rows, width].
void part_pairs(std::span<float> numbers, int64_t rows, int64_t heads) {
  const int64_t width = static_cast<int64_t>(numbers.size()) / rows, size = rows / heads;
  const std::vector<float> stored(numbers.begin(), numbers.end());
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / size, place = row % size, half = size / 2;
    const int64_t from = head * size + place % half * 2 + place / half;
    std::copy_n(stored.begin() + from * width, width, numbers.begin() + row * width);
  }
}

void transpose(std::span<float> numbers, int64_t rows) {
  const std::vector<float> stored(numbers.begin(), numbers.end());
  const int64_t width = static_cast<int64_t>(numbers.size()) / rows;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < width; ++i) numbers[i * rows + row] = stored[row * width + i];
  }
}

/// Gives the tensor the shape that transformers has and what makes its numbers stand so.
void set_undo(io::TensorBytes& tensor, GgufLayout layout, const Json& config, const fs::path& file) {
  if (layout == GgufLayout::plus_one) {
    tensor.undo = [](std::span<float> numbers) {
      for (float& number : numbers) number -= 1;
    };
  } else if (layout == GgufLayout::transposed && tensor.shape.size() == 2) {
    tensor.undo = [rows = tensor.shape[0]](std::span<float> numbers) { transpose(numbers, rows); };
    std::swap(tensor.shape[0], tensor.shape[1]);
  } else if (layout == GgufLayout::query_pairs || layout == GgufLayout::key_pairs) {
    const int64_t heads = heads_of(config, layout), rows = tensor.shape.empty() ? 0 : tensor.shape[0];
    if (heads <= 0 || rows == 0 || rows % (2 * heads) != 0) {
      throw Error(
          {.id = "shape.mismatch",
           .what = fmt::format("tensor '{}' has {} rows, which are no pairs in {} heads", tensor.name, rows, heads),
           .where = file.string(),
           .fix = "the file is damaged: take it from its source again"});
    }
    tensor.undo = [rows, heads](std::span<float> numbers) { part_pairs(numbers, rows, heads); };
  }
}

std::shared_ptr<const io::Checkpoint> open_gguf(const fs::path& path) {
  const io::GgufFile file(path);
  const FamilySpec& family = family_of(file);
  const GgufForm& form = *family.gguf;
  const Json config = config_of(file, family);
  std::vector<io::TensorBytes> tensors;
  for (io::TensorBytes tensor : file.tensors()) {
    const auto [stem, ending] = without_ending(tensor.name);
    const auto [pattern, number] = without_number(stem);
    const GgufModule* module = find_module(form, pattern, &GgufModule::gguf);
    if (std::find(form.vectors.begin(), form.vectors.end(), tensor.name) != form.vectors.end()) continue;
    if (tensor.name == "output.weight" && config["tie_word_embeddings"]) continue;
    if (module) {
      set_undo(tensor, module->layout, config, path);
      tensor.name = with_number(module->module, number) + ending;
    }
    tensors.push_back(std::move(tensor));
  }
  return std::make_shared<const io::Checkpoint>(path, config, file, std::move(tensors));
}

}  // namespace

std::shared_ptr<const io::Checkpoint> open_checkpoint(const fs::path& path) {
  return fs::is_directory(path) ? std::make_shared<const io::Checkpoint>(path) : open_gguf(path);
}

Json read_model_config(const fs::path& path) {
  if (fs::is_directory(path)) return read_json_object(path / "config.json", "format.config");
  const io::GgufFile file(path);
  return config_of(file, family_of(file));
}

fs::path config_file(const fs::path& path) {
  return fs::is_directory(path) ? path / "config.json" : path;
}

double meant(float stored) {
  std::array<char, 32> text{};
  const auto [end, problem] = std::to_chars(text.data(), text.data() + text.size(), stored);
  double number = stored;
  if (problem == std::errc()) std::from_chars(text.data(), end, number);
  return number;
}

std::optional<GgufPlace> gguf_place(const Model& model, const std::string& module) {
  const GgufForm* form = model.family() ? model.family()->gguf : nullptr;
  if (!form) return std::nullopt;
  const auto [pattern, number] = without_number(module);
  const GgufModule* found = find_module(*form, pattern, &GgufModule::module);
  if (!found) return std::nullopt;
  return GgufPlace{with_number(found->gguf, number), found->layout, found->wide};
}

at::Tensor gguf_rows(const at::Tensor& rows, GgufLayout layout, const Model& model) {
  if (layout != GgufLayout::query_pairs && layout != GgufLayout::key_pairs) return rows;
  const int64_t heads = heads_of(model.config(), layout);
  return rows.unflatten(0, {heads, 2, -1}).transpose(1, 2).flatten(0, 2).contiguous();
}

}  // namespace deltaw
