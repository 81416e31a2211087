#include "text/tokenizer/tokenizer_files.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/files.h"
#include "core/json.h"
#include "io/gguf.h"
#include "text/convert/gguf_tokenizer.h"
#include "text/convert/image_text.h"
#include "text/convert/vocabulary_files.h"
#include "text/tokenizer/named_tokens.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text {
namespace {

constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kSpecialTokens = "special_tokens_map.json";
constexpr const char* kAddedTokens = "added_tokens.json";
// What a tokenizer is read from, in the order of preference.
const std::vector<std::vector<std::string>> kForms = {
    {"tokenizer.json"}, {"vocab.txt"}, {"vocab.json", "merges.txt"}, {"tokenizer.model"},
    {"spiece.model"},   {"spm.model"}, {"sentencepiece.bpe.model"}};

std::string_view without_end(std::string_view line) {
  while (!line.empty()) {
    const size_t last = last_start(line);
    if (!is_space(decode(line, last).value)) break;
    line = line.substr(0, last);
  }
  return line;
}

/// Lines of a text; a last one without a line end counts.
std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    if (lines.back().ends_with('\r')) lines.back().remove_suffix(1);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

TokenizerJson byte_level(bool add_prefix_space, bool use_regex = true) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

TokenizerJson qwen_pre_tokenizer() {
  return {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"},
         {"pattern",
          {{"Regex",
            R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
         {"behavior", "Isolated"},
         {"invert", false}},
        byte_level(false, false)}}};
}

enum class Family { kGpt2, kRoberta, kQwen2, kClip };

Family family_of(const TokenizerConfig& config, const TokenizerJson& vocabulary) {
  const TokenizerValue reader(config.config, "tokenizer_config.json");
  const std::string name = reader.text("tokenizer_class", "");
  if (name.starts_with("GPT2")) return Family::kGpt2;
  if (name.starts_with("Roberta")) return Family::kRoberta;
  if (name.starts_with("Qwen2")) return Family::kQwen2;
  if (tokenizer_class(config) == kClipTokenizer) return Family::kClip;
  if (!name.empty()) {
    reader.at("tokenizer_class")
        .unsupported(fmt::format("\"{}\" needs a tokenizer.json; from vocab.json and merges.txt GPT2Tokenizer, "
                                 "RobertaTokenizer, Qwen2Tokenizer and CLIPTokenizer can be built",
                                 name));
  }
  if (vocabulary.contains("<|startoftext|>")) return Family::kClip;
  return vocabulary.contains("<s>") && vocabulary.contains("</s>") ? Family::kRoberta : Family::kGpt2;
}

bool is_token(const Json& value) {
  return value.is_string() || (value.is_object() && value.contains("content"));
}

void add_other_names(const Json& file, bool first, std::vector<TokenizerConfig::OtherName>& others) {
  for (const auto& [key, value] : file.items()) {
    const bool special = std::find(std::begin(kSpecialNames), std::end(kSpecialNames), key) != std::end(kSpecialNames);
    if (key.ends_with("_token") && !special && is_token(value)) others.push_back({first, {key}});
  }
  const auto extra = file.find("extra_special_tokens");
  if (extra == file.end() || !extra->is_object()) return;
  for (const auto& [key, value] : extra->items()) others.push_back({first, {"extra_special_tokens", key}});
}

std::string content_of(const TokenizerConfig& config, const char* name, const char* otherwise) {
  return config.token(name).value_or(otherwise);
}

}  // namespace

TokenizerJson read_tokenizer_json(const std::filesystem::path& file) {
  return parse_sorted_json(read_file(file), file.string());
}

bool TokenizerConfig::has_decoder() const {
  return reader().has("added_tokens_decoder");
}

std::optional<TokenizerValue> TokenizerConfig::entry(const std::string& name) const {
  const TokenizerValue map(special_tokens, path("special_tokens_map.json"));
  if (!has_decoder() && map.has(name)) return map.at(name);
  return reader().has(name) ? std::optional(reader().at(name)) : std::nullopt;
}

