#pragma once

// Read by CMakeLists.txt too.
#define DELTAW_VERSION "0.1.0"
