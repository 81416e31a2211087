#include "deltaw/text_rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "core/fnv.h"
#include "data/shuffle.h"
#include "deltaw/error.h"
#include "tasks/common/check_rows.h"

namespace deltaw {
namespace {

void add(Fnv& hash, const std::vector<int64_t>& values) {
  const auto count = static_cast<int64_t>(values.size());
  hash.add(&count, sizeof count);
  hash.add(values.data(), values.size() * sizeof(int64_t));
}

template <class T>
Tensor to_tensor(const std::vector<T>& values, at::IntArrayRef shape, at::ScalarType type) {
  Tensor tensor = at::empty(shape, type);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<T>());
  return tensor;
}

Tensor to_tensor(const std::vector<int64_t>& values) {
  return to_tensor(values, {static_cast<int64_t>(values.size())}, at::kLong);
}

/// `length` ids of the model's vocabulary, its padding token left out.
std::vector<int64_t> random_ids(const Model& model, int64_t length, std::mt19937_64& engine) {
  const Json pad = model.config().value("pad_token_id", Json());
  const int64_t pad_id = pad.is_number_integer() ? pad.get<int64_t>() : -1;
  std::vector<int64_t> ids;
  while (static_cast<int64_t>(ids.size()) < length) {
    const auto id = static_cast<int64_t>(data::draw_below(engine, static_cast<uint64_t>(model.vocab_size())));
    if (id != pad_id || model.vocab_size() == 1) ids.push_back(id);
  }
  return ids;
}

/// Calls use(i) for every token that is trained on, by its position in the row.
template <class Use>
void for_each_target(const int64_t* labels, const int64_t* documents, int64_t length, const Use& use) {
  for (int64_t i = 1; i < length; ++i) {
    if (labels[i] != kNoLabel && (!documents || documents[i] == documents[i - 1])) use(i);
  }
}

}  // namespace

TextRows::TextRows(std::vector<EncodedRow> rows, int64_t pad_id, bool pads_left)
    : rows_(std::move(rows)), pad_id_(pad_id), pads_left_(pads_left) {}

std::string TextRows::fingerprint() const {
  Fnv hash;
  for (const EncodedRow& row : rows_) {
    add(hash, row.ids);
    add(hash, row.type_ids);
    add(hash, row.token_labels);
    add(hash, row.documents);
    hash.add(&row.label, sizeof row.label);
    hash.add(row.labels.data(), row.labels.size() * sizeof(double));
  }
  return fmt::format("{} rows, {}", rows_.size(), hash.text());
}

PaddedRows TextRows::padded(const std::vector<int64_t>& positions) const {
  return pad_rows(rows_, positions, pad_id_, pads_left_);
}

Batch TextRows::as_batch(const PaddedRows& rows, const std::vector<int64_t>& positions) const {
  Batch batch{.rows = rows.rows, .positions = positions};
  for (const int64_t position : positions) batch.costs.push_back(cost(position));
  const std::vector<int64_t> shape = {rows.rows, rows.length};
  batch.tensors["input_ids"] = to_tensor(rows.input_ids, shape, at::kLong);
  batch.tensors["attention_mask"] = to_tensor(rows.attention_mask, shape, at::kLong);
  const std::vector<int64_t>& types = rows.token_type_ids;
  const bool all_zero = std::all_of(types.begin(), types.end(), [](int64_t type) { return type == 0; });
  if (!all_zero) batch.tensors["token_type_ids"] = to_tensor(types, shape, at::kLong);
  std::vector<int64_t> of_labels = {rows.rows};
  if (rows.rows > 0 && !rows_[static_cast<size_t>(positions[0])].labels.empty()) of_labels.push_back(-1);
  batch.tensors["labels"] =
      rows.token_labels.empty()
          ? to_tensor(rows.labels, {static_cast<int64_t>(rows.labels.size())}, at::kDouble).reshape(of_labels)
          : to_tensor(rows.token_labels, shape, at::kLong);
  return batch;
}

Batch TextRows::collate(const std::vector<int64_t>& positions, const Draw& /*draw*/) const {
  const PaddedRows rows = padded(positions);
  Batch batch = as_batch(rows, positions);
  if (rows.token_labels.empty()) return batch;
  std::vector<int64_t> places;  // of labelled tokens
  for (size_t i = 0; i < rows.token_labels.size(); ++i) {
    if (rows.token_labels[i] != kNoLabel) places.push_back(static_cast<int64_t>(i));
  }
  batch.tensors["target_positions"] = to_tensor(places);
  return batch;
}

Batch CausalRows::collate(const std::vector<int64_t>& positions, const Draw& /*draw*/) const {
  const PaddedRows rows = padded(positions);
  Batch batch = as_batch(rows, positions);
  std::vector<int64_t> places, labels, owners;
  for (int64_t row = 0; row < rows.rows && !rows.token_labels.empty(); ++row) {
    const int64_t begin = row * rows.length;
    const int64_t* own = rows.token_labels.data() + begin;
    for_each_target(own, rows.attention_mask.data() + begin, rows.length, [&](int64_t i) {
      places.push_back(begin + i - 1);
      labels.push_back(own[i]);
      owners.push_back(row);
    });
  }
  batch.tensors["target_positions"] = to_tensor(places);
  batch.tensors["target_labels"] = to_tensor(labels);
  batch.tensors["target_rows"] = to_tensor(owners);
  return batch;
}

int64_t trained_tokens(const EncodedRow& row) {
  int64_t count = 0;
  for_each_target(row.token_labels.data(), row.documents.empty() ? nullptr : row.documents.data(),
                  static_cast<int64_t>(row.token_labels.size()), [&](int64_t) { ++count; });
  return count;
}

void refuse_source(const char* wanted) {
  throw Error({.id = "data.other-rows",
               .what = fmt::format("the task reads {}, and the rows are of another kind", wanted),
               .where = "the data",
               .fix = fmt::format("give Trainer::set_data a {}", wanted)});
}

ModelInput text_input(const Batch& batch) {
  return {batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")};
}

void check_text(const Model& model, const Adapter* adapter, const TextRows& rows) {
  tasks::check_rows(model, adapter, rows.rows());
}

std::vector<EncodedRow> random_texts(const Model& model, int64_t count, int64_t length, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<EncodedRow> rows(static_cast<size_t>(count));
  for (EncodedRow& row : rows) {
    row.index = &row - rows.data();
    row.ids = random_ids(model, length, engine);
  }
  return rows;
}

}  // namespace deltaw
