// A configuration in other names of the same modules.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/model.h"

namespace deltaw {

/// What a module, or a tensor of it, is called by its name in the model.
using Naming = std::function<std::string(const std::string& name)>;

inline std::string same_name(const std::string& name) {
  return name;
}

/// The modules that have tensors of their own, in the model's order.
std::vector<std::string> modules_with_tensors(const Model& model);

/// `config`, written for the names `from`, as it means the same modules by the names `to`. What selects the same by
/// both stays as it is; another list gets the ends of the names in place of its entry, and an expression becomes such a
/// list, or in rank_pattern another expression. An entry that means nothing by `from` and something by `to` is left
/// out. Where layers are chosen by number and the number stands elsewhere, the modules are listed.
///
/// With `keeps_what_fits`, an entry that means something by `to` stays, whatever it means by `from`.
///
/// Throws config.* for keys of a wrong type, and config.bad-pattern.
AdapterConfig renamed(const Model& model, AdapterConfig config, const Naming& from, const Naming& to,
                      bool keeps_what_fits = false);

/// How many entries of the configuration's lists mean any of these modules.
size_t entries_that_fit(const AdapterConfig& config, const std::vector<std::string>& modules);

}  // namespace deltaw
