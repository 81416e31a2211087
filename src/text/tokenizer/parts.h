// The five kinds of parts a tokenizer is made of. Each kind has one table from the file's type names to builders.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "deltaw/tokenizer.h"
#include "text/tokenizer/pieces.h"
#include "text/tokenizer/tokenizer_value.h"
#include "text/tokenizer/vocabulary.h"

namespace deltaw::text {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void normalize(Aligned& text) const = 0;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Cuts every piece that is no added token into smaller ones; may rewrite the buffer.
  virtual void cut(Pieces& pieces) const = 0;
};

/// A token of one word: bytes [begin, end) of the word.
struct WordToken {
  int32_t id;
  uint32_t begin;
  uint32_t end;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual void tokenize(std::string_view word, std::vector<WordToken>& out) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;

  /// The id whose token in an Encoding is the text it stands for, not the vocabulary's piece; -1: none.
  virtual int32_t shown_as_text() const { return -1; }

  /// Whether no token reaches across a place where U+2581 follows another character, so that a text may be cut there.
  virtual bool cuts_before_blanks() const { return false; }
};

class PostProcessor {
 public:
  virtual ~PostProcessor() = default;
  virtual int64_t added_tokens(bool is_pair) const = 0;
  /// `parts` holds one encoding per text; on return the encodings that make up the result, in order.
  virtual void process(std::vector<Encoding>& parts, bool add_special_tokens) const = 0;
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual void decode(std::vector<std::string>& tokens) const = 0;

  /// Whether the text of `tokens`, which are as in the vocabulary, stays as it is whatever tokens follow: false within
  /// a character of which more bytes may come.
  virtual bool settled(const std::vector<std::string>& tokens) const {
    static_cast<void>(tokens);
    return true;
  }
};

std::unique_ptr<Normalizer> make_normalizer(const TokenizerValue& part);
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const TokenizerValue& part);
std::unique_ptr<Model> make_model(const TokenizerValue& part);
std::unique_ptr<PostProcessor> make_post_processor(const TokenizerValue& part);
std::unique_ptr<Decoder> make_decoder(const TokenizerValue& part);

// One file each.
std::unique_ptr<Model> make_wordpiece(const TokenizerValue& part);
std::unique_ptr<Model> make_wordlevel(const TokenizerValue& part);
/// Of a BPE model, beside `merges`, the rank of each where several have one: no key of the library's, never written.
inline constexpr const char* kMergeRanks = "deltaw_ranks";
std::unique_ptr<Model> make_bpe(const TokenizerValue& part);
/// Of a unigram model: each word is looked at behind this text, whose tokens are left out, and scores are added up in
/// float32, both as with SentencePiece where a program asks it so. No key of the library's, never written.
inline constexpr const char* kBehind = "deltaw_behind";
std::unique_ptr<Model> make_unigram(const TokenizerValue& part);
std::unique_ptr<Normalizer> make_bert_normalizer(const TokenizerValue& part);
/// Of a Precompiled normalizer: entries are looked for as SentencePiece does it, the longest first and anywhere,
/// instead of one for each grapheme cluster. No key of the library's, never written.
inline constexpr const char* kLongestEntries = "deltaw_longest";
/// Of a Prepend normalizer: only where the text begins, not after a special token in it. Never written.
inline constexpr const char* kAtBeginning = "deltaw_beginning";
/// Of a Lowercase normalizer: the sigma that ends a word becomes U+03C2, as in Python. Never written.
inline constexpr const char* kFinalSigma = "deltaw_final_sigma";
std::unique_ptr<Normalizer> make_precompiled(const TokenizerValue& part);
std::unique_ptr<PreTokenizer> make_metaspace(const TokenizerValue& part);
std::unique_ptr<Decoder> make_metaspace_decoder(const TokenizerValue& part);
std::unique_ptr<PreTokenizer> make_byte_level(const TokenizerValue& part);
std::unique_ptr<Decoder> make_byte_level_decoder(const TokenizerValue& part);
/// Of a TemplateProcessing: no token is put behind a text that ends with it. Never written.
inline constexpr const char* kOnce = "deltaw_once";
std::unique_ptr<PostProcessor> make_template(const TokenizerValue& part);

/// The pattern of a Split or Replace: {"String": ...} or {"Regex": ...}.
Finder make_finder(const TokenizerValue& pattern);

/// Removes the blanks around each token of a byte-level vocabulary from its offsets. With `add_prefix_space`, one
/// blank at the very start is taken for the added one.
void trim_offsets(Encoding& encoding, bool add_prefix_space);

/// Appends `more` to `encoding`.
void append(Encoding& encoding, const Encoding& more);

/// Levels of a file at which a part may stand; a Sequence in another takes two. The reference library's reader stops at
/// the same depth.
constexpr int kDeepestPart = 128;

/// Bytes that a text may gain by its tokenizer, and a token by each step of the decoder, however short they are.
constexpr size_t kMostGrowth = size_t{1} << 24;
/// Throws format.tokenizer-growth where a step makes more than `most` bytes: a file can double a text step by step, far
/// beyond any memory.
void check_growth(size_t bytes, size_t most);

/// One row of a table from type names to builders.
template <class Part>
struct PartKind {
  const char* type;
  std::unique_ptr<Part> (*make)(const TokenizerValue&);
};

template <class Part, size_t size>
std::unique_ptr<Part> make_part(const TokenizerValue& part, const char* what, const PartKind<Part> (&kinds)[size]) {
  if (part.depth() > kDeepestPart) {
    part.fail(std::string("a ") + what + " inside others, more than " + std::to_string(kDeepestPart) + " levels deep");
  }
  const std::string type = part.text("type");
  for (const PartKind<Part>& kind : kinds) {
    if (type == kind.type) return kind.make(part);
  }
  std::string known;
  for (const PartKind<Part>& kind : kinds) known += std::string(known.empty() ? "" : ", ") + kind.type;
  part.unsupported(std::string("the ") + what + " \"" + type + "\" is not implemented; implemented are " + known);
}

}  // namespace deltaw::text
