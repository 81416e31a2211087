// How long OpenMP's threads spin before they sleep, where the user says nothing.
//
// GNU's spin 300,000 rounds: while another process wants a core, they keep it instead of giving it up, and steps take
// longer. It reads the environment as it is loaded, before main; so the program starts itself once more before the
// libraries are initialised. docs/performance.md has the figures.
#ifdef __linux__

#include <unistd.h>

#include <cstring>
#include <vector>

namespace {

constexpr char kSpins[] = "GOMP_SPINCOUNT=10000";  // some ten microseconds: longer than between two regions of a step

bool is_named(const char* entry, const char* name) {
  const size_t length = std::strlen(name);
  return std::strncmp(entry, name, length) == 0 && entry[length] == '=';
}

// Called by the loader, before the constructors of any library.
void start_again(int /*argc*/, char** argv, char** environment) {
  size_t count = 0;
  for (; environment[count]; ++count) {
    if (is_named(environment[count], "GOMP_SPINCOUNT") || is_named(environment[count], "OMP_WAIT_POLICY")) return;
  }
  static char spins[sizeof kSpins];
  std::memcpy(spins, kSpins, sizeof kSpins);
  std::vector<char*> own(environment, environment + count);
  own.push_back(spins);
  own.push_back(nullptr);
  execve("/proc/self/exe", argv, own.data());  // where that fails, the program goes on as it is
}

__attribute__((section(".preinit_array"), used)) void (*const first)(int, char**, char**) = start_again;

}  // namespace

#endif
