#include "tasks/token_cls/predictions.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ops/host_read.h"
#include "tasks/token_cls/aggregate.h"

namespace deltaw::token_cls {
namespace {

class EntityPredictions final : public Predictions {
 public:
  EntityPredictions(const AskedModel& asked, std::shared_ptr<const WordWindows> rows, std::vector<Json> ids,
                    const Tokenizer& tokenizer, const std::string& strategy)
      : labels_(asked.model.label_names()),
        rows_(std::move(rows)),
        ids_(std::move(ids)),
        scorer_(asked.model, *rows_, {}, {}),
        aggregator_(tokenizer, labels_, strategy) {
    score(asked.task, asked.model, asked.adapter, *rows_, asked.batch_size, scorer_, asked.progress);
  }

  int64_t size() const override { return static_cast<int64_t>(rows_->tokens().size()); }
  Json id(int64_t row) const override { return ids_[static_cast<size_t>(row)]; }

  Json row(int64_t row) override {
    const data::WordTokens& tokens = rows_->tokens()[static_cast<size_t>(row)];
    const std::vector<float> values = ops::host_values<float>(scorer_.logits_of(row));
    Json line = Json::object();
    if (tokens.word_count > 0) line["tags"] = tags(tokens, values.data());
    line["entities"] = aggregator_.entities(tokens, values.data(), rows_->before());
    return line;
  }

  std::vector<std::pair<std::string, Tensor>> tensors() override { return scorer_.tensors(); }

 private:
  Json tags(const data::WordTokens& tokens, const float* logits) const {
    Json tags(static_cast<size_t>(tokens.word_count), nullptr);
    const size_t columns = labels_.size();
    for (size_t token = tokens.words.size(); token-- > 0;) {  // so that a word's first token has the last say
      const float* own = logits + token * columns;
      tags[static_cast<size_t>(tokens.words[token])] =
          labels_[static_cast<size_t>(std::max_element(own, own + columns) - own)];
    }
    return tags;
  }

  const std::vector<std::string>& labels_;
  std::shared_ptr<const WordWindows> rows_;
  std::vector<Json> ids_;
  TokenScorer scorer_;
  Aggregator aggregator_;
};

}  // namespace

std::unique_ptr<Predictions> predictions_of(const AskedModel& asked, std::shared_ptr<const WordWindows> rows,
                                            std::vector<Json> ids, const Tokenizer& tokenizer,
                                            const std::string& strategy) {
  return std::make_unique<EntityPredictions>(asked, std::move(rows), std::move(ids), tokenizer, strategy);
}

}  // namespace deltaw::token_cls
