# Finds libtorch: CMAKE_PREFIX_PATH or Torch_DIR when given; else the `torch` wheel of the project's own virtual
# environment (.venv, made by scripts/setup) or of the Python on the path.

# libtorch's own CMake files stop without a word of help when it was built for CUDA and no toolkit is there.
function(deltaw_check_cuda torch_cmake_folder)
  cmake_path(SET library NORMALIZE "${torch_cmake_folder}/../../../lib/libtorch_cuda.so")
  if(NOT EXISTS ${library})
    return()
  endif()
  find_package(CUDAToolkit QUIET)
  if(NOT CUDAToolkit_FOUND)
    message(FATAL_ERROR "this libtorch was built for CUDA (${library}), and no CUDA toolkit was found.\n"
      "Either of these mends it:\n"
      "  rm -rf .venv && scripts/setup                    (installs the CPU build into .venv)\n"
      "  apt-get install nvidia-cuda-toolkit              (or set CUDAToolkit_ROOT to the one you have)")
  endif()
endfunction()

# Without the warnings that it prints about libraries nobody needs.
macro(deltaw_find_torch)
  set(CMAKE_MESSAGE_LOG_LEVEL ERROR)
  find_package(Torch QUIET CONFIG ${ARGN})
  unset(CMAKE_MESSAGE_LOG_LEVEL)
endmacro()

if(NOT Torch_DIR)
  find_path(DELTAW_TORCH_CONFIG TorchConfig.cmake HINTS ${CMAKE_PREFIX_PATH} ENV CMAKE_PREFIX_PATH
    PATH_SUFFIXES Torch share/cmake/Torch NO_CACHE)
  if(NOT DELTAW_TORCH_CONFIG)
    find_program(DELTAW_PYTHON NAMES python3 python HINTS ${CMAKE_CURRENT_SOURCE_DIR}/.venv/bin NO_CACHE)
    if(DELTAW_PYTHON)
      execute_process(
        COMMAND ${DELTAW_PYTHON} -c
          "import importlib.util as u, os; s = u.find_spec('torch'); print(os.path.join(os.path.dirname(s.origin), 'share', 'cmake', 'Torch') if s else '')"
        OUTPUT_VARIABLE DELTAW_TORCH_CONFIG OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
  endif()
  if(DELTAW_TORCH_CONFIG)
    set(Torch_DIR ${DELTAW_TORCH_CONFIG} CACHE PATH "Folder of TorchConfig.cmake" FORCE)
  endif()
endif()
if(Torch_DIR)
  deltaw_check_cuda(${Torch_DIR})
  deltaw_find_torch()
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
