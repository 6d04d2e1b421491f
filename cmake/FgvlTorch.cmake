# Finds LibTorch and defines fgvl::torch (CPU parts) and, where its CUDA parts are complete, fgvl::torch_cuda. Sets FGVL_TORCH_ROOT and FGVL_TORCH_VERSION;
# if nothing fits, FGVL_TORCH_PROBLEM says why. Looks in Torch_ROOT or Torch_DIR given to CMake, then FGVL_TORCH_DIR (what scripts/setup chose), then the other
# places that find_package would search. Nothing of it is cached: another choice takes effect in an old build folder, too.
#
# find_package(Torch) is not used: PyPI's wheel is a CUDA build whose TorchConfig.cmake demands a CUDA toolkit even for CPU work.
include(${CMAKE_CURRENT_LIST_DIR}/FgvlTorchRoot.cmake)
set(FGVL_TORCH_PROBLEM "")
file(TO_CMAKE_PATH "$ENV{CMAKE_PREFIX_PATH}" _prefixes)
set(FGVL_TORCH_ROOT "")
foreach(_given Torch_ROOT Torch_DIR FGVL_TORCH_DIR)
  if(${_given} AND NOT FGVL_TORCH_ROOT)  # Torch_DIR-NOTFOUND is what somebody's failed find_package(Torch) leaves
    fgvl_torch_root(FGVL_TORCH_ROOT ${${_given}})
    if(NOT FGVL_TORCH_ROOT)
      set(FGVL_TORCH_PROBLEM "${_given}=${${_given}} holds no LibTorch: correct it or unset it (-U${_given})")
      return()
    endif()
  endif()
endforeach()
if(NOT FGVL_TORCH_ROOT)
  fgvl_torch_root(FGVL_TORCH_ROOT ${CMAKE_PREFIX_PATH} $ENV{Torch_ROOT} $ENV{Torch_DIR} ${_prefixes} /usr/local /usr)
endif()
if(NOT FGVL_TORCH_ROOT)
  set(FGVL_TORCH_PROBLEM "LibTorch not found: run scripts/setup, or give -DTorch_ROOT=<folder with include/ and lib/>")
  return()
endif()
fgvl_torch_version(FGVL_TORCH_VERSION ${FGVL_TORCH_ROOT})
if(NOT FGVL_TORCH_VERSION VERSION_GREATER_EQUAL 2.6)
  set(FGVL_TORCH_PROBLEM "LibTorch '${FGVL_TORCH_VERSION}' in ${FGVL_TORCH_ROOT}: 2.6 or newer is needed")
  return()
endif()

# Only from this root: the parts of two LibTorch do not fit.
foreach(_part torch_cpu c10 torch_cuda c10_cuda)
  unset(_${_part})
  find_library(_${_part} ${_part} NO_CACHE NO_DEFAULT_PATH PATHS ${FGVL_TORCH_ROOT}/lib ${FGVL_TORCH_ROOT}/lib64 ${FGVL_TORCH_ROOT}/lib/${CMAKE_LIBRARY_ARCHITECTURE})
endforeach()
if(NOT _torch_cpu OR NOT _c10)
  set(FGVL_TORCH_PROBLEM "LibTorch in ${FGVL_TORCH_ROOT} has headers but not the libraries torch_cpu and c10: install it completely")
  return()
endif()
if(NOT TARGET fgvl::torch)
  message(STATUS "LibTorch ${FGVL_TORCH_VERSION} in ${FGVL_TORCH_ROOT}")
  add_library(fgvl::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(fgvl::torch SYSTEM INTERFACE ${FGVL_TORCH_ROOT}/include ${FGVL_TORCH_ROOT}/include/torch/csrc/api/include)
  target_link_libraries(fgvl::torch INTERFACE ${_torch_cpu} ${_c10})
  # The wheel's libtorch_cpu.so needs libcupti and libcudart from its sibling packages: told to the linker only, and before the
  # system's folders, where an older NCCL would otherwise be found first.
  file(GLOB _siblings ${FGVL_TORCH_ROOT}/../nvidia/*/lib ${FGVL_TORCH_ROOT}/../nvidia/*/*/lib)
  foreach(_dir IN LISTS _siblings)
    target_link_options(fgvl::torch INTERFACE LINKER:-rpath-link,${_dir})
  endforeach()
endif()

# A wheel that was unpacked for CPU work has libtorch_cuda, but not the NVIDIA libraries that it needs.
file(GLOB _wheel_nvidia ${FGVL_TORCH_ROOT}/../nvidia)
file(GLOB _wheel_cublas ${FGVL_TORCH_ROOT}/../nvidia/*/lib/libcublas.so*)
if(_torch_cuda AND _c10_cuda AND (_wheel_cublas OR NOT _wheel_nvidia) AND NOT TARGET fgvl::torch_cuda)
  add_library(fgvl::torch_cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(fgvl::torch_cuda INTERFACE fgvl::torch ${_c10_cuda})
  # libtorch_cuda registers the CUDA backend by being loaded, not by a symbol that we call.
  target_link_options(fgvl::torch_cuda INTERFACE LINKER:--no-as-needed,${_torch_cuda},--as-needed)
  # What we call ourselves: the libraries that LibTorch brings, else the toolkit's.
  foreach(_part cudart cublas)
    file(GLOB _cuda_part ${FGVL_TORCH_ROOT}/../nvidia/*/lib/lib${_part}.so.*)
    if(NOT _cuda_part)
      find_package(CUDAToolkit QUIET)
      if(TARGET CUDA::${_part})
        set(_cuda_part CUDA::${_part})
      endif()
    endif()
    target_link_libraries(fgvl::torch_cuda INTERFACE ${_cuda_part})
  endforeach()
endif()