std::optional<std::string> TokenizerConfig::token(const std::string& name) const {
  const auto found = entry(name);
  if (!found) return std::nullopt;
  return found->json().is_object() ? found->text("content") : found->text();
}

std::vector<TokenizerValue> TokenizerConfig::other_names() const {
  std::vector<TokenizerValue> result;
  for (const OtherName& other : others) {
    if (!other.first && has_decoder()) continue;
    TokenizerValue token = other.first ? reader() : TokenizerValue(special_tokens, path("special_tokens_map.json"));
    for (const std::string& key : other.keys) token = token.at(key);
    result.push_back(std::move(token));
  }
  return result;
}

TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder) {
  if (io::is_gguf(folder)) return gguf_tokenizer_config(io::GgufFile(folder));
  TokenizerConfig result{.folder = folder};
  for (auto [name, json] : {std::pair{kConfig, &result.config}, std::pair{kSpecialTokens, &result.special_tokens},
                            std::pair{kAddedTokens, &result.added}}) {
    const std::filesystem::path file = folder / name;
    if (!std::filesystem::exists(file)) continue;
    const Json ordered = parse_json(read_file(file), file.string());
    *json = ordered;
    if (!json->is_object()) TokenizerValue(*json, file.string()).fail("expected an object");
    result.files.push_back(file);
    if (json != &result.added) add_other_names(ordered, json == &result.config, result.others);
  }
  return result;
}

bool is_tokenizer_name(const std::string& name) {
  if (name == kConfig || name == kSpecialTokens || name == kAddedTokens || name == "chat_template.jinja") return true;
  return std::any_of(std::begin(kForms), std::end(kForms),
                     [&](const auto& form) { return std::find(form.begin(), form.end(), name) != form.end(); });
}

std::vector<std::filesystem::path> tokenizer_sources(const std::filesystem::path& folder, const char* first) {
  if (first != nullptr && std::filesystem::exists(folder / first)) return {folder / first};
  for (const auto& form : kForms) {
    std::vector<std::filesystem::path> files;
    for (const std::string& name : form) {
      if (std::filesystem::exists(folder / name)) files.push_back(folder / name);
    }
    if (files.size() == form.size()) return files;
  }
  return {};
}

TokenizerSource read_tokenizer_source(const std::filesystem::path& folder, const TokenizerConfig& config) {
  if (io::is_gguf(folder)) return {from_gguf(io::GgufFile(folder), config), folder.string(), {}};
  // transformers' SiglipTokenizer reads nothing but its SentencePiece model.
  const char* const first = tokenizer_class(config) == kSiglipTokenizer ? "spiece.model" : nullptr;
  const std::vector<std::filesystem::path> files = tokenizer_sources(folder, first);
  if (files.empty()) {
    throw Error{
        {.id = "io.not-found",
         .what = "there is no tokenizer.json, no vocab.txt, no vocab.json with merges.txt and no SentencePiece model",
         .where = folder.string(),
         .fix = "copy the tokenizer's files of the checkpoint into this folder"}};
  }
  const std::filesystem::path& file = files.front();
  if (files.size() > 1) {
    return {from_vocab_json(folder, config), "vocab.json with merges.txt of " + folder.string(), files};
  }
  if (file.extension() == ".model") return {from_sentencepiece(file, config), file.string(), files};
  if (file.extension() == ".txt") return {from_vocab_txt(folder, config), file.string(), files};
  TokenizerSource source{read_tokenizer_json(file), file.string(), files};
  add_class_parts(source.json, config);
  add_named_tokens(source.json, config);
  return source;
}

