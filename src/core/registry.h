// Tables of methods, families and tasks: what the build found in a folder, and what a program adds.
#pragma once

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace deltaw {

/// Specs by the member `name`, each name once. Specs must live as long as the program.
template <class Spec>
class Registry {
 public:
  Registry(std::vector<const Spec*> built_in, std::string Spec::*name) : name_(name), specs_(std::move(built_in)) {
    sort();
  }

  std::vector<const Spec*> all() const {
    const std::lock_guard lock(mutex_);
    return specs_;
  }

  /// Null where there is none of that name.
  const Spec* find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::find_if(specs_.begin(), specs_.end(), [&](const Spec* spec) { return spec->*name_ == name; });
    return found == specs_.end() ? nullptr : *found;
  }

  /// False where there is one of that name.
  bool add(const Spec& spec) {
    const std::lock_guard lock(mutex_);
    const auto same = [&](const Spec* known) { return known->*name_ == spec.*name_; };
    if (std::any_of(specs_.begin(), specs_.end(), same)) return false;
    specs_.push_back(&spec);
    sort();
    return true;
  }

 private:
  void sort() {
    std::sort(specs_.begin(), specs_.end(), [&](const Spec* a, const Spec* b) { return a->*name_ < b->*name_; });
  }

  std::string Spec::*name_;
  mutable std::mutex mutex_;
  std::vector<const Spec*> specs_;
};

}  // namespace deltaw
