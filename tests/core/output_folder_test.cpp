#include "core/output_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/files.h"
#include "core/hash.h"
#include "core/manifest.h"
#include "core/scratch_folder.h"
#include "support/temporary.h"

// Between any two changes on disk the process may be killed. The program's own functions come before libc's.
namespace {

constexpr int kKilled = 99;
int steps_left = 0;  // 0: as many as there are

void step() {
  if (steps_left > 0 && --steps_left == 0) ::_exit(kKilled);
}

}  // namespace

extern "C" {
int rename(const char* from, const char* to) noexcept {
  step();
  return static_cast<int>(::syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}
int unlink(const char* path) noexcept {
  step();
  return static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}
int rmdir(const char* path) noexcept {
  step();
  return static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
}
int mkdir(const char* path, mode_t mode) noexcept {
  step();
  return static_cast<int>(::syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}
int fsync(int) {
  step();
  return 0;
}
}

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::put;
using test::TemporaryFolder;
using Names = std::vector<std::string>;

bool all(const std::string&) {
  return true;
}

FillFolder files(std::map<std::string, std::string> content) {
  return [content = std::move(content)](const fs::path& folder) {
    for (const auto& [name, text] : content) put(folder / name, text);
  };
}

Standing standing(const TemporaryFolder& folder, const std::string& name) {
  return Manifest(folder.path()).standing(name);
}

/// What write_manifest would write for one file.
std::string manifest_of(const std::string& name, const std::string& text) {
  const Json content{{"kind", "file"}, {"bytes", text.size()}, {"xxh3_128", xxh128(text)}};
  return Json{{"deltaw_manifest", 1}, {"files", {{name, Json::array({content})}}}}.dump();
}

TEST(Hash, IsThatOfOtherPrograms) {
  EXPECT_EQ(xxh128(""), "99aa06d3014798d86001c324468d497f");  // xxhsum -H2
  const TemporaryFolder folder;
  put(folder / "a", std::string(1000000, 'x') + "rest");
  EXPECT_EQ(xxh128_of_file(folder / "a").hash, xxh128(std::string(1000000, 'x') + "rest"));
  EXPECT_EQ(xxh128_of_file(folder / "a", 1000000).hash, xxh128(std::string(1000000, 'x')));
  EXPECT_EQ(xxh128_of_file(folder / "a", 2000000).bytes, 1000004);
  EXPECT_EQ(error_of([&] { xxh128_of_file(folder / "b"); }).id(), "io.unreadable");
}

TEST(AddToFolder, LeavesWhatItDidNotWriteAndReplacesWhatItDid) {
  const TemporaryFolder folder;
  put(folder / "notes.txt", "mine");
  add_to_folder(folder.path(), files({{"a", "1"}, {"deep/b", "2"}}));
  EXPECT_EQ(folder.names(), (Names{"a", "deep", kManifestName, "notes.txt"}));
  EXPECT_EQ(standing(folder, "a"), Standing::own);
  EXPECT_EQ(standing(folder, "deep"), Standing::own);
  EXPECT_EQ(standing(folder, "notes.txt"), Standing::foreign);
  add_to_folder(folder.path(), files({{"a", "3"}, {"deep/c", "4"}}));
  EXPECT_EQ(read_file(folder / "a"), "3");
  EXPECT_FALSE(fs::exists(folder / "deep" / "b"));
  EXPECT_EQ(read_file(folder / "deep" / "c"), "4");
  EXPECT_EQ(read_file(folder / "notes.txt"), "mine");
}

TEST(AddToFolder, NamesAllThatIsInTheWayBeforeItTouchesAny) {
  const TemporaryFolder folder;
  add_to_folder(folder.path(), files({{"a", "1"}, {"b", "1"}, {"deep/c", "1"}}));
  put(folder / "b", "changed");
  put(folder / "deep" / "mine", "x");
  put(folder / "new\n", "foreign");
  fs::create_symlink("a", folder / "link");
  const auto error = error_of([&] {
    add_to_folder(folder.path(), files({{"a", "2"}, {"b", "2"}, {"deep/c", "2"}, {"new\n", "2"}, {"link", "2"}}));
  });
  EXPECT_EQ(error.id(), "config.output-foreign");
  for (const char* name : {"b (changed since", "deep/ (changed since", "link", "new\\n"}) {
    EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << name << " in " << error.what();
  }
  EXPECT_EQ(read_file(folder / "a"), "1");
  EXPECT_EQ(read_file(folder / "b"), "changed");
  EXPECT_EQ(read_file(folder / "deep" / "c"), "1");
  EXPECT_EQ(read_file(folder / "new\n"), "foreign");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
}

TEST(AddToFolder, RemovesWhatIsOutdatedAndItsOwn) {
  const TemporaryFolder folder;
  add_to_folder(folder.path(), files({{"0-lora/a", "1"}, {"kept", "1"}, {"changed", "1"}}));
  put(folder / "changed", "2");
  add_to_folder(folder.path(), files({{"new", "1"}}),
                {.outdated = [](const std::string& name) { return name != "kept"; }});
  EXPECT_EQ(folder.names(), (Names{"changed", kManifestName, "kept", "new"}));
}

TEST(AddToFolder, FollowsALinkToAFolder) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "real");
  fs::create_directory_symlink("real", folder / "link");
  add_to_folder(folder / "link", files({{"a", "1"}}));
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "real" / "a"), "1");
  write_folder(folder / "link", files({{"b", "1"}}));
  EXPECT_FALSE(fs::exists(folder / "real" / "a"));
  EXPECT_EQ(read_file(folder / "link" / "b"), "1");
}

