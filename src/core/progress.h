// The progress of a run, on one redrawn line of a terminal or as plain lines elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace deltaw {

/// "1:02:03", "4:05"
std::string format_duration(double seconds);
/// "1.3 GiB", "512 KiB"
std::string format_bytes(double bytes);
/// 12345678 -> "12,345,678"
std::string format_count(int64_t count);

/// Columns that a terminal shows `text` in: one for each code point.
size_t columns(std::string_view text);

/// Columns of the terminal that standard error is; nothing where it is none.
std::optional<size_t> terminal_width();

/// `text` in lines of at most `width` columns, broken at blanks; the rest of a line is indented to where its words
/// begin, after "error[...]: ", "warning: " or "  fix:   ". Longer words stay whole.
std::string wrapped(std::string_view text, size_t width);

double seconds_since(std::chrono::steady_clock::time_point begin);

/// Seconds since this process started.
double process_seconds();

/// One line of status, redrawn in place when standard error is a terminal; silent otherwise.
class StatusLine {
 public:
  StatusLine();
  ~StatusLine();  // leaves the terminal on a fresh line

  bool on_terminal() const { return on_terminal_; }
  void show(const std::string& text);  // cut to the terminal's width; at most ten times a second, the rest is skipped
  void clear();                        // before an ordinary line is printed

 private:
  bool on_terminal_ = false;
  bool visible_ = false;
  double last_ = 0;
};

}  // namespace deltaw
