// The keys of a run as they are given, in two parts: what is wrong with the first is told all at once.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/given_keys.h"
#include "core/problems.h"
#include "deltaw/run.h"
#include "run/inherited.h"

namespace deltaw::run {

/// The method that is asked for, or that of the adapter that training goes on from.
std::string method_of(const GivenKeys& given);

/// The method and what is said of the adapter.
void read_adapter(RunSettings& settings, const GivenKeys& given, Problems& problems);

/// All else. Where training goes on from an adapter, what is open is what that was trained with; what it says of the
/// base is worth a remark.
std::optional<Remark> read_rest(RunSettings& settings, const GivenKeys& given);

/// Every key of a run, by its own name.
std::vector<std::string> run_keys();

/// Keys of other verbs: one file serves several.
std::vector<std::string> keys_of_other_verbs();

}  // namespace deltaw::run
