# cmake --install and find_package(deltaw). The program keeps finding the libtorch it was linked with.
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/deltaw)

install(TARGETS deltaw EXPORT deltawTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/deltaw DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT deltawTargets NAMESPACE deltaw:: DESTINATION ${package_folder})

configure_package_config_file(cmake/deltawConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/deltawConfig.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/deltawConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/deltawConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/deltawConfigVersion.cmake
  DESTINATION ${package_folder})
