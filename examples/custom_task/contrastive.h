// A task that the library does not have: texts that belong together are brought together (van den Oord et al. 2018,
// arXiv:1807.03748, with in-batch negatives as in Henderson et al. 2017, arXiv:1705.00652).
//
//   a_i, b_i      what the head makes of the two texts of row i, as unit vectors: it is a projection here
//   loss          mean over i of -log softmax_j(scale a_i b_j) at j = i
//
// The loss of a row looks at all rows of the step, so compares_rows() is true: 4 batches of 8 rows give the loss and
// the gradients of one batch of 32, at the memory of 8.
#pragma once

#include <ATen/ATen.h>
#include <deltaw/error.h>
#include <deltaw/task.h>
#include <deltaw/text_rows.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

/// Two texts a row. The tensors of the second are those of the first with "pair_" before their names.
class PairRows final : public deltaw::RowSource {
 public:
  static constexpr const char* kName = "PairRows";

  PairRows(std::vector<deltaw::EncodedRow> first, std::vector<deltaw::EncodedRow> second, int64_t pad_id)
      : first_(std::move(first), pad_id, /*pads_left=*/false), second_(std::move(second), pad_id, /*pads_left=*/false) {
    if (first_.size() == second_.size()) return;
    throw deltaw::Error({.id = "data.pairs",
                         .what = "the two lists of texts differ in length",
                         .where = "PairRows",
                         .fix = "give each text its partner"});
  }

  int64_t size() const override { return first_.size(); }
  int64_t cost(int64_t row) const override { return first_.cost(row) + second_.cost(row); }
  std::string fingerprint() const override { return first_.fingerprint() + "; " + second_.fingerprint(); }
  deltaw::Batch collate(const std::vector<int64_t>& positions, const deltaw::Draw& draw) const override {
    deltaw::Batch batch = first_.collate(positions, draw);
    for (auto& [name, tensor] : second_.collate(positions, draw).tensors) batch.tensors["pair_" + name] = tensor;
    for (size_t i = 0; i < positions.size(); ++i) batch.costs[i] = cost(positions[i]);
    return batch;
  }

  const deltaw::TextRows& first() const { return first_; }
  const deltaw::TextRows& second() const { return second_; }

 private:
  deltaw::TextRows first_, second_;
};

class Contrastive : public deltaw::Task {
 public:
  explicit Contrastive(double scale = 20) : scale_(scale) {}

  void check(const deltaw::Model& model, const deltaw::Adapter* adapter, const deltaw::RowSource& rows,
             const std::string& /*split*/) const override {
    const auto& pairs = deltaw::as_rows<PairRows>(rows);
    deltaw::check_text(model, adapter, pairs.first());
    deltaw::check_text(model, adapter, pairs.second());
  }

  std::unique_ptr<deltaw::RowSource> random_rows(const deltaw::Model& model, int64_t rows, int64_t cost,
                                                 uint64_t seed) const override {
    const auto texts = [&](uint64_t stream) { return deltaw::random_texts(model, rows, cost / 2, seed + stream); };
    return std::make_unique<PairRows>(texts(0), texts(1), /*pad_id=*/0);
  }

  /// {a, b}, [rows, labels] each
  deltaw::Outputs outputs(const deltaw::Model& model, const deltaw::Batch& batch, deltaw::Call& call) const override {
    const deltaw::ModelInput second{batch["pair_input_ids"], batch["pair_attention_mask"],
                                    batch.get("pair_token_type_ids")};
    const at::Tensor a = model.forward(deltaw::text_input(batch), call), b = model.forward(second, call);
    return {a / a.norm(2, 1, /*keepdim=*/true), b / b.norm(2, 1, /*keepdim=*/true)};
  }

  double weight(const deltaw::Batch& batch) const override { return static_cast<double>(batch.rows); }

  at::Tensor loss(const deltaw::Model& /*model*/, const deltaw::Outputs& outputs, const deltaw::Batch& batch,
                  deltaw::Call& /*call*/, const deltaw::LossScale& /*scale*/) const override {
    const at::Tensor scores = outputs[0].mm(outputs[1].t()) * scale_;
    return at::cross_entropy_loss(scores, at::arange(batch.rows, at::kLong));
  }

  bool compares_rows() const override { return true; }

  double chance_loss(const deltaw::Model& /*model*/, const deltaw::RowSource& rows) const override {
    return std::log(static_cast<double>(rows.size()));
  }

  std::vector<std::string> metrics(const deltaw::Model& /*model*/) const override { return {"recall_at_1"}; }

  /// Throws for what is no score of pairs.
  static void check_name(const std::string& name) {
    if (name == "loss" || name == "recall_at_1") return;
    throw deltaw::Error({.id = "config.unknown-metric",
                         .what = "'" + name + "' is no metric of pairs",
                         .where = "key \"metric_for_best_model\"",
                         .fix = "loss or recall_at_1"});
  }

  void check_metric(const deltaw::Model& /*model*/, const std::string& name) const override { check_name(name); }

  std::unique_ptr<deltaw::Scorer> scorer(const deltaw::Model& /*model*/, const deltaw::Adapter* /*adapter*/,
                                         const deltaw::RowSource& rows,
                                         std::vector<std::string> /*metrics*/) const override {
    class Pairs final : public deltaw::Scorer {
     public:
      Pairs(int64_t rows, double scale) : a_(static_cast<size_t>(rows)), b_(static_cast<size_t>(rows)), scale_(scale) {}
      void add(const deltaw::Outputs& outputs, const deltaw::Batch& batch) override {
        for (int64_t i = 0; i < batch.rows; ++i) {
          a_[static_cast<size_t>(batch.positions[static_cast<size_t>(i)])] = outputs[0][i];
          b_[static_cast<size_t>(batch.positions[static_cast<size_t>(i)])] = outputs[1][i];
        }
      }
      deltaw::Json metrics() override {
        const at::Tensor scores = at::stack(a_).mm(at::stack(b_).t()) * scale_;
        const at::Tensor own = at::arange(scores.size(0), at::kLong);
        return {{"loss", at::cross_entropy_loss(scores, own).item<double>()},
                {"recall_at_1", scores.argmax(1).eq(own).to(at::kDouble).mean().item<double>()}};
      }
      deltaw::Json row(int64_t position) override {
        const auto row = static_cast<size_t>(position);
        return {{"similarity", a_[row].dot(b_[row]).item<double>()}};
      }
      std::vector<std::pair<std::string, at::Tensor>> tensors() override {
        return {{"first", at::stack(a_).to(at::kFloat)}, {"second", at::stack(b_).to(at::kFloat)}};
      }

     private:
      std::vector<at::Tensor> a_, b_;
      double scale_;
    };
    return std::make_unique<Pairs>(rows.size(), scale_);
  }

  at::Tensor comparable(const deltaw::Model& /*model*/, const deltaw::Outputs& outputs, const deltaw::Batch& /*batch*/,
                        deltaw::Call& /*call*/) const override {
    return at::cat(outputs, 1).to(at::kDouble);
  }

 private:
  double scale_;
};
