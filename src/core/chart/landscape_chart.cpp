#include "core/chart/landscape_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/chart/axes.h"
#include "core/chart/contours.h"
#include "core/chart/scale.h"
#include "core/chart/svg.h"
#include "core/progress.h"

namespace deltaw::chart {
namespace {

constexpr double kWidth = 800, kTop = 92, kLeft = 88, kMapWidth = 590, kMapHeight = 560, kLabel = 13;
constexpr const char* kDelta = "\xCE\x94";  // a capital delta

/// The end of a text that is too long: of a path its last parts.
std::string shortened(const std::string& text, size_t most) {
  if (columns(text) <= most) return text;
  size_t begin = text.size();
  for (size_t kept = 0; begin > 0 && kept + 1 < most; ++kept) {
    do {
      --begin;
    } while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80);
  }
  return "\xE2\x80\xA6" + text.substr(begin);
}

std::string last_part(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos || path == "/" ? path : path.substr(slash + 1);
}

std::string text_of(const Json& object, const char* key) {
  const Json value = object.value(key, Json());
  return value.is_string() ? value.get<std::string>() : "";
}

double number_of(const Json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::vector<double> numbers_of(const Json& values) {
  std::vector<double> numbers;
  for (const Json& value : values) numbers.push_back(number_of(value));
  return numbers;
}

struct Place {
  std::string name, method;
  double x = 0, y = 0, norm = 0, score = 0;
};

/// What both kinds of picture show.
struct Picture {
  Json landscape;
  std::string metric;
  std::vector<Place> places;

  explicit Picture(const Json& values) : landscape(values), metric(text_of(values, "metric")) {
    for (const Json& adapter : values.at("adapters")) {
      places.push_back({.name = text_of(adapter, "name"),
                        .method = text_of(adapter, "method"),
                        .x = number_of(adapter.at("x")),
                        .y = adapter.contains("y") ? number_of(adapter.at("y")) : 0,
                        .norm = number_of(adapter.at("norm")),
                        .score = number_of(adapter.at("scores").value(metric, Json()))});
    }
  }

  const Json& scores() const { return landscape.at("scores").at(metric); }

  std::string title(const std::string& kind) const {
    const std::string model = last_part(text_of(landscape, "model_name_or_path"));
    std::string what = metric;
    if (!what.empty() && what[0] >= 'a' && what[0] <= 'z') what[0] = static_cast<char>(what[0] - 'a' + 'A');
    return fmt::format("{} on {}{}", what, kind, model.empty() ? "" : " of " + shortened(model, 34));
  }

  std::vector<std::string> subtitles() const {
    std::vector<std::string> lines;
    if (landscape.contains("rows")) {
      const Json& rows = landscape.at("rows");
      const std::string task = text_of(landscape, "task");
      lines.push_back(fmt::format("{}{} rows of {} ({})", task.empty() ? "" : task + ", ",
                                  format_count(rows.value("number", int64_t{0})), shortened(text_of(rows, "file"), 50),
                                  text_of(rows, "chosen")));
    }
    lines.push_back(fmt::format("Updates {}W are interpolated, not their factors; {} points", kDelta,
                                scores().empty() || !scores()[0].is_array()
                                    ? fmt::format("{}", scores().size())
                                    : fmt::format("{} \xC3\x97 {}", scores()[0].size(), scores().size())));
    return lines;
  }

  void draw_title(Svg& svg, const std::string& kind) const {
    svg.text(kLeft, 32, title(kind), {.size = 18, .bold = true});
    double y = 54;
    for (const std::string& line : subtitles()) {
      svg.text(kLeft, y, line, {.size = 12.5, .fill = "#555"});
      y += 18;
    }
  }

  void draw_places(Svg& svg, const Frame& frame, const std::vector<double>& heights, Labels labels) const {
    for (size_t i = 0; i < places.size(); ++i) {
      const double x = frame.x(places[i].x), y = frame.y(heights[i]);
      svg.circle(x, y, 5, "#fff", "#111", 2);
      labels.keep_clear(x, y);
    }
    for (size_t i = 0; i < places.size(); ++i) {
      labels.draw(svg, frame.x(places[i].x), frame.y(heights[i]),
                  fmt::format("{} {}", shortened(places[i].name, 24), short_text(places[i].score)));
    }
  }

  double legend_height() const { return 22 * static_cast<double>(places.size()) + 16; }

  void draw_legend(Svg& svg, double y) const {
    for (const Place& place : places) {
      svg.circle(kLeft + 5, y - 4, 4, "#fff", "#111", 1.6);
      svg.text(kLeft + 18, y,
               fmt::format("{}: {}, |{}W| {}, {} {}", shortened(place.name, 40), place.method, kDelta,
                           short_text(place.norm), metric, short_text(place.score)),
               {.size = 12.5});
      y += 22;
    }
  }

  std::string distance_title() const {
    return fmt::format("distance from {} towards {}, Frobenius norm of {}W", shortened(places[0].name, 20),
                       shortened(places[1].name, 20), kDelta);
  }
};

/// Where one band ends and the next begins.
struct Bands {
  std::vector<double> levels;
  double highest = 0;
  bool open = false;  // more than the last level is a band of its own

  size_t count() const { return levels.size() - 1 + (open ? 1 : 0); }
  std::string fill(size_t band) const {
    return colour(count() < 2 ? 0.5 : static_cast<double>(band) / static_cast<double>(count() - 1));
  }
};

Bands bands_of(const std::vector<std::vector<double>>& values, const std::vector<Place>& places) {
  constexpr int kBands = 10;
  std::vector<double> all;
  for (const auto& row : values) {
    std::copy_if(row.begin(), row.end(), std::back_inserter(all), [](double value) { return std::isfinite(value); });
  }
  if (all.empty()) return {.levels = {0, 1}};
  std::sort(all.begin(), all.end());
  const double low = all.front(), high = all.back(), upper = all[all.size() * 3 / 4];
  double end = low;  // the highest of the adapters' own
  for (const Place& place : places) end = std::fmax(end, place.score);
  const double cap = std::max(upper, low + 2 * (end - low));
  const bool open = high - low > 2 * (cap - low);
  return {.levels = levels(low, open ? cap : high, kBands), .highest = high, .open = open};
}

void draw_bar(Svg& svg, const Frame& frame, const Bands& bands, const std::string& metric) {
  constexpr double kGap = 22, kBar = 18;
  const double left = frame.right() + kGap, step = frame.height / static_cast<double>(bands.count());
  const double between = bands.levels[1] - bands.levels[0];
  for (size_t i = 0; i < bands.count(); ++i) {
    svg.rectangle(left, frame.bottom() - step * static_cast<double>(i + 1), kBar, step, bands.fill(i));
  }
  svg.rectangle(left, frame.top, kBar, frame.height, "none", "#222");
  for (size_t i = 0; i <= bands.count(); ++i) {
    const double y = frame.bottom() - step * static_cast<double>(i);
    const bool known = i < bands.levels.size();
    svg.line(left + kBar, y, left + kBar + 4, y, "#222");
    svg.text(left + kBar + 7, y + 4, known ? tick_text(bands.levels[i], between) : "max " + short_text(bands.highest),
             {.size = 11.5});
  }
  svg.text(left, frame.top - 10, metric, {.size = 12.5, .bold = true});
}

bool lacks_numbers(const Field& field) {
  return std::any_of(field.values.begin(), field.values.end(), [](const std::vector<double>& row) {
    return std::any_of(row.begin(), row.end(), [](double value) { return std::isnan(value); });
  });
}

std::string plane(const Picture& picture) {
  Field field{.x = numbers_of(picture.landscape.at("x")), .y = numbers_of(picture.landscape.at("y")), .values = {}};
  for (const Json& row : picture.scores()) field.values.push_back(numbers_of(row));
  Frame frame{.left = kLeft,
              .top = kTop,
              .x_low = field.x.front(),
              .x_high = field.x.back(),
              .y_low = field.y.front(),
              .y_high = field.y.back()};
  // One unit is as long on both axes, so that distances can be seen.
  const double across = frame.x_high - frame.x_low, up = frame.y_high - frame.y_low;
  const double unit = std::min(kMapWidth / across, kMapHeight / up);
  frame.width = unit * across;
  frame.height = unit * up;
  frame.left += (kMapWidth - frame.width) / 2;

  const double legend = frame.bottom() + 72;
  Svg svg(kWidth, legend + picture.legend_height());
  picture.draw_title(svg, "the plane through three adapters");
  svg.rectangle(frame.left, frame.top, frame.width, frame.height, "#ddd");
  const Bands bands = bands_of(field.values, picture.places);
  Field page = field;
  for (double& x : page.x) x = frame.x(x);
  for (size_t band = 0; band < bands.count(); ++band) {
    // The lowest band lies below all others: whatever has a number.
    const double level = band == 0 ? std::numeric_limits<double>::lowest() : bands.levels[band];
    std::vector<Loop> loops = region_above(page, level);
    for (Loop& loop : loops) {
      for (auto& [x, y] : loop) y = frame.y(y);
    }
    svg.area(loops, bands.fill(band), band == 0 ? "none" : "#ffffff88");
  }
  draw_axes(svg, frame, picture.distance_title(), "distance from that line, in the same norm", /*grid=*/false);
  if (lacks_numbers(field)) {
    svg.text(frame.right(), frame.top - 8, "grey: no finite number", {.size = 11.5, .anchor = "end", .fill = "#555"});
  }
  draw_bar(svg, frame, bands, picture.metric);
  std::vector<double> heights;
  for (const Place& place : picture.places) heights.push_back(place.y);
  picture.draw_places(svg, frame, heights, Labels(frame, kLabel));
  picture.draw_legend(svg, legend);
  return svg.file(picture.title("the plane through three adapters"));
}

std::string line(const Picture& picture) {
  const std::vector<double> x = numbers_of(picture.landscape.at("x")), y = numbers_of(picture.scores());
  double low = std::numeric_limits<double>::infinity(), high = -low;
  std::vector<double> heights;
  for (const Place& place : picture.places) heights.push_back(place.score);
  for (const std::vector<double>& values : {y, heights}) {
    for (const double value : values) {
      low = std::fmin(low, value);
      high = std::fmax(high, value);
    }
  }
  if (!(low <= high)) low = 0, high = 1;  // not one number
  const double margin = std::max(0.08 * (high - low), 1e-6 * std::max(1.0, std::abs(high)));
  const Frame frame{.left = kLeft,
                    .top = kTop,
                    .width = 670,
                    .height = 380,
                    .x_low = x.front(),
                    .x_high = x.back(),
                    .y_low = low - margin,
                    .y_high = high + margin};
  const double legend = frame.bottom() + 72;
  Svg svg(kWidth, legend + picture.legend_height());
  picture.draw_title(svg, "the line through two adapters");
  draw_axes(svg, frame, picture.distance_title(), picture.metric, /*grid=*/true);
  Labels labels(frame, kLabel);
  std::vector<std::pair<double, double>> run;
  const auto draw_run = [&] {
    if (run.size() > 1) svg.polyline(run, colour(0.3), 2.2);
    for (const auto& [px, py] : run) {
      svg.circle(px, py, 2.6, colour(0.3), "none", 0);
      labels.keep_clear(px, py);
    }
    run.clear();
  };
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isfinite(y[i])) run.emplace_back(frame.x(x[i]), frame.y(y[i]));
    if (!std::isfinite(y[i]) || i + 1 == x.size()) draw_run();
  }
  for (size_t i = 0; i < picture.places.size(); ++i) {
    if (!std::isfinite(heights[i])) heights[i] = frame.y_low;
    svg.line(frame.x(picture.places[i].x), frame.top, frame.x(picture.places[i].x), frame.bottom(), "#888", 1, "5 4");
  }
  picture.draw_places(svg, frame, heights, labels);
  picture.draw_legend(svg, legend);
  return svg.file(picture.title("the line through two adapters"));
}

}  // namespace

std::string landscape_chart(const Json& landscape) {
  const Picture picture(landscape);
  return text_of(landscape, "kind") == "line" ? line(picture) : plane(picture);
}

}  // namespace deltaw::chart
