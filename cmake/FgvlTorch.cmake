# Finds LibTorch and defines fgvl::torch (CPU parts) and, with FGVL_CUDA, fgvl::torch_cuda.
# Order: what the user gave (CMAKE_PREFIX_PATH, Torch_ROOT, Torch_DIR), then FGVL_TORCH_DIR (what scripts/setup installed), then the system.
#
# find_package(Torch) is not used: PyPI's wheel is a CUDA build whose TorchConfig.cmake demands a CUDA toolkit even for CPU work.
if(Torch_DIR AND NOT Torch_ROOT)
  get_filename_component(Torch_ROOT "${Torch_DIR}/../../.." ABSOLUTE)
endif()
find_path(FGVL_TORCH_INCLUDE ATen/core/Tensor.h HINTS ${Torch_ROOT}/include ${FGVL_TORCH_DIR}/include)
if(NOT FGVL_TORCH_INCLUDE)
  message(FATAL_ERROR "LibTorch not found: run scripts/setup, or give -DTorch_ROOT=<folder with include/ and lib/>")
endif()
get_filename_component(_prefix "${FGVL_TORCH_INCLUDE}" DIRECTORY)
set(_version "")
foreach(_header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)  # newer releases moved it
  if(NOT _version AND EXISTS ${_prefix}/include/${_header})
    file(STRINGS ${_prefix}/include/${_header} _lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3" _version "${_lines}")
  endif()
endforeach()
set(FGVL_TORCH_VERSION "${_version}")
if(NOT FGVL_TORCH_VERSION VERSION_GREATER_EQUAL 2.6)
  message(FATAL_ERROR "LibTorch '${FGVL_TORCH_VERSION}' in ${_prefix}: 2.6 or newer is needed")
endif()
message(STATUS "LibTorch ${FGVL_TORCH_VERSION} in ${_prefix}")
find_library(FGVL_TORCH_CPU torch_cpu HINTS ${_prefix}/lib REQUIRED)
find_library(FGVL_C10 c10 HINTS ${_prefix}/lib REQUIRED)
add_library(fgvl::torch INTERFACE IMPORTED GLOBAL)
target_include_directories(fgvl::torch SYSTEM INTERFACE ${FGVL_TORCH_INCLUDE} ${FGVL_TORCH_INCLUDE}/torch/csrc/api/include)
target_link_libraries(fgvl::torch INTERFACE ${FGVL_TORCH_CPU} ${FGVL_C10})
# The wheel's libtorch_cpu.so needs libcupti and libcudart from its sibling packages: told to the linker only, and before the
# system's folders, where an older NCCL would otherwise be found first.
file(GLOB _siblings ${_prefix}/../nvidia/*/lib ${_prefix}/../nvidia/*/*/lib)
foreach(_dir IN LISTS _siblings)
  target_link_options(fgvl::torch INTERFACE LINKER:-rpath-link,${_dir})
endforeach()

if(FGVL_CUDA)
  find_library(FGVL_TORCH_CUDA torch_cuda HINTS ${_prefix}/lib REQUIRED)
  find_library(FGVL_C10_CUDA c10_cuda HINTS ${_prefix}/lib REQUIRED)
  add_library(fgvl::torch_cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(fgvl::torch_cuda INTERFACE fgvl::torch ${FGVL_C10_CUDA})
  # libtorch_cuda registers the CUDA backend by being loaded, not by a symbol that we call.
  target_link_options(fgvl::torch_cuda INTERFACE LINKER:--no-as-needed,${FGVL_TORCH_CUDA},--as-needed)
endif()
