// Values of columns as JSON, which is what rows are made of. What JSON has no type for becomes text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "deltaw/options.h"

namespace deltaw::io {

/// Parts of a second.
enum class TimeUnit { seconds, milliseconds, microseconds, nanoseconds };

/// Throws ColumnError for bytes that are no UTF-8.
Json text_value(std::string_view bytes);
/// Text where the bytes are UTF-8, else bytes_value().
Json loose_text_value(std::string_view bytes);
/// Stands for bytes that are no text (images, say): no row is learned from them, so they are not kept.
Json bytes_value();

/// Null for a number that is none (NaN, which pandas takes for a missing one), "inf" and "-inf" as text.
Json real_value(double value);
double half_to_double(uint16_t bits);

std::string date_text(int64_t days);                                    // since 1970: "2024-02-29"
std::string time_text(int64_t value, TimeUnit unit);                    // since midnight: "23:59:59.250"
std::string timestamp_text(int64_t value, TimeUnit unit, bool is_utc);  // "2024-02-29T23:59:59.250+00:00"
std::string duration_text(int64_t value, TimeUnit unit);                // in seconds: "-1.500"
/// A whole number in two's complement, its high byte first, `scale` digits of which stand behind the point. Throws
/// ColumnError beyond 64 bytes and 1000 digits.
std::string decimal_text(std::string_view bytes, int64_t scale);
std::string uuid_text(std::string_view bytes);  // of 16 bytes

/// What a value or a name takes in a row beside its text, about.
inline constexpr uint64_t kValueBytes = 64;

/// What may come of a file: a few bytes can say that a value stands there a billion times.
class Allowance {
 public:
  explicit Allowance(uint64_t file_bytes);

  /// Throws ColumnError where nothing is left.
  void spend(uint64_t bytes);
  /// Counts how deep values stand in each other. Throws ColumnError where they go round in circles.
  void enter();
  void leave() { --depth_; }

 private:
  int depth_ = 0;
  uint64_t most_;
  uint64_t spent_ = 0;
};

}  // namespace deltaw::io
