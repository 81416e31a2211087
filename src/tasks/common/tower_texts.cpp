#include "tasks/common/tower_texts.h"

#include <algorithm>
#include <numeric>

#include "deltaw/error.h"
#include "deltaw/family.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"
#include "tasks/common/text_files.h"

namespace deltaw::tasks {
namespace {

std::vector<EncodedRow> encoded(const std::vector<std::string>& texts, const Tokenizer& tokenizer,
                                const TwoTowerModel& model) {
  Dataset dataset;
  for (const std::string& text : texts) dataset.rows.push_back({.text = text});
  const int64_t most = model.text_length() > 0 ? model.text_length() : readable_length(model, nullptr, tokenizer);
  std::vector<EncodedRow> rows = encode_rows(dataset, tokenizer, most);
  check_rows(model, nullptr, rows, &tokenizer);
  return rows;
}

}  // namespace

const TwoTowerModel& as_two_towers(const Model& model) {
  if (const auto* towers = dynamic_cast<const TwoTowerModel*>(&model)) return *towers;
  throw Error({.id = "config.unsupported",
               .what = "model_type '" + (model.family() ? model.family()->model_type : "") +
                       "' does not put images and texts into one space",
               .where = model.folder().string(),
               .fix = "use a checkpoint of CLIP, SigLIP or a vision-text-dual-encoder"});
}

TowerTexts::TowerTexts(const std::vector<std::string>& texts, const Tokenizer& tokenizer, const TwoTowerModel& model)
    : TowerTexts(encoded(texts, tokenizer, model), pad_id_of(tokenizer, model), tokenizer.pads_left(), model) {}

TowerTexts::TowerTexts(std::vector<EncodedRow> rows, int64_t pad_id, bool pads_left, const TwoTowerModel& model)
    : TextRows(std::move(rows), pad_id, pads_left),
      pad_id_(pad_id),
      length_(model.text_length()),
      pads_left_(pads_left) {}

Batch TowerTexts::collate(const std::vector<int64_t>& positions, const Draw& draw) const {
  Batch batch = TextRows::collate(positions, draw);
  batch.tensors.erase("labels");
  const int64_t lacking = length_ - batch["input_ids"].size(1);
  if (lacking <= 0) return batch;
  for (auto& [name, tensor] : batch.tensors) {
    const std::vector<int64_t> sides = pads_left_ ? std::vector{lacking, int64_t{0}} : std::vector{int64_t{0}, lacking};
    tensor = at::constant_pad_nd(tensor, sides, name == "input_ids" ? pad_id_ : 0);
  }
  return batch;
}

Tensor unit_text_embeds(const TwoTowerModel& model, const Adapter* adapter, const TowerTexts& texts) {
  constexpr int64_t kAtOnce = 64;
  const at::NoGradGuard no_grad;
  std::vector<Tensor> parts;
  for (int64_t begin = 0; begin < texts.size(); begin += kAtOnce) {
    std::vector<int64_t> positions(static_cast<size_t>(std::min(kAtOnce, texts.size() - begin)));
    std::iota(positions.begin(), positions.end(), begin);
    Call call{.adapter = adapter};
    const Tensor embeds = model.text_embeds(text_input(texts.collate(positions, {})), call);
    parts.push_back(unit_rows(wide(embeds)));
  }
  return at::cat(parts);
}

}  // namespace deltaw::tasks
