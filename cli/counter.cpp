#include "counter.h"

#include <fmt/format.h>

namespace deltaw::cli {

Progress Counter::progress() {
  return [this](int64_t done, int64_t all) { show(done, all); };
}

void Counter::show(int64_t done, int64_t all) {
  if (done >= all) return line_.clear();
  const double each = (process_seconds() - begin_) / static_cast<double>(done);
  line_.show(fmt::format("{} of {} {}  {} left", format_count(done), format_count(all), things_,
                         format_duration(each * static_cast<double>(all - done))));
}

}  // namespace deltaw::cli
