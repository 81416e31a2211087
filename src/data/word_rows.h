// Files of words with tags to rows of a token classifier.
//
//   file -> WordDataset (words, a class each) -> WordTokens (data/encode_words.h) -> windows
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/data.h"

namespace deltaw::data {

struct WordRow {
  std::vector<std::string> words = {};
  std::vector<int64_t> labels = {};  // of each word the number of its class; none where the set is not labelled
  std::string text = {};             // of a row that nobody has split into words
  bool is_text = false;
  int64_t line = 0;  // in its file, from 1; of a JSON array, the item; of columns, the row
  Json id = nullptr;
};

struct WordDataset {
  std::filesystem::path file = {};  // or what the messages call several
  std::vector<WordRow> rows = {};
  std::vector<std::string> warnings = {};  // one sentence each
};

struct WordData {
  LabelSet labels;
  bool new_head = false;  // the stored head does not know these labels
  WordDataset train;
  WordDataset validation;  // no rows where there is neither a validation file nor a validation_split
  std::vector<std::string> warnings = {};
};

/// Reads the training and validation rows that the options name. .txt, .conll, .iob, .bio and .tsv have a word a line
/// (data/tagged_text.h); .jsonl, .json, .parquet and .arrow a list of words a row and a list of as many tags, names or
/// class numbers. text_column and label_column name the two; else they are `tokens` or `words`, and `ner_tags`, `tags`
/// or `labels`; of lines the first and the last column.
///
/// Labels are chosen as load_training_data chooses those of a classifier.
///
/// Throws config.no-data, config.no-files, config.unknown-task, config.dataset-dir, config.file-format,
/// config.missing-column, config.head-labels, config.label-names, config.encoding; format.*; data.empty-file,
/// data.field-count, data.tag-count, data.not-words, data.missing-label, data.unknown-label, data.one-label,
/// data.too-few-rows; io.not-found.
WordData load_word_data(const DataOptions& options, uint64_t seed, const HeadLabels& head);

/// One split for a model whose labels are known, as load_split.
WordDataset load_word_split(const DataOptions& options, Split split, const LabelSet& labels, Labels use, uint64_t seed);

/// Any other files. Where labels are not needed, a row may have a text in place of words.
WordDataset load_words(const DataFiles& files, const DataOptions& options, const LabelSet& labels, Labels use);

}  // namespace deltaw::data
