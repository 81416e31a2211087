#include "core/held_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::TemporaryFolder;

TEST(HeldFolder, IsHeldByOneAtATime) {
  const TemporaryFolder folder;
  std::optional<HeldFolder> held(folder.path());
  EXPECT_EQ(error_of([&] { HeldFolder other(folder.path()); }).id(), "config.output-busy");
  EXPECT_EQ(error_of([&] { refuse_held(folder.path()); }).id(), "config.output-busy");
  held.reset();
  EXPECT_NO_THROW(refuse_held(folder.path()));
  EXPECT_NO_THROW(HeldFolder other(folder.path()));
  EXPECT_TRUE(folder.names().empty());
}

TEST(HeldFolder, IsFreeWhereItIsNotThere) {
  const TemporaryFolder folder;
  EXPECT_NO_THROW(refuse_held(folder / "none"));
}

TEST(HeldFolder, IsFreeOnceItsProcessWasKilled) {
  const TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const HeldFolder held(folder.path());
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_NO_THROW(HeldFolder other(folder.path()));
}

}  // namespace
}  // namespace deltaw
