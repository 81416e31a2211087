#include "core/file_system_error.h"

#include <gtest/gtest.h>

#include "support/temporary.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TemporaryFolder;

/// What the file system says where `call` goes wrong, as our error.
template <class Call>
Error named_error_of(const Call& call) {
  try {
    call();
  } catch (const fs::filesystem_error& error) {
    return named(error);
  }
  ADD_FAILURE() << "nothing went wrong";
  return Error({.id = "", .what = "", .where = "", .fix = ""});
}

TEST(FileSystemError, NamesThePathAndWhatToDo) {
  const TemporaryFolder folder;
  fs::create_symlink("loop", folder / "loop");
  const Error error = named_error_of([&] { return fs::exists(folder / "loop"); });
  EXPECT_EQ(error.id(), "io.unreadable");
  EXPECT_EQ(error.parts().where, (folder / "loop").string());
  EXPECT_NE(error.parts().what.find("symbolic links"), std::string::npos) << error.parts().what;
  EXPECT_NE(error.parts().fix.find("link"), std::string::npos);
  EXPECT_EQ(error.exit_code(), 1);
}

TEST(FileSystemError, NamesBothPathsWhereThereAreTwo) {
  const TemporaryFolder folder;
  const Error error = named_error_of([&] { fs::rename(folder / "a", folder / "b"); });
  EXPECT_EQ(error.parts().where, (folder / "a").string() + " -> " + (folder / "b").string());
}

TEST(FileSystemError, OfAFullDiskIsCalledThat) {
  const Error error = named({"cannot copy", "a", std::error_code(ENOSPC, std::generic_category())});
  EXPECT_EQ(error.id(), "io.full-disk");
}

TEST(FileSystemError, SaysWhyNothingIsSeenWhereThatIsNotForItsAbsence) {
  const TemporaryFolder folder;
  EXPECT_NO_THROW(refuse_unseen(folder / "none"));
  EXPECT_NO_THROW(refuse_unseen(folder.path()));
  fs::create_symlink("loop", folder / "loop");
  EXPECT_EQ(error_of([&] { refuse_unseen(folder / "loop"); }).id(), "io.unreadable");
  fs::create_symlink("../gone", folder / "link");
  const Error error = error_of([&] { refuse_unseen(folder / "link"); });
  EXPECT_EQ(error.id(), "io.not-found");
  EXPECT_NE(error.parts().what.find("../gone"), std::string::npos) << error.parts().what;
}

}  // namespace
}  // namespace deltaw
