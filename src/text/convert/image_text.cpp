#include "text/convert/image_text.h"

#include <utility>

#include "text/tokenizer/parts.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text {
namespace {

// Python's white space has four control characters that a regular expression's \s leaves out.
constexpr const char* kPythonBlanks = R"([\s\x1c-\x1f]+)";

TokenizerJson text(const char* pattern) {
  return {{"String", pattern}};
}

TokenizerJson regex(const std::string& pattern) {
  return {{"Regex", pattern}};
}

TokenizerJson replace(TokenizerJson pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", std::move(pattern)}, {"content", content}};
}

TokenizerJson sequence(const char* of, TokenizerJson steps) {
  return {{"type", "Sequence"}, {of, std::move(steps)}};
}

TokenizerJson lower_case() {
  return {{"type", "Lowercase"}};
}

TokenizerJson without_blanks_around() {
  return replace(regex(std::string(R"(\A)") + kPythonBlanks + "|" + kPythonBlanks + R"(\z)"), "");
}

/// `normalizer` with the lower case first, once.
void lower_first(TokenizerJson& normalizer) {
  const bool steps =
      normalizer.is_object() && normalizer.contains("normalizers") && normalizer["normalizers"].is_array();
  if (!steps) {
    TokenizerJson own = normalizer.is_null() ? TokenizerJson::array() : TokenizerJson::array({normalizer});
    normalizer = sequence("normalizers", std::move(own));
  }
  TokenizerJson& list = normalizer["normalizers"];
  if (list.empty() || list[0] != lower_case()) list.insert(list.begin(), lower_case());
}

}  // namespace

TokenizerJson clip_normalizer() {
  return sequence("normalizers", {{{"type", "NFC"}}, replace(regex(R"(\s+)"), " "), lower_case()});
}

TokenizerJson clip_pre_tokenizer() {
  const TokenizerJson words = {
      {"type", "Split"},
      {"pattern",
       regex(R"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)")},
      {"behavior", "Removed"},
      {"invert", true}};
  return sequence(
      "pretokenizers",
      {words, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}});
}

TokenizerJson clip_decoder() {
  const TokenizerJson bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  return sequence("decoders", {bytes, replace(text("</w>"), " "), without_blanks_around()});
}

TokenizerJson siglip_normalizer(const TokenizerConfig& config, const TokenizerJson& charsmap, bool removes_blanks) {
  TokenizerJson steps = {replace(text(kBlank), " "), {{"type", "Prepend"}, {"prepend", kBlank}, {kAtBeginning, true}}};
  if (config.reader().flag("do_lower_case", true)) {
    steps.push_back(lower_case());
    steps.back()[kFinalSigma] = true;
  }
  steps.push_back(replace(regex(R"([!-/:-@\[-`{-~])"), ""));
  steps.push_back(replace(regex(kPythonBlanks), " "));
  steps.push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
  if (!charsmap.is_null()) steps.push_back(charsmap);
  if (removes_blanks) {
    steps.push_back(replace(regex(std::string("[ ") + kBlank + R"(]+\z)"), ""));
    steps.push_back(replace(regex(" {2,}"), " "));
  }
  return sequence("normalizers", std::move(steps));
}

TokenizerJson siglip_decoder() {
  return sequence("decoders", {replace(text(kBlank), " "), {{"type", "Fuse"}}, without_blanks_around()});
}

void add_class_parts(TokenizerJson& json, const TokenizerConfig& config) {
  if (!json.is_object()) return;
  const std::string name = tokenizer_class(config);
  if (name == kClipTokenizer) json["decoder"] = clip_decoder();
  if (name == kSiglip2Tokenizer) lower_first(json["normalizer"]);
}

bool pads_with_end(const TokenizerConfig& config) {
  const std::string name = tokenizer_class(config);
  return name == kClipTokenizer || name == kSiglipTokenizer;
}

std::string default_padding_side(const TokenizerConfig& config) {
  return tokenizer_class(config) == kSiglip2Tokenizer ? "left" : "right";
}

}  // namespace deltaw::text
