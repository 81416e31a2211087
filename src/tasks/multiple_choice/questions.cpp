#include "tasks/multiple_choice/questions.h"

#include <fmt/format.h>

#include "data/bad_rows.h"
#include "data/find_files.h"
#include "data/hold_out.h"
#include "data/no_rows.h"
#include "data/row_formats.h"
#include "deltaw/error.h"
#include "tasks/multiple_choice/labels.h"
#include "tasks/multiple_choice/layouts.h"

namespace deltaw::multiple_choice {

void ChoiceOptions::fields(FieldVisitor& f) {
  f.field(
      "choices_column", choices_column,
      "The key of the list of choices; default: choices, endings, options, or a column for each (ending0, ending1).");
  data::share_field(f, max_bad_rows);
}

ChoiceSet load_questions(const DataFiles& files, const DataOptions& data, const ChoiceOptions& options, Labels use) {
  ChoiceSet set{.file = data::name_of(data::find_files(files))};
  data::BadRows bad(set.file, use == Labels::ignored ? 0 : options.max_bad_rows);
  std::vector<std::string> places;
  int64_t rows = 0;
  data::each_row(files, data.encoding, [&](const Json& row, int64_t /*line*/, const std::string& where) {
    ++rows;
    try {
      ChoiceQuestion question = question_of(row, data, options, use, where);
      set.rows.push_back(std::move(question));
      places.push_back(where);
    } catch (const Error& error) {
      // A key that the first row lacks is misspelt; one that another lacks is missing there.
      if (error.id().starts_with("config.") && set.rows.empty()) throw;
      bad.add(error, where);
    }
  });
  if (use == Labels::needed) settle_answers(set, places, bad);
  bad.check(rows);
  set.left_out = bad.count();
  set.reasons = bad.reasons();
  return set;
}

ChoiceSet load_question_split(const DataOptions& data, const ChoiceOptions& options, Split split, Labels use,
                              uint64_t seed) {
  if (!data.task_name.empty()) {
    throw Error({.id = "config.unknown-task",
                 .what = fmt::format("no set of choices is known by the name {}", data.task_name),
                 .where = "key 'task_name'",
                 .fix = "leave task_name out and set train_file, or dataset_dir alone"});
  }
  const bool held_out = split == Split::validation && data::holds_out(data);
  const Split source = held_out ? Split::train : split;
  const auto files = split_file(data, source);
  if (!files) throw data::no_file(data, data::option_name(source), "");
  ChoiceSet set = load_questions(*files, data, options, use);
  data::keep_split(set, data, split, seed);
  return set;
}

}  // namespace deltaw::multiple_choice
