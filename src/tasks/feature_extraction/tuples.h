// Files of texts that belong together: pairs, pairs with negatives, pairs with a score.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deltaw/data.h"

namespace deltaw::feature_extraction {

struct Tuple {
  std::vector<std::string> texts;
  double score = 0;  // as the file has it
  int64_t line = 0;
  Json id = nullptr;
};

struct Tuples {
  std::filesystem::path file = {};        // or what the messages call several
  std::vector<std::string> columns = {};  // of the texts; each row has one of each
  std::string score_column = {};          // empty: there are no scores
  std::vector<Tuple> rows = {};

  bool scored() const { return !score_column.empty(); }
};

enum class Wanted {
  tuples,  // two texts a row at least, and the scores that the file has
  texts,   // any number of texts from one on; scores are not looked at
};

/// The columns are those that text_column, text_pair_column and label_column name, or the task's; else `anchor` and
/// `positive`, with `negative`, `negative_1`, `negative_2`, ... as far as there are any; `sentence1` and `sentence2`,
/// `sentence_A` and `sentence_B`, `text1` and `text2`, `question` and `answer`; of single texts `sentence` or `text`.
/// The score of a pair is the column `score`, `scores`, `label` or `labels`.
///
/// Throws config.text-column where no such columns are there, config.missing-column, config.unknown-task for a task
/// without scores, data.not-text, data.not-a-number; and what reading a table throws.
Tuples read_tuples(const DataFiles& files, const DataOptions& data, Wanted wanted);

/// The rows of a split; with validation_split as hold_out parts them. Throws config.no-data.
Tuples read_split(const DataOptions& data, Split split, uint64_t seed, Wanted wanted = Wanted::tuples);

/// The score that stands for a cosine of 1: `asked`, where that is above 0, else the highest of the task, else 1.
double highest_score(const DataOptions& data, double asked);

}  // namespace deltaw::feature_extraction
