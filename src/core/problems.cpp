#include "core/problems.h"

#include <algorithm>
#include <string>

namespace deltaw {
namespace {

class Several : public Error {
 public:
  explicit Several(const std::vector<Error>& found) : Error(found.front().parts()) {
    for (const Error& problem : found) words_ += (words_.empty() ? "" : "\n") + std::string(problem.what());
  }
  const char* what() const noexcept override { return words_.c_str(); }

 private:
  std::string words_;
};

}  // namespace

void Problems::add(const Error& problem) {
  const bool known = std::any_of(found_.begin(), found_.end(), [&](const Error& other) {
    return other.id() == problem.id() && other.parts().what == problem.parts().what;
  });
  if (!known) found_.push_back(problem);
}

bool Problems::gather(const std::function<void()>& check) {
  try {
    check();
    return true;
  } catch (const Error& problem) {
    add(problem);
    return false;
  }
}

void Problems::settle() const {
  if (found_.size() == 1) throw found_.front();
  if (!found_.empty()) throw Several(found_);
}

}  // namespace deltaw
