// The frame of a chart: where numbers stand on the page.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/chart/svg.h"

namespace deltaw::chart {

/// A rectangle of the page, in pixels from its upper left corner, and the numbers along its sides.
struct Frame {
  double left = 0, top = 0, width = 0, height = 0;
  double x_low = 0, x_high = 1, y_low = 0, y_high = 1;

  double right() const { return left + width; }
  double bottom() const { return top + height; }
  double x(double value) const { return left + width * (value - x_low) / (x_high - x_low); }
  double y(double value) const { return bottom() - height * (value - y_low) / (y_high - y_low); }
};

/// Border, numbers and titles of both axes; `grid`: thin lines at the numbers.
void draw_axes(Svg& svg, const Frame& frame, const std::string& x_title, const std::string& y_title, bool grid);

/// Labels of points, each where it covers no other and no point, as far as there is room.
class Labels {
 public:
  Labels(const Frame& frame, double size) : frame_(frame), size_(size) {}

  /// Called for all points first.
  void keep_clear(double x, double y);
  void draw(Svg& svg, double x, double y, const std::string& text);

 private:
  using Box = std::array<double, 4>;  // left, top, right, bottom
  bool is_free(const Box& box) const;

  Frame frame_;
  double size_;
  std::vector<Box> taken_;
};

}  // namespace deltaw::chart
