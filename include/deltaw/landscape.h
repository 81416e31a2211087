// The loss, or another score, on the plane through three adapters of one model, or on the line through two.
//
//   UpdateSpan span(model, {{"lora", lora}, {"full", full}, {"randlora", randlora}});
//   const Json found = landscape(span, {}, score_point(*task, model, rows, 32, {"loss", "accuracy"}));
//   std::string picture = landscape_svg(found);
//
// The map is that of Garipov et al. 2018 (arXiv:1802.10026): two orthonormal directions in the space of all weights,
// the first from one adapter to the next. What is interpolated are the updates that the adapters make, dW = W - W0,
// and whatever else of the base they train, heads and biases too, as values; never the factors of an update, whose
// interpolation would leave the plane.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/batch.h"
#include "deltaw/model.h"
#include "deltaw/options.h"
#include "deltaw/progress.h"
#include "deltaw/task.h"

namespace deltaw {

struct NamedAdapter {
  std::string name;
  const Adapter& adapter;
};

/// The line or the plane through two or three adapters of one model, of any methods.
class UpdateSpan {
 public:
  /// Forms dW of every adapter, in float32 (float64 over a float64 model), and keeps it: one copy of the weights that
  /// it changes for each. The adapters are not needed afterwards; `model` must outlive the span.
  ///
  /// Throws config.bad-value for another number of adapters; config.conflict for adapters of another model, two that
  /// are one and the same update, and three on one line; config.not-mergeable for a method that changes no weights
  /// (prompts, bottleneck adapters); config.quantised over a base that is held in few bits.
  UpdateSpan(const Model& model, const std::vector<NamedAdapter>& adapters);

  /// W0 + sum_i shares[i] dW_i, rounded once to the types of the model's tensors: a model with these weights in place
  /// of its own, to compute with and for nothing else.
  Adapter at(const std::vector<double>& shares) const;

  /// Where each adapter stands on the plane, in units of the Frobenius norm over all the tensors that any adapter
  /// changes: the first at (0, 0), the second at (distance, 0), the third above that line.
  const std::vector<std::array<double, 2>>& places() const { return places_; }
  /// The shares, which add up to one, of the point at these coordinates; y is nothing on a line.
  std::vector<double> shares_at(double x, double y) const;

  size_t size() const { return names_.size(); }
  const Model& model() const { return model_; }
  const std::string& name(size_t i) const { return names_[i]; }
  const std::string& method(size_t i) const { return methods_[i]; }
  double norm(size_t i) const;  // of dW_i
  double distance(size_t i, size_t j) const;
  int64_t tensors() const { return static_cast<int64_t>(updates_.size()); }  // that any adapter changes
  int64_t numbers() const;                                                   // in them

 private:
  using Updates = std::vector<Tensor>;  // of each adapter; undefined where it changes nothing
  void add(size_t i, const Adapter& adapter);
  void place();

  const Model& model_;
  std::vector<std::string> names_, methods_;
  std::map<int64_t, Updates> updates_;      // by slot
  std::vector<std::vector<double>> inner_;  // Frobenius inner products of dW_i and dW_j
  std::vector<std::array<double, 2>> places_;
};

struct LandscapeOptions {
  int64_t points = 25;
  double margin = 0.2;
  std::string metric = "loss";

  void fields(FieldVisitor& f);
};

/// The scores of a model at one point: an object of numbers. numeric.non-finite means that it has none there.
using ScorePoint = std::function<Json(const Adapter& point)>;

/// Scores `rows` with the task's scorer, without dropout or gradients. Batches are made once and kept, as long as they
/// take no more than a quarter of a GiB. `task` and `model` must outlive it.
ScorePoint score_point(const Task& task, const Model& model, std::shared_ptr<const RowSource> rows, int64_t batch_size,
                       std::vector<std::string> metrics);

/// What is heard of a landscape, and how it goes on after an end. Each may be empty.
struct LandscapeEvents {
  Progress progress = {};           // by points
  std::function<bool()> stop = {};  // asked after each point
  /// Takes the scores so far after each row of the grid, and when it is stopped.
  std::function<void(const Json& so_far)> keep = {};
  /// What `keep` was given by an earlier call. It is passed over where it is of other adapters, points or rows.
  Json begun = Json::object();
  /// What else the scores depend on: RowSource::fingerprint(), the metrics.
  std::string fingerprint = {};
};

/// Scores the adapters and a grid of points x points around them (a line: points), whose border is `margin` times the
/// larger extent away from them. In the result, which is null where it was stopped:
///
///   kind          "plane" or "line"
///   metric        what the picture shows
///   interpolated  in words: updates, not factors
///   norm          in words: what the unit of x and y is
///   tensors, numbers      that any of the adapters changes
///   adapters      in order: name, method, norm of dW, x, y, scores
///   distances     of each from each
///   x, y          coordinates of the grid; a line has no y
///   scores        {"loss": [[...], ...]}: a list for each y with a number for each x, a list of numbers on a line;
///   null
///                 where the model computes no finite number
///   lowest, highest       of the metric: score, x, y and the adapters' shares
///
/// Throws config.unknown-metric where the scores lack the metric.
Json landscape(const UpdateSpan& span, const LandscapeOptions& options, const ScorePoint& score,
               const LandscapeEvents& events = {});

/// The picture of what landscape() returns, as SVG text, 800 pixels wide: of a plane a map in filled bands with the
/// adapters marked, of a line its curve. Where the result also has `model_name_or_path`, `task` and `rows` (`file`,
/// `number`, `chosen`: "the first 64"), it says them.
std::string landscape_svg(const Json& landscape);

}  // namespace deltaw
