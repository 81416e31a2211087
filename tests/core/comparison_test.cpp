// From a file of settings and seeds to the keys of every run.
#include "core/comparison.h"

#include <gtest/gtest.h>

#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::put;
using test::TemporaryFolder;

Json as_they_are(const Json& keys, const std::filesystem::path& /*file*/, const std::string& /*where*/) {
  return keys;
}

class ComparisonFile : public ::testing::Test {
 protected:
  Comparison read(const std::string& yaml, const ChosenCells& chosen = {}) {
    return read_comparison(put(folder_ / "file.yaml", yaml), as_they_are, chosen);
  }
  std::vector<std::string> names(const std::string& yaml, const ChosenCells& chosen = {}) {
    std::vector<std::string> all;
    for (const Cell& cell : read(yaml, chosen).cells) all.push_back(cell.name());
    return all;
  }
  std::string refusal(const std::string& yaml, const ChosenCells& chosen = {}) {
    return error_of([&] { read(yaml, chosen); }).what();
  }

  TemporaryFolder folder_;
};

constexpr const char* kSmall = "settings: {a: {r: 1}, b: {r: 2}}\nseeds: [7, 8]\n";

TEST_F(ComparisonFile, EverySeedSeesAllSettingsBeforeTheNextOne) {
  EXPECT_EQ(names(kSmall), (std::vector<std::string>{"a/seed-7", "b/seed-7", "a/seed-8", "b/seed-8"}));
  const Comparison comparison = read(kSmall);
  EXPECT_EQ(comparison.cells[3].keys, (Json{{"r", 2}, {"seed", 8}}));
  EXPECT_EQ(comparison.cells[3].seed, 8);
}

TEST_F(ComparisonFile, TasksStandOutsideOfSeeds) {
  EXPECT_EQ(names("tasks: [x, y]\nsettings: {a: }\nseeds: [1, 2]\n"),
            (std::vector<std::string>{"x/a/seed-1", "x/a/seed-2", "y/a/seed-1", "y/a/seed-2"}));
}

TEST_F(ComparisonFile, AListOfTasksIsOneOfTheirNames) {
  EXPECT_EQ(read("tasks: [x]\nsettings: {a: }\n").cells[0].keys, (Json{{"task_name", "x"}}));
}

TEST_F(ComparisonFile, ALaterPartWins) {
  const Comparison comparison =
      read("base: {r: 1, rate: 1, other: 1}\ntasks: {x: {r: 2, rate: 2}}\nsettings: {a: {r: 3}}\nseeds: 5\n");
  EXPECT_EQ(comparison.cells[0].keys, (Json{{"r", 3}, {"rate", 2}, {"other", 1}, {"seed", 5}}));
}

TEST_F(ComparisonFile, ANullTakesAKeyAway) {
  EXPECT_EQ(read("base: {r: 1, k: 2}\nsettings: {a: {r: null}}\n").cells[0].keys, (Json{{"k", 2}}));
  put(folder_ / "lora.yaml", "r: 1\n");
  EXPECT_EQ(read("base: {r: 3, k: 2}\nsettings: {a: {config: lora.yaml, r: null}}\n").cells[0].keys, (Json{{"k", 2}}));
}

TEST_F(ComparisonFile, FilesOfKeysLieBesideItAndBelowTheKeysOfTheirPart) {
  put(folder_ / "more/lora.yaml", "r: 4\nk: 4\n");
  EXPECT_EQ(read("settings: {a: {config: more/lora.yaml, r: 9}}\n").cells[0].keys, (Json{{"r", 9}, {"k", 4}}));
  EXPECT_EQ(read("settings: {a: more/lora.yaml}\n").cells[0].keys, (Json{{"r", 4}, {"k", 4}}));
  EXPECT_NE(refusal("settings: {a: none.yaml}\n").find("'none.yaml'"), std::string::npos);
}

TEST_F(ComparisonFile, AFileMayBeOneForEachTask) {
  put(folder_ / "x.yaml", "r: 1\n");
  put(folder_ / "y.yaml", "r: 2\n");
  const Comparison comparison = read("tasks: [x, y]\nsettings: {a: '{task}.yaml'}\n");
  EXPECT_EQ(comparison.cells[0].keys["r"], 1);
  EXPECT_EQ(comparison.cells[1].keys["r"], 2);
}

TEST_F(ComparisonFile, WithoutSeedsEverySettingHasItsOwn) {
  EXPECT_EQ(names("settings: {a: {seed: 6}, b: }\n"), (std::vector<std::string>{"a/seed-6", "b/seed-42"}));
}

TEST_F(ComparisonFile, KeysOfAPlaceAreNotTheRunsOwn) {
  EXPECT_EQ(read("base: {output_dir: out, resume_from_checkpoint: true, r: 1}\nsettings: {a: }\n").cells[0].keys,
            (Json{{"r", 1}}));
}

TEST_F(ComparisonFile, APartOfItCanBeChosen) {
  const std::string yaml = "tasks: [x, y]\nsettings: {a: , b: }\nseeds: [1, 2]\n";
  EXPECT_EQ(names(yaml, {.tasks = {"y"}, .settings = {"b"}, .seeds = {3}}), (std::vector<std::string>{"y/b/seed-3"}));
  const std::string refused = refusal(yaml, {.tasks = {}, .settings = {"bb"}, .seeds = {}});
  EXPECT_NE(refused.find("error[config.unknown-name]"), std::string::npos);
  EXPECT_NE(refused.find("did you mean 'b'"), std::string::npos);
}

TEST_F(ComparisonFile, TellsWhatIsNoComparison) {
  EXPECT_NE(refusal("seeds: [1]\n").find("lists no settings"), std::string::npos);
  EXPECT_NE(refusal("setings: {a: }\n").find("did you mean 'settings'"), std::string::npos);
  EXPECT_NE(refusal("settings: [a]\n").find("config.comparison"), std::string::npos);
  EXPECT_NE(refusal("settings: {a: 3}\n").find("neither keys of a run"), std::string::npos);
  EXPECT_NE(refusal("settings: {a/b: }\n").find("'a/b' cannot be the name of a folder"), std::string::npos);
  EXPECT_NE(refusal("settings: {..: }\n").find("cannot be the name of a folder"), std::string::npos);
  EXPECT_NE(refusal("settings: {a: }\nseeds: [1.5]\n").find("is no seed"), std::string::npos);
  EXPECT_NE(refusal("settings: {a: }\nseeds: [1, 1]\n").find("listed twice"), std::string::npos);
  EXPECT_NE(refusal("settings: {a: {config: [x]}}\n").find("no name of a file"), std::string::npos);
  EXPECT_NE(refusal("settings: {a: }\nmetric: {x: 1}\n").find("metric"), std::string::npos);
}

}  // namespace
}  // namespace deltaw
