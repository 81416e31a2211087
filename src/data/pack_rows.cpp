#include <algorithm>
#include <numeric>
#include <set>

#include "deltaw/error.h"
#include "deltaw/text_data.h"

namespace deltaw {
namespace {

using Bin = std::vector<size_t>;  // rows that go together

std::vector<Bin> best_fit(const std::vector<EncodedRow>& rows, size_t capacity) {
  std::vector<size_t> order(rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return rows[a].ids.size() > rows[b].ids.size(); });
  std::vector<Bin> bins;
  std::set<std::pair<size_t, size_t>> room;  // (places left, bin)
  for (const size_t row : order) {
    const size_t length = rows[row].ids.size();
    const auto fitting = room.lower_bound({length, 0});
    size_t left = capacity - std::min(capacity, length);
    size_t bin = bins.size();
    if (fitting == room.end()) {
      bins.emplace_back();
    } else {
      left = fitting->first - length;
      bin = fitting->second;
      room.erase(fitting);
    }
    bins[bin].push_back(row);
    if (left > 0) room.emplace(left, bin);
  }
  return bins;
}

void append(EncodedRow& packed, const EncodedRow& row, int64_t document) {
  const size_t begin = packed.ids.size();
  packed.ids.insert(packed.ids.end(), row.ids.begin(), row.ids.end());
  packed.token_labels.insert(packed.token_labels.end(), row.token_labels.begin(), row.token_labels.end());
  packed.token_labels.resize(packed.ids.size(), kNoLabel);
  if (begin < packed.ids.size()) packed.token_labels[begin] = kNoLabel;  // predicted from another document
  if (!row.type_ids.empty()) {
    packed.type_ids.resize(begin);
    packed.type_ids.insert(packed.type_ids.end(), row.type_ids.begin(), row.type_ids.end());
  }
  if (!packed.type_ids.empty()) packed.type_ids.resize(packed.ids.size());
  packed.documents.resize(packed.ids.size(), document);
  packed.truncated += row.truncated;
}

}  // namespace

std::vector<EncodedRow> pack_rows(const std::vector<EncodedRow>& rows, int64_t max_length) {
  if (max_length < 1) {
    throw Error{{.id = "config.packing",
                 .what = "packing needs a length to fill",
                 .where = "max_length",
                 .fix = "Set max_length to the length of a packed row."}};
  }
  std::vector<Bin> bins = best_fit(rows, static_cast<size_t>(max_length));
  for (Bin& bin : bins) std::sort(bin.begin(), bin.end());
  std::sort(bins.begin(), bins.end());  // by their first rows: neighbours in the file stay near each other
  std::vector<EncodedRow> packed;
  packed.reserve(bins.size());
  for (const Bin& bin : bins) {
    EncodedRow& row = packed.emplace_back();
    row.index = static_cast<int64_t>(packed.size()) - 1;
    int64_t document = 0;
    for (const size_t position : bin) append(row, rows[position], ++document);
  }
  return packed;
}

}  // namespace deltaw
