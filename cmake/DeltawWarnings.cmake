add_library(deltaw_warnings INTERFACE)
target_compile_options(deltaw_warnings INTERFACE -Wall -Wextra -Wpedantic -Wno-missing-field-initializers $<$<BOOL:${DELTAW_WERROR}>:-Werror>)
# g++ 12 sees overlapping copies in plain std::string additions: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105651
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(deltaw_warnings INTERFACE -Wno-restrict)
endif()
