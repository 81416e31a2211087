// The picture of a landscape.
#pragma once

#include <string>

#include "deltaw/options.h"

namespace deltaw::chart {

/// SVG, 800 pixels wide, of what `deltaw landscape` writes as JSON (deltaw/landscape.h): of a plane a map in filled
/// bands, of a line its curve, with the adapters marked. Far above what the adapters have the last band is open, so
/// that high values at the edges leave bands to the rest.
std::string landscape_chart(const Json& landscape);

}  // namespace deltaw::chart
