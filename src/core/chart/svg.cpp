#include "core/chart/svg.h"

#include <fmt/format.h>

#include "core/progress.h"

namespace deltaw::chart {
namespace {

/// A place on the page to a hundredth of a pixel.
std::string at(double value) {
  std::string text = fmt::format("{:.2f}", value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string points_text(const std::vector<std::pair<double, double>>& points) {
  std::string text;
  for (const auto& [x, y] : points) text += (text.empty() ? "" : " ") + at(x) + "," + at(y);
  return text;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    }
  }
  return result;
}

double text_width(std::string_view text, double size) {
  constexpr double kShare = 0.58;  // of the size, that a letter of a sans-serif font is wide
  return kShare * size * static_cast<double>(columns(text));
}

void Svg::rectangle(double x, double y, double width, double height, const std::string& fill,
                    const std::string& stroke) {
  body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"{}\"/>\n", at(x), at(y),
                       at(width), at(height), fill, stroke);
}

void Svg::line(double x1, double y1, double x2, double y2, const std::string& stroke, double width,
               const std::string& dashes) {
  body_ += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\" stroke-width=\"{}\"{}/>\n", at(x1),
                       at(y1), at(x2), at(y2), stroke, at(width),
                       dashes.empty() ? "" : fmt::format(" stroke-dasharray=\"{}\"", dashes));
}

void Svg::circle(double x, double y, double radius, const std::string& fill, const std::string& stroke,
                 double stroke_width) {
  body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{}\" stroke=\"{}\" stroke-width=\"{}\"/>\n", at(x),
                       at(y), at(radius), fill, stroke, at(stroke_width));
}

void Svg::area(const std::vector<std::vector<std::pair<double, double>>>& loops, const std::string& fill,
               const std::string& stroke) {
  if (loops.empty()) return;
  std::string path;
  for (const auto& loop : loops) path += "M" + points_text(loop) + "Z";
  body_ += fmt::format("<path d=\"{}\" fill=\"{}\" fill-rule=\"evenodd\" stroke=\"{}\" stroke-width=\"0.6\"/>\n", path,
                       fill, stroke);
}

void Svg::polyline(const std::vector<std::pair<double, double>>& points, const std::string& stroke, double width) {
  body_ += fmt::format(
      "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"/>\n",
      points_text(points), stroke, at(width));
}

void Svg::text(double x, double y, std::string_view text, const TextStyle& style) {
  std::string more;
  if (style.bold) more += " font-weight=\"bold\"";
  if (style.turn != 0) more += fmt::format(" transform=\"rotate({} {} {})\"", at(style.turn), at(x), at(y));
  const auto add = [&](const std::string& paint) {
    body_ += fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{}\" {}{}>{}</text>\n", at(x), at(y),
                         at(style.size), style.anchor, paint, more, escaped(text));
  };
  // Twice, as not every viewer knows paint-order.
  if (style.haloed)
    add("fill=\"#fff\" stroke=\"#fff\" stroke-width=\"3\" stroke-linejoin=\"round\" aria-hidden=\"true\"");
  add(fmt::format("fill=\"{}\"", style.fill));
}

std::string Svg::file(std::string_view title) const {
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" role=\"img\">\n<title>{2}</title>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{3}</svg>\n",
      at(width_), at(height_), escaped(title), body_);
}

}  // namespace deltaw::chart
