// Files of texts to rows that tokens can be masked in.
#pragma once

#include <cstdint>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/options.h"
#include "deltaw/tokenizer.h"
#include "tasks/fill_mask/masking.h"

namespace deltaw::fill_mask {

/// The name is that of transformers' run_mlm.py.
struct RowOptions {
  bool line_by_line = false;

  void fields(FieldVisitor& f);
};

/// The texts of files of one kind: lines of text, blank ones left out, or rows with the columns of the options. Throws
/// config.file-format for both kinds together, and what load_file throws.
Dataset read_texts(const DataFiles& files, const DataOptions& data);

/// The texts of a split; those that validation_split holds out where there is no validation file. Throws config.no-data
/// where nothing names the files.
Dataset read_split(const DataOptions& data, Split split, uint64_t seed);

struct EncodedTexts {
  std::vector<EncodedRow> rows = {};
  std::vector<Units> units = {};  // of each row
  int64_t left_out = 0;           // texts without a token that may be masked
};

struct EncodeTexts {
  int64_t max_length = 0;     // tokens of a row; 0: no limit
  bool line_by_line = false;  // a text is a row; else all of them, with their special tokens, are cut into blocks
  bool whole_words = false;   // units are words
  int64_t most = 0;           // rows at most; 0: all
};

/// A text that is longer than max_length loses its end; of blocks, the last one may be shorter.
EncodedTexts encode_texts(const Dataset& texts, const Tokenizer& tokenizer, const EncodeTexts& options);

}  // namespace deltaw::fill_mask
