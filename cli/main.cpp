// The deltaw program: parses, dispatches, turns exceptions into messages and exit codes.
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>

#include "core/file_system_error.h"
#include "core/printable.h"
#include "cut_files.h"
#include "deltaw/error.h"
#include "deltaw/memory.h"
#include "output.h"
#include "verbs.h"

int main(int argc, char** argv) {
  deltaw::reuse_memory();
  deltaw::cli::name_cut_files();
  try {
    return deltaw::cli::dispatch(deltaw::cli::Args(argv + 1, argv + argc));
  } catch (const deltaw::Error& error) {
    deltaw::cli::complain(error.what());
    return error.exit_code();
  } catch (const deltaw::cli::ReaderGone&) {
    return 128 + SIGPIPE;
  } catch (const std::filesystem::filesystem_error& error) {
    deltaw::cli::complain(deltaw::named(error).what());
  } catch (const std::bad_alloc&) {
    std::fputs(
        "error[io.out-of-memory]: the machine has no memory left for this\n"
        "  where: an allocation was refused\n"
        "  fix:   lower per_device_train_batch_size, per_device_eval_batch_size or max_length\n",
        stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr,
                 "error[internal.unexpected]: %s\n"
                 "  where: a library below deltaw\n"
                 "  fix:   this is a bug of deltaw; please report it with the command that led here\n",
                 deltaw::printable(error.what(), /*lines=*/true).c_str());
  }
  return deltaw::cli::kFailed;
}
