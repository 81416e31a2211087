#include "tasks/fill_mask/predictions.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>

#include "deltaw/text_rows.h"
#include "ops/cross_entropy.h"
#include "ops/host_read.h"
#include "tasks/common/losses.h"

namespace deltaw::fill_mask {
namespace {

class Fillings final : public Predictions {
 public:
  Fillings(const AskedModel& asked, std::vector<EncodedRow> rows, std::vector<Json> ids, const Filling& filling)
      : asked_(asked),
        filling_(filling),
        rows_(std::move(rows), filling.pad_id, filling.tokenizer.pads_left()),
        ids_(std::move(ids)) {}

  int64_t size() const override { return rows_.size(); }
  Json id(int64_t row) const override { return ids_[static_cast<size_t>(row)]; }

  Json row(int64_t row) override {
    if (!lines_) lines_ = lines();
    return (*lines_)[static_cast<size_t>(row)];
  }

  /// logits.<row> [masks, vocabulary] of each row that has masks, from 0.
  std::vector<std::pair<std::string, Tensor>> tensors() override {
    std::vector<std::pair<std::string, Tensor>> logits;
    for (int64_t row = 0; row < size(); ++row) {
      if (masks_of(row).empty()) continue;
      std::vector<Tensor> parts;
      each_mask({row}, [&](int64_t /*first*/, const Tensor& part) { parts.push_back(part.to(at::kFloat)); });
      logits.emplace_back(fmt::format("logits.{}", row), at::cat(parts).contiguous());
    }
    return logits;
  }

 private:
  const std::vector<int64_t>& tokens(int64_t row) const { return rows_.rows()[static_cast<size_t>(row)].ids; }

  std::vector<int64_t> masks_of(int64_t row) const {
    const std::vector<int64_t>& ids = tokens(row);
    std::vector<int64_t> masks;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] == filling_.mask_id) masks.push_back(static_cast<int64_t>(i));
    }
    return masks;
  }

  /// Calls use(first, logits [count, vocabulary]) for the masks of these rows, one behind the other.
  template <class Use>
  void each_mask(const std::vector<int64_t>& rows, const Use& use) const {
    const at::NoGradGuard no_grad;
    const Batch batch = rows_.collate(rows, {});
    Call call{.adapter = asked_.adapter};
    const Tensor features = asked_.model.features(text_input(batch), call).flatten(0, 1);
    const Tensor is_mask =
        batch["input_ids"].flatten().eq(filling_.mask_id).logical_and(batch["attention_mask"].flatten().ne(0));
    ops::each_chunk(features.index_select(0, ops::host_places(is_mask)), asked_.model.vocab_size(),
                    tasks::head_of(asked_.model, call), use);
  }

  std::vector<Json> lines() const {
    std::vector<Json> lines(static_cast<size_t>(size()));
    std::vector<int64_t> masked, lengths;
    for (int64_t row = 0; row < size(); ++row) {
      if (masks_of(row).empty()) {
        lines[static_cast<size_t>(row)] = {{"error", reason(row)}};
        continue;
      }
      masked.push_back(row);
      lengths.push_back(rows_.cost(row));
    }
    int64_t done = size() - static_cast<int64_t>(masked.size());
    for (const std::vector<int64_t>& positions : plan_evaluation(lengths, asked_.batch_size)) {
      std::vector<int64_t> rows;
      for (const int64_t position : positions) rows.push_back(masked[static_cast<size_t>(position)]);
      fill(rows, lines);
      done += static_cast<int64_t>(rows.size());
      if (asked_.progress) asked_.progress(done, size());
    }
    return lines;
  }

  std::string reason(int64_t row) const {
    const std::string mask = filling_.tokenizer.id_to_token(filling_.mask_id).value_or("?");
    return rows_.rows()[static_cast<size_t>(row)].truncated > 0
               ? fmt::format("no mask token {} stands within max_length", mask)
               : fmt::format("the row has no mask token {}", mask);
  }

  void fill(const std::vector<int64_t>& rows, std::vector<Json>& lines) const {
    std::vector<std::pair<int64_t, int64_t>> places;  // row and position of each mask
    for (const int64_t row : rows) {
      for (const int64_t position : masks_of(row)) places.emplace_back(row, position);
    }
    each_mask(rows, [&](int64_t first, const Tensor& logits) {
      check_finite(logits, places, first);
      const int64_t most = std::min(filling_.top_k, logits.size(1));
      const auto [scores, ids] = logits.softmax(1).to(at::kDouble).topk(most, 1);
      const std::vector<double> score_of = ops::host_values<double>(scores);
      const std::vector<int64_t> id_of = ops::host_values<int64_t>(ids);
      for (int64_t i = 0; i < logits.size(0); ++i) {
        const auto& [row, position] = places[static_cast<size_t>(first + i)];
        const bool single = masks_of(row).size() == 1;
        Json likeliest = Json::array();
        for (int64_t k = 0; k < most; ++k) {
          const auto place = static_cast<size_t>(i * most + k);
          likeliest.push_back(filled(row, position, id_of[place], score_of[place], single));
        }
        Json& all = lines[static_cast<size_t>(row)]["predictions"];
        if (single) {
          all = std::move(likeliest);
        } else {
          all.push_back(std::move(likeliest));
        }
      }
    });
  }

  void check_finite(const Tensor& logits, const std::vector<std::pair<int64_t, int64_t>>& places, int64_t first) const {
    const Tensor bad = logits.isfinite().all(1).logical_not();
    if (!ops::host_flag(bad.any())) return;
    const auto place = static_cast<size_t>(first + ops::host_integer(bad.to(at::kInt).argmax()));
    tasks::refuse_logits(places[place].first);
  }

  /// As the pipeline words it: padding is left out, and other masks stay in sight.
  Json filled(int64_t row, int64_t position, int64_t id, double score, bool single) const {
    std::vector<int64_t> ids = tokens(row);
    ids[static_cast<size_t>(position)] = id;
    std::erase(ids, filling_.pad_id);
    const Tokenizer& tokenizer = filling_.tokenizer;
    return {{"score", score},
            {"token", id},
            {"token_str", tokenizer.decode({id}, /*skip_special_tokens=*/false)},
            {"sequence", tokenizer.decode(ids, /*skip_special_tokens=*/single)}};
  }

  AskedModel asked_;
  Filling filling_;
  TextRows rows_;
  std::vector<Json> ids_;
  std::optional<std::vector<Json>> lines_;
};

}  // namespace

std::unique_ptr<Predictions> fillings_of(const AskedModel& asked, std::vector<EncodedRow> rows, std::vector<Json> ids,
                                         const Filling& filling) {
  return std::make_unique<Fillings>(asked, std::move(rows), std::move(ids), filling);
}

}  // namespace deltaw::fill_mask
