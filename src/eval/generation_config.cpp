#include "eval/generation_config.h"

#include <algorithm>

#include "core/files.h"
#include "core/json.h"
#include "core/json_fields.h"
#include "core/log.h"
#include "deltaw/error.h"
#include "deltaw/generate.h"
#include "models/gguf.h"

namespace deltaw {
namespace {

void add_ids(std::vector<int64_t>& ids, const std::vector<int64_t>& more) {
  for (const int64_t id : more) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
}

}  // namespace

namespace eval {

GenerationConfig::GenerationConfig(const std::filesystem::path& folder)
    : file(folder / "generation_config.json"), exists(std::filesystem::exists(file)) {
  if (exists) values = read_json_object(file);
}

Json GenerationConfig::value(const char* key) const {
  const auto entry = values.find(key);
  return entry == values.end() ? Json() : *entry;
}

std::vector<int64_t> GenerationConfig::end_ids() const {
  return end_ids_of(value("eos_token_id"), file.string());
}

std::vector<int64_t> end_ids_of(const Json& value, const std::string& file) {
  if (value.is_null()) return {};
  if (const auto id = json_as<int64_t>(value)) return {*id};
  if (const auto ids = json_as<std::vector<int64_t>>(value)) return *ids;
  throw Error({.id = "format.wrong-type",
               .what = "eos_token_id is " + shown(value),
               .where = file,
               .fix = "write one token id or a list of them"});
}

std::vector<int64_t> known_tokens(const Model& model, std::vector<int64_t> ids, const std::string& file) {
  std::erase_if(ids, [&](int64_t id) {
    const bool is_token = id >= 0 && id < model.vocab_size();
    if (!is_token) {
      log().warn("{}: eos_token_id {} is none of the model's {} tokens, so it ends no text: correct it", file, id,
                 model.vocab_size());
    }
    return !is_token;
  });
  return ids;
}

}  // namespace eval

std::vector<int64_t> taught_end_ids(const std::filesystem::path& adapter_folder) {
  return eval::GenerationConfig(adapter_folder).end_ids();
}

std::vector<int64_t> end_token_ids(const Model& model, const Tokenizer& tokenizer, const std::vector<int64_t>& taught) {
  const eval::GenerationConfig own(model.folder());
  std::vector<int64_t> ids;
  if (own.value("eos_token_id").is_null()) {
    const std::string file = config_file(model.folder()).string();
    ids = eval::known_tokens(model, eval::end_ids_of(model.config().value("eos_token_id", Json()), file), file);
  } else {
    ids = eval::known_tokens(model, own.end_ids(), own.file.string());
  }
  if (tokenizer.eos_id()) add_ids(ids, {*tokenizer.eos_id()});
  add_ids(ids, eval::known_tokens(model, taught, "the adapter's generation_config.json"));
  return ids;
}

void write_generation_config(const Model& model, const Tokenizer& tokenizer, const std::vector<int64_t>& taught,
                             const std::filesystem::path& folder) {
  const std::vector<int64_t> before = end_token_ids(model, tokenizer), ids = end_token_ids(model, tokenizer, taught);
  if (ids == before) return;
  const eval::GenerationConfig own(model.folder());
  Json values = own.values;
  if (!own.exists) {  // what transformers takes from config.json in its place
    for (const char* key : {"bos_token_id", "pad_token_id"}) {
      const Json value = model.config().value(key, Json());
      if (!value.is_null()) values[key] = value;
    }
  }
  values["eos_token_id"] = ids;
  write_json(folder / own.file.filename(), values);
}

}  // namespace deltaw
