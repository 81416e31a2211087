#include "tasks/contrastive_image_text/scorer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "deltaw/error.h"
#include "ops/host_read.h"
#include "tasks/common/losses.h"

namespace deltaw::contrastive {
namespace {

constexpr int64_t kBlock = 256;  // that are compared with all of the other side at once
constexpr std::array<int64_t, 3> kDepths = {1, 5, 10};
constexpr std::array<const char*, 2> kDirections = {"image_to_text", "text_to_image"};

std::string metric_name(size_t direction, int64_t depth) {
  return fmt::format("{}_recall_at_{}", kDirections[direction], depth);
}

/// Images or captions, each once.
struct Side {
  Tensor units;               // [n, width]
  std::vector<int64_t> rows;  // which of them each row has
};

/// What each of one side makes of all of the other.
struct Found {
  double loss = 0;             // the sum over the rows, of the cross entropy or of all pairs by themselves
  std::vector<int64_t> ranks;  // of each: how many wrong ones are as near as the nearest right one
};

/// How often each of a side stands in the rows, [n].
Tensor counts(const Side& side) {
  return at::bincount(at::tensor(at::IntArrayRef(side.rows), at::kLong), {}, side.units.size(0))
      .to(side.units.scalar_type());
}

class PairScorer final : public Scorer {
 public:
  PairScorer(const PairRows& rows, std::vector<std::string> metrics, const TwoTowerModel& model, const Adapter* adapter)
      : metrics_(std::move(metrics)), model_(model), adapter_(adapter) {
    for (const Pair& pair : rows.pairs()) {
      images_.rows.push_back(pair.image);
      captions_.rows.push_back(pair.caption);
    }
    image_count_ = rows.images();
    caption_count_ = rows.captions().size();
  }

  void add(const Outputs& outputs, const Batch& batch) override {
    keep(images_.units, image_count_, outputs.at(0), batch["image_ids"], batch);
    keep(captions_.units, caption_count_, outputs.at(1), batch["caption_ids"], batch);
  }

  Json metrics() override {
    const std::array<Found, 2> found = {compare(images_, captions_), compare(captions_, images_)};
    const auto rows = static_cast<double>(images_.rows.size());
    const bool pairwise = bias().defined();
    const double loss = (pairwise ? found[0].loss : (found[0].loss + found[1].loss) / 2) / rows;
    tasks::check_finite(loss, "the validation rows");
    Json all = {{"loss", loss}};
    for (size_t direction = 0; direction < found.size(); ++direction) {
      for (const int64_t depth : kDepths) {
        const std::string name = metric_name(direction, depth);
        if (std::find(metrics_.begin(), metrics_.end(), name) == metrics_.end()) continue;
        const auto& ranks = found[direction].ranks;
        const auto hits = std::count_if(ranks.begin(), ranks.end(), [&](int64_t rank) { return rank < depth; });
        all[name] = static_cast<double>(hits) / static_cast<double>(ranks.size());
      }
    }
    return all;
  }

  /// `image_embeds` [images, width] and `text_embeds` [captions, width], of length 1.
  std::vector<std::pair<std::string, Tensor>> tensors() override {
    return {{"image_embeds", images_.units.to(at::kFloat)}, {"text_embeds", captions_.units.to(at::kFloat)}};
  }

 private:
  static void keep(Tensor& all, int64_t count, const Tensor& embeds, const Tensor& places, const Batch& batch) {
    const Tensor units = tasks::unit_rows(embeds.detach());
    const Tensor bad = units.isfinite().all(1).logical_not();
    if (ops::host_flag(bad.any())) {
      tasks::refuse_logits(batch.positions[static_cast<size_t>(ops::host_integer(bad.to(at::kInt).argmax()))]);
    }
    if (!all.defined()) all = at::zeros({count, units.size(1)}, units.options());
    all.index_copy_(0, places, units);
  }

  Tensor bias() const {
    Call call{.adapter = adapter_};
    return model_.logit_bias(call);
  }

  /// Which of a block of `from` belong to which of `to`.
  static Tensor right_ones(const Side& from, const Side& to, int64_t begin, int64_t count) {
    std::vector<int64_t> places, others;
    for (size_t row = 0; row < from.rows.size(); ++row) {
      if (from.rows[row] < begin || from.rows[row] >= begin + count) continue;
      places.push_back(from.rows[row] - begin);
      others.push_back(to.rows[row]);
    }
    Tensor right = at::zeros({count, to.units.size(0)}, at::kBool);
    const auto numbers = [](const std::vector<int64_t>& v) { return at::tensor(at::IntArrayRef(v), at::kLong); };
    return right.index_put_({numbers(places), numbers(others)}, at::ones({}, at::kBool));
  }

  Found compare(const Side& from, const Side& to) const {
    const at::NoGradGuard no_grad;
    constexpr double kNever = -std::numeric_limits<double>::infinity();
    Call call{.adapter = adapter_};
    const at::ScalarType type = to.units.scalar_type();
    const Tensor scale = model_.logit_scale(call).exp().to(type), shift = bias();
    const Tensor own_counts = counts(from), other_counts = counts(to);
    Found found;
    for (int64_t begin = 0; begin < from.units.size(0); begin += kBlock) {
      const int64_t count = std::min(kBlock, from.units.size(0) - begin);
      const Tensor right = right_ones(from, to, begin, count);
      Tensor logits = from.units.narrow(0, begin, count).mm(to.units.t()) * scale;
      const Tensor nearest = logits.masked_fill(right.logical_not(), kNever).amax(1, /*keepdim=*/true);
      const Tensor before = logits.ge(nearest).logical_and(right.logical_not()).sum(1);
      for (const int64_t rank : ops::host_values<int64_t>(before)) found.ranks.push_back(rank);
      Tensor losses;
      if (shift.defined()) {
        logits = logits + shift.to(type);
        losses = -(at::log_sigmoid(at::where(right, logits, -logits)) * other_counts).sum(1);
      } else {
        const Tensor shares = right * other_counts;
        losses = (logits + other_counts.log()).logsumexp(1) - (logits * shares).sum(1) / shares.sum(1);
      }
      found.loss += ops::host_number((losses * own_counts.narrow(0, begin, count)).to(at::kDouble).sum());
    }
    return found;
  }

  std::vector<std::string> metrics_;
  const TwoTowerModel& model_;
  const Adapter* adapter_;
  Side images_, captions_;
  int64_t image_count_ = 0, caption_count_ = 0;
};

}  // namespace

const std::vector<std::string>& metric_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (size_t direction = 0; direction < kDirections.size(); ++direction) {
      for (const int64_t depth : kDepths) all.push_back(metric_name(direction, depth));
    }
    return all;
  }();
  return names;
}

void check_metric(const std::string& name) {
  const std::vector<std::string>& known = metric_names();
  if (name == "loss" || std::find(known.begin(), known.end(), name) != known.end()) return;
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("'{}' is no metric of images and captions", name),
               .where = "key \"metric_for_best_model\"",
               .fix = fmt::format("loss, {}", fmt::join(known, ", "))});
}

std::unique_ptr<Scorer> make_scorer(const PairRows& rows, std::vector<std::string> metrics, const TwoTowerModel& model,
                                    const Adapter* adapter) {
  return std::make_unique<PairScorer>(rows, std::move(metrics), model, adapter);
}

}  // namespace deltaw::contrastive
