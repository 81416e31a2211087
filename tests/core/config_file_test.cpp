#include <gtest/gtest.h>

#include <cmath>

#include "core/files.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::put;
using test::TemporaryFolder;

Json yaml(const std::string& text) {
  const TemporaryFolder folder;
  return read_config_file(put(folder / "c.yaml", text));
}

Error yaml_error(const std::string& text) {
  return error_of([&] { yaml(text); });
}

TEST(ConfigFile, GivesYamlScalarsTheTypesOfYaml12) {
  const std::pair<const char*, Json> cases[] = {
      {"1e-3", 1e-3},
      {"1E-3", 1e-3},
      {"+.5e+2", 50.0},
      {"1.", 1.0},
      {"-0.25", -0.25},
      {"42", 42},
      {"-7", -7},
      {"+7", 7},
      {"007", 7},
      {"0x1F", 31},
      {"0o17", 15},
      {"true", true},
      {"True", true},
      {"FALSE", false},
      {"null", nullptr},
      {"~", nullptr},
      {"", nullptr},
      {"Null", nullptr},
      {"yes", "yes"},
      {"off", "off"},
      {"1_000", "1_000"},
      {"1e", "1e"},
      {".", "."},

      {"1:30", "1:30"},
      {"tRuE", "tRuE"},
      {"\"1e-3\"", "1e-3"},
      {"'true'", "true"},
      {"''", ""},
      {"!!str 5", "5"},
      {"0x", "0x"},
      {"1.2.3", "1.2.3"},
      {"all-linear", "all-linear"},
      {"18446744073709551616", 18446744073709551616.0},
  };
  for (const auto& [text, expected] : cases) {
    const Json value = yaml(std::string("k: ") + text + "\n")["k"];
    EXPECT_EQ(value, expected) << text;
    EXPECT_EQ(value.type_name(), std::string(expected.type_name())) << text;
    EXPECT_EQ(value.is_number_float(), expected.is_number_float()) << text;
  }
  EXPECT_EQ(yaml("k: -.inf")["k"].get<double>(), -INFINITY);
  EXPECT_TRUE(std::isnan(yaml("k: .NaN")["k"].get<double>()));
}

TEST(ConfigFile, ReadsNestedYamlInOrderWithAliases) {
  EXPECT_EQ(yaml("z: [q, 1, {a: b}]\na: &x\n  k: 1\nb: *x\n").dump(),
            R"({"z":["q",1,{"a":"b"}],"a":{"k":1},"b":{"k":1}})");
  EXPECT_EQ(yaml("").dump(), "{}");
  EXPECT_EQ(yaml("# nothing\n").dump(), "{}");
}

TEST(ConfigFile, ReadsJsonAndYmlAlike) {
  const TemporaryFolder folder;
  const Json expected = {{"learning_rate", 1e-3}, {"seed", 42}};
  EXPECT_EQ(read_config_file(put(folder / "a.json", R"({"learning_rate": 1e-3, "seed": 42})")), expected);
  EXPECT_EQ(read_config_file(put(folder / "a.yml", "learning_rate: 1e-3\nseed: 42\n")), expected);
}

TEST(ConfigFile, RefusesEqualKeys) {
  const Error error = yaml_error("a: 1\nb:\n  c: 1\n  c: 2\n");
  EXPECT_EQ(error.id(), "format.duplicate-key");
  EXPECT_NE(error.parts().what.find("'c' stands twice in one mapping at line 4, column 3"), std::string::npos)
      << error.what();
  const TemporaryFolder folder;
  const auto path = put(folder / "a.json", R"({"a": 1, "a": 2})");
  EXPECT_EQ(error_of([&] { read_config_file(path); }).id(), "format.duplicate-key");
}

TEST(ConfigFile, NamesThePlaceOfBrokenYaml) {
  const Error error = yaml_error("a: 1\nb: [1, 2\nc: 3\n");
  EXPECT_EQ(error.id(), "format.yaml");
  EXPECT_NE(error.parts().what.find("line 3"), std::string::npos) << error.what();
  EXPECT_EQ(yaml_error("a: *nowhere\n").id(), "format.yaml");
  EXPECT_EQ(yaml_error("a: 1\n---\nb: 2\n").id(), "format.yaml");
  EXPECT_EQ(yaml_error("a: !python/object x\n").id(), "format.yaml");
  EXPECT_EQ(yaml_error("? [a, b]\n: 1\n").id(), "format.yaml");
}

TEST(ConfigFile, RefusesYamlThatUnfoldsWithoutEnd) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int k = 0; k < 9; ++k) bomb += ", " + before;
    bomb += "]\n";
  }
  EXPECT_EQ(yaml_error(bomb).id(), "format.yaml");
  EXPECT_EQ(yaml_error("a: " + std::string(150, '[') + std::string(150, ']')).id(), "format.yaml");
  EXPECT_EQ(yaml_error("a: &x [1, *x]\n").id(), "format.yaml");
}

TEST(ConfigFile, RefusesYamlThatNestsWithoutEnd) {
  const auto times = [](int count, const std::string& text) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
  };
  constexpr int kDeep = 100'000;
  std::string indented;
  for (int i = 0; i < 3000; ++i) indented += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  for (const std::string& text :
       {"a: " + times(kDeep, "["), "a: " + times(kDeep, "[") + times(kDeep, "]"), "a: " + times(kDeep, "{a: "),
        times(kDeep, "- "), times(kDeep, "? "), times(kDeep, "[? "), indented}) {
    const Error error = yaml_error(text);
    EXPECT_EQ(error.id(), "format.yaml") << text.substr(0, 20);
    EXPECT_EQ(error.parts().what.find("bad file"), std::string::npos) << error.what();
  }
  EXPECT_NE(yaml_error(times(kDeep, "- ")).parts().what.find("nested"), std::string::npos);
}

TEST(ConfigFile, IsAlwaysAnObject) {
  EXPECT_EQ(yaml_error("- a\n- b\n").id(), "config.not-an-object");
  EXPECT_EQ(yaml_error("just words\n").id(), "config.not-an-object");
  const TemporaryFolder folder;
  const auto path = put(folder / "a.json", "[1]");
  EXPECT_EQ(error_of([&] { read_config_file(path); }).id(), "config.not-an-object");
  EXPECT_EQ(error_of([&] { read_config_file(folder / "no.yaml"); }).id(), "io.not-found");
}

}  // namespace
}  // namespace deltaw
