// Products of blocks of eight-bit codes, exact in int32, by the widest unit for them that the processor has.
//
// Blocks of either side are tiles of 1024 codes: 16 rows of the left matrix by 64 numbers along the depth of the
// product, row by row; of the right one 64 along the depth by 16 columns, four along the depth beside each other.
// Behind the last row, column and depth stand zeros.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deltaw::ops {

constexpr int64_t kTileEdge = 16, kTileDepth = 64, kTileCodes = kTileEdge * kTileDepth;
/// Rows and columns that one call multiplies: two tiles.
constexpr int64_t kBlockEdge = 2 * kTileEdge;

/// The number of whole parts of size `part` that hold n.
constexpr int64_t parts_of(int64_t n, int64_t part) {
  return (n + part - 1) / part;
}

/// Codes [rows, columns] as a weight has them, without gaps.
struct Codes {
  const int8_t* data;
  int64_t rows, columns;
};

/// How a processor multiplies codes. The result is the same whichever does.
struct Int8Units {
  std::string name;  // "amx", "vnni"; "none": by instructions for other numbers
  /// Whether right matrices hold code + 128, as the unit multiplies signed numbers with unsigned ones.
  bool offset_right;
  /// c [32, 32] = left right: two tiles along the edge of either, each followed by those behind it along the depth.
  void (*multiply)(const int8_t* left, const int8_t* right, int64_t depth_tiles, int32_t* c);
  /// A right matrix's tiles of one block of columns, all along the depth: of the transpose of `codes`, or of `codes`.
  void (*pack_transposed)(const Codes& codes, int64_t block, int8_t* to);
  void (*pack)(const Codes& codes, int64_t block, int8_t* to);
  /// Around calls of multiply() in a thread.
  void (*begin)();
  void (*end)();
};

/// Those that the processor has, the fastest first; the last one every processor has.
const std::vector<Int8Units>& int8_units();

}  // namespace deltaw::ops
