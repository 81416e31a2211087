#include "cut_files.h"

#include <signal.h>
#include <unistd.h>

#include <cstring>

#include "io/tensor_file.h"
#include "verbs.h"

namespace deltaw::cli {
namespace {

void put(const char* text) {
  const ssize_t ignored = ::write(STDERR_FILENO, text, std::strlen(text));
  static_cast<void>(ignored);
}

// Only what a handler may call.
void stop(int signal, siginfo_t* info, void*) {
  const char* file = io::mapped_file(info->si_addr);
  if (file == nullptr) {
    ::signal(signal, SIG_DFL);  // something else: the instruction runs again and meets the system's own answer
    return;
  }
  put("error[io.file-cut]: the file was cut short, or its disk failed, while it was in use\n  where: ");
  put(file);
  put("\n  fix:   fetch the file again, and leave it alone while it is in use\n");
  ::_exit(kFailed);
}

}  // namespace

void name_cut_files() {
  struct sigaction action = {};
  action.sa_sigaction = stop;
  action.sa_flags = SA_SIGINFO;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace deltaw::cli
