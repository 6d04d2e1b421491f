# Where a LibTorch is. Included, it defines the two functions below; as a script, `cmake -P FgvlTorchRoot.cmake` prints "version root" of the LibTorch that
# Torch_ROOT, Torch_DIR or CMAKE_PREFIX_PATH in the environment mean, and nothing if they mean none (scripts/setup asks).

# fgvl_torch_root(OUT PLACE...): the root (include/ and lib/ are in it) of the first LibTorch that a place means, "" if there is none. A place may be the root,
# the folder that holds it as torch/ (site-packages), torch.utils.cmake_prefix_path (root/share/cmake), or Torch_DIR (root/share/cmake/Torch).
function(fgvl_torch_root out)
  set(${out} "" PARENT_SCOPE)
  foreach(place IN LISTS ARGN)
    set(roots ${place} ${place}/torch)
    # Only from TorchConfig.cmake upwards: the folders above an unrelated prefix are not what its owner meant.
    if(EXISTS ${place}/Torch/TorchConfig.cmake)
      list(APPEND roots ${place}/../.. ${place}/../../..)
    endif()
    if(EXISTS ${place}/TorchConfig.cmake)
      list(APPEND roots ${place}/../../.. ${place}/../../../..)
    endif()
    foreach(root IN LISTS roots)
      if(EXISTS ${root}/include/ATen/core/Tensor.h)
        get_filename_component(root ${root} ABSOLUTE)
        set(${out} ${root} PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()
endfunction()

# fgvl_torch_version(OUT ROOT): "2.11.0", or "" where its headers do not tell.
function(fgvl_torch_version out root)
  set(${out} "" PARENT_SCOPE)
  foreach(header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)  # newer releases moved it
    if(EXISTS ${root}/include/${header})
      file(STRINGS ${root}/include/${header} lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
      if(lines MATCHES "MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+)")
        set(${out} "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}.${CMAKE_MATCH_3}" PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE AND CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  file(TO_CMAKE_PATH "$ENV{CMAKE_PREFIX_PATH}" prefixes)
  fgvl_torch_root(root $ENV{Torch_ROOT} $ENV{Torch_DIR} ${prefixes})
  if(root)
    fgvl_torch_version(version ${root})
    execute_process(COMMAND ${CMAKE_COMMAND} -E echo "${version} ${root}")
  endif()
endif()
