// What the hub's refusals mean.
#pragma once

#include "io/hub/http.h"
#include "io/hub/names.h"
#include "io/hub/settings.h"

namespace deltaw::io::hub {

/// Throws Trouble for an answer that asks to come again, else the error of an answer that refuses: what it means, and
/// what to do.
[[noreturn]] void refuse(const Answer& answer, const RepoName& name, const Settings& settings);

}  // namespace deltaw::io::hub
