// Regions of a grid of numbers, for maps.
#pragma once

#include <utility>
#include <vector>

namespace deltaw::chart {

/// Numbers at the points (x[i], y[j]): values[j][i]. Both axes rise. NaN: there is none.
struct Field {
  std::vector<double> x, y;
  std::vector<std::vector<double>> values;
};

/// A closed line; its last point is joined to its first.
using Loop = std::vector<std::pair<double, double>>;

/// The borders of where the field is `level` or above, by marching squares: between neighbouring points it is taken as
/// linear, and at a saddle the mean of the four points decides. Borders of the grid and of points without a number
/// close them. What lies within an odd number of loops is inside. The inside is on the left of a loop.
std::vector<Loop> region_above(const Field& field, double level);

}  // namespace deltaw::chart
