// The encodings of Parquet's pages, each read value by value: what a page says of its length allocates nothing.
// Source: https://parquet.apache.org/docs/file-format/data-pages/encodings/
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deltaw::io {

enum class Physical { boolean, int32, int64, int96, float32, float64, byte_array, fixed_bytes };

/// A value of a page: which member counts follows from the column's type. Bytes last until the next one is read.
struct RawValue {
  int64_t integer = 0;  // of boolean, int32 and int64
  double real = 0;      // of float32 and float64
  std::string_view bytes = {};
};

/// Runs of one number, and numbers packed into `width` bits: levels, places in a dictionary, truth values.
class HybridReader {
 public:
  HybridReader() = default;
  HybridReader(std::string_view bytes, int width);

  uint32_t next();

 private:
  void begin_run();

  std::string_view rest_;
  int width_ = 0;
  uint64_t left_ = 0;  // of the run
  bool packed_ = false;
  uint32_t repeated_ = 0;
  std::string_view group_;  // of packed numbers
  uint64_t at_ = 0;         // bit of the group
};

/// Whole numbers as differences, in blocks.
class DeltaReader {
 public:
  explicit DeltaReader(std::string_view bytes);

  uint64_t count() const { return total_; }
  int64_t next();
  /// What follows the numbers.
  std::string_view after() const;

 private:
  struct Block {
    int64_t smallest = 0;
    std::string_view widths;  // a byte for each part
  };

  Block begin_block(std::string_view& rest) const;
  std::string_view take_part(std::string_view& rest, int width) const;

  std::string_view rest_;
  uint64_t part_size_ = 0, parts_ = 0, total_ = 0, read_ = 0;
  uint64_t value_ = 0;
  Block block_;
  size_t part_ = 0;
  std::string_view packed_;
  uint64_t left_ = 0;  // of the part
  uint64_t at_ = 0;    // bit of the part
  std::string_view begin_;
};

class RawValues {
 public:
  virtual ~RawValues() = default;
  virtual RawValue next() = 0;
};

/// Parquet's numbers of the encodings.
enum class Encoding {
  plain = 0,
  plain_dictionary = 2,
  rle = 3,
  bit_packed = 4,
  delta_binary_packed = 5,
  delta_length_byte_array = 6,
  delta_byte_array = 7,
  rle_dictionary = 8,
  byte_stream_split = 9,
};

/// The values of a page. `length` is that of fixed_bytes. Throws ColumnError for an encoding that such columns cannot
/// have, and from next() where the bytes end or are damaged. `bytes` and `dictionary` must outlive the result.
std::unique_ptr<RawValues> read_values(Encoding encoding, Physical physical, size_t length, std::string_view bytes,
                                       const std::vector<RawValue>* dictionary);

/// All values of a dictionary page.
std::vector<RawValue> read_dictionary(Physical physical, size_t length, std::string_view bytes, int64_t count);

}  // namespace deltaw::io
