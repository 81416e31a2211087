#include "machine.h"

#include <ATen/Parallel.h>

#include "core/cores.h"
#include "output.h"

namespace deltaw::cli {

void warn_of_busy_cores() {
  const int64_t threads = at::get_num_threads(), cores = usable_cores();
  const auto doubt = core_warning(threads, cores, core_pressure());
  if (!doubt) return;
  // Other processes are no fault of the run: a note, no warning.
  threads > cores ? warning(*doubt) : note("note: " + *doubt + "\n");
}

}  // namespace deltaw::cli