TEST(AddToFolder, RefusesToPutALinkThere) {
  const TemporaryFolder folder;
  const auto link = [](const fs::path& inside) { fs::create_symlink("/etc/passwd", inside / "a"); };
  EXPECT_EQ(error_of([&] { add_to_folder(folder.path(), link); }).id(), "io.unwritable");
  EXPECT_TRUE(folder.names().empty());
}

TEST(AddToFolder, KnowsALogThatGrew) {
  const TemporaryFolder folder;
  add_to_folder(folder.path(), files({{"log", "first\n"}}), {.logs = {"log"}});
  std::ofstream(folder / "log", std::ios::app) << "second\n";
  EXPECT_EQ(standing(folder, "log"), Standing::own);
  record_log(folder.path(), "log", true);
  EXPECT_EQ(standing(folder, "log"), Standing::own);
  std::ofstream(folder / "log", std::ios::app) << "mine\n";
  EXPECT_EQ(standing(folder, "log"), Standing::changed);
  record_log(folder.path(), "log", false);  // which is no way to take what is the user's
  EXPECT_EQ(standing(folder, "log"), Standing::changed);
  put(folder / "log", "another\n");
  EXPECT_EQ(standing(folder, "log"), Standing::changed);
}

TEST(WriteFolder, RefusesWhatItDidNotWriteAndWouldReplace) {
  const TemporaryFolder folder;
  put(folder / "run" / "old", "1");
  put(folder / "run" / "deep" / "er", "1");
  const auto in_the_way = [](const std::string& name) { return name == "deep"; };
  const auto error = error_of([&] { write_folder(folder / "run", files({{"old", "2"}}), in_the_way); });
  EXPECT_EQ(error.id(), "config.output-foreign");
  EXPECT_NE(std::string(error.what()).find("deep/, old"), std::string::npos) << error.what();
  EXPECT_EQ(read_file(folder / "run" / "old"), "1");
  EXPECT_EQ(read_file(folder / "run" / "deep" / "er"), "1");
}

TEST(WriteFolder, LeavesWhatIsNotInTheWay) {
  const TemporaryFolder folder;
  write_folder(folder / "run", files({{"a", "1"}, {"changed", "1"}, {"deep/a", "1"}}));
  put(folder / "run" / "notes", "mine");
  put(folder / "run" / ".git" / "config", "mine");
  put(folder / "run" / "changed", "mine");
  put(folder / "run" / "deep" / "notes", "mine");
  write_folder(folder / "run", files({{"b", "2"}}));
  EXPECT_FALSE(fs::exists(folder / "run" / "a"));
  EXPECT_EQ(read_file(folder / "run" / "b"), "2");
  EXPECT_EQ(read_file(folder / "run" / "deep" / "a"), "1");
  for (const char* name : {"notes", ".git/config", "changed", "deep/notes"}) {
    EXPECT_EQ(read_file(folder / "run" / name), "mine") << name;
  }
}

