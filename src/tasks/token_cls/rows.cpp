#include "tasks/token_cls/rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "deltaw/error.h"
#include "ops/host_read.h"
#include "tasks/common/losses.h"
#include "tasks/token_cls/entities.h"

namespace deltaw::token_cls {

// ---- rows ----

WordWindows::WordWindows(data::EncodedWords words, int64_t pad_id, bool pads_left)
    : TextRows(std::move(words.windows), pad_id, pads_left),
      tokens_(std::move(words.rows)),
      places_(std::move(words.places)),
      before_(words.before) {}

TokenPlaces::TokenPlaces(const RowSource& source) {
  const auto end_row = [&](const std::vector<uint8_t>& begins) {
    begins_word_.insert(begins_word_.end(), begins.begin(), begins.end());
    begins_.push_back(static_cast<int64_t>(begins_word_.size()));
  };
  const auto* windows = dynamic_cast<const WordWindows*>(&source);
  if (!windows) {
    for (const EncodedRow& row : as_rows<TextRows>(source).rows()) {
      rows_.push_back(row_count());
      parts_.push_back({.input = 0, .token = token_count(), .count = static_cast<int64_t>(row.ids.size())});
      end_row(std::vector<uint8_t>(row.ids.size(), 1));
    }
    return;
  }
  for (const data::WordTokens& row : windows->tokens()) {
    std::vector<uint8_t> begins;
    for (size_t i = 0; i < row.words.size(); ++i) begins.push_back(i == 0 || row.words[i] != row.words[i - 1]);
    end_row(begins);
  }
  for (const data::Window& window : windows->places()) {
    rows_.push_back(window.row);
    parts_.push_back({.input = windows->before() + window.own_begin - window.begin,
                      .token = begins_[static_cast<size_t>(window.row)] + window.own_begin,
                      .count = window.own_end - window.own_begin});
  }
}

std::pair<int64_t, int64_t> TokenPlaces::tokens_of(int64_t row) const {
  return {begins_[static_cast<size_t>(row)], begins_[static_cast<size_t>(row) + 1]};
}

// ---- scores ----

TokenScorer::TokenScorer(const Model& model, const RowSource& rows, std::string scheme,
                         std::vector<std::string> metrics)
    : model_(model),
      places_(rows),
      scheme_(std::move(scheme)),
      metrics_(std::move(metrics)),
      logits_(at::zeros({places_.token_count(), model.num_labels()}, at::kFloat)),
      labels_(at::full({places_.token_count()}, kNoLabel, at::kLong)) {}

void TokenScorer::add(const Outputs& outputs, const Batch& batch) {
  const Tensor logits = ops::host_copy(outputs.at(0).to(at::kFloat)), labels = ops::host_copy(batch["labels"]);
  // Rows may be filled on the left.
  const std::vector<int64_t> first = ops::host_values<int64_t>(batch["attention_mask"].ne(0).to(at::kByte).argmax(1));
  for (int64_t i = 0; i < batch.rows; ++i) {
    const TokenPlaces::Part part = places_.part(batch.positions[static_cast<size_t>(i)]);
    const int64_t begin = first[static_cast<size_t>(i)] + part.input;
    logits_.narrow(0, part.token, part.count).copy_(logits[i].narrow(0, begin, part.count));
    labels_.narrow(0, part.token, part.count).copy_(labels[i].narrow(0, begin, part.count));
  }
}

void TokenScorer::check() {
  if (checked_) return;
  const Tensor finite = logits_.isfinite().all(1);
  if (!ops::host_flag(finite.all())) {
    const int64_t token = ops::host_integer(finite.logical_not().to(at::kInt).argmax());
    int64_t row = 0;
    while (places_.tokens_of(row).second <= token) ++row;
    tasks::refuse_logits(row);
  }
  checked_ = true;
}

Tensor TokenScorer::logits_of(int64_t row) {
  check();
  const auto [begin, end] = places_.tokens_of(row);
  return logits_.narrow(0, begin, end - begin);
}

EntityScores TokenScorer::word_scores() {
  check();
  const std::vector<int64_t> predicted = ops::host_values<int64_t>(logits_.argmax(1));
  const std::vector<int64_t> labels = ops::host_values<int64_t>(labels_);
  const std::vector<std::string>& names = model_.label_names();
  EntityScores scores(scheme_);
  for (int64_t row = 0; row < places_.row_count(); ++row) {
    Tags tags, right;
    const auto [begin, end] = places_.tokens_of(row);
    for (int64_t token = begin; token < end; ++token) {
      const int64_t label = labels[static_cast<size_t>(token)];
      if (label == kNoLabel || !places_.begins_word(token)) continue;
      tags.push_back(names[static_cast<size_t>(predicted[static_cast<size_t>(token)])]);
      right.push_back(names[static_cast<size_t>(label)]);
    }
    scores.add(tags, right);
  }
  return scores;
}

Json TokenScorer::metrics() {
  const EntityScores scores = word_scores();
  const Tensor learned = ops::host_places(labels_.ne(kNoLabel));
  const double loss =
      ops::host_number(at::cross_entropy_loss(logits_.index_select(0, learned), labels_.index_select(0, learned)));
  tasks::check_finite(loss, "the logits of the validation rows");
  Json all = {{"loss", loss}};
  all.update(scores.metrics(metrics_));
  return all;
}

Json TokenScorer::by_type() {
  return word_scores().by_type();
}

Json TokenScorer::row(int64_t position) {
  const int64_t row = places_.row_of(position);
  const int64_t begin = places_.tokens_of(row).first;
  const Tensor logits = logits_of(row);
  const std::vector<int64_t> said = ops::host_values<int64_t>(logits.argmax(1));
  const std::vector<int64_t> labels = ops::host_values<int64_t>(labels_.narrow(0, begin, logits.size(0)));
  Json tags = Json::array();
  for (size_t i = 0; i < said.size(); ++i) {
    if (labels[i] == kNoLabel || !places_.begins_word(begin + static_cast<int64_t>(i))) continue;
    tags.push_back(model_.label_names()[static_cast<size_t>(said[i])]);
  }
  return {{"tags", tags}};
}

std::vector<std::pair<std::string, Tensor>> TokenScorer::tensors() {
  std::vector<std::pair<std::string, Tensor>> all;
  for (int64_t row = 0; row < places_.row_count(); ++row) {
    const Tensor logits = logits_of(row);
    if (logits.size(0) > 0) all.emplace_back(fmt::format("logits.{}", row), logits.contiguous());
  }
  return all;
}

}  // namespace deltaw::token_cls
