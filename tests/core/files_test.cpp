#include "core/files.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <stdexcept>
#include <thread>

#include "support/temporary.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::put;
using test::TemporaryFolder;
using Names = std::vector<std::string>;

/// No file may grow beyond `bytes` while this lives: a disk that fills up.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_ = {};
  sighandler_t handler_;
};

TEST(WriteFile, WritesEveryByteAndLeavesNothingElse) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 300000; ++i) text += static_cast<char>(i * 7);
  write_file(folder / "a", text);
  EXPECT_EQ(read_file(folder / "a"), text);
  write_file(folder / "b", [&](std::ostream& out) {
    for (const char symbol : text) out.put(symbol);
    out << std::flush << 42;
  });
  EXPECT_EQ(read_file(folder / "b"), text + "42");
  write_file(folder / "empty", "");
  EXPECT_EQ(read_file(folder / "empty"), "");
  EXPECT_EQ(folder.names(), (Names{"a", "b", "empty"}));
}

TEST(WriteFile, ReplacesAFileAndKeepsItsMode) {
  const TemporaryFolder folder;
  put(folder / "a", "old");
  ::chmod((folder / "a").c_str(), 0640);
  write_file(folder / "a", "new");
  EXPECT_EQ(read_file(folder / "a"), "new");
  struct stat status = {};
  ::stat((folder / "a").c_str(), &status);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST(WriteFile, ReplacesWhatALinkLeadsTo) {
  const TemporaryFolder folder;
  put(folder / "far" / "target", "old");
  fs::create_symlink("far/target", folder / "link");
  write_file(folder / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "far" / "target"), "new");
}

TEST(WriteFile, SeesAFullDisk) {
  for (const size_t size : {size_t{1}, size_t{100}, size_t{1000000}}) {
    const Error error = error_of([&] { write_file("/dev/full", std::string(size, 'x')); });
    EXPECT_EQ(error.id(), "io.full-disk") << size;
    EXPECT_EQ(error.parts().where, "/dev/full");
  }
  EXPECT_NO_THROW(write_file("/dev/null", "text"));
}

TEST(WriteFile, LeavesTheOldFileWhenTheDiskFillsUp) {
  const TemporaryFolder folder;
  put(folder / "a", "old");
  Error error = error_of([] {});
  {
    const SmallDisk small(4096);
    error = error_of([&] { write_file(folder / "a", std::string(1 << 20, 'x')); });
  }
  EXPECT_EQ(error.id(), "io.unwritable") << error.what();
  EXPECT_NE(error.parts().what.find("too large"), std::string::npos) << error.what();
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(folder.names(), Names{"a"});
}

TEST(WriteFile, LeavesTheOldFileWhenTheWriterThrows) {
  const TemporaryFolder folder;
  put(folder / "a", "old");
  const auto thrower = [](std::ostream& out) {
    out << "half";
    throw std::logic_error("no");
  };
  EXPECT_THROW(write_file(folder / "a", thrower), std::logic_error);
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_THROW(write_file(folder / "new", thrower), std::logic_error);
  EXPECT_EQ(folder.names(), Names{"a"});
}

TEST(WriteFile, FailsWhenTheStreamWasMarkedAsFailed) {
  const TemporaryFolder folder;
  const auto failing = [](std::ostream& out) { out.setstate(std::ios::failbit); };
  EXPECT_EQ(error_of([&] { write_file(folder / "a", failing); }).id(), "io.unwritable");
  EXPECT_TRUE(folder.names().empty());
}

TEST(WriteFile, NamesAFolderThatIsMissingOrInTheWay) {
  const TemporaryFolder folder;
  const Error missing = error_of([&] { write_file(folder / "no" / "a", "x"); });
  EXPECT_EQ(missing.id(), "io.unwritable");
  EXPECT_EQ(missing.parts().where, (folder / "no" / "a").string());
  EXPECT_NE(missing.parts().fix.find("make the folder"), std::string::npos);
  EXPECT_EQ(error_of([&] { write_file(folder.path(), "x"); }).id(), "io.unwritable");
  put(folder / "file", "");
  EXPECT_EQ(error_of([&] { write_file(folder / "file" / "a", "x"); }).id(), "io.unwritable");
}

TEST(WriteFile, GivesThreadsWholeFiles) {
  const TemporaryFolder folder;
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([&, i] {
      for (int k = 0; k < 10; ++k) write_file(folder / "a", std::string(50000, static_cast<char>('a' + i)));
    });
  }
  for (std::thread& writer : writers) writer.join();
  const std::string text = read_file(folder / "a");
  EXPECT_EQ(text, std::string(50000, text[0]));
  EXPECT_EQ(folder.names(), Names{"a"});
}

TEST(WriteJson, SortsKeysOnEveryLevelWhereAsked) {
  const TemporaryFolder folder;
  const Json value = {{"b", {{"z", 1}, {"a", 2}}}, {"a", {1, 2}}};
  write_json(folder / "s", value);
  EXPECT_EQ(read_file(folder / "s"),
            "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {\n    \"a\": 2,\n    \"z\": 1\n  }\n}\n");
  write_json(folder / "u", value, KeyOrder::kept);
  EXPECT_EQ(read_json(folder / "u").dump(), value.dump());
}

TEST(WriteJson, RefusesTextThatIsNotUtf8) {
  const TemporaryFolder folder;
  EXPECT_EQ(error_of([&] { write_json(folder / "a", Json("\xff")); }).id(), "internal.utf8");
  EXPECT_TRUE(folder.names().empty());
}

TEST(ReadFile, TellsAbsentFromUnreadable) {
  const TemporaryFolder folder;
  put(folder / "file", "x");
  EXPECT_EQ(error_of([&] { read_file(folder / "no"); }).id(), "io.not-found");
  EXPECT_EQ(error_of([&] { read_file(folder / "file" / "no"); }).id(), "io.not-found");
  EXPECT_EQ(error_of([&] { read_file(folder.path()); }).id(), "io.unreadable");
  EXPECT_FALSE(read_file("/proc/self/status").empty());  // its size is given as 0
}

}  // namespace
}  // namespace deltaw
