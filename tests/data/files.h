// Small files for one test, removed with it, and what an error says about them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

#include "deltaw/error.h"

namespace deltaw::test {

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("deltaw-" + std::to_string(getpid()) + "-" + info->test_suite_name() + "-" + info->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, std::string_view text) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }

  std::filesystem::path folder_;
};

/// Runs `action`, which must throw an Error of this id whose three parts are filled and together hold every one of
/// `words`.
inline void expect_error(const std::function<void()>& action, const std::string& id,
                         const std::vector<std::string>& words) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), id) << error.what();
    EXPECT_FALSE(error.parts().what.empty() || error.parts().where.empty() || error.parts().fix.empty());
    const std::string all = error.parts().what + "\n" + error.parts().where + "\n" + error.parts().fix;
    for (const std::string& word : words) EXPECT_NE(all.find(word), std::string::npos) << word << " is not in\n" << all;
    return;
  }
  ADD_FAILURE() << "no error; expected " << id;
}

}  // namespace deltaw::test
