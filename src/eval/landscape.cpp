#include "deltaw/landscape.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>

#include "core/chart/landscape_chart.h"
#include "core/fnv.h"
#include "deltaw/error.h"
#include "tasks/common/follows_adapter.h"

namespace deltaw {
namespace {

constexpr const char* kInterpolated =
    "updates: W = W0 + sum_i share_i dW_i, where dW_i = W_i - W0 of every tensor that an adapter changes (heads and "
    "biases too) and the shares add up to 1; never the factors of an update";
constexpr const char* kNorm =
    "x, y, norm and distances are Frobenius norms of differences of dW, over all these tensors";

/// Rows whose batches are made once.
class KeptBatches final : public RowSource {
 public:
  explicit KeptBatches(std::shared_ptr<const RowSource> rows) : rows_(std::move(rows)) {}

  int64_t size() const override { return rows_->size(); }
  int64_t cost(int64_t row) const override { return rows_->cost(row); }
  std::string fingerprint() const override { return rows_->fingerprint(); }

  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override {
    const std::lock_guard lock(mutex_);
    if (const auto found = batches_.find(positions); found != batches_.end()) return found->second;
    Batch batch = rows_->collate(positions, draw);
    size_t bytes = 0;
    for (const auto& [name, tensor] : batch.tensors) bytes += tensor.nbytes();
    if (bytes_ + bytes > kMostBytes) return batch;
    bytes_ += bytes;
    return batches_.emplace(positions, std::move(batch)).first->second;
  }

 private:
  static constexpr size_t kMostBytes = size_t{1} << 28;

  std::shared_ptr<const RowSource> rows_;
  mutable std::mutex mutex_;
  mutable std::map<std::vector<int64_t>, Batch> batches_;  // which are always drawn alike
  mutable size_t bytes_ = 0;
};

/// The same batches as a point's adapter has them.
class PointBatches final : public RowSource {
 public:
  PointBatches(const RowSource& rows, std::map<std::string, Tensor> own) : rows_(rows), own_(std::move(own)) {}

  int64_t size() const override { return rows_.size(); }
  int64_t cost(int64_t row) const override { return rows_.cost(row); }
  std::string fingerprint() const override { return rows_.fingerprint(); }

  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override {
    Batch batch = rows_.collate(positions, draw);
    for (const auto& [name, tensor] : own_) batch.tensors[name] = tensor;
    return batch;
  }

 private:
  const RowSource& rows_;
  std::map<std::string, Tensor> own_;
};

/// `points` numbers from below `low` to above `high`.
std::vector<double> axis(double low, double high, double margin, int64_t points) {
  std::vector<double> places;
  const double begin = low - margin, span = high - low + 2 * margin;
  for (int64_t i = 0; i < points; ++i) {
    places.push_back(begin + span * static_cast<double>(i) / static_cast<double>(points - 1));
  }
  return places;
}

/// The points that are scored.
struct Grid {
  std::vector<double> x, y;  // no y: a line

  Grid(const UpdateSpan& span, const LandscapeOptions& options) {
    double left = 0, right = 0, top = 0;
    for (const auto& [px, py] : span.places()) {
      left = std::min(left, px);
      right = std::max(right, px);
      top = std::max(top, py);
    }
    const double margin = options.margin * std::max(right - left, top);
    x = axis(left, right, margin, options.points);
    if (span.size() == 3) y = axis(0, top, margin, options.points);
  }

