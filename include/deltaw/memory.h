// How the memory of a program that trains is given out and taken back.
#pragma once

namespace deltaw {

/// Has the memory that one step frees serve the next, and libraries keep few of the kernels that they make for sizes of
/// products. It is the whole program's: malloc of glibc no longer returns memory to the system, and libtorch allocates
/// with it. To be called once, before the first tensor is made; without it a run takes more memory and time.
void reuse_memory();

}  // namespace deltaw
