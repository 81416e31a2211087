// Adapters that PEFT wrote with keys which training here is stricter with, or does not have: what it computes after it
// has read them again decides (oracle/make_foreign.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/opened.h"

namespace deltaw {
namespace {

using test::Opened;

class Foreign : public testing::TestWithParam<std::string> {
 protected:
  Foreign() : opened("foreign", GetParam(), "float32"), expected(opened.io["logits"]) {}

  std::string differs(const Adapter& adapter) const {
    return test::differs(test::logits_of(*opened.model, &adapter, opened.io.input()), expected,
                         test::logit_tolerance(expected));
  }

  Opened opened;
  Tensor expected;
};

TEST_P(Foreign, ComputesWhatPeftComputes) {
  EXPECT_EQ(differs(*opened.adapter), "") << opened.facts["shows"];
}

TEST_P(Foreign, IsTheSameWhenItIsWrittenAndReadAgain) {
  const test::TemporaryFolder folder;
  opened.adapter->save(folder.path());
  EXPECT_EQ(differs(Adapter::load(*opened.model, folder.path())), "");
}

INSTANTIATE_TEST_SUITE_P(Peft, Foreign, testing::ValuesIn(test::folders("foreign")),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace deltaw
