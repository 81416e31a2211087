#include "bench_rounds.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/progress.h"
#include "deltaw/error.h"
#include "output.h"

namespace deltaw::cli {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

[[noreturn]] void refuse_process(int problem) {
  throw Error({.id = "io.process",
               .what = fmt::format("the program cannot start itself: {}", std::strerror(problem)),
               .where = "/proc/self/exe",
               .fix = "time one method at a time: --rounds 1"});
}

File nameless_file() {
  File file(std::tmpfile(), std::fclose);
  if (!file) refuse_process(errno);
  return file;
}

std::string text_of(std::FILE* file) {
  std::rewind(file);
  std::string text;
  char part[4096];
  while (const size_t size = std::fread(part, 1, sizeof part, file)) text.append(part, size);
  return text;
}

/// While it lives, Ctrl-C is left to the process that is being timed: how that ends is seen here.
class Patience {
 public:
  Patience() {
    struct sigaction ignore = {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGINT, &ignore, &before_);
  }
  ~Patience() { ::sigaction(SIGINT, &before_, nullptr); }
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;

 private:
  struct sigaction before_ = {};
};

pid_t start(const std::vector<std::string>& args, std::FILE* out, std::FILE* err) {
  std::vector<char*> argv;
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  sigset_t usual;
  sigemptyset(&usual);
  sigaddset(&usual, SIGINT);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ::fileno(out), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ::fileno(err), STDERR_FILENO);
  pid_t child = 0;
  const int problem = ::posix_spawn(&child, "/proc/self/exe", &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (problem != 0) refuse_process(problem);
  return child;
}

/// The line of JSON that the process prints.
Json result_of(const Contestant& contestant, bool pass_notes_on) {
  const File out = nameless_file(), err = nameless_file();
  std::vector<std::string> args = {"deltaw", "bench"};
  args.insert(args.end(), contestant.args.begin(), contestant.args.end());
  int status = 0;
  {
    const Patience patience;
    const pid_t child = start(args, out.get(), err.get());
    while (::waitpid(child, &status, 0) < 0) {
      if (errno != EINTR) refuse_process(errno);
    }
  }
  const bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
  if (failed || pass_notes_on) note(text_of(err.get()));
  if (WIFSIGNALED(status)) {
    note(fmt::format("the process that timed {} was ended by signal {} ({})\n", contestant.method, WTERMSIG(status),
                     ::strsignal(WTERMSIG(status))));
    throw ChildFailed{128 + WTERMSIG(status)};
  }
  if (failed) throw ChildFailed{WEXITSTATUS(status)};
  return Json::parse(text_of(out.get()));
}

std::string milliseconds(const Json& value) {
  return value.is_null() ? "-" : fmt::format("{:.1f}", value.get<double>());
}

std::string dropout_text(const Json& dropouts) {
  std::string text;
  for (const auto& [name, value] : dropouts.items()) {
    if (value.get<double>() > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, value.get<double>());
  }
  return text.empty() ? "none" : text;
}

}  // namespace

Json figures_of(const std::string& method, const std::vector<Json>& rounds) {
  const auto faster = [](const Json& a, const Json& b) { return a.at("min_ms") < b.at("min_ms"); };
  const auto [fastest, slowest] = std::minmax_element(rounds.begin(), rounds.end(), faster);
  Json all = Json::array();
  for (const Json& round : rounds) all.insert(all.end(), round.at("all_ms").begin(), round.at("all_ms").end());
  auto sorted = all.get<std::vector<double>>();
  std::sort(sorted.begin(), sorted.end());
  const double median = (sorted[sorted.size() / 2] + sorted[(sorted.size() - 1) / 2]) / 2;
  const double least = fastest->at("min_ms");
  Json figures = {{"method", method},
                  {"dtype", fastest->at("dtype")},
                  {"step_ms", median},
                  {"min_ms", least},
                  {"spread", slowest->at("min_ms").get<double>() / least - 1},
                  {"rounds", rounds.size()}};
  for (const auto& [key, value] : fastest->items()) {
    if (!figures.contains(key)) figures[key] = value;
  }
  figures["all_ms"] = all;
  for (const char* key : {"peak_mib", "first_step_s", "merge_ms"}) {
    for (const Json& round : rounds) {
      if (round.at(key) < figures[key]) figures[key] = round.at(key);
    }
  }
  return figures;
}

std::vector<Json> run_rounds(const std::vector<Contestant>& contestants, int64_t rounds) {
  std::vector<std::vector<Json>> results(contestants.size());
  StatusLine status;
  for (int64_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < contestants.size(); ++i) {
      status.show(fmt::format("round {} of {}: {}", round + 1, rounds, contestants[i].method));
      results[i].push_back(result_of(contestants[i], round == 0));
    }
  }
  status.clear();
  std::vector<Json> methods;
  for (size_t i = 0; i < contestants.size(); ++i) methods.push_back(figures_of(contestants[i].method, results[i]));
  for (Json& method : methods) {
    method["step_ratio"] = method["min_ms"].get<double>() / methods[0]["min_ms"].get<double>();
    method["memory_ratio"] = method["peak_mib"].get<double>() / methods[0]["peak_mib"].get<double>();
  }
  return methods;
}

std::string figures_text(const std::vector<Json>& methods) {
  const Json &first = methods[0], &set = first["set"];
  const auto per_step = set["rows_per_step"].get<int64_t>();
  std::string text = fmt::format(
      "{}, {} on {} threads: {} x {} tokens, {} timed steps in {} rounds\nms of the fastest step, dropouts: {}\n\n",
      set["model_name_or_path"].get<std::string>(), first["dtype"].get<std::string>(), set["threads"].get<int64_t>(),
      per_step, first["tokens_per_step"].get<int64_t>() / per_step, first["all_ms"].size(),
      first["rounds"].get<int64_t>(), dropout_text(set["dropouts"]));
  std::vector<std::vector<std::string>> rows = {{"method", "step", "spread", "ratio", "forward", "backward",
                                                 "optimiser", "peak memory", "ratio", "start to first", "file", "merge",
                                                 "trained"}};
  for (const Json& method : methods) {
    rows.push_back({method["method"], milliseconds(method["min_ms"]),
                    fmt::format("{:.0f} %", method["spread"].get<double>() * 100),
                    fmt::format("{:.2f}", method["step_ratio"].get<double>()), milliseconds(method["forward_ms"]),
                    milliseconds(method["backward_ms"]), milliseconds(method["optimizer_ms"]),
                    fmt::format("{:.0f} MiB", method["peak_mib"].get<double>()),
                    fmt::format("{:.2f}", method["memory_ratio"].get<double>()),
                    fmt::format("{:.2f} s", method["first_step_s"].get<double>()),
                    format_bytes(method["adapter_bytes"]), milliseconds(method["merge_ms"]),
                    format_count(method["trainable"])});
  }
  return text + table(rows);
}

}  // namespace deltaw::cli
