# A method is a source file `<id>.cpp` that defines `const MethodSpec& method_<id>()`. This writes the table of all of
# them, so that adding a file is all it takes. (A self-registering static object would be dropped by the linker.)
#   deltaw_method_table(target folder...)
function(deltaw_method_table target)
  list(TRANSFORM ARGN APPEND /*.cpp OUTPUT_VARIABLE patterns)
  file(GLOB sources CONFIGURE_DEPENDS ${patterns})
  list(TRANSFORM sources REPLACE "^.*/" "")
  list(SORT sources)
  set(declarations "")
  set(rows "")
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM id)
    string(APPEND declarations "const MethodSpec& method_${id}();\n")
    string(APPEND rows "      &method_${id}(),\n")
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/method_table.cpp @ONLY CONTENT [[
// Written by cmake/DeltawMethods.cmake.
#include "deltaw/method.h"

namespace deltaw {

@declarations@
const std::vector<const MethodSpec*>& built_in_methods() {
  static const std::vector<const MethodSpec*> table = {
@rows@  };
  return table;
}

}  // namespace deltaw
]])
  target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/method_table.cpp)
endfunction()
