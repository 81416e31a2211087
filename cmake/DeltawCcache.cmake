# Uses ccache where it is installed. Precompiled headers need the sloppiness that CMakePresets.json puts in the
# environment; it is also set here so that a plain `cmake --build` hits the cache.
find_program(DELTAW_CCACHE ccache)
mark_as_advanced(DELTAW_CCACHE)
if(DELTAW_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${DELTAW_CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-fpch-preprocess)
  endif()
endif()
