#include "core/progress.h"

#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

namespace deltaw {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr size_t kDefaultWidth = 80;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds from boot to the start of this process; negative where /proc does not tell.
double start_since_boot() {
  constexpr int kStartField = 22;
  std::ifstream stat("/proc/self/stat");
  std::string text;
  std::getline(stat, text);
  // Field 2, the program's name, may hold blanks and brackets.
  const size_t bracket = text.rfind(')');
  if (bracket == std::string::npos) return -1;
  std::istringstream rest(text.substr(bracket + 1));
  std::string word;
  for (int field = 3; field <= kStartField; ++field) rest >> word;
  return rest ? std::atof(word.c_str()) / static_cast<double>(sysconf(_SC_CLK_TCK)) : -1;
}

/// Where the words of a line begin: after blanks and a label that ends with a colon.
size_t label_width(std::string_view line) {
  const size_t word = std::min(line.find_first_not_of(' '), line.size());
  const size_t end = std::min(line.find(' ', word), line.size());
  if (end == word || line[end - 1] != ':') return word;
  return std::min(line.find_first_not_of(' ', end), line.size());
}

void wrap_line(std::string& result, std::string_view line, size_t width) {
  const size_t label = label_width(line);
  const size_t indent = label < 12 ? label : 2;  // after a long label there would be little room
  size_t at = columns(line.substr(0, label));
  result += line.substr(0, label);
  for (line.remove_prefix(label); !line.empty();) {
    const size_t end = std::min(line.find(' '), line.size()), size = columns(line.substr(0, end));
    if (at > indent && at + size > width) {
      result.erase(result.find_last_not_of(' ') + 1);
      result += '\n' + std::string(indent, ' ');
      at = indent;
    }
    const size_t next = std::min(line.find_first_not_of(' ', end), line.size());
    result += line.substr(0, next);
    at += size + next - end;
    line.remove_prefix(next);
  }
}

/// The first `width` code points, without control characters, which would break the line.
std::string cut(const std::string& text, size_t width) {
  std::string line;
  size_t shown = 0;
  for (const char symbol : text) {
    const auto byte = static_cast<unsigned char>(symbol);
    const bool continues = (byte & 0xC0) == 0x80;
    if (!continues && ++shown > width) break;
    line += byte < 0x20 || byte == 0x7F ? ' ' : symbol;
  }
  return line;
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds > 1e12) return "?";
  const int64_t whole = seconds > 0 ? std::llround(seconds) : 0;
  const auto hours = static_cast<long long>(whole / 3600);
  const int minutes = static_cast<int>(whole / 60 % 60), rest = static_cast<int>(whole % 60);
  char room[48];
  if (hours > 0)
    std::snprintf(room, sizeof room, "%lld:%02d:%02d", hours, minutes, rest);
  else
    std::snprintf(room, sizeof room, "%d:%02d", minutes, rest);
  return room;
}

std::string format_bytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1023.5 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  char room[48];
  std::snprintf(room, sizeof room, bytes < 99.95 && unit > 0 ? "%.1f" : "%.0f", bytes);
  std::string text = room;
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text + " " + kUnits[unit];
}

size_t columns(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::optional<size_t> terminal_width() {
  if (::isatty(STDERR_FILENO) != 1) return std::nullopt;
  winsize size = {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kDefaultWidth;
}

std::string wrapped(std::string_view text, size_t width) {
  std::string result;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    wrap_line(result, text.substr(0, end), width);
    if (end < text.size()) result += '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

std::string format_count(int64_t count) {
  std::string text = std::to_string(count);
  const size_t first = count < 0 ? 1 : 0;
  for (size_t at = text.size(); at > first + 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double process_seconds() {
  static const double loaded = steady_seconds();
  static const double start = start_since_boot();
  timespec now = {};
  if (start < 0 || ::clock_gettime(CLOCK_BOOTTIME, &now) != 0) return steady_seconds() - loaded;
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 - start;
}

StatusLine::StatusLine() {
  const char* kind = std::getenv("TERM");
  on_terminal_ = ::isatty(STDERR_FILENO) == 1 && kind != nullptr && std::strcmp(kind, "dumb") != 0;
}

StatusLine::~StatusLine() {
  if (visible_) print("\n");
}

void StatusLine::show(const std::string& text) {
  if (!on_terminal_) return;
  const double now = steady_seconds();
  if (visible_ && now - last_ < kRedrawSeconds) return;
  last_ = now;
  visible_ = true;
  // The last column stays free: some terminals break the line there.
  print("\r\033[K" + cut(text, terminal_width().value_or(kDefaultWidth) - 1));
}

void StatusLine::clear() {
  if (!visible_) return;
  print("\r\033[K");
  visible_ = false;
}

}  // namespace deltaw
