# Compiles through ccache where it is installed, told what it must know: paths below the checkout are the same for every checkout and build folder (so that a
# second clone or a second build folder compiles nothing without FGVL_UNITY; with it, CMake writes absolute paths into the sources, and about half is compiled), and a precompiled header is judged by its content, not by its time (or it never hits).
option(FGVL_CCACHE "Use ccache where it is installed" ON)
if(FGVL_CCACHE AND PROJECT_IS_TOP_LEVEL AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(FGVL_CCACHE_PROGRAM ccache)
  mark_as_advanced(FGVL_CCACHE_PROGRAM)
  if(FGVL_CCACHE_PROGRAM)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${FGVL_CCACHE_PROGRAM})
  endif()
endif()
