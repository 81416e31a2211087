#include "deltaw/chat.h"

#include <fmt/format.h>

#include "core/files.h"
#include "core/json_fields.h"
#include "core/text_file.h"
#include "deltaw/error.h"
#include "io/gguf.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"
#include "text/tokenizer/tokenizer_files.h"

namespace deltaw {
namespace {

using text::jinja::Value;
namespace fs = std::filesystem;

Json read_object(const fs::path& file) {
  return fs::exists(file) ? read_json_object(file) : Json::object();
}

/// What templates may name: bos_token, ... as transformers passes them.
Json special_tokens(const fs::path& folder) {
  const text::TokenizerConfig config = text::read_tokenizer_config(folder);
  Json tokens = Json::object();
  for (const char* name : text::kSpecialNames) {
    if (const auto token = config.token(name)) tokens[name] = *token;
  }
  return tokens;
}

std::optional<std::string> template_in(const Json& config, const fs::path& file) {
  if (!config.contains("chat_template") || config["chat_template"].is_null()) return std::nullopt;
  const Json& given = config["chat_template"];
  if (given.is_string()) return given.get<std::string>();
  const auto named = [](const Json& entry) {
    return entry.is_object() && entry.contains("name") && entry.contains("template") && entry["template"].is_string();
  };
  if (given.is_array()) {
    for (const Json& entry : given) {
      if (named(entry) && entry["name"] == "default") return entry["template"].get<std::string>();
    }
  }
  throw Error({.id = "format.chat-template",
               .what = "'chat_template' is neither a text nor a list with an entry named \"default\"",
               .where = file.string(),
               .fix = "give the template to use as the text of 'chat_template', or in chat_template.jinja"});
}

/// Null keys are absent, as transformers renders them: templates ask whether a key is defined, or write what it holds.
Json without_nulls(const Json& message) {
  Json result = Json::object();
  for (const auto& [key, value] : message.items()) {
    if (!value.is_null()) result[key] = value;
  }
  return result;
}

/// Reasoning goes by several names: each is filled from the first that is there, as transformers does.
Json with_reasoning(const Json& message) {
  const Json* reasoning = nullptr;
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    if (!reasoning && message.contains(name)) reasoning = &message[name];
  }
  if (!reasoning) return message;
  Json filled = message;
  if (!filled.contains("thinking")) filled["thinking"] = *reasoning;
  filled["reasoning_content"] = *reasoning;
  return filled;
}

}  // namespace

struct ChatTemplate::Impl {
  std::string where;
  Json variables;
  text::jinja::Body body;
};

ChatTemplate::ChatTemplate(const std::string& source, Json variables, const std::string& where)
    : impl_(std::make_unique<Impl>()) {
  impl_->where = where;
  impl_->variables = std::move(variables);
  impl_->body = text::jinja::parse(source, where);
}

ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::optional<ChatTemplate> ChatTemplate::from_folder(const fs::path& folder) {
  const bool gguf = io::is_gguf(folder);
  const fs::path jinja = folder / "chat_template.jinja", config_file = gguf ? folder : folder / "tokenizer_config.json";
  const Json config = gguf ? Json(text::read_tokenizer_config(folder).config) : read_object(config_file);
  const Json variables = special_tokens(folder);
  if (fs::exists(jinja)) return ChatTemplate(read_utf8(jinja), variables, jinja.string());
  const auto source = template_in(config, config_file);
  if (!source) return std::nullopt;
  return ChatTemplate(*source, variables, config_file.string() + ": chat_template");
}

ChatTemplate ChatTemplate::from_file(const fs::path& file, const fs::path& folder) {
  return ChatTemplate(read_utf8(file), special_tokens(folder), file.string());
}

ChatTemplate::Rendered ChatTemplate::render(const Json& messages, bool add_generation_prompt,
                                            const Json& variables) const {
  const auto refuse = [&](const std::string& what, const char* fix) {
    throw Error({.id = "data.chat-template", .what = what, .where = impl_->where, .fix = fix});
  };
  if (!messages.is_array()) refuse("the messages are no list", "give a list of {\"role\": ..., \"content\": ...}");
  Json all = Json::object({{"tools", nullptr}, {"documents", nullptr}});
  for (const Json* given : {static_cast<const Json*>(&impl_->variables), &variables}) {
    if (given->is_object()) all.update(*given);
  }
  Json chat = Json::array();
  for (const Json& message : messages) {
    if (!message.is_object()) refuse("a message is no object", "give {\"role\": ..., \"content\": ...}");
    chat.push_back(with_reasoning(without_nulls(message)));
  }
  all["messages"] = std::move(chat);
  all["add_generation_prompt"] = add_generation_prompt;

  std::vector<std::pair<std::string, Value>> values;
  try {
    for (const auto& [name, value] : all.items()) values.emplace_back(name, text::jinja::from_json(value));
  } catch (const text::jinja::Problem& problem) {
    refuse(problem.what, "change the messages or the template's variables");
  }
  text::jinja::Output output = text::jinja::run(impl_->body, values, impl_->where);
  return {.text = std::move(output.text), .generated = std::move(output.generated)};
}

}  // namespace deltaw
