// Products of blocks of eight-bit codes, exact in int32, by the widest unit for them that the processor has.
//
// Both sides are tiles of 1024 codes: 16 rows of the left matrix by 64 numbers along the depth of the product, row by
// row; of the right one 64 along the depth by 16 columns, four along the depth beside each other. A tile is followed by
// those behind it along the depth. Behind the last row, column and depth stand zeros.
//
// A tile of the right matrix is four squares of 16 by 16. The transpose of a matrix has the same squares, each turned.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deltaw::ops {

constexpr int64_t kTileEdge = 16, kTileDepth = 64, kTileCodes = kTileEdge * kTileDepth;
constexpr int64_t kSquareCodes = kTileEdge * kTileEdge;
constexpr int64_t kFour = 4;
/// Rows and columns that one call multiplies: two tiles.
constexpr int64_t kBlockEdge = 2 * kTileEdge;

/// The number of whole parts of size `part` that hold n.
constexpr int64_t parts_of(int64_t n, int64_t part) {
  return (n + part - 1) / part;
}

/// A right matrix [depth, columns], up to the end of the last block of columns.
struct RightTiles {
  const int8_t* data;
  int64_t depth, columns;

  int64_t depth_tiles() const { return parts_of(depth, kTileDepth); }
  int64_t blocks() const { return parts_of(columns, kBlockEdge); }
  int64_t block_codes() const { return 2 * depth_tiles() * kTileCodes; }
};

/// How a processor multiplies codes. The result is the same whichever does.
struct Int8Units {
  std::string name;  // "amx", "vnni"; "none": by instructions for other numbers
  /// Whether a sum has 128 times the sum of its row of the left matrix in it, as the unit multiplies signed numbers
  /// with unsigned ones.
  bool offset;
  /// c [32, 32] = left right: two tiles along the edge of either.
  void (*multiply)(const int8_t* left, const int8_t* right, int64_t depth_tiles, int32_t* c);
  /// A tile of the transpose: up to four squares, `stride` apart, each turned; zeros behind them.
  void (*turn)(const int8_t* squares, int64_t stride, int64_t count, int8_t* to);
  /// Around calls of multiply() in a thread.
  void (*begin)();
  void (*end)();
};

/// Those that the processor has, the fastest first; the last one every processor has.
const std::vector<Int8Units>& int8_units();

/// Tiles of one block of columns of the transpose [columns, depth].
void turn_block(const Int8Units& units, const RightTiles& from, int64_t block, int8_t* to);

}  // namespace deltaw::ops
