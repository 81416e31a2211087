#include "deltaw/error.h"

#include <gtest/gtest.h>

namespace deltaw {
namespace {

TEST(Error, ShowsItsThreePartsOnThreeLines) {
  const Error error({.id = "shape.mismatch", .what = "[2] is not [3]", .where = "a.safetensors", .fix = "cut it"});
  EXPECT_STREQ(error.what(), "error[shape.mismatch]: [2] is not [3]\n  where: a.safetensors\n  fix:   cut it");
}

TEST(Error, LeavesOutPartsThatAreEmpty) {
  EXPECT_STREQ(Error({.id = "io.x", .what = "w", .where = "", .fix = ""}).what(), "error[io.x]: w");
}

TEST(Error, ExitsWithTwoOnlyWhereNothingWasStarted) {
  const auto code = [](const char* id) { return Error({.id = id, .what = "", .where = "", .fix = ""}).exit_code(); };
  EXPECT_EQ(code("usage.flag"), 2);
  EXPECT_EQ(code("config.unknown-key"), 2);
  for (const char* id :
       {"format.json", "shape.x", "data.row", "io.full-disk", "numeric.nan", "internal.x", "configure"}) {
    EXPECT_EQ(code(id), 1) << id;
  }
}

}  // namespace
}  // namespace deltaw
