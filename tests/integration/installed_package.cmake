# cmake -P: installs the build tree, runs the installed program, then configures, builds and runs two consumers of the installed package.
# Takes BUILD, SOURCE, GENERATOR, MAKE_PROGRAM, CMAKE_NM, CMAKE_READELF and CCACHE (the program, or NOTFOUND).
include(${CMAKE_CURRENT_LIST_DIR}/needs_only_libtorch.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/run_expecting.cmake)

# A user's machine has none of these set: the package alone must know where LibTorch is, and the program where its libraries are.
foreach(variable CMAKE_PREFIX_PATH Torch_ROOT Torch_DIR FGVL_TORCH_DIR LD_LIBRARY_PATH)
  unset(ENV{${variable}})
endforeach()
set(prefix ${BUILD}/installed)
file(REMOVE_RECURSE ${prefix})
run_expecting("" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run_expecting("fgvl [0-9]+\\.[0-9]+\\.[0-9]+" ${prefix}/bin/fgvl --version)

set(launcher "")
if(CCACHE)
  set(launcher -DCMAKE_CXX_COMPILER_LAUNCHER=${CCACHE})
endif()

# consume(NAME SOURCE EXPECTED CONFIGURE-ARGUMENT...)
function(consume name source expected)
  set(consumer ${BUILD}/consumer/${name})
  file(REMOVE_RECURSE ${consumer})
  run_expecting("" ${CMAKE_COMMAND} -S ${source} -B ${consumer} -G ${GENERATOR} -DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM} -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_BUILD_TYPE=Release
      ${launcher} ${ARGN})
  run_expecting("" ${CMAKE_COMMAND} --build ${consumer})
  run_expecting("${expected}" ${consumer}/app)
endfunction()
consume(everything ${SOURCE}/examples/cmake_project "itc [0-9.]+")
# -log(e^2 / (e^2 + 3)) = 0.3408. Where none of the other modules' packages can be found.
set(absent "")
foreach(package absl yaml-cpp nlohmann_json PkgConfig OpenCV ICU pugixml simdjson)
  list(APPEND absent -DCMAKE_DISABLE_FIND_PACKAGE_${package}=ON)
endforeach()
consume(losses_alone ${SOURCE}/examples/cmake_project/losses_alone "itc 0\\.3407" ${absent})
needs_only_libtorch(${BUILD}/consumer/losses_alone/app)
