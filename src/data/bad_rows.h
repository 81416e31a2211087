// Rows of a file of text that nothing can be learned from: left out, counted, shown.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/error.h"
#include "deltaw/options.h"

namespace deltaw::data {

class BadRows {
 public:
  /// Throws what is wrong with a row at once where `share` is 0.
  BadRows(const std::filesystem::path& file, double share) : file_(file.string()), share_(share) {}

  /// A row that `error` is about; `where` names the row itself.
  void add(const Error& error, const std::string& where);

  /// Throws the first row's error, with what is wrong with others, where more than the share, rounded up, or all of
  /// `rows` are bad.
  void check(int64_t rows) const;

  int64_t count() const { return count_; }
  const std::vector<std::string>& reasons() const { return reasons_; }  // of the first of them

 private:
  std::string file_;
  double share_;
  int64_t count_ = 0;
  std::optional<Error> first_;
  std::vector<std::string> reasons_;
};

/// The key max_bad_rows, of each task that leaves rows out.
void share_field(FieldVisitor& f, double& max_bad_rows);

/// "line 3: "output" is empty; line 7: ...; and 4 more"
std::string reasons_text(const std::vector<std::string>& reasons, int64_t all);

}  // namespace deltaw::data
