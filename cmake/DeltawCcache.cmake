# Uses ccache where it is installed, so that it hits with precompiled headers (the sloppiness, -fpch-preprocess) and in
# another clone too (paths below the source folder are hashed as relative ones).
find_program(DELTAW_CCACHE ccache)
mark_as_advanced(DELTAW_CCACHE)
if(DELTAW_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${DELTAW_CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-fpch-preprocess)
  endif()
endif()