std::string tokenizer_class(const TokenizerConfig& config) {
  std::string name = config.reader().text("tokenizer_class", "");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  const std::filesystem::path file =
      (config.model_folder.empty() ? config.folder : config.model_folder) / "config.json";
  if (!std::filesystem::exists(file)) return name;
  static const std::map<std::string, std::string> kClasses = {
      {"clip", kClipTokenizer},     {"deberta-v2", "DebertaV2Tokenizer"}, {"mpnet", "MPNetTokenizer"},
      {"siglip", kSiglipTokenizer}, {"siglip2", kSiglip2Tokenizer},       {"xlm-roberta", "XLMRobertaTokenizer"}};
  const TokenizerJson json = read_tokenizer_json(file);
  if (!json.is_object()) return name;  // the model's reader says so
  const auto found = kClasses.find(TokenizerValue(json, file.string()).text("model_type", ""));
  const bool known = found != kClasses.end() && (name.empty() || found->second == kSiglip2Tokenizer);
  return known ? found->second : name;
}

TokenizerJson from_vocab_txt(const std::filesystem::path& folder, const TokenizerConfig& config) {
  const std::filesystem::path file = folder / "vocab.txt";
  const std::string text = repaired(read_file(file));
  TokenizerJson vocabulary = TokenizerJson::object();
  int64_t id = 0;
  for (const std::string_view line : lines_of(text)) {
    const auto [at, is_new] = vocabulary.emplace(std::string(without_end(line)), id);
    if (!is_new) {
      TokenizerValue(vocabulary, file.string())
          .fail(fmt::format("lines {} and {} hold the same piece \"{}\"", at->get<int64_t>() + 1, id + 1, at.key()));
    }
    ++id;
  }
  const TokenizerValue settings(config.config, "tokenizer_config.json");
  AddedList added(vocabulary, config);
  const bool mpnet = tokenizer_class(config) == "MPNetTokenizer";
  TokenizerJson defaults = {{"unk_token", "[UNK]"},
                            {"sep_token", "[SEP]"},
                            {"pad_token", "[PAD]"},
                            {"cls_token", "[CLS]"},
                            {"mask_token", "[MASK]"}};
  if (mpnet) {
    defaults = {{"bos_token", "<s>"},
                {"eos_token", "</s>"},
                {"unk_token", "[UNK]"},
                {"sep_token", "</s>"},
                {"pad_token", "<pad>"},
                {"cls_token", "<s>"},
                {"mask_token", {{"content", "<mask>"}, {"lstrip", true}}}};
  }
  const TokenizerJson ids = add_special_tokens(added, config, defaults);
  const std::string cls = content_of(config, "cls_token", mpnet ? "<s>" : "[CLS]");
  const std::string sep = content_of(config, "sep_token", mpnet ? "</s>" : "[SEP]");
  const TokenizerJson single = {place("SpecialToken", cls, 0), place("Sequence", "A", 0),
                                place("SpecialToken", sep, 0)};
  TokenizerJson pair = single;
  pair.push_back(place("Sequence", "B", 1));
  pair.push_back(place("SpecialToken", sep, 1));
  TokenizerJson strip_accents;
  if (settings.has("strip_accents")) strip_accents = settings.flag("strip_accents");
  return {{"added_tokens", added.take()},
          {"normalizer",
           {{"type", "BertNormalizer"},
            {"clean_text", true},
            {"handle_chinese_chars", settings.flag("tokenize_chinese_chars", true)},
            {"strip_accents", strip_accents},
            {"lowercase", settings.flag("do_lower_case", true)}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor",
           mpnet ? TokenizerJson{{"type", "RobertaProcessing"},
                                 {"sep", {sep, ids["sep_token"]}},
                                 {"cls", {cls, ids["cls_token"]}},
                                 {"trim_offsets", true},
                                 {"add_prefix_space", false}}
                 : TokenizerJson{{"type", "TemplateProcessing"},
                                 {"single", single},
                                 {"pair", pair},
                                 {"special_tokens", marks({{cls, ids["cls_token"]}, {sep, ids["sep_token"]}})}}},
          {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
          {"model",
           {{"type", "WordPiece"},
            {"unk_token", content_of(config, "unk_token", "[UNK]")},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 100},
            {"vocab", std::move(vocabulary)}}}};
}

TokenizerJson from_vocab_json(const std::filesystem::path& folder, const TokenizerConfig& config) {
  TokenizerJson vocabulary = read_tokenizer_json(folder / "vocab.json");
  if (!vocabulary.is_object()) TokenizerValue(vocabulary, (folder / "vocab.json").string()).fail("expected an object");
  TokenizerJson merges = TokenizerJson::array();
  const std::string text = repaired(read_file(folder / "merges.txt"));
  for (const std::string_view line : lines_of(text)) {
    if (!line.empty()) merges.push_back(std::string(line));
  }
  const TokenizerValue settings(config.config, "tokenizer_config.json");
  const Family family = family_of(config, vocabulary);
  const bool add_prefix_space = settings.flag("add_prefix_space", false);
  TokenizerJson defaults = {{"unk_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}};
  if (family == Family::kGpt2) defaults["bos_token"] = "<|endoftext|>";
  if (family == Family::kQwen2) defaults["pad_token"] = "<|endoftext|>";
  if (family == Family::kRoberta) {
    defaults = {{"bos_token", "<s>"},   {"eos_token", "</s>"}, {"unk_token", "<unk>"},  {"sep_token", "</s>"},
                {"pad_token", "<pad>"}, {"cls_token", "<s>"},  {"mask_token", "<mask>"}};
  }
  if (family == Family::kClip) defaults.update({{"bos_token", "<|startoftext|>"}, {"pad_token", "<|endoftext|>"}});
  AddedList added(vocabulary, config);
  const TokenizerJson ids = add_special_tokens(added, config, defaults);
  TokenizerJson result = {{"added_tokens", added.take()}, {"normalizer", nullptr}, {"decoder", byte_level(true)}};
  result["pre_tokenizer"] = family == Family::kQwen2 ? qwen_pre_tokenizer() : byte_level(add_prefix_space);
  if (family == Family::kQwen2) result["normalizer"] = {{"type", "NFC"}};
  if (family == Family::kRoberta) {
    result["post_processor"] = {{"type", "RobertaProcessing"},
                                {"sep", {content_of(config, "sep_token", "</s>"), ids["sep_token"]}},
                                {"cls", {content_of(config, "cls_token", "<s>"), ids["cls_token"]}},
                                {"trim_offsets", settings.flag("trim_offsets", true)},
                                {"add_prefix_space", add_prefix_space}};
  } else {
    const auto mark = [&](const char* flag, const char* name) -> Mark {
      if (!settings.flag(flag, false) || !ids.contains(name)) return std::nullopt;
      return std::pair{content_of(config, name, "<|endoftext|>"), ids[name].get<int64_t>()};
    };
    result["post_processor"] = plain_template(mark("add_bos_token", "bos_token"), mark("add_eos_token", "eos_token"));
  }
  result["model"] = {{"type", "BPE"}, {"vocab", std::move(vocabulary)}, {"merges", std::move(merges)}};
  if (family == Family::kClip) {
    result["normalizer"] = clip_normalizer();
    result["pre_tokenizer"] = clip_pre_tokenizer();
    result["decoder"] = clip_decoder();
    result["post_processor"] = {{"type", "RobertaProcessing"},
                                {"sep", {content_of(config, "eos_token", "<|endoftext|>"), ids["eos_token"]}},
                                {"cls", {content_of(config, "bos_token", "<|startoftext|>"), ids["bos_token"]}},
                                {"trim_offsets", false},
                                {"add_prefix_space", false}};
    result["model"].update(
        {{"unk_token", content_of(config, "unk_token", "<|endoftext|>")}, {"end_of_word_suffix", "</w>"}});
  }
  return result;
}

}  // namespace deltaw::text
