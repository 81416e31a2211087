# Finds libtorch: CMAKE_PREFIX_PATH or Torch_DIR when given; else the `torch` wheel of the project's own virtual
# environment (.venv, made by scripts/setup) or of the Python on the path.
if(NOT Torch_DIR)
  find_package(Torch QUIET CONFIG)
endif()
if(NOT Torch_FOUND)
  find_program(DELTAW_PYTHON NAMES python3 python HINTS ${CMAKE_CURRENT_SOURCE_DIR}/.venv/bin)
  mark_as_advanced(DELTAW_PYTHON)
  if(DELTAW_PYTHON)
    execute_process(
      COMMAND ${DELTAW_PYTHON} -c
        "import importlib.util as u, os; s = u.find_spec('torch'); print(os.path.join(os.path.dirname(s.origin), 'share', 'cmake') if s else '')"
      OUTPUT_VARIABLE wheel_path OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(wheel_path)
      list(APPEND CMAKE_PREFIX_PATH ${wheel_path})
    endif()
  endif()
  find_package(Torch QUIET CONFIG)
endif()
if(NOT Torch_FOUND)
  message(FATAL_ERROR "libtorch was not found. Any of these mends it:\n"
    "  scripts/setup                                     (makes .venv with the torch wheel)\n"
    "  cmake --preset release -DCMAKE_PREFIX_PATH=/path/to/libtorch\n"
    "  pip install torch==2.13.0                         (into the Python that cmake finds)")
endif()
if(Torch_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "libtorch ${Torch_VERSION} at ${Torch_DIR} is too old; 2.11 or newer is needed")
endif()
message(STATUS "libtorch ${Torch_VERSION}: ${Torch_DIR}")
