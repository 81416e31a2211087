// Precompiled for the rooms that see no tensor and for their tests: reading this takes half as long as compiling most
// of their sources.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>
