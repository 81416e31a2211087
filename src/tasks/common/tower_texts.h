// Texts for the tower of a two-tower model.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "deltaw/text_rows.h"
#include "deltaw/tokenizer.h"
#include "deltaw/two_tower_model.h"

namespace deltaw::tasks {

/// The model as one of images and texts. Throws config.unsupported where it is another one.
const TwoTowerModel& as_two_towers(const Model& model);

/// Batches padded to the longest text or, where the model reads padding too, to its one length.
class TowerTexts final : public TextRows {
 public:
  static constexpr const char* kName = "TowerTexts";
  /// Texts that are longer than the model reads are cut. Throws config.no-pad-token, data.token-id.
  TowerTexts(const std::vector<std::string>& texts, const Tokenizer& tokenizer, const TwoTowerModel& model);
  /// Rows of tokens as they are. Where the tower reads its last place, the side of the padding matters (SigLIP 2).
  TowerTexts(std::vector<EncodedRow> rows, int64_t pad_id, bool pads_left, const TwoTowerModel& model);

  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;

 private:
  int64_t pad_id_, length_;  // 0: of the longest
  bool pads_left_;
};

/// Embeddings of unit length of all texts, [texts, projection_dim], without a gradient. `adapter` may be null.
Tensor unit_text_embeds(const TwoTowerModel& model, const Adapter* adapter, const TowerTexts& texts);

}  // namespace deltaw::tasks
