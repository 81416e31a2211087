// What a tokenizer is read from: tokenizer.json, or older files turned into the same form.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer/tokenizer_value.h"

namespace deltaw::text {

/// Throws io.not-found, format.json with the position.
TokenizerJson read_tokenizer_json(const std::filesystem::path& file);

/// The special tokens of a tokenizer, in transformers' order.
inline constexpr const char* kSpecialNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                "pad_token", "cls_token", "mask_token"};

/// tokenizer_config.json, special_tokens_map.json and added_tokens.json of a folder, empty objects where they are
/// missing; or what a GGUF file holds, as a tokenizer_config.json.
struct TokenizerConfig {
  std::filesystem::path folder = {};        // or a GGUF file
  std::filesystem::path model_folder = {};  // that of the model's config.json; empty: `folder`
  TokenizerJson config = TokenizerJson::object();
  TokenizerJson special_tokens = TokenizerJson::object();
  TokenizerJson added = TokenizerJson::object();
  std::vector<std::filesystem::path> files = {};

  /// Content of a special token such as "pad_token"; nothing where no file names it.
  std::optional<std::string> token(const std::string& name) const;
  /// What is written under that key. special_tokens_map.json wins, as in transformers; where tokenizer_config.json has
  /// added_tokens_decoder, the other file counts for nothing.
  std::optional<TokenizerValue> entry(const std::string& name) const;
  bool has_decoder() const;  // added_tokens_decoder
  /// Tokens of other keys that end in "_token" and of an object under extra_special_tokens, in the order of the files.
  std::vector<TokenizerValue> other_names() const;

  std::string path(const char* file) const { return (folder / file).string(); }
  TokenizerValue reader() const { return {config, path("tokenizer_config.json")}; }

  /// Where these tokens stand: the file (tokenizer_config.json where `first`) and one or two keys.
  struct OtherName {
    bool first;
    std::vector<std::string> keys;
  };
  std::vector<OtherName> others = {};
};

/// `folder` may be a GGUF file (io/gguf.h), here and below.
TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder);

/// The class of transformers: by tokenizer_config.json, else by the model_type of the model's config.json where the
/// files alone do not tell ("XLMRobertaTokenizer"); less an ending "Fast". Empty where nothing says. The model_type
/// siglip2 means its own class whatever the other file says, as in transformers.
std::string tokenizer_class(const TokenizerConfig& config);

/// The tokenizer.json that transformers would write for `vocab.txt`: MPNet's by its class, else BERT's.
TokenizerJson from_vocab_txt(const std::filesystem::path& folder, const TokenizerConfig& config);

/// The tokenizer.json that transformers would write for `vocab.json` and `merges.txt`: GPT-2's, RoBERTa's, Qwen2's or
/// CLIP's by tokenizer_class(), else CLIP's where the vocabulary has <|startoftext|>, RoBERTa's where it has <s> and
/// </s>. Throws format.unsupported for others.
TokenizerJson from_vocab_json(const std::filesystem::path& folder, const TokenizerConfig& config);

/// The tokenizer.json that transformers would write for a SentencePiece model: Llama's, Gemma's, ALBERT's, T5's,
/// XLM-RoBERTa's, DeBERTa-v2's or SigLIP's by tokenizer_class(), else by what the model holds; of DeBERTa-v2 with the
/// model's own normaliser, as before transformers 5. Throws format.sentencepiece, format.unsupported.
TokenizerJson from_sentencepiece(const std::filesystem::path& file, const TokenizerConfig& config);
struct SentencePieceModel;
/// The same for a model from elsewhere, which errors name by `where`.
TokenizerJson from_sentencepiece(const SentencePieceModel& model, const TokenizerConfig& config,
                                 const std::string& where);

/// Whether a tokenizer, or its chat template, is read from a file of this name.
bool is_tokenizer_name(const std::string& name);

/// The files that `folder`'s tokenizer is read from, the first form of those that from_folder() names; empty for none.
/// With `first`, that file alone where it is there.
std::vector<std::filesystem::path> tokenizer_sources(const std::filesystem::path& folder, const char* first = nullptr);

/// What `folder` holds of a tokenizer, as a tokenizer.json, and the files it was read from: none for a GGUF file, which
/// is no file of a tokenizer alone. Throws io.not-found.
struct TokenizerSource {
  TokenizerJson json;
  std::string name;  // for errors
  std::vector<std::filesystem::path> files;
};
TokenizerSource read_tokenizer_source(const std::filesystem::path& folder, const TokenizerConfig& config);

}  // namespace deltaw::text
