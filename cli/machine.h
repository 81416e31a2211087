// What the machine does beside this run.
#pragma once

namespace deltaw::cli {

/// Warns where threads outnumber the cores, and notes where other processes keep them busy.
void warn_of_busy_cores();

}  // namespace deltaw::cli
