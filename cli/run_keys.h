// What `train`, `validate` and `bench` are told: the keys of a run (deltaw/run.h), from a file and from flags.
#pragma once

#include <string>
#include <vector>

#include "deltaw/run.h"
#include "options.h"
#include "run/inherited.h"
#include "task_keys.h"

namespace deltaw::cli {

/// The keys of a run, those of `method` listed among them.
std::vector<Section> run_sections(const std::string& method);

/// Every key that a file of `train` may hold.
std::vector<std::string> run_keys();

/// Reads argv in two parts: the keys, and what they say. Where help is asked for, the first prints it and returns
/// false. `unused` keys of a run are none of this verb; a file may hold them, and they are dropped. What the first
/// finds wrong stands in `problems`, which the second throws with its own.
bool parse_run_keys(const Usage& usage, const Args& args, Section extra, Invocation& invocation, Problems& problems,
                    const std::vector<std::string>& unused = {});
RunSettings settings_of(const Usage& usage, const Invocation& invocation, Problems problems);

/// Both.
bool read_settings(const Usage& usage, const Args& args, Section extra, Invocation& invocation, RunSettings& settings);

/// Throws usage.missing-key where neither the keys nor the adapter name a base model.
void require_base(const BaseKeys& base, const std::string& adapter, const Usage& usage);

/// Tells a remark, if there is one.
void tell(const std::optional<run::Remark>& remark);

}  // namespace deltaw::cli
