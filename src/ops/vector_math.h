// The vector functions (exp, sin, ...) of the library that libtorch computes with.
#pragma once

namespace deltaw::ops {

/// Calls each of them once, the first time. oneMKL 2024 chooses the code of a function in its first call, and where
/// threads make that call at the same time, one of them may get code with a few digits only
/// (github.com/pytorch/pytorch/issues/188792). To be called before any thread computes.
void settle_vector_math();

}  // namespace deltaw::ops
