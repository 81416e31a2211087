#include "tasks/common/text_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/files.h"
#include "core/text_file.h"
#include "data/file_formats.h"
#include "data/find_files.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "models/gguf.h"
#include "text/tokenizer/tokenizer_files.h"

namespace deltaw::tasks {

namespace fs = std::filesystem;

fs::path tokenizer_folder(const fs::path& base, const fs::path& adapter) {
  return adapter.empty() || text::tokenizer_sources(adapter).empty() ? base : adapter;
}

int64_t pad_id_of(const Tokenizer& tokenizer, const Model& model) {
  const Json named = model.config().value("pad_token_id", Json());
  std::vector<std::string> refused;
  const auto is_token = [&](int64_t id, const char* file) {
    if (id >= 0 && id < model.vocab_size()) return true;
    refused.push_back(std::to_string(id) + " by " + file);
    return false;
  };
  if (const auto id = tokenizer.pad_id(); id && is_token(*id, "the tokenizer")) return *id;
  if (named.is_number_integer() && is_token(named, "config.json")) return named;
  if (model.family() && model.family()->is_decoder) return 0;  // nothing attends to padding: any token serves
  throw Error({.id = "config.no-pad-token",
               .what = refused.empty()
                           ? "neither the tokenizer nor the model names a padding token"
                           : fmt::format("the padding token is {}, and the model has {} tokens (0 to {})",
                                         fmt::join(refused, " and "), model.vocab_size(), model.vocab_size() - 1),
               .where = config_file(model.folder()).string(),
               .fix = "set pad_token in tokenizer_config.json, or pad_token_id in config.json"});
}

int64_t readable_length(const Model& model, const Adapter* adapter, const Tokenizer& tokenizer) {
  const int64_t taken = adapter ? adapter->virtual_tokens().count() : 0;
  const int64_t positions = std::max<int64_t>(0, model.max_positions() - taken), named = tokenizer.max_length();
  return positions > 0 && named > 0 ? std::min(positions, named) : std::max(positions, named);
}

int64_t checked_length(const Model& model, int64_t max_length, bool asked_for) {
  if (model.max_positions() <= 0 || max_length <= model.max_positions()) return max_length;
  if (!asked_for) return model.max_positions();
  throw Error({.id = "config.max-length",
               .what = "max_length is " + std::to_string(max_length) + ", the model reads at most " +
                       std::to_string(model.max_positions()) + " tokens",
               .where = config_file(model.folder()).string() + ", key 'max_position_embeddings'",
               .fix = "set max_length to " + std::to_string(model.max_positions()) + " or less"});
}

bool is_lines(const DataFiles& files) {
  const std::vector<fs::path> paths = data::find_files(files);
  return paths.size() == 1 && !data::holds_rows(paths[0]);
}

Dataset read_lines(const fs::path& file, const std::string& encoding) {
  Dataset dataset{.file = file};
  each_line(read_text(file, encoding), [&](std::string_view line, int64_t number) {
    dataset.rows.push_back({.text = std::string(line), .line = number});
  });
  return dataset;
}

std::optional<ChatTemplate> find_chat_template(const TextOptions& text, const std::vector<fs::path>& folders) {
  if (!text.chat_template.empty()) {
    return ChatTemplate::from_file(text.chat_template, folders.empty() ? fs::path() : folders.front());
  }
  for (const fs::path& folder : folders) {
    if (auto found = ChatTemplate::from_folder(folder)) return found;
  }
  return std::nullopt;
}

ChatRenderer renderer_of(const std::optional<ChatTemplate>& chat_template) {
  if (!chat_template) return {};
  return [&chat_template](const Json& messages, bool add_generation_prompt, const Json& variables) {
    return chat_template->render(messages, add_generation_prompt, variables);
  };
}

void write_tokenizer(const Tokenizer& tokenizer, const fs::path& folder, bool changed) {
  for (const fs::path& file : tokenizer.files()) {
    const fs::path target = folder / file.filename();
    if (!fs::exists(target) || !fs::equivalent(file, target)) write_file(target, read_file(file));
  }
  const bool inside_another = tokenizer.files().empty();  // of a GGUF file
  if (changed || inside_another) tokenizer.save(folder);
}

void write_chat_template(const fs::path& file, const std::vector<fs::path>& folders, const fs::path& output) {
  const fs::path name = "chat_template.jinja";
  fs::path source = file;
  for (const fs::path& folder : folders) {
    if (source.empty() && fs::exists(folder / name)) source = folder / name;
  }
  if (source.empty() || (fs::exists(output / name) && fs::equivalent(source, output / name))) return;
  write_file(output / name, read_file(source));
}

}  // namespace deltaw::tasks
