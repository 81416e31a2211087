#include "cell_run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include "core/descriptor.h"
#include "core/files.h"
#include "core/json.h"
#include "core/output_folder.h"
#include "deltaw/error.h"
#include "train/run_checkpoint.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kResults = "all_results.json";  // the last that a run writes
constexpr const char* kResultsLine = "{\"kind\":\"results\"";

[[noreturn]] void refuse_process(const std::string& doing) {
  throw Error({.id = "io.process",
               .what = fmt::format("the program cannot {}: {}", doing, std::strerror(errno)),
               .where = "/proc/self/exe",
               .fix = "free memory or processes, and call it again: what is finished stays"});
}

bool has_checkpoint(const fs::path& folder) {
  std::error_code unseen;
  if (!fs::is_directory(folder, unseen)) return false;
  TrainOptions options;
  options.output_dir = folder.string();
  options.resume_from_checkpoint = "auto";
  return train::resumes(options);
}

/// The last line of the run's log that holds its results, in their order; else the file of them, which sorts them.
Json results_in(const fs::path& folder) {
  const Json sorted = read_json(folder / kResults);
  std::error_code unseen;
  if (!fs::exists(folder / "log.jsonl", unseen)) return sorted;
  const std::string log = read_file(folder / "log.jsonl");
  const size_t begin = log.rfind(kResultsLine);
  if (begin == std::string::npos) return sorted;
  Json line = parse_json(log.substr(begin, log.find('\n', begin) - begin), (folder / "log.jsonl").string());
  line.erase("kind");
  return line;
}

bool was_resumed(const fs::path& folder) {
  std::error_code unseen;
  return fs::exists(folder / "log.jsonl", unseen) &&
         read_file(folder / "log.jsonl").find("{\"kind\":\"resume\"") != std::string::npos;
}

/// The end of a file, where its last lines are.
std::string tail_of(const fs::path& file, int64_t bytes) {
  std::ifstream stream(file, std::ios::binary);
  stream.seekg(0, std::ios::end);
  const int64_t size = stream.tellg();
  if (!stream || size <= 0) return {};
  stream.seekg(std::max<int64_t>(0, size - bytes));
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string last_line_of(const fs::path& file) {
  std::string text = tail_of(file, 512);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

/// What the process said last of what was wrong, or how it ended.
std::string problem_of(const fs::path& log, int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    return fmt::format("ended by signal {} ({}){}", number, ::strsignal(number),
                       number == SIGKILL ? ": the machine may have had no memory left" : "");
  }
  const std::string text = tail_of(log, 1 << 16);
  const size_t begin = text.rfind("error[");
  if (begin == std::string::npos) return fmt::format("exit code {}", WEXITSTATUS(status));
  const std::string error = text.substr(begin);
  return error.substr(0, error.find('\n'));
}

/// Between fork and exec: nothing that allocates.
[[noreturn]] void become_train(const char* const* argv, int log) {
  ::setpgid(0, 0);  // Ctrl-C reaches the parent alone, which hands it on once
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execv("/proc/self/exe", const_cast<char* const*>(argv));
  ::_exit(127);
}

pid_t start(const CellPlace& place) {
  const std::string keys = place.keys_file();
  const char* argv[] = {"deltaw", "train", keys.c_str(), "--resume_from_checkpoint", "auto", nullptr};
  const Descriptor log(::open(place.log_file().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (log.number() < 0) fail_write(place.log_file(), "cannot open it", errno);
  const pid_t child = ::fork();
  if (child < 0) refuse_process("start itself once more");
  if (child > 0) return child;
  become_train(argv, log.number());
}

/// Its status; a signal that comes is handed on.
int wait_for(pid_t child, const SignalGuard& guard, const std::function<void()>& wait) {
  int status = 0, handed = 0;
  auto pause = std::chrono::milliseconds(10);
  while (true) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) return status;
    if (ended < 0 && errno != EINTR) refuse_process("wait for its process");
    if (handed == 0 && guard.caught() != 0) ::kill(child, handed = guard.caught());
    wait();
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(250));
  }
}

}  // namespace

CellPlace place_of(const fs::path& output_dir, const Cell& cell) {
  return {.folder = output_dir / cell.name()};
}

CellResult result_of(const Cell& cell, const CellPlace& place) {
  CellResult result{.cell = cell, .state = "open", .folder = place.folder.string()};
  std::error_code unseen;
  if (fs::exists(place.folder / kResults, unseen)) {
    result.state = "finished";
    result.results = results_in(place.folder);
    result.resumed = was_resumed(place.folder);
  } else if (has_checkpoint(place.folder)) {
    result.state = "cut";
  }
  return result;
}

void clear_run(const CellPlace& place) {
  std::error_code unseen;
  if (!fs::is_directory(place.folder, unseen)) return;
  // The results first: a kill from here on leaves a run that is not finished.
  remove_from_folder(place.folder, kResults);
  const Manifest manifest(place.folder);
  for (const auto& [name, contents] : manifest.records()) remove_from_folder(place.folder, name);
}

void write_keys(const Cell& cell, const CellPlace& place) {
  const fs::path around = place.folder.parent_path();
  fs::create_directories(around);
  Json keys = cell.keys;
  keys["output_dir"] = place.folder.string();
  const std::string log = fs::path(place.log_file()).filename();
  add_to_folder(around,
                [&](const fs::path& inside) {
                  write_json(inside / fs::path(place.keys_file()).filename(), keys, KeyOrder::kept);
                  write_file(inside / log, "");
                },
                {.logs = {log}});
}

CellResult run_cell(const Cell& cell, const CellPlace& place, const SignalGuard& guard,
                    const std::function<void(const std::string&)>& wait) {
  const fs::path log = place.log_file();
  const int status = wait_for(start(place), guard, [&] { wait(last_line_of(log)); });
  CellResult result = result_of(cell, place);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return result;
  result.results = Json::object();
  if (guard.caught() != 0) {
    result.state = has_checkpoint(place.folder) ? "cut" : "open";
    return result;
  }
  result.state = "failed";
  result.problem = problem_of(log, status);
  return result;
}

FolderLock::FolderLock(const fs::path& folder, const SignalGuard& guard, const std::function<void()>& waits) {
  // Without O_CLOEXEC: a process that trains holds it too, and may end later than its parent.
  folder_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (folder_ < 0) fail_write(folder, "cannot open the folder", errno);
  for (bool said = false; guard.caught() == 0; said = true) {
    held_ = ::flock(folder_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;  // a file system may have no locks
    if (held_) return;
    if (!said) waits();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

FolderLock::~FolderLock() {
  if (folder_ >= 0) ::close(folder_);
}

}  // namespace deltaw::cli