TEST(Manifest, SeesAnotherSizeWithoutReadingContents) {
  const TemporaryFolder folder;
  add_to_folder(folder.path(), files({{"deep/a", "1"}, {"same", "1"}, {"larger", "1"}}));
  put(folder / "same", "2");
  put(folder / "larger", "22");
  put(folder / "deep" / "mine", "");
  const Manifest manifest(folder.path());
  EXPECT_EQ(manifest.standing("same", Look::sizes), Standing::own);
  EXPECT_EQ(manifest.standing("same"), Standing::changed);
  EXPECT_EQ(manifest.standing("larger", Look::sizes), Standing::changed);
  EXPECT_EQ(manifest.standing("deep", Look::sizes), Standing::changed);
}

TEST(RemoveFromFolder, TakesOnlyWhatIsWhollyItsOwn) {
  const TemporaryFolder folder;
  add_to_folder(folder.path(), files({{"a/x", "1"}, {"b/x", "1"}, {"c/x/y", "1"}, {"d/x", "1"}}));
  put(folder / "b" / "mine", "2");
  put(folder / "c" / "x" / "y", "2");
  fs::create_directories(folder / "e");
  fs::rename(folder / "d", folder / "moved");
  fs::create_directory_symlink("moved", folder / "d");
  EXPECT_TRUE(remove_from_folder(folder.path(), "a"));
  for (const char* name : {"b", "c", "d", "e"}) EXPECT_FALSE(remove_from_folder(folder.path(), name)) << name;
  EXPECT_EQ(folder.names(), (Names{"b", "c", "d", kManifestName, "e", "moved"}));
  EXPECT_EQ(read_file(folder / "moved" / "x"), "1");
}

TEST(Adopt, TakesKnownNamesAndWholeFoldersOfThem) {
  const TemporaryFolder folder;
  put(folder / "a", "1");
  put(folder / "b" / "a", "1");
  put(folder / "c" / "b" / "mine", "1");
  put(folder / "mine", "1");
  const auto known = [](const std::string& name) { return name.size() == 1; };
  fs::create_symlink("mine", folder / "l");
  const Names names = adoptable(folder.path(), known);
  EXPECT_EQ(names, (Names{"a", "b"}));
  EXPECT_EQ(folder.names(), (Names{"a", "b", "c", "l", "mine"}));
  adopt(folder.path(), names);
  EXPECT_EQ(standing(folder, "b"), Standing::own);
  EXPECT_EQ(standing(folder, "c"), Standing::foreign);
  add_to_folder(folder.path(), files({{"a", "2"}, {"b/x", "2"}}));
  EXPECT_FALSE(fs::exists(folder / "b" / "a"));
}

TEST(Manifest, IsNotBelievedWhereItIsNotAsItWasWritten) {
  const std::string text = manifest_of("victim", "1");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    return changed.replace(changed.find(from), from.size(), to);
  };
  for (const std::string& bad :
       {std::string("no json"), std::string("[]"), with("victim", "../victim"), with("victim", "/tmp/victim"),
        with("victim", ".."), with("victim", "a/b"), with("victim", ""), with("victim", kManifestName),
        with("victim", "a\\u0000b"), with("\"deltaw_manifest\":1", "\"deltaw_manifest\":2"),
        with("\"file\"", "\"link\""), with("\"bytes\":1", "\"bytes\":-1"), with("\"bytes\":1", "\"bytes\":\"1\""),
        with(xxh128("1"), "xyz"), with("[{", "[[{").append(" ")}) {
    const TemporaryFolder folder;
    put(folder / "deep" / kManifestName, bad);
    put(folder / "deep" / "victim", "1");
    put(folder / "victim", "1");
    const Manifest manifest(folder / "deep");
    EXPECT_TRUE(manifest.is_foreign()) << bad;
    EXPECT_TRUE(manifest.records().empty()) << bad;
    const auto error = error_of([&] { write_folder(folder / "deep", files({{"new", "2"}})); });
    EXPECT_EQ(error.id(), "config.output-foreign") << bad;
    EXPECT_EQ(read_file(folder / "deep" / kManifestName), bad);
    EXPECT_EQ(read_file(folder / "deep" / "victim"), "1");
    EXPECT_EQ(read_file(folder / "victim"), "1");
  }
}

TEST(Manifest, IsNotBelievedThroughALink) {
  const TemporaryFolder folder;
  put(folder / "elsewhere", manifest_of("victim", "1"));
  put(folder / "run" / "victim", "1");
  fs::create_symlink("../elsewhere", folder / "run" / kManifestName);
  EXPECT_EQ(error_of([&] { add_to_folder(folder / "run", files({{"new", "2"}})); }).id(), "config.output-foreign");
  EXPECT_EQ(read_file(folder / "elsewhere"), manifest_of("victim", "1"));
}

