#include "text/convert/gguf_tokenizer.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "core/json_fields.h"
#include "text/convert/sentencepiece_model.h"
#include "text/convert/vocabulary_files.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text {
namespace {

using PieceType = SentencePieceModel::PieceType;  // GGUF's numbers are the same

constexpr const char* kKind = "tokenizer.ggml.model";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kWordsName = "tokenizer.ggml.pre";
constexpr const char* kTemplate = "tokenizer.chat_template";

// "seperator" is GGUF's own spelling.
constexpr std::pair<const char*, const char*> kSpecialIds[] = {
    {"bos_token", "tokenizer.ggml.bos_token_id"},     {"eos_token", "tokenizer.ggml.eos_token_id"},
    {"unk_token", "tokenizer.ggml.unknown_token_id"}, {"sep_token", "tokenizer.ggml.seperator_token_id"},
    {"pad_token", "tokenizer.ggml.padding_token_id"}, {"mask_token", "tokenizer.ggml.mask_token_id"},
};

/// The values of a file, each checked before it is used.
class Values {
 public:
  explicit Values(const io::GgufFile& file) : file_(file) {}

  template <class T>
  std::optional<T> find(const std::string& key) const {
    const Json* value = file_.find_value(key);
    if (value == nullptr) return std::nullopt;
    std::optional<T> found = json_as<T>(*value);
    if (!found) fail(key, fmt::format("expected {}, found a value of another type", json_kind<T>()));
    return found;
  }
  template <class T>
  T get(const std::string& key) const {
    std::optional<T> found = find<T>(key);
    if (!found) fail(key, "the file has no such value, which a tokenizer needs");
    return *std::move(found);
  }

  std::string where(const std::string& key) const { return file_.path().string() + ", key '" + key + "'"; }

  [[noreturn]] void fail(const std::string& key, const std::string& what) const {
    throw Error{{.id = "format.tokenizer",
                 .what = what,
                 .where = where(key),
                 .fix = "fetch the GGUF file again, or give the folder of the model's Hugging Face checkpoint as "
                        "'tokenizer'"}};
  }

