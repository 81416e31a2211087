#include "texts.h"

#include "core/files.h"
#include "deltaw/generate.h"

namespace deltaw::cli {

std::optional<ChatTemplate> find_chat_template(const TextOptions& text,
                                               const std::vector<std::filesystem::path>& folders) {
  if (!text.chat_template.empty()) {
    return ChatTemplate::from_file(text.chat_template, folders.empty() ? std::filesystem::path() : folders.front());
  }
  for (const std::filesystem::path& folder : folders) {
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

std::optional<int64_t> end_id_of(const Tokenizer& tokenizer, const Model& model) {
  if (const auto id = tokenizer.eos_id()) return id;
  const std::vector<int64_t> ids = end_token_ids(model, tokenizer);
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

std::vector<int64_t> add_new_tokens(const VocabularyKeys& keys, Tokenizer& tokenizer) {
  std::vector<int64_t> ids;
  for (const bool special : {false, true}) {
    for (const std::string& token : special ? keys.add_special_tokens : keys.add_tokens) {
      const bool is_new = tokenizer.add_tokens({token}, special) > 0;
      if (is_new) ids.push_back(*tokenizer.token_to_id(token));
    }
  }
  return ids;
}

void write_chat_template(const TextOptions& text, const std::vector<std::filesystem::path>& folders,
                         const std::filesystem::path& output) {
  const std::filesystem::path name = "chat_template.jinja";
  std::filesystem::path source = text.chat_template;
  for (const std::filesystem::path& folder : folders) {
    if (source.empty() && std::filesystem::exists(folder / name)) source = folder / name;
  }
  if (source.empty() ||
      (std::filesystem::exists(output / name) && std::filesystem::equivalent(source, output / name))) {
    return;
  }
  write_file(output / name, read_file(source));
}

}  // namespace deltaw::cli
