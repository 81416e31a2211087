#include "core/cores.h"

#include <gtest/gtest.h>
#include <sched.h>

namespace deltaw {
namespace {

TEST(Cores, AreThoseOfTheAffinity) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  for (int core = 0; core < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++core) {
    if (CPU_ISSET(core, &before)) CPU_SET(core, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cores(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), CPU_COUNT(&before));
}

TEST(Cores, FewerThanThreadsAreSaid) {
  EXPECT_EQ(core_warning(8, 2, 0),
            "there are 8 threads and 2 cores: each step waits for the last of them; OMP_NUM_THREADS=2 avoids it");
  EXPECT_EQ(core_warning(2, 1, 0.9),
            "there are 2 threads and one core: each step waits for the last of them; OMP_NUM_THREADS=1 avoids it");
}

TEST(Cores, ThatOthersUseAreSaid) {
  EXPECT_EQ(
      core_warning(2, 2, 0.456),
      "other processes use the cores too: in 46 % of the last ten seconds something waited for one, so steps take "
      "longer than they could");
}

TEST(Cores, ThatAreFreeAreNotSpokenOf) {
  EXPECT_EQ(core_warning(2, 2, 0.1), std::nullopt);
  EXPECT_EQ(core_warning(1, 64, 0), std::nullopt);
}

TEST(Cores, ArePressedByAShareOfTheTime) {
  EXPECT_GE(core_pressure(), 0);
  EXPECT_LE(core_pressure(), 1);
}

}  // namespace
}  // namespace deltaw