 private:
  const io::GgufFile& file_;
};

/// Places that only fill up the embedding: the converter calls them [PAD32004] and so on.
bool is_filler(const std::string& text, size_t id, PieceType type) {
  return type == PieceType::kUnused && text == fmt::format("[PAD{}]", id);
}

/// Tokens by id, without those that fill up the end.
std::vector<SentencePieceModel::Piece> read_pieces(const Values& values) {
  std::vector<std::string> tokens = values.get<std::vector<std::string>>(kTokens);
  const auto scores = values.find<std::vector<double>>(kScores);
  const auto types = values.find<std::vector<int64_t>>(kTypes);
  if (tokens.empty() || tokens.size() > INT32_MAX) values.fail(kTokens, "expected at least one token");
  for (const auto& [key, size] : {std::pair{kScores, scores ? scores->size() : tokens.size()},
                                  std::pair{kTypes, types ? types->size() : tokens.size()}}) {
    if (size != tokens.size())
      values.fail(key, fmt::format("it has {} members, the tokens are {}", size, tokens.size()));
  }
  std::vector<SentencePieceModel::Piece> pieces(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) {
    const int64_t type = types ? (*types)[id] : static_cast<int64_t>(PieceType::kNormal);
    if (type < 0 || type > static_cast<int64_t>(PieceType::kByte)) {
      values.fail(kTypes, fmt::format("the type of token {} is {}, the format has 0 to 6", id, type));
    }
    pieces[id].text = tokens[id].empty() ? fmt::format("[EMPTY_{}]", id) : std::move(tokens[id]);  // as llama.cpp
    if (scores && !std::isfinite((*scores)[id])) values.fail(kScores, fmt::format("that of token {} is no number", id));
    pieces[id].score = scores ? static_cast<float>((*scores)[id]) : 0.0f;
    pieces[id].type = type == 0 ? PieceType::kNormal : static_cast<PieceType>(type);  // 0: undefined
  }
  while (pieces.size() > 1 && is_filler(pieces.back().text, pieces.size() - 1, pieces.back().type)) pieces.pop_back();
  return pieces;
}

/// The id that the key gives, where there is such a token.
std::optional<size_t> id_of(const Values& values, const char* key, size_t tokens) {
  const auto id = values.find<int64_t>(key);
  if (!id) return std::nullopt;
  if (*id < 0 || static_cast<uint64_t>(*id) >= tokens) {
    values.fail(key, fmt::format("there is no token {}; the tokens are 0 to {}", *id, tokens - 1));
  }
  return static_cast<size_t>(*id);
}

bool is_sentencepiece(const std::string& kind) {
  return kind == "llama";
}

std::string checked_kind(const Values& values) {
  std::string kind = values.get<std::string>(kKind);
  if (kind == "gpt2" || is_sentencepiece(kind)) return kind;
  throw Error{{.id = "format.unsupported",
               .what = fmt::format("a tokenizer of the kind \"{}\"; implemented are \"gpt2\" (BPE over bytes) and "
                                   "\"llama\" (SentencePiece)",
                                   kind),
               .where = values.where(kKind),
               .fix = "give the folder of the model's Hugging Face checkpoint as 'tokenizer'"}};
}

std::string words_name(const Values& values) {
  return values.find<std::string>(kWordsName).value_or("default");
}

/// A template, or a list of those with names.
TokenizerJson chat_templates(const Values& values) {
  const auto plain = values.find<std::string>(kTemplate);
  const auto names = values.find<std::vector<std::string>>("tokenizer.chat_templates");
  if (!names || names->empty()) return plain ? TokenizerJson(*plain) : TokenizerJson();
  TokenizerJson list = TokenizerJson::array();
  if (plain) list.push_back({{"name", "default"}, {"template", *plain}});
  for (const std::string& name : *names) {
    if (name == "default") continue;
    const auto text = values.find<std::string>(fmt::format("{}.{}", kTemplate, name));
    if (text) list.push_back({{"name", name}, {"template", *text}});
  }
  return list;
}

/// Phi-3's special tokens, but for these, take the blanks behind them; the name is all that a file says of it.
bool strips_behind(const Values& values, const std::string& token) {
  std::string name = values.find<std::string>("general.name").value_or("");
  for (char& letter : name) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  const bool phi3 = name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
  return phi3 && token != "<unk>" && token != "<s>" && token != "<|endoftext|>";
}

void set_stripping(TokenizerJson& added, const Values& values) {
  for (TokenizerJson& token : added) token["rstrip"] = strips_behind(values, token["content"].get<std::string>());
}

TokenizerJson from_sentencepiece_values(const Values& values, const TokenizerConfig& config, const std::string& where) {
  SentencePieceModel model{.pieces = read_pieces(values), .kind = SentencePieceModel::Kind::kBpe};
  for (SentencePieceModel::Piece& piece : model.pieces) {
    model.byte_fallback = model.byte_fallback || piece.type == PieceType::kByte;
    if (piece.type != PieceType::kUserDefined) continue;
    // The converter writes the blanks of these tokens as they stand in a text.
    for (size_t at = piece.text.find(' '); at != std::string::npos; at = piece.text.find(' ', at)) {
      piece.text.replace(at, 1, kBlank);
    }
  }
  const size_t unknown = id_of(values, "tokenizer.ggml.unknown_token_id", model.pieces.size()).value_or(0);
  model.unk_id = static_cast<int64_t>(unknown);
  model.unk_piece = model.pieces[unknown].text;
  model.add_dummy_prefix = values.find<bool>("tokenizer.ggml.add_space_prefix").value_or(true);
  model.remove_extra_whitespaces = values.find<bool>("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
  model.complete = true;
  return from_sentencepiece(model, config, where);
}

TokenizerJson from_byte_values(const Values& values, const TokenizerConfig& config) {
  const std::vector<SentencePieceModel::Piece> pieces = read_pieces(values);
  TokenizerJson vocabulary = TokenizerJson::object();
  TokenizerJson added = TokenizerJson::array();
  for (size_t id = 0; id < pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = pieces[id];
    const auto [at, is_new] = vocabulary.emplace(piece.text, id);
    if (!is_new) {
      values.fail(kTokens, fmt::format("\"{}\" is token {} and token {}", piece.text, at->get<int64_t>(), id));
    }
    const bool special = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    if (!special && piece.type != PieceType::kUserDefined) continue;
    added.push_back({{"id", id},
                     {"content", piece.text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", special}});
  }
  TokenizerJson merges = TokenizerJson::array();
  for (std::string& merge : values.get<std::vector<std::string>>(kMerges)) merges.push_back(std::move(merge));
  GgufWords words = gguf_words(words_name(values), values.where(kWordsName));
  const auto mark = [&](const char* flag, const char* name) -> Mark {
    if (!config.config.value(flag, false)) return std::nullopt;
    return std::pair{config.config[name].get<std::string>(),
                     vocabulary[config.config[name].get<std::string>()].get<int64_t>()};
  };
  return {{"added_tokens", std::move(added)},
          {"normalizer", std::move(words.normalizer)},
          {"pre_tokenizer", std::move(words.pre_tokenizer)},
          {"post_processor", plain_template(mark("add_bos_token", "bos_token"), mark("add_eos_token", "eos_token"))},
          {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", words.whole_words},
            {"vocab", std::move(vocabulary)},
            {"merges", std::move(merges)}}}};
}

}  // namespace

TokenizerConfig gguf_tokenizer_config(const io::GgufFile& file) {
  const Values values(file);
  const std::string kind = checked_kind(values);
  const std::vector<SentencePieceModel::Piece> pieces = read_pieces(values);
  TokenizerConfig result{.folder = file.path()};
  TokenizerJson& config = result.config;
  config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
            {"clean_up_tokenization_spaces", false},
            {"model_input_names", {"input_ids", "attention_mask"}}};
  const bool sentencepiece = is_sentencepiece(kind);
  if (sentencepiece) {  // where no value says so
    for (const auto& [name, id] : {std::pair{"bos_token", size_t{1}}, std::pair{"eos_token", size_t{2}}}) {
      if (id < pieces.size() && pieces[id].type == PieceType::kControl) config[name] = pieces[id].text;
    }
  }
  for (const auto& [name, key] : kSpecialIds) {
    if (const auto id = id_of(values, key, pieces.size())) config[name] = pieces[*id].text;
  }
  const bool begins = sentencepiece || gguf_words(words_name(values), values.where(kWordsName)).begins_with_bos;
  for (const auto& [flag, name, usual] :
       {std::tuple{"add_bos_token", "bos_token", begins}, std::tuple{"add_eos_token", "eos_token", false}}) {
    const std::string key = fmt::format("tokenizer.ggml.{}", flag);
    const auto wanted = values.find<bool>(key);
    if (wanted.value_or(false) && !config.contains(name)) {
      values.fail(key, fmt::format("it is true, and no value says which token the {} is", name));
    }
    config[flag] = wanted.value_or(usual) && config.contains(name);
  }
  // llama.cpp puts a blank before each part of a text between special tokens.
  if (sentencepiece) config["legacy"] = true;
  if (TokenizerJson templates = chat_templates(values); !templates.is_null())
    config["chat_template"] = std::move(templates);
  const std::string architecture = values.find<std::string>("general.architecture").value_or("");
  if (const auto length = values.find<int64_t>(architecture + ".context_length"); length && *length > 0) {
    config["model_max_length"] = *length;
  }
  return result;
}

TokenizerJson from_gguf(const io::GgufFile& file, const TokenizerConfig& config) {
  const Values values(file);
  TokenizerJson json = is_sentencepiece(checked_kind(values))
                           ? from_sentencepiece_values(values, config, file.path().string())
                           : from_byte_values(values, config);
  set_stripping(json["added_tokens"], values);
  return json;
}

}  // namespace deltaw::text
