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
};

struct EncodeOptions {
  bool add_special_tokens = true;
  /// Tokens, special ones included; 0 is no limit. Pairs lose tokens from the longer text first.
  int64_t max_length = 0;
};

class Tokenizer {
 public:
  /// Reads `tokenizer.json`; where it is missing, `vocab.txt` (WordPiece) or `vocab.json` + `merges.txt` (byte-level
  /// BPE), with `tokenizer_config.json` and `special_tokens_map.json` where they stand beside it.
  /// Throws format.* naming file and part for what it does not implement, io.not-found when there is nothing to read.
  static Tokenizer from_folder(const std::filesystem::path& folder);

  /// Reads one `tokenizer.json`.
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
  bool pads_left() const;                 // padding_side of tokenizer_config.json

  /// The files this tokenizer was read from, to be copied beside an adapter or a merged model.
  const std::vector<std::filesystem::path>& files() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace deltaw
