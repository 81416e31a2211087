// Variables of the environment, for the length of a test.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace deltaw::test {

using Variables = std::vector<std::pair<const char*, const char*>>;

/// Sets environment variables (nullptr unsets) and puts the old ones back.
class Environment {
 public:
  explicit Environment(const Variables& wanted) {
    for (const auto& [name, value] : wanted) {
      const char* old = std::getenv(name);
      old_.emplace_back(name, old ? std::optional<std::string>(old) : std::nullopt);
      set(name, value);
    }
  }
  ~Environment() {
    for (const auto& [name, value] : old_) set(name, value ? value->c_str() : nullptr);
  }

 private:
  static void set(const char* name, const char* value) {
    if (value)
      ::setenv(name, value, 1);
    else
      ::unsetenv(name);
  }
  std::vector<std::pair<const char*, std::optional<std::string>>> old_;
};

}  // namespace deltaw::test
