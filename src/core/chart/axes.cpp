#include "core/chart/axes.h"

#include <algorithm>

#include "core/chart/scale.h"

namespace deltaw::chart {
namespace {

constexpr const char* kInk = "#222";
constexpr double kTick = 5, kNumberSize = 12, kTitleSize = 13;

double step_of(const std::vector<double>& numbers) {
  return numbers.size() > 1 ? numbers[1] - numbers[0] : 0;
}

// How many numbers fit along so many pixels.
int count_along(double length) {
  return std::clamp(static_cast<int>(length / 90), 2, 7);
}

}  // namespace

void draw_axes(Svg& svg, const Frame& frame, const std::string& x_title, const std::string& y_title, bool grid) {
  const std::vector<double> across = ticks(frame.x_low, frame.x_high, count_along(frame.width));
  const std::vector<double> up = ticks(frame.y_low, frame.y_high, count_along(frame.height * 1.5));
  for (const double value : across) {
    const double x = frame.x(value);
    if (grid) svg.line(x, frame.top, x, frame.bottom(), "#e2e2e2");
    svg.line(x, frame.bottom(), x, frame.bottom() + kTick, kInk);
    svg.text(x, frame.bottom() + kTick + kNumberSize + 1, tick_text(value, step_of(across)),
             {.size = kNumberSize, .anchor = "middle"});
  }
  for (const double value : up) {
    const double y = frame.y(value);
    if (grid) svg.line(frame.left, y, frame.right(), y, "#e2e2e2");
    svg.line(frame.left - kTick, y, frame.left, y, kInk);
    svg.text(frame.left - kTick - 3, y + kNumberSize / 3, tick_text(value, step_of(up)),
             {.size = kNumberSize, .anchor = "end"});
  }
  svg.rectangle(frame.left, frame.top, frame.width, frame.height, "none", kInk);
  svg.text(frame.left + frame.width / 2, frame.bottom() + 42, x_title, {.size = kTitleSize, .anchor = "middle"});
  svg.text(frame.left - 60, frame.top + frame.height / 2, y_title,
           {.size = kTitleSize, .anchor = "middle", .turn = -90});
}

void Labels::keep_clear(double x, double y) {
  constexpr double kRadius = 7;
  taken_.push_back({x - kRadius, y - kRadius, x + kRadius, y + kRadius});
}

bool Labels::is_free(const Box& box) const {
  if (box[0] < frame_.left || box[1] < frame_.top || box[2] > frame_.right() || box[3] > frame_.bottom()) return false;
  return std::none_of(taken_.begin(), taken_.end(), [&](const Box& other) {
    return box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3];
  });
}

void Labels::draw(Svg& svg, double x, double y, const std::string& text) {
  struct Place {
    double x, y;
    const char* anchor;
    double begin;  // of the text, in its own widths from x
  };
  constexpr double kGap = 10;
  const double line = size_ * 1.2, width = text_width(text, size_);
  const bool fits = width < frame_.width;  // above or below the point, if not at its side
  const double middle = fits ? std::clamp(x, frame_.left + width / 2, frame_.right() - width / 2) : x;
  std::vector<Place> places;
  for (const double down : {0.0, -1.0, 1.0, -2.0, 2.0}) {
    const double at = y + size_ / 3 + down * line;
    places.push_back({x + kGap, at, "start", 0});
    places.push_back({x - kGap, at, "end", -1});
    if (down != 0) places.push_back({middle, at + (down < 0 ? -2 : 4), "middle", -0.5});
  }
  const auto box_of = [&](const Place& place) {
    const double left = place.x + place.begin * width;
    return Box{left, place.y - size_, left + width, place.y + size_ * 0.3};
  };
  const auto free = std::find_if(places.begin(), places.end(), [&](const Place& p) { return is_free(box_of(p)); });
  const Place chosen = free == places.end() ? places.front() : *free;
  taken_.push_back(box_of(chosen));
  svg.text(chosen.x, chosen.y, text, {.size = size_, .anchor = chosen.anchor, .bold = true, .haloed = true});
}

}  // namespace deltaw::chart
