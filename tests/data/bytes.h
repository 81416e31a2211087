// A tokenizer of single bytes with two special tokens, and chat templates written by hand.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "deltaw/text_data.h"

namespace deltaw::test {

inline constexpr int64_t kEnd = 256;      // <end>, the end of a text
inline constexpr int64_t kTurnEnd = 257;  // <turn>, the end of a turn

/// The character that stands for a byte in byte-level vocabularies.
inline std::string byte_name(int byte) {
  const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174);
  int point = byte;
  if (!itself) {
    point = 256;
    for (int other = 0; other < byte; ++other) {
      point += !((other >= 33 && other <= 126) || (other >= 161 && other <= 172) || other >= 174);
    }
  }
  if (point < 128) return {static_cast<char>(point)};
  return {static_cast<char>(0xC0 | (point >> 6)), static_cast<char>(0x80 | (point & 63))};
}

/// Ids 0 to 255 are the bytes.
inline Tokenizer byte_tokenizer(const std::filesystem::path& folder) {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[byte_name(byte)] = byte;
  const auto added = [](int64_t id, const char* content) {
    return Json{{"id", id},        {"content", content}, {"special", true},    {"single_word", false},
                {"lstrip", false}, {"rstrip", false},    {"normalized", false}};
  };
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}};
  const Json file = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", Json::array({added(kEnd, "<end>"), added(kTurnEnd, "<turn>")})},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level},
                     {"post_processor", nullptr},
                     {"decoder", byte_level},
                     {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
  std::ofstream(folder / "tokenizer.json") << file.dump();
  return Tokenizer::from_folder(folder);
}

/// The tokens that are trained on, as text; a gap between two of them is a bar.
inline std::string trained_text(const EncodedRow& row, const Tokenizer& tokenizer) {
  std::string text;
  std::vector<int64_t> run;
  for (size_t i = 0; i <= row.ids.size(); ++i) {
    if (i < row.ids.size() && row.token_labels[i] != kNoLabel) {
      EXPECT_EQ(row.token_labels[i], row.ids[i]);
      run.push_back(row.ids[i]);
    } else if (!run.empty()) {
      text += (text.empty() ? "" : "|") + tokenizer.decode(run, false);
      run.clear();
    }
  }
  return text;
}

inline std::string said(const Json& message) {
  return message.contains("content") && message["content"].is_string() ? message["content"].get<std::string>() : "";
}

/// "user:hello<turn>\nassistant:hi<turn>\n"
inline ChatTemplate::Rendered render_turns(const Json& messages, bool prompt, const Json& variables) {
  std::string text = variables.contains("tools") ? "tools:" + variables["tools"].dump() + "\n" : "";
  for (const Json& message : messages) {
    text += message["role"].get<std::string>() + ":" + said(message) + "<turn>\n";
  }
  return {text + (prompt ? "assistant:" : ""), {}};
}

/// The same with {% generation %} around answers and their ends.
inline ChatTemplate::Rendered render_marked(const Json& messages, bool prompt, const Json&) {
  ChatTemplate::Rendered result;
  for (const Json& message : messages) {
    result.text += message["role"].get<std::string>() + ":";
    const size_t begin = result.text.size();
    result.text += said(message) + "<turn>";
    if (message["role"] == "assistant") result.generated.emplace_back(begin, result.text.size());
    result.text += "\n";
  }
  if (prompt) result.text += "assistant:";
  return result;
}

/// Answers before the last user message lose what they thought, as Qwen3's do; a last answer always has a thought.
inline ChatTemplate::Rendered render_thoughts(const Json& messages, bool prompt, const Json&) {
  size_t last_user = 0;
  for (size_t i = 0; i < messages.size(); ++i) last_user = messages[i]["role"] == "user" ? i : last_user;
  std::string text;
  for (size_t i = 0; i < messages.size(); ++i) {
    const bool thinks = messages[i]["role"] == "assistant" && i > last_user;
    text += messages[i]["role"].get<std::string>() + ":" + (thinks ? "(thought)" : "") + said(messages[i]) + "<turn>\n";
  }
  return {text + (prompt ? "assistant:" : ""), {}};
}

/// A text that is no prompt closes with the end token, as Phi-3's does.
inline ChatTemplate::Rendered render_closed(const Json& messages, bool prompt, const Json&) {
  std::string text;
  for (const Json& message : messages) {
    text += "<" + message["role"].get<std::string>() + ">" + said(message) + "<turn>\n";
  }
  return {text + (prompt ? "<assistant>" : "<end>"), {}};
}

/// The prompt opens a thought that answers in the history do not have, as DeepSeek-R1's does.
inline ChatTemplate::Rendered render_opened(const Json& messages, bool prompt, const Json& variables) {
  ChatTemplate::Rendered result = render_turns(messages, prompt, variables);
  if (prompt) result.text += "(";
  return result;
}

}  // namespace deltaw::test
