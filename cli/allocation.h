// How the program's memory is given out and taken back.
#pragma once

namespace deltaw::cli {

/// Has the memory that one step frees serve the next, and libraries keep few of the kernels that they make for sizes of
/// products. To be called once, before the first tensor is made.
void keep_memory();

}  // namespace deltaw::cli
