#include "core/chart/contours.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>

namespace deltaw::chart {
namespace {

// The grid with a ring of points around it that are outside, at the places of its border.
class Ringed {
 public:
  Ringed(const Field& field, double level)
      : field_(field), level_(level), width_(field.x.size() + 2), height_(field.y.size() + 2) {}

  std::vector<Loop> loops() {
    for (size_t j = 0; j + 1 < height_; ++j) {
      for (size_t i = 0; i + 1 < width_; ++i) add_cell(i, j);
    }
    std::vector<Loop> all;
    while (!next_.empty()) all.push_back(take_loop(next_.begin()->first));
    std::erase_if(all, [](const Loop& loop) { return loop.size() < 3; });
    return all;
  }

 private:
  using Point = std::pair<size_t, size_t>;  // column and row

  /// An edge of the grid, by the point at its left or lower end.
  struct Edge {
    size_t row = 0, column = 0;
    bool upward = false;
    auto operator<=>(const Edge&) const = default;
  };

  bool in_ring(const Point& p) const {
    return p.first == 0 || p.second == 0 || p.first + 1 == width_ || p.second + 1 == height_;
  }

  double value(const Point& p) const {
    constexpr double kNone = -std::numeric_limits<double>::infinity();
    if (in_ring(p)) return kNone;
    const double value = field_.values[p.second - 1][p.first - 1];
    return std::isnan(value) ? kNone : value;
  }

  bool inside(const Point& p) const { return value(p) >= level_; }

  std::pair<double, double> place(const Point& p) const {
    const size_t i = std::clamp<size_t>(p.first, 1, width_ - 2), j = std::clamp<size_t>(p.second, 1, height_ - 2);
    return {field_.x[i - 1], field_.y[j - 1]};
  }

  /// Where the field is at the level. An end without a number leaves the border at the other one.
  std::pair<double, double> crossing(const Edge& edge) const {
    Point a = {edge.column, edge.row}, b = edge.upward ? Point{a.first, a.second + 1} : Point{a.first + 1, a.second};
    if (!inside(a)) std::swap(a, b);
    const auto [ax, ay] = place(a);
    const auto [bx, by] = place(b);
    const double share = std::isinf(value(b)) ? 0 : (value(a) - level_) / (value(a) - value(b));
    return {ax + share * (bx - ax), ay + share * (by - ay)};
  }

  // Around the cell against the clock: a border leaves it where one steps out of the region, and came in where one
  // steps into it again.
  void add_cell(size_t i, size_t j) {
    const std::array<Point, 4> corners = {Point{i, j}, {i + 1, j}, {i + 1, j + 1}, {i, j + 1}};
    const std::array<Edge, 4> edges = {Edge{j, i, false}, {j, i + 1, true}, {j + 1, i, false}, {j, i, true}};
    std::array<bool, 4> in{};
    for (size_t k = 0; k < 4; ++k) in[k] = inside(corners[k]);
    double mean = 0;
    for (const Point& corner : corners) mean += value(corner) / 4;
    const size_t step = mean >= level_ ? 1 : 3;  // forward, where the middle of a saddle is inside
    for (size_t k = 0; k < 4; ++k) {
      if (!in[k] || in[(k + 1) % 4]) continue;
      size_t back = (k + step) % 4;
      while (in[back] || !in[(back + 1) % 4]) back = (back + step) % 4;
      next_[edges[k]] = edges[back];
    }
  }

  Loop take_loop(Edge edge) {
    Loop loop;
    for (auto found = next_.find(edge); found != next_.end(); found = next_.find(edge)) {
      const auto point = crossing(edge);
      if (loop.empty() || point != loop.back()) loop.push_back(point);
      edge = found->second;
      next_.erase(found);
    }
    while (loop.size() > 1 && loop.front() == loop.back()) loop.pop_back();
    return loop;
  }

  const Field& field_;
  double level_;
  size_t width_, height_;
  std::map<Edge, Edge> next_;  // where a border goes on
};

}  // namespace

std::vector<Loop> region_above(const Field& field, double level) {
  return Ringed(field, level).loops();
}

}  // namespace deltaw::chart