  size_t rows() const { return y.empty() ? 1 : y.size(); }
  size_t size() const { return x.size() * rows(); }
  double y_at(size_t row) const { return y.empty() ? 0 : y[row]; }
};

std::string fingerprint(const UpdateSpan& span, const Grid& grid, const std::string& more) {
  Fnv hash;
  const auto add = [&](double value) { hash.add(&value, sizeof value); };
  for (size_t i = 0; i < span.size(); ++i) {
    for (size_t j = 0; j < span.size(); ++j) add(i == j ? span.norm(i) : span.distance(i, j));
  }
  for (const double value : grid.x) add(value);
  for (const double value : grid.y) add(value);
  hash.add(more.data(), more.size());
  return hash.text();
}

/// Scores of points in their order: the adapters, then row by row of the grid. Those of an earlier call come first.
class Scores {
 public:
  Scores(std::string of, const Json& begun, size_t most) : of_(std::move(of)) {
    const bool same = begun.is_object() && begun.value("of", Json()) == of_ && begun.value("scores", Json()).is_array();
    if (same && begun["scores"].size() <= most) scores_ = begun["scores"];
  }

  size_t size() const { return scores_.size(); }
  const Json& operator[](size_t point) const { return scores_[point]; }
  void add(Json score) { scores_.push_back(std::move(score)); }
  Json so_far() const { return {{"of", of_}, {"scores", scores_}}; }

  /// The names of all that are numbers anywhere.
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Json& point : scores_) {
      if (!point.is_object()) continue;
      for (const auto& [name, value] : point.items()) {
        if (value.is_number() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      }
    }
    return names;
  }

  Json value(size_t point, const std::string& name) const {
    const Json value = scores_[point].is_object() ? scores_[point].value(name, Json()) : Json();
    return value.is_number() ? value : Json();
  }

 private:
  std::string of_;
  Json scores_ = Json::array();
};

Json scored(const ScorePoint& score, const Adapter& point) {
  try {
    return score(point);
  } catch (const Error& error) {
    if (error.id() != "numeric.non-finite") throw;
    return nullptr;
  }
}

std::vector<double> only(size_t i, size_t size) {
  std::vector<double> shares(size, 0);
  shares[i] = 1;
  return shares;
}

void check_metric(const std::string& metric, const Json& scores) {
  if (scores.is_null() || scores.value(metric, Json()).is_number()) return;
  std::vector<std::string> names;
  for (const auto& [name, value] : scores.items()) {
    if (value.is_number()) names.push_back(name);
  }
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("the scores have no number '{}'", metric),
               .where = "key \"metric\"",
               .fix = fmt::format("choose one of them: {}", fmt::join(names, ", "))});
}

class Result {
 public:
  Result(const UpdateSpan& span, const Grid& grid, const Scores& scores, std::string metric)
      : span_(span), grid_(grid), scores_(scores), metric_(std::move(metric)) {}

  Json json() const {
    Json result = {{"kind", grid_.y.empty() ? "line" : "plane"},
                   {"metric", metric_},
                   {"interpolated", kInterpolated},
                   {"norm", kNorm},
                   {"tensors", span_.tensors()},
                   {"numbers", span_.numbers()},
                   {"adapters", adapters()},
                   {"distances", distances()},
                   {"x", grid_.x}};
    if (!grid_.y.empty()) result["y"] = grid_.y;
    Json& scores = result["scores"] = Json::object();
    for (const std::string& name : scores_.names()) scores[name] = grid_of(name);
    if (!scores.contains(metric_)) scores[metric_] = grid_of(metric_);
    result["lowest"] = extreme(-1);
    result["highest"] = extreme(1);
    return result;
  }

 private:
  void set_place(Json& object, double x, double y) const {
    object["x"] = x;
    if (!grid_.y.empty()) object["y"] = y;
  }

  Json adapters() const {
    Json adapters = Json::array();
    for (size_t i = 0; i < span_.size(); ++i) {
      Json one = {{"name", span_.name(i)}, {"method", span_.method(i)}, {"norm", span_.norm(i)}};
      set_place(one, span_.places()[i][0], span_.places()[i][1]);
      one["scores"] = scores_[i].is_object() ? scores_[i] : Json::object();
      adapters.push_back(std::move(one));
    }
    return adapters;
  }

  Json distances() const {
    Json rows = Json::array();
    for (size_t i = 0; i < span_.size(); ++i) {
      Json row = Json::array();
      for (size_t j = 0; j < span_.size(); ++j) row.push_back(i == j ? 0 : span_.distance(i, j));
      rows.push_back(std::move(row));
    }
    return rows;
  }

