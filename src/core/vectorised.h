// Functions compiled for several vector units.
#pragma once

/// Before a function that is no template: the version for the widest vector unit that the processor has is chosen when
/// the program loads. What it calls is compiled the same way only where it is inlined.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__x86_64__) && defined(__GLIBC__)
#define DELTAW_VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#else
#define DELTAW_VECTORISED
#endif
/// For functions and, behind their parameters, for lambdas.
#define DELTAW_INLINE __attribute__((always_inline))
