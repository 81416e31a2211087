// The parts of a tokenizer, put together.
#pragma once

#include <initializer_list>
#include <mutex>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/tokenizer_files.h"
#include "text/tokenizer/word_cache.h"

namespace deltaw {

using namespace text;  // NOLINT: the parts that the files with this header put together

struct Tokenizer::Impl {
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::unique_ptr<Model> model;
  std::unique_ptr<PostProcessor> post_processor;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<AddedTokens> added;
  std::optional<int64_t> pad_id;
  std::optional<int64_t> bos_id;
  std::optional<int64_t> eos_id;
  std::optional<int64_t> mask_id;
  std::vector<AddedToken> more;  // added by add_tokens(), in order
  bool pads_left = false;
  int64_t max_length = 0;
  bool gives_type_ids = true;
  std::vector<std::filesystem::path> files;
  std::filesystem::path home;          // the folder or GGUF file that it was read from
  std::filesystem::path model_folder;  // as it was given

  // Caches that no call uses at the moment.
  std::mutex idle_mutex;
  std::vector<std::unique_ptr<WordCache>> idle;

  Impl(const TokenizerJson& json, const std::string& file);

  Encoding encode_text(std::string_view text, int64_t type_id);
  Encoding finish(std::vector<Encoding> parts, const EncodeOptions& options) const;
  void encode_piece(const Pieces& pieces, const Piece& piece, WordCache& cache, Encoding& out) const;
  void encode_word(std::string_view word, uint32_t begin, const Pieces& pieces, WordCache& cache, Encoding& out) const;
  void configure(const TokenizerConfig& config);
  std::pair<bool, bool> surroundings() const;
  std::optional<int64_t> named(const TokenizerConfig& config, const char* name,
                               std::initializer_list<const char*> usual) const;
  const std::string* shown(int64_t id, bool skip_special_tokens) const;
  std::string join(std::vector<std::string> tokens) const;
  std::optional<int64_t> token_to_id(std::string_view token) const;
  int64_t next_id() const;
};

}  // namespace deltaw
