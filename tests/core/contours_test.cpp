// Borders of regions: known areas, and that a region and the rest make up the whole.
#include "core/chart/contours.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>

namespace deltaw::chart {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

Field field(size_t columns, size_t rows, const std::function<double(double, double)>& value) {
  Field field;
  for (size_t i = 0; i < columns; ++i) field.x.push_back(static_cast<double>(i) / static_cast<double>(columns - 1));
  for (size_t j = 0; j < rows; ++j) field.y.push_back(2 * static_cast<double>(j) / static_cast<double>(rows - 1));
  for (const double y : field.y) {
    field.values.emplace_back();
    for (const double x : field.x) field.values.back().push_back(value(x, y));
  }
  return field;
}

// Holes count as negative: the inside is on the left.
double area(const std::vector<Loop>& loops) {
  double twice = 0;
  for (const Loop& loop : loops) {
    for (size_t i = 0; i < loop.size(); ++i) {
      const auto& [x, y] = loop[i];
      const auto& [next_x, next_y] = loop[(i + 1) % loop.size()];
      twice += x * next_y - next_x * y;
    }
  }
  return twice / 2;
}

TEST(Contours, OfAPlaneAreExact) {
  const Field slope = field(7, 5, [](double x, double) { return x; });
  for (const double level : {0.1, 0.25, 0.5, 0.93})
    EXPECT_NEAR(area(region_above(slope, level)), 2 * (1 - level), 1e-12);
  const Field diagonal = field(11, 21, [](double x, double y) { return x + y / 2; });
  EXPECT_NEAR(area(region_above(diagonal, 1)), 1, 1e-12);
}

TEST(Contours, CloseAtTheBorders) {
  const Field flat = field(4, 3, [](double, double) { return 1; });
  const std::vector<Loop> all = region_above(flat, 0);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_DOUBLE_EQ(area(all), 2);
  EXPECT_TRUE(region_above(flat, 1.5).empty());
  EXPECT_DOUBLE_EQ(area(region_above(flat, 1)), 2);  // a level is reached
}

TEST(Contours, HaveHoles) {
  const Field bowl = field(41, 81, [](double x, double y) { return std::hypot(x - 0.5, y - 1); });
  const std::vector<Loop> loops = region_above(bowl, 0.3);
  EXPECT_EQ(loops.size(), 2u);
  EXPECT_NEAR(area(loops), 2 - std::acos(-1) * 0.09, 2e-3);
}

TEST(Contours, LeaveOutPointsWithoutNumbers) {
  Field field_with_hole = field(5, 5, [](double, double) { return 1; });
  field_with_hole.values[2][2] = kNone;
  EXPECT_NEAR(area(region_above(field_with_hole, 0)), 2 - 2 * 0.25 * 0.5, 1e-12);  // a rhombus around it
  field_with_hole.values[0][0] = kNone;
  EXPECT_NEAR(area(region_above(field_with_hole, 0)), 2 - 0.25 - 0.25 * 0.5 / 2, 1e-12);
  for (auto& row : field_with_hole.values) row.assign(5, kNone);
  EXPECT_TRUE(region_above(field_with_hole, 0).empty());
}

TEST(Contours, OfASaddleFollowItsMiddle) {
  Field saddle{.x = {0, 1}, .y = {0, 1}, .values = {{1, 0}, {0, 1}}};
  EXPECT_EQ(region_above(saddle, 0.4).size(), 1u);  // the mean, a half, is above
  EXPECT_EQ(region_above(saddle, 0.6).size(), 2u);
  EXPECT_NEAR(area(region_above(saddle, 0.6)), 2 * 0.4 * 0.4 / 2, 1e-12);
  saddle.values = {{0, 1}, {1, 0}};
  EXPECT_EQ(region_above(saddle, 0.4).size(), 1u);
  EXPECT_EQ(region_above(saddle, 0.6).size(), 2u);
}

TEST(Contours, OfARegionAndTheRestMakeUpTheWhole) {
  std::mt19937 engine(3);
  std::normal_distribution<double> noise;
  for (int round = 0; round < 50; ++round) {
    const Field above = field(9, 6, [&](double, double) { return noise(engine); });
    Field below = above;
    for (auto& row : below.values) {
      for (double& value : row) value = -value;
    }
    const double level = noise(engine) / 2;
    EXPECT_NEAR(area(region_above(above, level)) + area(region_above(below, -level)), 2, 1e-9) << round;
  }
}

}  // namespace
}  // namespace deltaw::chart
