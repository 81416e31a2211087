#include "core/printable.h"

#include <gtest/gtest.h>

#include "core/log.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

TEST(Printable, LeavesTextAsItIs) {
  const std::string text = "caf\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80 C:\\new";
  EXPECT_EQ(printable(text), text);
}

TEST(Printable, WritesOutWhatSteersATerminal) {
  EXPECT_EQ(printable("a\x1b[31mb\x7f\r\t\n"), "a\\x1b[31mb\\x7f\\r\\t\\n");
  EXPECT_EQ(printable("a\nb\r\n", /*lines=*/true), "a\nb\\r\n");
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m"),
            "\\u009b31m");  // the same in one character
  EXPECT_EQ(printable("\xE2\x80\xAE"
                      "a\xE2\x81\xA6"),
            "\\u202ea\\u2066");  // turned directions
}

TEST(Printable, WritesOutBytesThatAreNoUtf8) {
  EXPECT_EQ(printable("caf\xE9"), "caf\\xe9");
  EXPECT_EQ(printable("\xE2\x82"
                      "a\xED\xA0\x80"),
            "\\xe2\\x82"
            "a\\xed\\xa0\\x80");
}

TEST(Printable, ChangesNothingTheSecondTime) {
  const std::string once = printable("\x1b\xE9\n\\");
  EXPECT_EQ(printable(once), once);
}

TEST(Error, HandsNoControlCharactersOn) {
  const Error error({.id = "data.x", .what = "'\x1b[31m'", .where = "a\xE9.csv", .fix = "b\nfix: c"});
  EXPECT_STREQ(error.what(), "error[data.x]: '\\x1b[31m'\n  where: a\\xe9.csv\n  fix:   b\\nfix: c");
  EXPECT_EQ(error.parts().what, "'\\x1b[31m'");
  EXPECT_EQ(error.parts().where, "a\\xe9.csv");
}

TEST(Log, HandsNoControlCharactersOn) {
  ::testing::internal::CaptureStderr();
  log().warn("{}", "a\x1b[31m");
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("a\\x1b[31m"), std::string::npos);
}

}  // namespace
}  // namespace deltaw
