// Questions with their choices to tokens, and to batches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/text_rows.h"
#include "tasks/multiple_choice/questions.h"

namespace deltaw::multiple_choice {

struct EncodedChoices {
  std::vector<EncodedRow> texts;  // of all choices, those of a question one behind the other; `index` is its number
  std::vector<int64_t> counts;    // of choices of each question
  int64_t cut_questions = 0;      // that lost tokens to max_length
  int64_t cut_choices = 0;        // of whose own tokens some are among these
};

/// A pair of texts for each choice, of at most max_length tokens (0: no limit): the question's context loses tokens
/// from its end first, and a choice only where it does not fit by itself. Throws config.max-length where nothing of a
/// choice fits.
EncodedChoices encode_choices(const std::vector<ChoiceQuestion>& questions, const Tokenizer& tokenizer,
                              int64_t max_length);

/// Batches of questions, whose choices are padded to the longest of them:
///
///   input_ids, attention_mask, token_type_ids   [texts, length], as TextRows': the choices of all rows
///   choice_mask                                 [rows, most choices] bool: which of them a row has
///   labels                                      [rows] int64: the right choice
class ChoiceRows final : public RowSource {
 public:
  static constexpr const char* kName = "ChoiceRows";
  /// `questions` may be empty, else has one for each of encoded.counts. `labels`: of each question.
  ChoiceRows(std::vector<ChoiceQuestion> questions, EncodedChoices encoded, std::vector<int64_t> labels, int64_t pad_id,
             bool pads_left);

  int64_t size() const override { return static_cast<int64_t>(labels_.size()); }
  int64_t cost(int64_t row) const override;  // tokens of all choices
  std::string fingerprint() const override;
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;

  const std::vector<ChoiceQuestion>& questions() const { return questions_; }
  const std::vector<EncodedRow>& texts() const { return texts_.rows(); }
  int64_t label(int64_t row) const { return labels_[static_cast<size_t>(row)]; }
  int64_t count(int64_t row) const { return end(row) - begin(row); }
  /// The texts of a row.
  int64_t begin(int64_t row) const { return begins_[static_cast<size_t>(row)]; }
  int64_t end(int64_t row) const { return begins_[static_cast<size_t>(row) + 1]; }

 private:
  std::vector<ChoiceQuestion> questions_;
  TextRows texts_;
  std::vector<int64_t> begins_;  // and the number of all texts
  std::vector<int64_t> labels_;
};

}  // namespace deltaw::multiple_choice
