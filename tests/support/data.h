// Where tests find what is not in this repository.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace deltaw::test {

/// The folder of the tests' sources. Only one source knows it, so that the others compile alike in every clone.
std::filesystem::path tests_folder();

/// A fixture of this repository: fixture("golden/bert/...").
inline std::filesystem::path fixture(const std::string& name) {
  return tests_folder() / name;
}

/// A file below $DELTAW_DATA (or ../shared/data beside the repository); nothing where it is missing.
inline std::optional<std::filesystem::path> shared_data(const std::string& name) {
  const char* set = std::getenv("DELTAW_DATA");
  const std::filesystem::path root =
      set ? std::filesystem::path(set) : tests_folder().parent_path().parent_path() / "shared/data";
  if (std::filesystem::exists(root / name)) return root / name;
  return std::nullopt;
}

}  // namespace deltaw::test

/// Skips the running test, loudly, where shared data is missing.
#define DELTAW_NEEDS_DATA(variable, name)                                           \
  const auto variable##_found = deltaw::test::shared_data(name);                    \
  if (!variable##_found) GTEST_SKIP() << "needs " << name << " below $DELTAW_DATA"; \
  const std::filesystem::path variable = *variable##_found
