// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

namespace deltaw {

/// What went wrong, where, and how to fix it.
///
/// `id` is a stable slug `family.name`. Families: `usage` and `config` (the caller asked for something that cannot be;
/// nothing was started), `format` (a file is not what it says it is), `shape` (a tensor has the wrong size), `data` (a
/// row of the user's data), `io` (the system refused), `numeric` (a value is not finite), `internal` (a bug of ours).
struct ErrorParts {
  std::string id;
  std::string what;   // the fact, with the values that disagree
  std::string where;  // file, key, layer or tensor
  std::string fix;    // what the reader can do about it
};

class Error : public std::runtime_error {
 public:
  explicit Error(ErrorParts parts);

  const std::string& id() const { return parts_.id; }
  const ErrorParts& parts() const { return parts_; }

  /// Exit code of the program: 2 for `usage` and `config`, 1 for every other family.
  int exit_code() const;

 private:
  ErrorParts parts_;
};

}  // namespace deltaw
