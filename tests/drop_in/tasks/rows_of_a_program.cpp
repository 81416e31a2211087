// A task that reads no files.
#include "examples/custom_task/contrastive.h"

namespace deltaw {

const TaskSpec& task_rows_of_a_program();

const TaskSpec& task_rows_of_a_program() {
  static const TaskSpec spec{.id = "rows_of_a_program",
                             .title = "pairs without files",
                             .make = [] { return std::make_unique<Contrastive>(); },
                             .head = "SEQ_CLS"};
  return spec;
}

}  // namespace deltaw
