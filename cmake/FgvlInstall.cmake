# fgvl::fgvl for users of the build tree and of the installed package, and the package's configuration files.
add_library(fgvl_fgvl INTERFACE)
add_library(fgvl::fgvl ALIAS fgvl_fgvl)
set_target_properties(fgvl_fgvl PROPERTIES EXPORT_NAME fgvl)
target_link_libraries(fgvl_fgvl INTERFACE fgvl::config fgvl::losses fgvl::models)
if(FGVL_BUILD_DATA)
  target_link_libraries(fgvl_fgvl INTERFACE fgvl::data fgvl::train fgvl::eval)
endif()
install(TARGETS fgvl_fgvl EXPORT fgvlTargets)

include(CMakePackageConfigHelpers)
set(_package ${CMAKE_INSTALL_LIBDIR}/cmake/fgvl)
install(EXPORT fgvlTargets NAMESPACE fgvl:: DESTINATION ${_package})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/fgvlConfig.cmake.in ${PROJECT_BINARY_DIR}/fgvlConfig.cmake INSTALL_DESTINATION ${_package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fgvlConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fgvlConfig.cmake ${PROJECT_BINARY_DIR}/fgvlConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/FgvlTorch.cmake ${PROJECT_SOURCE_DIR}/cmake/FgvlTorchRoot.cmake DESTINATION ${_package})
