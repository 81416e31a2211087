#include <algorithm>
#include <cassert>
#include <numeric>

#include <fmt/format.h>

#include "core/mix_seed.h"
#include "data/shuffle.h"
#include "deltaw/data.h"

namespace deltaw {
namespace {

using Positions = std::vector<int64_t>;

void sort_longest_first(Positions::iterator begin, Positions::iterator end, const std::vector<int64_t>& lengths) {
  std::stable_sort(begin, end, [&](int64_t a, int64_t b) {
    return lengths[static_cast<size_t>(a)] > lengths[static_cast<size_t>(b)];
  });
}

std::vector<Positions> cut(const Positions& order, int64_t batch_size) {
  std::vector<Positions> batches;
  const auto rows = static_cast<int64_t>(order.size());
  for (int64_t begin = 0; begin < rows; begin += batch_size) {
    const int64_t end = std::min(begin + batch_size, rows);
    batches.emplace_back(order.begin() + begin, order.begin() + end);
  }
  return batches;
}

}  // namespace

std::vector<EncodedRow> encode_rows(const Dataset& dataset, const Tokenizer& tokenizer, int64_t max_length) {
  const EncodeOptions options{.max_length = max_length};
  std::vector<EncodedRow> rows;
  rows.reserve(dataset.rows.size());
  for (const Example& example : dataset.rows) {
    Encoding encoding = example.has_pair ? tokenizer.encode(example.text, example.text_pair, options)
                                         : tokenizer.encode(example.text, options);
    rows.push_back({.ids = std::move(encoding.ids),
                    .type_ids = tokenizer.gives_type_ids() ? std::move(encoding.type_ids) : Positions{},
                    .label = example.label,
                    .labels = example.labels,
                    .index = static_cast<int64_t>(rows.size()),
                    .truncated = encoding.truncated ? 1 : 0});
  }
  return rows;
}

int64_t truncated_rows(const std::vector<EncodedRow>& rows) {
  return std::accumulate(rows.begin(), rows.end(), int64_t{0},
                         [](int64_t sum, const EncodedRow& row) { return sum + row.truncated; });
}

std::string truncation_warning(int64_t truncated, int64_t rows, int64_t max_length, int64_t readable) {
  std::string fix = "; a greater max_length keeps it";
  if (readable > 0) {
    fix = readable > max_length ? fmt::format("; max_length may be {} with this model", readable)
                                : ", and the model reads no more";
  }
  return fmt::format("{} of {} rows were longer than max_length {} and lost their end{}", truncated, rows, max_length,
                     fix);
}

std::vector<int64_t> row_lengths(const std::vector<EncodedRow>& rows) {
  std::vector<int64_t> lengths;
  lengths.reserve(rows.size());
  for (const EncodedRow& row : rows) lengths.push_back(static_cast<int64_t>(row.ids.size()));
  return lengths;
}

PaddedRows pad_rows(const std::vector<EncodedRow>& rows, const std::vector<int64_t>& positions, int64_t pad_id,
                    bool pads_left) {
  PaddedRows batch;
  batch.rows = static_cast<int64_t>(positions.size());
  size_t length = 0;
  for (const int64_t position : positions) length = std::max(length, rows.at(static_cast<size_t>(position)).ids.size());
  batch.length = static_cast<int64_t>(length);
  batch.input_ids.assign(positions.size() * length, pad_id);
  batch.attention_mask.assign(positions.size() * length, 0);
  batch.token_type_ids.assign(positions.size() * length, 0);
  for (size_t i = 0; i < positions.size(); ++i) {
    const EncodedRow& row = rows[static_cast<size_t>(positions[i])];
    assert(row.type_ids.empty() || row.type_ids.size() == row.ids.size());
    const auto at = static_cast<std::ptrdiff_t>(i * length + (pads_left ? length - row.ids.size() : 0));
    std::copy(row.ids.begin(), row.ids.end(), batch.input_ids.begin() + at);
    std::copy(row.type_ids.begin(), row.type_ids.end(), batch.token_type_ids.begin() + at);
    if (row.documents.empty()) {
      std::fill_n(batch.attention_mask.begin() + at, row.ids.size(), 1);
    } else {
      std::copy(row.documents.begin(), row.documents.end(), batch.attention_mask.begin() + at);
    }
    if (!row.token_labels.empty()) {
      batch.token_labels.resize(positions.size() * length, kNoLabel);
      std::copy(row.token_labels.begin(), row.token_labels.end(), batch.token_labels.begin() + at);
    }
    if (row.labels.empty()) {
      batch.labels.push_back(row.label);
    } else {
      batch.labels.insert(batch.labels.end(), row.labels.begin(), row.labels.end());
    }
  }
  return batch;
}

std::vector<std::vector<int64_t>> plan_batches(const std::vector<int64_t>& lengths, int64_t batch_size, uint64_t seed,
                                               int64_t epoch, bool group_by_length) {
  const auto rows = static_cast<int64_t>(lengths.size());
  std::mt19937_64 engine(mix_seed(seed, static_cast<uint64_t>(epoch)));
  Positions order = data::permutation(rows, engine);
  if (!group_by_length) return cut(order, batch_size);

  // A small set still gets at least four runs, else every epoch would hold the same batches.
  const int64_t run = batch_size * std::clamp<int64_t>(rows / (batch_size * 4), 1, 50);
  for (int64_t begin = 0; begin < rows; begin += run) {
    sort_longest_first(order.begin() + begin, order.begin() + std::min(begin + run, rows), lengths);
  }
  std::vector<Positions> batches = cut(order, batch_size);
  Positions rest;
  if (rows % batch_size != 0) {
    rest = std::move(batches.back());
    batches.pop_back();
  }
  data::shuffle(batches, engine);
  if (!rest.empty()) batches.push_back(std::move(rest));
  return batches;
}

std::vector<std::vector<int64_t>> plan_evaluation(const std::vector<int64_t>& lengths, int64_t batch_size) {
  Positions order(lengths.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  sort_longest_first(order.begin(), order.end(), lengths);
  return cut(order, batch_size);
}

}  // namespace deltaw
