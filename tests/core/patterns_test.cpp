#include "core/patterns.h"

#include <gtest/gtest.h>

#include <chrono>

#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;

TEST(FullMatch, TakesTheWholeNameOrNothing) {
  EXPECT_TRUE(full_match(".*\\.(query|value)", "layer.0.query"));
  EXPECT_FALSE(full_match("query", "layer.0.query"));
  EXPECT_FALSE(full_match("layer", "layer.0"));
  EXPECT_TRUE(full_match("caf.", "caf\xC3\xA9"));
}

TEST(FullMatch, NamesAnExpressionThatIsNone) {
  const Error error = error_of([] { full_match("a(b", "ab"); });
  EXPECT_EQ(error.id(), "config.bad-pattern");
  EXPECT_NE(error.parts().what.find("'a(b'"), std::string::npos) << error.what();
}

TEST(HasSuffix, IsTheWholeNameOrItsLastParts) {
  EXPECT_TRUE(has_suffix("layer.0.query", "query"));
  EXPECT_TRUE(has_suffix("layer.0.query", "0.query"));
  EXPECT_TRUE(has_suffix("query", "query"));
  EXPECT_FALSE(has_suffix("layer.0.my_query", "query"));
  EXPECT_FALSE(has_suffix("query", "0.query"));
  EXPECT_FALSE(names_module(Json::array({"key", "query"}), "layer.0.my_query"));
}

// What cannot be decided is no "no match": the layer would be left out without a word.
TEST(FullMatch, NamesAnExpressionThatComesToNoEnd) {
  const std::string name = "model.c" + std::string(60, 'a');
  const auto start = std::chrono::steady_clock::now();
  const Error error = error_of([&] { full_match("model\\.c?(a|a)*c", name); });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(error.id(), "config.bad-pattern");
  for (const std::string& part : {std::string("(a|a)*c"), name}) {
    EXPECT_NE(error.parts().what.find(part), std::string::npos) << error.what();
  }
  EXPECT_LT(seconds.count(), 60);
  EXPECT_EQ(error_of([] { full_match(".*", "a\xFF"); }).id(), "config.bad-pattern") << "a name that is no UTF-8";
}

}  // namespace
}  // namespace deltaw
