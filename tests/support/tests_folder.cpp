#include "support/data.h"

namespace deltaw::test {

std::filesystem::path tests_folder() {
  return DELTAW_TESTS_FOLDER;
}

}  // namespace deltaw::test