  size_t point(size_t column, size_t row) const { return span_.size() + row * grid_.x.size() + column; }

  Json grid_of(const std::string& name) const {
    Json rows = Json::array();
    for (size_t j = 0; j < grid_.rows(); ++j) {
      Json row = Json::array();
      for (size_t i = 0; i < grid_.x.size(); ++i) row.push_back(scores_.value(point(i, j), name));
      rows.push_back(std::move(row));
    }
    return grid_.y.empty() ? rows[0] : rows;
  }

  // Of the grid, in one direction or the other.
  Json extreme(double sign) const {
    Json found;
    double best = -std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < grid_.rows(); ++j) {
      for (size_t i = 0; i < grid_.x.size(); ++i) {
        const Json value = scores_.value(point(i, j), metric_);
        if (value.is_null() || sign * value.get<double>() <= best) continue;
        best = sign * value.get<double>();
        found = {{metric_, value}};
        set_place(found, grid_.x[i], grid_.y_at(j));
        found["shares"] = span_.shares_at(grid_.x[i], grid_.y_at(j));
      }
    }
    return found;
  }

  const UpdateSpan& span_;
  const Grid& grid_;
  const Scores& scores_;
  std::string metric_;
};

}  // namespace

void LandscapeOptions::fields(FieldVisitor& f) {
  f.field("points", points, "Points along each axis.", at_least(2));
  f.field("margin", margin, "How far beyond the adapters the map goes, as a share of its larger extent.", at_least(0));
  f.field("metric", metric, "What the picture shows: loss, or a score of `deltaw eval`, such as accuracy.");
}

ScorePoint score_point(const Task& task, const Model& model, std::shared_ptr<const RowSource> rows, int64_t batch_size,
                       std::vector<std::string> metrics) {
  const auto batches = std::make_shared<const KeptBatches>(rows);
  return [&task, &model, rows, batches, batch_size, metrics = std::move(metrics)](const Adapter& point) {
    const std::unique_ptr<Scorer> scorer = task.scorer(model, &point, *rows, metrics);
    const auto* follows = dynamic_cast<const tasks::FollowsAdapter*>(rows.get());
    const PointBatches own(*batches, follows ? follows->tensors_of(point) : std::map<std::string, Tensor>());
    score(task, model, &point, own, batch_size, *scorer);
    return scorer->metrics();
  };
}

Json landscape(const UpdateSpan& span, const LandscapeOptions& options, const ScorePoint& score,
               const LandscapeEvents& events) {
  LandscapeOptions given = options, checked;
  read_fields(fields_of(checked), write_fields(fields_of(given)), "LandscapeOptions");
  const Grid grid(span, options);
  const size_t all = span.size() + grid.size();
  Scores scores(fingerprint(span, grid, events.fingerprint), events.begun, all);
  const auto shares_of = [&](size_t point) {
    if (point < span.size()) return only(point, span.size());
    const size_t place = point - span.size(), row = place / grid.x.size();
    return span.shares_at(grid.x[place % grid.x.size()], grid.y_at(row));
  };
  while (scores.size() < all) {
    const size_t point = scores.size();
    scores.add(scored(score, span.at(shares_of(point))));
    if (point < span.size()) check_metric(options.metric, scores[point]);
    if (events.progress) events.progress(static_cast<int64_t>(point + 1), static_cast<int64_t>(all));
    const bool stops = point + 1 < all && events.stop && events.stop();
    const bool ends_row = point + 1 > span.size() && (point + 1 - span.size()) % grid.x.size() == 0;
    if (events.keep && (stops || ends_row)) events.keep(scores.so_far());
    if (stops) return nullptr;
  }
  return Result(span, grid, scores, options.metric).json();
}

std::string landscape_svg(const Json& landscape) {
  return chart::landscape_chart(landscape);
}

}  // namespace deltaw
