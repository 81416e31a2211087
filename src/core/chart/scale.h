// Numbers on axes and their colours.
#pragma once

#include <string>
#include <vector>

namespace deltaw::chart {

/// Round numbers (1, 2 or 5 times a power of ten apart) in [low, high], about `count` of them.
std::vector<double> ticks(double low, double high, int count);

/// Round numbers of which the first is not above `low` and the last not below `high`; two at least.
std::vector<double> levels(double low, double high, int count);

/// A tick as text: as many digits as tell it from its neighbours, `step` away.
std::string tick_text(double value, double step);

/// A number in four digits: 0.4123, 1.2e-05; none for what is no finite one.
std::string short_text(double value);

/// "#rrggbb": from dark violet (0) over blue and green to yellow (1). Its lightness rises all the way, so that it can
/// be read in grey and by the colour-blind.
std::string colour(double share);

}  // namespace deltaw::chart
