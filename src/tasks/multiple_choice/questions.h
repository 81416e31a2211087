// Reads questions with the choices of each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deltaw/data.h"

namespace deltaw::multiple_choice {

struct ChoiceOptions {
  std::string choices_column = {};
  double max_bad_rows = 0.1;  // a share of the files' rows

  void fields(FieldVisitor& f);
};

struct ChoiceQuestion {
  std::string context;               // what a model reads before each choice; valid UTF-8
  std::vector<std::string> choices;  // as the file has them
  std::vector<std::string> texts;    // and as the model reads them: perhaps behind the second half of the question
  std::vector<std::string> names;    // that the file gives the choices ("A", "B"); none: they are counted from 0
  Json label = nullptr;              // as the file has it
  int64_t answer = 0;                // the right choice; 0 where nobody asked
  Json id = nullptr;

  /// What the file calls a choice.
  Json name(size_t choice) const { return names.empty() ? Json(choice) : Json(names[choice]); }
};

struct ChoiceSet {
  std::filesystem::path file = {};  // or what messages call several
  std::vector<ChoiceQuestion> rows = {};
  int64_t left_out = 0;                    // rows that nothing can be learned from
  std::vector<std::string> reasons = {};   // of the first of them
  std::vector<std::string> warnings = {};  // one sentence each
};

/// Reads one question a row (JSON lines, a JSON array, CSV, TSV, Parquet, Arrow), in the layouts of SWAG, HellaSwag,
/// ARC, OpenBookQA, CommonsenseQA, RACE and their like, told by the keys; docs/data.md lists them. text_column,
/// text_pair_column, label_column and choices_column name other keys than the usual ones.
///
/// A label is a choice's name in the file, its number from 0, its letter, its text or its number from 1: whichever fits
/// the most rows.
///
/// A row that nothing can be learned from is left out and counted as load_text_data does it; with Labels::ignored none
/// is. Throws config.missing-column, config.file-format, config.no-files; data.not-text, data.empty-text; data.choices
/// for fewer than two choices, or ones in another form; data.missing-label, data.unknown-label; data.empty-file;
/// format.*; io.not-found.
ChoiceSet load_questions(const DataFiles& files, const DataOptions& data, const ChoiceOptions& options, Labels use);

/// One split, as load_split: without a validation file, what validation_split holds out. Throws config.no-data and
/// config.unknown-task too.
ChoiceSet load_question_split(const DataOptions& data, const ChoiceOptions& options, Split split, Labels use,
                              uint64_t seed);

}  // namespace deltaw::multiple_choice
