// What lies in a run's folder besides the adapter, the checkpoints and the trainer's state.
#pragma once

#include <filesystem>
#include <string>

#include "deltaw/options.h"

namespace deltaw::cli {

/// Throws config.output-exists when `folder` holds a run and it may not be replaced; removes that run when it may.
void claim_output(const std::filesystem::path& folder, bool overwrite);

/// README.md of an adapter: front matter and text in Markdown. `preview` is that of load.h, `results` may be empty.
std::string model_card(const Json& settings, const Json& preview, const Json& results);

/// train_results.json, eval_results.json (where there are any) and all_results.json, which is returned.
Json write_results(const std::filesystem::path& folder, const Json& train, const Json& eval);

/// run.json of the folder of an adapter: the settings that trained it; an empty object where there is none.
Json settings_of(const std::filesystem::path& adapter);

}  // namespace deltaw::cli
