#include "core/progress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

namespace deltaw {
namespace {

TEST(Format, Durations) {
  EXPECT_EQ(format_duration(0), "0:00");
  EXPECT_EQ(format_duration(245), "4:05");
  EXPECT_EQ(format_duration(59.6), "1:00");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(-5), "0:00");
  EXPECT_EQ(format_duration(NAN), "?");
  EXPECT_EQ(format_duration(INFINITY), "?");
}

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(512 * 1024), "512 KiB");
  EXPECT_EQ(format_bytes(1.3 * 1024 * 1024 * 1024), "1.3 GiB");
  EXPECT_EQ(format_bytes(1024.0 * 1024 - 1), "1 MiB");
}

TEST(Format, Counts) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(-1000), "-1,000");
  EXPECT_EQ(format_count(-100), "-100");
  EXPECT_EQ(format_count(12345678), "12,345,678");
}

TEST(Process, KnowsItsAge) {
  const double before = process_seconds();
  EXPECT_GE(before, 0);
  EXPECT_LT(before, 3600);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_GT(process_seconds(), before + 0.02);
}

TEST(Wrapped, BreaksAtBlanksBelowTheWords) {
  EXPECT_EQ(wrapped("warning: one two three four", 18), "warning: one two\n         three\n         four");
  EXPECT_EQ(wrapped("error[a.b]: one two three\n  fix:   four five six", 18),
            "error[a.b]: one\n  two three\n  fix:   four five\n         six");
}

TEST(Wrapped, LeavesWhatFitsAndWordsThatNeverDo) {
  EXPECT_EQ(wrapped("warning: one two", 80), "warning: one two");
  EXPECT_EQ(wrapped("  where: /a/very/long/path/indeed and more", 16),
            "  where: /a/very/long/path/indeed\n         and\n         more");
  EXPECT_EQ(wrapped("", 10), "");
  EXPECT_EQ(wrapped("a  b\n\nc", 10), "a  b\n\nc");
}

TEST(Wrapped, CountsCharactersAndNotBytes) {
  const std::string four = "\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4";
  EXPECT_EQ(wrapped(four + " " + four, 9), four + " " + four);
  EXPECT_EQ(wrapped(four + " " + four, 8), four + "\n" + four);
}

TEST(StatusLine, IsSilentWithoutATerminal) {
  const char* old = std::getenv("TERM");
  const std::string kept = old ? old : "";
  ::setenv("TERM", "dumb", 1);
  testing::internal::CaptureStderr();
  {
    StatusLine line;
    EXPECT_FALSE(line.on_terminal());
    line.show("step 1");
    line.clear();
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  if (old)
    ::setenv("TERM", kept.c_str(), 1);
  else
    ::unsetenv("TERM");
}

}  // namespace
}  // namespace deltaw
