// Chat templates: the Jinja text that turns messages into what a model was trained on.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/options.h"

namespace deltaw {

/// The subset of Jinja that models' templates use, with transformers' settings (trim_blocks, lstrip_blocks) and
/// functions (raise_exception, strftime_now, tojson). What is outside it is a format.chat-template error that names the
/// construct and its line when the template is read, never a wrong prompt.
class ChatTemplate {
 public:
  /// `variables` are what the template may name beside its messages, such as bos_token. `where` is named in errors.
  explicit ChatTemplate(const std::string& source, Json variables = Json::object(),
                        const std::string& where = "chat template");

  /// That of a checkpoint or adapter folder, with the special tokens of tokenizer_config.json: chat_template.jinja,
  /// else the key "chat_template" of tokenizer_config.json (a text, or the entry "default" of a list). Nothing where
  /// the folder has none. `folder` may be a GGUF file.
  static std::optional<ChatTemplate> from_folder(const std::filesystem::path& folder);

  /// One template file, with the special tokens that `folder` names.
  static ChatTemplate from_file(const std::filesystem::path& file, const std::filesystem::path& folder);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  struct Rendered {
    std::string text;
    std::vector<std::pair<size_t, size_t>> generated;  // byte ranges that {% generation %} blocks made
  };
  /// `messages` is a list of {"role": ..., "content": ...}, of which keys that are null count as absent; `variables`
  /// are added to those of the constructor (tools, documents, enable_thinking). Safe to call from several threads.
  /// Throws data.chat-template with the template's own words where it calls raise_exception, and naming the line where
  /// an operation has no meaning.
  Rendered render(const Json& messages, bool add_generation_prompt, const Json& variables = Json::object()) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace deltaw
