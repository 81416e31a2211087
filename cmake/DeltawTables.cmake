# Methods, families and tasks are source files: `<id>.cpp` defines `const MethodSpec& method_<id>()`, and so on. This
# writes the table of all files of one kind, so that adding a file is all it takes. (A self-registering static object
# would be dropped by the linker.)
#   deltaw_table(target kind Spec header folder...)
# takes every .cpp directly in the folders, of which the first is called by the kind's plural, and defines
# `const std::vector<const Spec*>& built_in_<plural>()`. The header declares Spec.
function(deltaw_table target kind Spec header)
  list(TRANSFORM ARGN APPEND /*.cpp OUTPUT_VARIABLE patterns)
  file(GLOB sources CONFIGURE_DEPENDS ${patterns})
  list(TRANSFORM sources REPLACE "^.*/" "")
  list(SORT sources)
  list(GET ARGN 0 folder)
  cmake_path(GET folder FILENAME plural)
  set(declarations "")
  set(rows "")
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM id)
    string(APPEND declarations "const ${Spec}& ${kind}_${id}();\n")
    string(APPEND rows "      &${kind}_${id}(),\n")
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${kind}_table.cpp @ONLY CONTENT [[
// Written by cmake/DeltawTables.cmake.
#include <vector>

#include "@header@"

namespace deltaw {

@declarations@
const std::vector<const @Spec@*>& built_in_@plural@() {
  static const std::vector<const @Spec@*> table = {
@rows@  };
  return table;
}

}  // namespace deltaw
]])
  target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/${kind}_table.cpp)
endfunction()
