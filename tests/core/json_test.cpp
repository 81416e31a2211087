#include "core/json.h"

#include <gtest/gtest.h>

#include <chrono>

#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;

TEST(ParseJson, AgreesWithTheParserItReplaces) {
  const std::string text =
      R"({"z": [1, -2, 3.5, 1e-3, true, null, "a\u00e9\n"], "a": {"b": {}, "c": []}, "u": 18446744073709551615})";
  EXPECT_EQ(parse_json(text, "t").dump(), Json::parse(text).dump());
  for (const char* scalar : {"1", "\"x\"", "null", "[]", "{}", " [ [ ] , { } ] "}) {
    EXPECT_EQ(parse_json(scalar, "t"), Json::parse(scalar)) << scalar;
  }
}

TEST(ParseJson, NamesLineAndColumn) {
  const Error error = error_of([] { parse_json("{\n  \"a\": 1,\n  oops\n}", "file.json"); });
  EXPECT_EQ(error.id(), "format.json");
  EXPECT_EQ(error.parts().where, "file.json");
  EXPECT_NE(error.parts().what.find("line 3, column 3"), std::string::npos) << error.what();
}

TEST(ParseJson, RefusesWhatIsNotOneDocument) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\" 1}", "{} {}", "nul", "\"\xff\"", "[1e999]"}) {
    EXPECT_EQ(error_of([&] { parse_json(text, "t"); }).id(), "format.json") << text;
  }
}

TEST(ParseJson, RefusesWhatIsHiddenBehindAZeroByte) {
  const Error error = error_of([] { parse_json(std::string_view("{}\0{}", 5), "t"); });
  EXPECT_EQ(error.id(), "format.json");
  EXPECT_NE(error.parts().what.find("column 3: a zero byte"), std::string::npos) << error.what();
}

TEST(ParseJson, RefusesEndlessNesting) {
  EXPECT_EQ(error_of([] { parse_json(std::string(100000, '['), "t"); }).id(), "format.json");
  const std::string deep = std::string(500, '[') + std::string(500, ']');
  EXPECT_EQ(parse_json(deep, "t").dump(), deep);
}

TEST(ParseJson, TakesTheLastOfTwoEqualKeysOrRefusesThem) {
  const std::string text = R"({"a": {"x": [1]}, "b": 2, "a": {"x": 3}})";
  EXPECT_EQ(parse_json(text, "t").dump(), R"({"a":{"x":3},"b":2})");
  const Error error = error_of([&] { parse_json(text, "t", DuplicateKeys::refuse); });
  EXPECT_EQ(error.id(), "format.duplicate-key");
  EXPECT_NE(error.parts().what.find("'a'"), std::string::npos);
  // Equal keys of different objects are no duplicates.
  EXPECT_NO_THROW(parse_json(R"([{"a": 1}, {"a": {"a": 2}}])", "t", DuplicateKeys::refuse));
}

TEST(ParseJson, ReadsAVocabularyInLinearTime) {
  std::string text = "{\"model\": {\"vocab\": {";
  constexpr int kWords = 200000;
  for (int i = 0; i < kWords; ++i) text += (i ? ",\"word" : "\"word") + std::to_string(i) + "\":" + std::to_string(i);
  text += "}}}";
  const auto start = std::chrono::steady_clock::now();
  const Json json = parse_json(text, "t");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(json["model"]["vocab"].size(), kWords);
  EXPECT_EQ(json["model"]["vocab"].back(), kWords - 1);
  EXPECT_LT(seconds.count(), 20);  // a search per key takes minutes
}

TEST(LineAndColumn, CountFromOne) {
  EXPECT_EQ(line_and_column("ab\ncd", 0), "line 1, column 1");
  EXPECT_EQ(line_and_column("ab\ncd", 2), "line 1, column 3");
  EXPECT_EQ(line_and_column("ab\ncd", 3), "line 2, column 1");
  EXPECT_EQ(line_and_column("ab\ncd", 99), "line 2, column 3");
}

}  // namespace
}  // namespace deltaw
