#include "tasks/fill_mask/rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/hash.h"
#include "core/mix_seed.h"

namespace deltaw::fill_mask {
namespace {

constexpr uint64_t kStream = 0x6D61736B;  // apart from the order of the rows, which has the same seed

Tensor to_tensor(const std::vector<int64_t>& values) {
  return at::tensor(at::IntArrayRef(values), at::kLong);
}

}  // namespace

MaskedRows::MaskedRows(std::vector<EncodedRow> rows, std::vector<Units> units, const Masking& masking, int64_t pad_id,
                       bool pads_left)
    : TextRows(std::move(rows), pad_id, pads_left),
      units_(std::move(units)),
      masking_(masking),
      pads_left_(pads_left) {}

std::string MaskedRows::fingerprint() const {
  std::string bytes;
  for (const Units& units : units_) {
    bytes.append(reinterpret_cast<const char*>(units.data()), units.size() * sizeof(int64_t));
  }
  const MaskingOptions& options = masking_.options;
  return fmt::format("{}, masks {} of {} {} {} {} of {}, {}", TextRows::fingerprint(), masking_.mask_id,
                     options.mlm_probability, options.mask_replace_prob, options.random_replace_prob,
                     options.whole_word_mask, masking_.vocabulary, xxh128(bytes));
}

std::vector<Replacement> MaskedRows::masks_of(int64_t row, const Draw& draw) const {
  const auto i = static_cast<size_t>(row);
  const uint64_t epoch = mix_seed(mix_seed(draw.seed, kStream), static_cast<uint64_t>(draw.epoch));
  return draw_masks(rows()[i].ids, units_[i], masking_, mix_seed(epoch, static_cast<uint64_t>(row)));
}

Batch MaskedRows::collate(const std::vector<int64_t>& positions, const Draw& draw) const {
  std::vector<std::vector<Replacement>> chosen;
  for (const int64_t row : positions) chosen.push_back(masks_of(row, draw));
  return with_masks(positions, chosen);
}

Batch MaskedRows::with_masks(const std::vector<int64_t>& positions,
                             const std::vector<std::vector<Replacement>>& chosen) const {
  PaddedRows rows = padded(positions);
  rows.token_labels.assign(rows.input_ids.size(), kNoLabel);
  std::vector<int64_t> places, labels, owners;
  for (size_t i = 0; i < positions.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    const int64_t begin = row * rows.length + (pads_left_ ? rows.length - cost(positions[i]) : 0);
    for (const Replacement& token : chosen[i]) {
      const auto place = static_cast<size_t>(begin + token.position);
      places.push_back(begin + token.position);
      labels.push_back(rows.input_ids[place]);
      owners.push_back(row);
      rows.token_labels[place] = rows.input_ids[place];
      rows.input_ids[place] = token.id;
    }
  }
  Batch batch = as_batch(rows, positions);
  batch.tensors["target_positions"] = to_tensor(places);
  batch.tensors["target_labels"] = to_tensor(labels);
  batch.tensors["target_rows"] = to_tensor(owners);
  return batch;
}

UnitsInTurn::UnitsInTurn(std::shared_ptr<const MaskedRows> rows) : rows_(std::move(rows)) {
  for (int64_t row = 0; row < rows_->size(); ++row) {
    const int64_t count = count_units(rows_->units()[static_cast<size_t>(row)]);
    for (int64_t unit = 0; unit < count; ++unit) turns_.push_back({row, unit});
  }
}

std::string UnitsInTurn::fingerprint() const {
  return "each in turn, " + rows_->fingerprint();
}

Batch UnitsInTurn::collate(const std::vector<int64_t>& positions, const Draw& /*draw*/) const {
  std::vector<int64_t> rows;
  std::vector<std::vector<Replacement>> masks;
  for (const int64_t position : positions) {
    const Turn& turn = turns_[static_cast<size_t>(position)];
    const Units& units = rows_->units()[static_cast<size_t>(turn.row)];
    std::vector<Replacement> masked;
    for (size_t i = 0; i < units.size(); ++i) {
      if (units[i] == turn.unit) masked.push_back({static_cast<int64_t>(i), rows_->masking().mask_id});
    }
    rows.push_back(turn.row);
    masks.push_back(std::move(masked));
  }
  Batch batch = rows_->with_masks(rows, masks);
  batch.positions = positions;
  return batch;
}

}  // namespace deltaw::fill_mask