TEST(Manifest, HasNoSayOverAnotherContentOrWhatALinkLeadsTo) {
  const TemporaryFolder folder;
  put(folder / "outside", "1");
  put(folder / "run" / kManifestName, manifest_of("victim", "1"));
  put(folder / "run" / "victim", "2");
  EXPECT_EQ(Manifest(folder / "run").standing("victim"), Standing::changed);
  fs::remove(folder / "run" / "victim");
  fs::create_symlink("../outside", folder / "run" / "victim");
  EXPECT_EQ(Manifest(folder / "run").standing("victim"), Standing::changed);
  EXPECT_EQ(error_of([&] { write_folder(folder / "run", files({{"victim", "2"}})); }).id(), "config.output-foreign");
  write_folder(folder / "run", files({{"new", "2"}}));
  EXPECT_TRUE(fs::is_symlink(folder / "run" / "victim"));
  EXPECT_EQ(read_file(folder / "outside"), "1");
}

TEST(ScratchFolder, IsRemovedWhenItsProcessIsGoneAndNotBefore) {
  const TemporaryFolder folder;
  const fs::path old = folder / ".deltaw-0123456789abcdef0123456789abcdef";
  put(old / "half", "1");
  put(old / kScratchMark, "");
  put(folder / ".deltaw-0123456789abcdef0123456789abcdee" / "mine", "1");  // no mark: not one
  {
    const ScratchFolder first(folder.path()), second(folder.path());
    EXPECT_TRUE(fs::exists(first.path()));
    EXPECT_FALSE(fs::exists(old));
  }
  EXPECT_EQ(folder.names(), Names{".deltaw-0123456789abcdef0123456789abcdee"});
}

/// Runs `action` in a process that ends before the `step`-th change on disk; false where it came to its end.
bool killed_at(int step, const std::function<void()>& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    steps_left = step;
    action();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == kKilled)) << status;
  return WEXITSTATUS(status) == kKilled;
}

/// Kills `action` before each of its steps, in a folder that `prepare` made. Then all of deltaw's is known as deltaw's
/// still, what is the user's is there and is not, and the action can be done again.
void expect_survives_kills(const std::function<void(const fs::path&)>& prepare,
                           const std::function<void(const fs::path&)>& action) {
  const TemporaryFolder undisturbed;
  prepare(undisturbed.path());
  action(undisturbed.path());
  bool killed = true;
  for (int step = 1; killed; ++step) {
    ASSERT_LT(step, 1000);
    SCOPED_TRACE(step);
    const TemporaryFolder folder;
    prepare(folder.path());
    killed = killed_at(step, [&] { action(folder.path()); });
    for (const auto& [name, standing] : Manifest(folder.path()).survey(all)) {
      const bool foreign = name.starts_with("mine");
      EXPECT_EQ(standing == Standing::foreign, foreign) << name;
      EXPECT_NE(standing, Standing::changed) << name;
    }
    action(folder.path());
    EXPECT_EQ(folder.names(), undisturbed.names());
    EXPECT_EQ(read_file(folder / kManifestName), read_file(undisturbed / kManifestName));
    for (const auto& [name, standing] : Manifest(folder.path()).survey(all)) {
      EXPECT_EQ(standing, name.starts_with("mine") ? Standing::foreign : Standing::own) << name;
    }
  }
}

TEST(Kill, InTheMiddleOfAddingLeavesNothingUnknown) {
  const auto prepare = [](const fs::path& folder) {
    put(folder / "mine", "x");
    put(folder / "mine too" / "y", "x");
    add_to_folder(folder,
                  files({{"a", "1"}, {"adapter_config.json", "1"}, {"deep/b", "1"}, {"deep/er/c", "1"}, {"old", "1"}}));
  };
  expect_survives_kills(prepare, [](const fs::path& folder) {
    add_to_folder(folder, files({{"a", "2"}, {"adapter_config.json", "2"}, {"deep/b", "2"}, {"new", "2"}}),
                  {.outdated = [](const std::string& name) { return name == "old"; }});
    EXPECT_EQ(read_file(folder / "mine too" / "y"), "x");
  });
}

