#include "io/column_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/text_file.h"
#include "core/unpack.h"
#include "io/column_error.h"

namespace deltaw::io {
namespace {

struct Fraction {
  int64_t in_a_second;
  int digits;
};

Fraction fraction_of(TimeUnit unit) {
  switch (unit) {
    case TimeUnit::seconds:
      return {1, 0};
    case TimeUnit::milliseconds:
      return {1000, 3};
    case TimeUnit::microseconds:
      return {1000000, 6};
    default:
      return {1000000000, 9};
  }
}

/// Quotient and rest, which is never negative.
std::pair<int64_t, int64_t> divided(int64_t value, int64_t by) {
  int64_t quotient = value / by, rest = value % by;
  if (rest < 0) {
    rest += by;
    --quotient;
  }
  return {quotient, rest};
}

std::string fraction_text(int64_t rest, const Fraction& fraction) {
  return fraction.digits == 0 ? "" : fmt::format(".{:0{}}", rest, fraction.digits);
}

std::string clock_text(int64_t seconds) {
  return fmt::format("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

/// The digits of an unsigned number, its high byte first.
std::string digits_of(std::string bytes) {
  std::string digits;  // the last one first
  size_t begin = 0;
  while (true) {
    while (begin < bytes.size() && bytes[begin] == 0) ++begin;
    if (begin == bytes.size()) break;
    unsigned rest = 0;
    for (size_t i = begin; i < bytes.size(); ++i) {
      const unsigned value = rest * 256 + static_cast<unsigned char>(bytes[i]);
      bytes[i] = static_cast<char>(value / 10);
      rest = value % 10;
    }
    digits += static_cast<char>('0' + rest);
  }
  std::reverse(digits.begin(), digits.end());
  return digits.empty() ? "0" : digits;
}

}  // namespace

Json text_value(std::string_view bytes) {
  if (!is_utf8(bytes)) throw ColumnError("a text is no UTF-8", ColumnError::Kind::text);
  return std::string(bytes);
}

Json loose_text_value(std::string_view bytes) {
  return is_utf8(bytes) ? Json(std::string(bytes)) : bytes_value();
}

Json bytes_value() {
  return Json::binary({});
}

Json real_value(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

double half_to_double(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double value = 0;
  if (exponent == 31) {
    value = fraction == 0 ? INFINITY : NAN;
  } else {
    value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25);
  }
  return (bits >> 15) != 0 ? -value : value;
}

// Howard Hinnant's days_from_civil, turned round: eras of 400 years that begin in March.
std::string date_text(int64_t days) {
  constexpr int64_t kEra = 146097;
  const auto [era, day] = divided(days > INT64_MAX - 719468 ? INT64_MAX : days + 719468, kEra);
  const int64_t year_of_era = (day - day / 1460 + day / 36524 - day / 146096) / 365;
  const int64_t day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t shifted = (5 * day_of_year + 2) / 153;  // a month, from March
  const int64_t month = shifted < 10 ? shifted + 3 : shifted - 9;
  const int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  return fmt::format("{:04}-{:02}-{:02}", year, month, day_of_year - (153 * shifted + 2) / 5 + 1);
}

std::string time_text(int64_t value, TimeUnit unit) {
  const Fraction fraction = fraction_of(unit);
  const auto [seconds, rest] = divided(value, fraction.in_a_second);
  return clock_text(divided(seconds, 86400).second) + fraction_text(rest, fraction);
}

std::string timestamp_text(int64_t value, TimeUnit unit, bool is_utc) {
  const Fraction fraction = fraction_of(unit);
  const auto [seconds, rest] = divided(value, fraction.in_a_second);
  const auto [days, second] = divided(seconds, 86400);
  return date_text(days) + "T" + clock_text(second) + fraction_text(rest, fraction) + (is_utc ? "+00:00" : "");
}

std::string duration_text(int64_t value, TimeUnit unit) {
  const Fraction fraction = fraction_of(unit);
  const uint64_t size = value < 0 ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
  const auto in_a_second = static_cast<uint64_t>(fraction.in_a_second);
  return fmt::format("{}{}{}", value < 0 ? "-" : "", size / in_a_second,
                     fraction_text(static_cast<int64_t>(size % in_a_second), fraction));
}

std::string decimal_text(std::string_view bytes, int64_t scale) {
  if (bytes.size() > 64 || scale > 1000 || scale < -1000) throw ColumnError("a decimal number has too many digits");
  std::string number(bytes);
  const bool negative = !number.empty() && static_cast<signed char>(number[0]) < 0;
  if (negative) {
    for (char& byte : number) byte = static_cast<char>(~byte);
    for (size_t i = number.size(); i-- > 0 && ++number[i] == 0;) {
    }
  }
  std::string digits = digits_of(std::move(number));
  if (scale < 0 && digits != "0") digits.append(static_cast<size_t>(-scale), '0');
  if (scale > 0) {
    const auto behind = static_cast<size_t>(scale);
    if (digits.size() <= behind) digits.insert(0, behind + 1 - digits.size(), '0');
    digits.insert(digits.size() - behind, ".");
  }
  return (negative ? "-" : "") + digits;
}

std::string uuid_text(std::string_view bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(bytes[i]));
  }
  return text;
}

Allowance::Allowance(uint64_t file_bytes) : most_(most_unpacked(file_bytes)) {}

void Allowance::spend(uint64_t bytes) {
  spent_ += std::min(bytes, UINT64_MAX - spent_);
  if (spent_ > most_) {
    throw ColumnError(fmt::format("its values take more than {} bytes, and the file has far fewer", most_));
  }
}

void Allowance::enter() {
  constexpr int kDeepest = 512;
  if (++depth_ > kDeepest) throw ColumnError("its values are nested too deeply");
}

}  // namespace deltaw::io
