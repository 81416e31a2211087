// The picture of a landscape, and its numbers and colours.
#include "core/chart/landscape_chart.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "core/chart/scale.h"
#include "core/chart/svg.h"

namespace deltaw::chart {
namespace {

Json plane(double far = 1) {
  Json adapters = Json::array();
  const double places[][2] = {{0, 0}, {1, 0}, {0.5, 0.8}};
  const char* names[] = {"lora", "full<&>", "randlora"};
  for (int i = 0; i < 3; ++i) {
    adapters.push_back({{"name", names[i]}, {"method", "m"}, {"norm", 1.5}, {"x", places[i][0]}, {"y", places[i][1]}});
    adapters.back()["scores"] = {{"loss", 0.25 + 0.0625 * i}};
  }
  Json x = Json::array(), y = Json::array(), rows = Json::array();
  for (int i = 0; i < 7; ++i) x.push_back(-0.2 + 0.2333 * i);
  for (int j = 0; j < 5; ++j) {
    y.push_back(-0.2 + 0.3 * j);
    Json row = Json::array();
    for (int i = 0; i < 7; ++i) row.push_back(0.2 + 0.1 * i + (j == 4 && i == 6 ? far : 0));
    rows.push_back(row);
  }
  return {{"kind", "plane"},
          {"metric", "loss"},
          {"model_name_or_path", "/models/MiniLM/"},
          {"task", "SEQ_CLS"},
          {"rows", {{"file", "dev.tsv"}, {"number", 1408}, {"chosen", "the first 1408"}}},
          {"adapters", adapters},
          {"x", x},
          {"y", y},
          {"scores", {{"loss", rows}}}};
}

Json line() {
  Json landscape = plane();
  landscape["kind"] = "line";
  landscape["adapters"].erase(2);
  landscape.erase("y");
  landscape["scores"]["loss"] = {0.5, 0.4, 0.3, nullptr, 0.3, 0.35, 0.5};
  return landscape;
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// Every element is closed and no text breaks out of its own.
void expect_well_formed(const std::string& svg) {
  EXPECT_EQ(count(svg, "<text "), count(svg, "</text>"));
  EXPECT_EQ(count(svg, "<svg "), 1u);
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  EXPECT_EQ(count(svg, "<"), count(svg, ">"));
  EXPECT_EQ(count(svg, "nan"), 0u);
  EXPECT_EQ(count(svg, "inf"), 0u);
  EXPECT_EQ(count(svg, "script"), 0u);
}

TEST(LandscapeChart, SaysWhatItShows) {
  const std::string svg = landscape_chart(plane());
  expect_well_formed(svg);
  for (const char* words :
       {"Loss on the plane through three adapters of MiniLM<", "SEQ_CLS, 1,408 rows of dev.tsv (the first 1408)",
        "are interpolated, not their factors; 7 \xC3\x97 5 points", ">lora 0.25<", ">full&lt;&amp;&gt; 0.3125<",
        ">randlora 0.375<", "distance from lora towards full&lt;&amp;&gt;, Frobenius norm of",
        "lora: m, |\xCE\x94W| 1.5, loss 0.25"}) {
    EXPECT_NE(svg.find(words), std::string::npos) << words;
  }
  EXPECT_NE(svg.find("width=\"800\""), std::string::npos);
}

TEST(LandscapeChart, MarksTheAdaptersAtTheirPlaces) {
  const std::string svg = landscape_chart(plane());
  const std::regex marker("<circle cx=\"([0-9.]+)\" cy=\"([0-9.]+)\" r=\"5\"");
  std::vector<std::pair<double, double>> found;
  for (auto at = std::sregex_iterator(svg.begin(), svg.end(), marker); at != std::sregex_iterator(); ++at) {
    found.emplace_back(std::stod((*at)[1]), std::stod((*at)[2]));
  }
  ASSERT_EQ(found.size(), 3u);
  // A unit is as long upwards as across: the map is 590 pixels wide at most, and 560 high.
  const double unit = std::min(590 / 1.3998, 560 / 1.2);
  EXPECT_NEAR(found[1].first - found[0].first, unit, 0.02);
  EXPECT_NEAR(found[1].second, found[0].second, 0.02);
  EXPECT_NEAR(found[2].first - found[0].first, unit / 2, 0.02);
  EXPECT_NEAR(found[0].second - found[2].second, unit * 0.8, 0.02);
  EXPECT_NEAR(found[0].first, 88 + unit * 0.2, 0.02);
  EXPECT_NEAR(found[0].second, 92 + unit * 1.0, 0.02);
}

// On a map that is higher than broad, too: its numbers and colours stand at its sides.
TEST(LandscapeChart, KeepsLongNamesOnTheMap) {
  Json tall = plane();
  for (Json& adapter : tall["adapters"]) adapter["name"] = "runs/" + adapter["name"].get<std::string>() + "/seed-44";
  for (Json& y : tall["y"]) y = y.get<double>() * 2.8;
  tall["adapters"][2]["x"] = 0.7;
  const std::string svg = landscape_chart(tall);
  std::smatch map, label;
  ASSERT_TRUE(std::regex_search(svg, map, std::regex("<rect x=\"([0-9.]+)\" y=\"92\" width=\"([0-9.]+)\"")));
  const std::regex text("<text x=\"([0-9.]+)\" [^>]*text-anchor=\"([a-z]+)\" [^>]*>(runs/randlora/seed-44 0[^<]*)<");
  ASSERT_TRUE(std::regex_search(svg, label, text));
  const double width = text_width(label[3].str(), 13), share = label[2] == "start" ? 0 : label[2] == "end" ? 1 : 0.5;
  const double left = std::stod(label[1]) - share * width, edge = std::stod(map[1]);
  EXPECT_GE(left, edge);
  EXPECT_LE(left + width, edge + std::stod(map[2]));
}

TEST(LandscapeChart, LeavesBandsToWhatIsNotFarAbove) {
  const std::string usual = landscape_chart(plane(0)), high = landscape_chart(plane(500));
  for (const char* level : {">0.2<", ">0.4<", ">0.6<", ">0.8<"})
    EXPECT_NE(usual.find(level), std::string::npos) << level;
  EXPECT_NE(high.find(">0.4<"), std::string::npos);
  EXPECT_NE(high.find(">max 500.8<"), std::string::npos);
  EXPECT_EQ(usual.find(">max"), std::string::npos);
}

TEST(LandscapeChart, ShowsWhereThereIsNoNumber) {
  Json landscape = plane();
  const std::string whole = landscape_chart(landscape);
  landscape["scores"]["loss"][2][3] = nullptr;
  const std::string svg = landscape_chart(landscape);
  expect_well_formed(svg);
  EXPECT_NE(svg.find("grey: no finite number"), std::string::npos);
  EXPECT_EQ(whole.find("grey: no finite number"), std::string::npos);
  for (Json& row : landscape["scores"]["loss"]) {
    for (Json& value : row) value = nullptr;
  }
  expect_well_formed(landscape_chart(landscape));
}

TEST(LandscapeChart, OfALineIsACurveWithBothEnds) {
  const std::string svg = landscape_chart(line());
  expect_well_formed(svg);
  EXPECT_EQ(count(svg, "<polyline "), 2u);  // broken where there is no number
  EXPECT_EQ(count(svg, "stroke-dasharray"), 2u);
  EXPECT_NE(svg.find("Loss on the line through two adapters of MiniLM<"), std::string::npos);
  EXPECT_NE(svg.find("factors; 7 points"), std::string::npos);
}

TEST(LandscapeChart, OfOneValueIsNoError) {
  Json landscape = plane();
  for (Json& row : landscape["scores"]["loss"]) {
    for (Json& value : row) value = 0.5;
  }
  expect_well_formed(landscape_chart(landscape));
  landscape = line();
  for (Json& value : landscape["scores"]["loss"]) value = 0;
  for (Json& adapter : landscape["adapters"]) adapter["scores"]["loss"] = 0;
  expect_well_formed(landscape_chart(landscape));
  for (Json& value : landscape["scores"]["loss"]) value = nullptr;
  for (Json& adapter : landscape["adapters"]) adapter["scores"] = Json::object();
  expect_well_formed(landscape_chart(landscape));
}

TEST(Scale, StandsAtRoundNumbers) {
  EXPECT_EQ(ticks(-0.2, 1.0, 6).size(), 7u);
  EXPECT_EQ(ticks(-0.2, 1.1, 6).size(), 3u);  // 0, 0.5, 1
  EXPECT_DOUBLE_EQ(ticks(0, 1, 5)[1], 0.2);
  EXPECT_DOUBLE_EQ(levels(0.31, 0.79, 10).front(), 0.3);
  EXPECT_DOUBLE_EQ(levels(0.31, 0.79, 10).back(), 0.8);
  EXPECT_EQ(levels(2, 2, 10).size(), 2u);
  EXPECT_EQ(tick_text(0.30000000000000004, 0.1), "0.3");
  EXPECT_EQ(tick_text(-1e-17, 0.1), "0");
  EXPECT_EQ(tick_text(0.25, 0.05), "0.25");
  EXPECT_EQ(tick_text(1500, 500), "1500");
  EXPECT_EQ(tick_text(2e-7, 1e-7), "2e-07");
}

TEST(Scale, ColoursRiseInLightness) {
  double before = -1;
  for (int i = 0; i <= 20; ++i) {
    const std::string text = colour(i / 20.0);
    ASSERT_EQ(text.size(), 7u);
    const auto part = [&](size_t at) { return static_cast<double>(std::stoi(text.substr(at, 2), nullptr, 16)); };
    const double light = 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
    EXPECT_GT(light, before + 4) << text;
    before = light;
  }
  EXPECT_EQ(colour(-1), colour(0));
  EXPECT_EQ(colour(2), colour(1));
}

TEST(Svg, WritesTextThatCannotBreakOut) {
  EXPECT_EQ(escaped("a<b>&\"c\"\x01\n"), "a&lt;b&gt;&amp;&quot;c&quot;??");
  Svg svg(10, 20);
  svg.text(1, 2.5, "</text><script>");
  EXPECT_EQ(count(svg.file("t"), "script"), 1u);
  EXPECT_EQ(count(svg.file("t"), "<script"), 0u);
  EXPECT_NE(svg.file("t").find("x=\"1\" y=\"2.5\""), std::string::npos);
}

}  // namespace
}  // namespace deltaw::chart
