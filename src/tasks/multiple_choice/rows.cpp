#include "tasks/multiple_choice/rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "core/fnv.h"
#include "deltaw/error.h"

namespace deltaw::multiple_choice {
namespace {

/// Which tokens of a pair stay.
struct Cut {
  std::vector<bool> kept;
  bool of_choice = false;
};

Cut cut_to(const Encoding& pair, int64_t context_tokens, int64_t max_length) {
  Cut cut{.kept = std::vector<bool>(pair.ids.size(), true)};
  int64_t over = max_length > 0 ? static_cast<int64_t>(pair.ids.size()) - max_length : 0;
  if (over <= 0) return cut;
  std::vector<size_t> places;  // of the tokens of both texts
  for (size_t i = 0; i < pair.ids.size(); ++i) {
    if (pair.special[i] == 0) places.push_back(i);
  }
  const auto context = std::min(static_cast<size_t>(context_tokens), places.size());
  const auto drop = [&](size_t begin, size_t end) {  // from the end on
    for (size_t i = end; i > begin && over > 0; --i, --over) cut.kept[places[i - 1]] = false;
  };
  drop(0, context);
  cut.of_choice = over > 0;
  drop(std::min(context + 1, places.size()), places.size());
  if (over > 0) {
    throw Error({.id = "config.max-length",
                 .what = fmt::format("max_length {} leaves no token of a choice beside the special ones", max_length),
                 .where = "key \"max_length\"",
                 .fix = "raise max_length"});
  }
  return cut;
}

std::vector<int64_t> kept(const std::vector<int64_t>& all, const Cut& cut) {
  std::vector<int64_t> some;
  for (size_t i = 0; i < all.size(); ++i) {
    if (cut.kept[i]) some.push_back(all[i]);
  }
  return some;
}

std::vector<int64_t> begins_of(const std::vector<int64_t>& counts) {
  std::vector<int64_t> begins(counts.size() + 1);
  std::partial_sum(counts.begin(), counts.end(), begins.begin() + 1);
  return begins;
}

}  // namespace

EncodedChoices encode_choices(const std::vector<ChoiceQuestion>& questions, const Tokenizer& tokenizer,
                              int64_t max_length) {
  EncodedChoices result;
  for (size_t number = 0; number < questions.size(); ++number) {
    const ChoiceQuestion& question = questions[number];
    const auto context =
        static_cast<int64_t>(tokenizer.encode(question.context, {.add_special_tokens = false}).ids.size());
    bool is_cut = false, choice_is_cut = false;
    for (const std::string& text : question.texts) {
      const Encoding pair = tokenizer.encode(question.context, text);
      const Cut cut = cut_to(pair, context, max_length);
      EncodedRow row{.ids = kept(pair.ids, cut), .index = static_cast<int64_t>(number)};
      if (tokenizer.gives_type_ids()) row.type_ids = kept(pair.type_ids, cut);
      row.truncated = row.ids.size() < pair.ids.size();
      is_cut = is_cut || row.truncated > 0;
      choice_is_cut = choice_is_cut || cut.of_choice;
      result.texts.push_back(std::move(row));
    }
    result.counts.push_back(static_cast<int64_t>(question.texts.size()));
    result.cut_questions += is_cut;
    result.cut_choices += choice_is_cut;
  }
  return result;
}

ChoiceRows::ChoiceRows(std::vector<ChoiceQuestion> questions, EncodedChoices encoded, std::vector<int64_t> labels,
                       int64_t pad_id, bool pads_left)
    : questions_(std::move(questions)),
      texts_(std::move(encoded.texts), pad_id, pads_left),
      begins_(begins_of(encoded.counts)),
      labels_(std::move(labels)) {}

int64_t ChoiceRows::cost(int64_t row) const {
  int64_t tokens = 0;
  for (int64_t text = begin(row); text < end(row); ++text) tokens += texts_.cost(text);
  return tokens;
}

std::string ChoiceRows::fingerprint() const {
  Fnv hash;
  hash.add(begins_.data(), begins_.size() * sizeof(int64_t));
  hash.add(labels_.data(), labels_.size() * sizeof(int64_t));
  return fmt::format("{} questions, {}, {}", size(), hash.text(), texts_.fingerprint());
}

Batch ChoiceRows::collate(const std::vector<int64_t>& positions, const Draw& draw) const {
  std::vector<int64_t> texts, costs;
  int64_t most = 0;
  for (const int64_t row : positions) {
    for (int64_t text = begin(row); text < end(row); ++text) texts.push_back(text);
    costs.push_back(cost(row));
    most = std::max(most, count(row));
  }
  Batch batch = texts_.collate(texts, draw);
  batch.rows = static_cast<int64_t>(positions.size());
  batch.positions = positions;
  batch.costs = std::move(costs);
  const Tensor mask = at::zeros({batch.rows, most}, at::kBool), labels = at::zeros({batch.rows}, at::kLong);
  for (int64_t i = 0; i < batch.rows; ++i) {
    const int64_t row = positions[static_cast<size_t>(i)];
    mask[i].narrow(0, 0, count(row)).fill_(true);
    labels[i].fill_(label(row));
  }
  batch.tensors["choice_mask"] = mask;
  batch.tensors["labels"] = labels;
  return batch;
}

}  // namespace deltaw::multiple_choice
