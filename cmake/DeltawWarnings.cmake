add_library(deltaw_warnings INTERFACE)
target_compile_options(deltaw_warnings INTERFACE -Wall -Wextra -Wpedantic $<$<BOOL:${DELTAW_WERROR}>:-Werror>)
