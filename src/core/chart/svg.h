// Pictures as SVG text that needs no script and no font of its own.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deltaw::chart {

/// Text as an element or an attribute may hold it; characters that XML has no way to write are '?'.
std::string escaped(std::string_view text);

struct TextStyle {
  double size = 12;
  const char* anchor = "start";  // start, middle or end
  const char* fill = "#222";
  bool bold = false;
  bool haloed = false;  // a white border, to be read on any ground
  double turn = 0;      // degrees with the clock, around its place
};

/// Columns that `text` takes on the page, roughly, in pixels.
double text_width(std::string_view text, double size);

class Svg {
 public:
  Svg(double width, double height) : width_(width), height_(height) {}

  void rectangle(double x, double y, double width, double height, const std::string& fill,
                 const std::string& stroke = "none");
  void line(double x1, double y1, double x2, double y2, const std::string& stroke, double width = 1,
            const std::string& dashes = {});
  void circle(double x, double y, double radius, const std::string& fill, const std::string& stroke,
              double stroke_width = 1);
  /// Closed figures as one: where an odd number of them lies is inside.
  void area(const std::vector<std::vector<std::pair<double, double>>>& loops, const std::string& fill,
            const std::string& stroke = "none");
  void polyline(const std::vector<std::pair<double, double>>& points, const std::string& stroke, double width);
  void text(double x, double y, std::string_view text, const TextStyle& style = {});

  /// The whole file. `title` is what screen readers and tooltips say.
  std::string file(std::string_view title) const;

 private:
  double width_, height_;
  std::string body_;
};

}  // namespace deltaw::chart
