// Text to token ids and back, as the Hugging Face tokenizers library does it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deltaw {

/// One encoded text or pair. All vectors have one entry per token.
struct Encoding {
  std::vector<int64_t> ids;
  std::vector<int64_t> type_ids;                     // 0 for the first text, 1 for the second where the model says so
  std::vector<std::string> tokens;                   // as in the vocabulary
  std::vector<std::pair<int64_t, int64_t>> offsets;  // [begin, end) in code points of the text the token is from
  std::vector<uint8_t> special;                      // 1 for tokens that the template added
  /// The number of the piece that the token comes from, from 0 in each text, as the pre-tokenizer cut it; -1: special.
  std::vector<int64_t> words = {};
  bool truncated = false;  // tokens were left out for max_length
};

struct EncodeOptions {
  bool add_special_tokens = true;
  /// Tokens, special ones included; 0 is no limit. Pairs lose tokens from the longer text first.
  int64_t max_length = 0;
};

class Tokenizer {
 public:
  /// Reads `tokenizer.json`; where it is missing, `vocab.txt` (WordPiece), `vocab.json` + `merges.txt` (byte-level BPE)
  /// or a SentencePiece model (`tokenizer.model`, `spiece.model`), with `tokenizer_config.json`,
  /// `special_tokens_map.json` and `added_tokens.json` where they stand beside it. Tokens that only these name are
  /// added after the vocabulary, in transformers' order; format.vocabulary where one has no id. `add_bos_token` and
  /// `add_eos_token` of the configuration replace the tokens that the file would add.
  /// `folder` may be a GGUF file. `model_folder` (default: `folder`) is that of the config.json which settles
  /// gives_type_ids() where the tokenizer's own files are silent.
  /// Throws format.* naming file and part for what it does not implement, io.not-found when there is nothing to read.
  static Tokenizer from_folder(const std::filesystem::path& folder, const std::filesystem::path& model_folder = {});

  /// Reads one `tokenizer.json`, or a GGUF file.
  static Tokenizer from_file(const std::filesystem::path& file);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Encodes one text or a pair. Safe to call from several threads. Invalid UTF-8 becomes U+FFFD.
  Encoding encode(std::string_view text, const EncodeOptions& options = {}) const;
  Encoding encode(std::string_view text, std::string_view pair, const EncodeOptions& options = {}) const;

  std::string decode(const std::vector<int64_t>& ids, bool skip_special_tokens = true) const;

  int64_t vocab_size() const;  // added tokens included
  std::optional<int64_t> token_to_id(std::string_view token) const;
  std::optional<std::string> id_to_token(int64_t id) const;

  std::optional<int64_t> pad_id() const;  // of tokenizer_config.json, special_tokens_map.json or the usual names
  std::optional<int64_t> bos_id() const;  // likewise
  std::optional<int64_t> eos_id() const;
  std::optional<int64_t> mask_id() const;
  bool pads_left() const;      // padding_side of tokenizer_config.json
  int64_t max_length() const;  // model_max_length likewise; 0 where there is none, or one that stands for none
  bool prepends_bos() const;   // whether encode() with special tokens begins a text with bos_id()
  bool appends_eos() const;    // whether it ends one with eos_id()
  bool is_special(int64_t id) const;
  bool is_added(int64_t id) const;  // special or not, it is found as a whole wherever a text holds it
  /// Whether transformers' tokenizer hands Encoding::type_ids to the model: by model_input_names of
  /// tokenizer_config.json, else by the tokenizer's class, which config.json tells where that file does not. True where
  /// no file says anything.
  bool gives_type_ids() const;

  /// Adds tokens after the vocabulary, as transformers' add_tokens (add_special_tokens where `special`); one that is
  /// there already keeps its id, and becomes special where asked. Returns how many are new. Not to be called while
  /// another thread encodes. Throws config.token for an empty one.
  int64_t add_tokens(const std::vector<std::string>& tokens, bool special);

  /// Writes tokenizer.json, with the tokens added since, and the configuration files beside it, for transformers and
  /// from_folder() to read with the same ids. Reads what it was made of again. Throws io.*.
  void save(const std::filesystem::path& folder) const;

  /// The files it was read from, to be copied beside an adapter; none of a GGUF file, of which save() writes it alone.
  const std::vector<std::filesystem::path>& files() const;

 private:
  friend class TextStream;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The text as a row of a language model: with the tokens that the tokenizer puts around a text, but for the begin and
/// the end token where the text spells them itself, as exported chats do.
Encoding encode_row(const Tokenizer& tokenizer, std::string_view text, bool add_special_tokens = true);

/// The text of a growing list of ids, handed out as soon as no later id can change it. All parts together are what
/// decode() makes of all ids. Costs time in proportion to the number of ids.
class TextStream {
 public:
  /// `tokenizer` must outlive the stream.
  explicit TextStream(const Tokenizer& tokenizer, bool skip_special_tokens = true);

  /// The text that `id` adds: valid UTF-8, empty within a character.
  std::string put(int64_t id);

  /// The rest, such as a character that was never finished. The stream may then be used anew.
  std::string end();

 private:
  std::string take();

  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::vector<std::string> tokens_;  // from the last ones that were handed out on
  size_t done_ = 0;                  // tokens of these that were handed out
};

}  // namespace deltaw