// Whoever reads the folder begins with the entry point: where it stands, the rest is of one time.
TEST(Kill, LeavesNoEntryPointBesideFilesOfTwoTimes) {
  for (const char* entry : {"adapter_config.json", "config.json"}) {
    const auto write = [&](const fs::path& folder, const char* text) {
      add_to_folder(folder, files({{"a", text}, {entry, text}, {"weights", text}}));
    };
    bool killed = true;
    for (int step = 1; killed; ++step) {
      SCOPED_TRACE(std::string(entry) + ", " + std::to_string(step));
      const TemporaryFolder folder;
      write(folder.path(), "old");
      killed = killed_at(step, [&] { write(folder.path(), "new"); });
      if (!fs::exists(folder / entry)) continue;
      for (const char* name : {"a", "weights"}) EXPECT_EQ(read_file(folder / name), read_file(folder / entry)) << name;
    }
  }
}

TEST(Kill, InTheMiddleOfRemovingLeavesNothingUnknown) {
  const auto prepare = [](const fs::path& folder) {
    add_to_folder(folder, files({{"a", "1"}, {"deep/b", "1"}, {"deep/er/c", "1"}}));
  };
  expect_survives_kills(prepare, [](const fs::path& folder) { remove_from_folder(folder, "deep"); });
}

TEST(Kill, InTheMiddleOfReplacingAFolderLeavesNothingUnknown) {
  const auto prepare = [](const fs::path& folder) {
    write_folder(folder, files({{"config.json", "1"}, {"deep/b", "1"}, {"old", "1"}}));
  };
  expect_survives_kills(prepare, [](const fs::path& folder) {
    write_folder(folder, files({{"config.json", "2"}, {"deep/c", "2"}, {"new", "2"}}));
  });
}

TEST(Kill, InTheMiddleOfANewFolderLeavesNoneOrAll) {
  const auto write = [](const fs::path& folder) {
    write_folder(folder / "run", files({{"config.json", "1"}, {"deep/b", "1"}}));
  };
  bool killed = true;
  for (int step = 1; killed; ++step) {
    const TemporaryFolder folder;
    killed = killed_at(step, [&] { write(folder.path()); });
    EXPECT_TRUE(!fs::exists(folder / "run") || is_wholly_own(folder / "run")) << step;
    write(folder.path());
    EXPECT_EQ(folder.names(), Names{"run"}) << step;
    EXPECT_EQ(read_file(folder / "run" / "deep" / "b"), "1");
  }
}

TEST(WriteFolder, TakesItsNameOnlyWhenItIsComplete) {
  const TemporaryFolder folder;
  write_folder(folder / "run/", [&](const fs::path& inside) {
    EXPECT_FALSE(fs::exists(folder / "run"));
    put(inside / "deep" / "a", "1");
  });
  EXPECT_EQ(read_file(folder / "run" / "deep" / "a"), "1");
  EXPECT_EQ(folder.names(), Names{"run"});
}

TEST(WriteFolder, ReplacesTheOldOne) {
  const TemporaryFolder folder;
  write_folder(folder / "run", files({{"old", "1"}}));
  write_folder(folder / "run", files({{"new", "2"}}));
  EXPECT_FALSE(fs::exists(folder / "run" / "old"));
  EXPECT_EQ(read_file(folder / "run" / "new"), "2");
  EXPECT_EQ(folder.names(), Names{"run"});
}

TEST(WriteFolder, LeavesTheOldOneOnFailure) {
  const TemporaryFolder folder;
  write_folder(folder / "run", files({{"old", "1"}}));
  const auto full = [](const fs::path& inside) {
    put(inside / "half", "2");
    write_file(inside / "no" / "rest", "2");
  };
  EXPECT_EQ(error_of([&] { write_folder(folder / "run", full); }).id(), "io.unwritable");
  EXPECT_EQ(read_file(folder / "run" / "old"), "1");
  EXPECT_EQ(folder.names(), Names{"run"});
}

TEST(WriteFolder, MakesTheFoldersAboveIt) {
  const TemporaryFolder folder;
  write_folder(folder / "a" / "b" / "run", files({{"new", "1"}}));
  EXPECT_EQ(read_file(folder / "a" / "b" / "run" / "new"), "1");
  const Error error = error_of([&] {
    write_folder(folder / "a" / "b" / "run" / "new" / "c" / "d", files({{"x", "1"}}));
  });
  EXPECT_EQ(error.id(), "io.unwritable");
  EXPECT_NE(std::string(error.what()).find("a part of the path is a file"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace deltaw
