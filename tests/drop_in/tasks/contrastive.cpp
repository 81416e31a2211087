// The example's task as one of the library's: this file in the folder of tasks is all that it takes.
#include "examples/custom_task/pair_reader.h"

namespace deltaw {

const TaskSpec& task_contrastive();  // of the table that the build writes

const TaskSpec& task_contrastive() {
  return ::task_contrastive();
}

}  // namespace deltaw
