// What lies in a run's folder besides the adapter, the checkpoints and the trainer's state.
#pragma once

#include <filesystem>

#include "deltaw/run.h"
#include "run/claim.h"

namespace deltaw::run {

/// What a run may replace in output_dir.
Claim run_claim(const RunSettings& settings);

/// What a run reads, for what it writes.
Inputs inputs_of(const RunSettings& settings);

/// Makes the folder a run's: checks all that is in the way, the `planned` names too, before it removes an earlier run,
/// but for the adapter that training goes on from, and writes run.json. Returns the log, to append to.
std::filesystem::path begin_run(const Claim& claim, const Json& settings, const NameTest& planned);

/// Adds the files of a run that has ended, in place of an adapter and results of before, and returns where they are: in
/// a new folder inside, with a warning, where a user has put something in their way since the run began.
std::filesystem::path end_run(const std::filesystem::path& folder, const FillFolder& fill, const Warn& warn);

/// train_results.json, eval_results.json (where there are any) and all_results.json, which is returned.
Json write_results(const std::filesystem::path& folder, const Json& train, const Json& eval);

/// run.json of the folder of an adapter: the settings that trained it; an empty object where there is none.
Json settings_beside(const std::filesystem::path& adapter);

}  // namespace deltaw::run
