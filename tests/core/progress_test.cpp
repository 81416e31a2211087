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
