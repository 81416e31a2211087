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

/// The JSON object that the process prints.
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

double least(const Json& results, const Json::json_pointer& key) {
  double value = results[0].at(key).get<double>();
  for (const Json& result : results) value = std::min(value, result.at(key).get<double>());
  return value;
}

/// One method's rounds in figures: the fastest step with its parts, the least of the others.
Json summary(const Contestant& contestant, const Json& results) {
  const Json::json_pointer step_key("/step_seconds/min");
  const auto faster = [&](const Json& a, const Json& b) { return a.at(step_key) < b.at(step_key); };
  const auto [fastest, slowest] = std::minmax_element(results.begin(), results.end(), faster);
  const double step = fastest->at(step_key).get<double>();
  Json facts = {{"method", contestant.method},
                {"step_seconds", step},
                {"spread", slowest->at(step_key).get<double>() / step - 1}};
  for (const char* key : {"forward_seconds", "backward_seconds", "optimizer_seconds"}) facts[key] = fastest->at(key);
  for (const char* key : {"first_step_seconds", "peak_memory_bytes"}) {
    facts[key] = least(results, Json::json_pointer(std::string("/") + key));
  }
  const bool merges = !(*fastest)["merge_seconds"].is_null();
  facts["merge_seconds"] = merges ? Json(least(results, "/merge_seconds"_json_pointer)) : Json();
  for (const char* key : {"adapter_bytes", "trained_parameters"}) facts[key] = fastest->at(key);
  facts["results"] = results;
  return facts;
}

std::string milliseconds(const Json& seconds) {
  return seconds.is_null() ? "-" : fmt::format("{:.1f}", seconds.get<double>() * 1e3);
}

std::string dropout_text(const Json& dropouts) {
  std::string text;
  for (const auto& [name, value] : dropouts.items()) {
    if (value.get<double>() > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, value.get<double>());
  }
  return text.empty() ? "none" : text;
}

}  // namespace

Json run_rounds(const std::vector<Contestant>& contestants, int64_t rounds) {
  std::vector<Json> results(contestants.size(), Json::array());
  StatusLine status;
  for (int64_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < contestants.size(); ++i) {
      status.show(fmt::format("round {} of {}: {}", round + 1, rounds, contestants[i].method));
      results[i].push_back(result_of(contestants[i], round == 0));
    }
  }
  status.clear();
  Json methods = Json::array();
  for (size_t i = 0; i < contestants.size(); ++i) methods.push_back(summary(contestants[i], results[i]));
  const double step = methods[0]["step_seconds"], memory = methods[0]["peak_memory_bytes"];
  for (Json& method : methods) {
    method["step_ratio"] = method["step_seconds"].get<double>() / step;
    method["memory_ratio"] = method["peak_memory_bytes"].get<double>() / memory;
  }
  return {{"rounds", rounds}, {"methods", methods}};
}

std::string rounds_text(const Json& facts) {
  const Json& first = facts["methods"][0]["results"][0];
  const Json& set = first["set"];
  std::string text = fmt::format(
      "{}, {} on {} threads: {} x {} tokens, {} timed steps in each of {} rounds\nms of the fastest step, dropouts: "
      "{}\n\n",
      set["model_name_or_path"].get<std::string>(), set["dtype"].get<std::string>(), set["threads"].get<int64_t>(),
      set["rows_per_step"].get<int64_t>(), set["max_length"].get<int64_t>(), first["step_seconds"]["all"].size(),
      facts["rounds"].get<int64_t>(), dropout_text(set["dropouts"]));
  std::vector<std::vector<std::string>> rows = {{"method", "step", "spread", "ratio", "forward", "backward",
                                                 "optimiser", "peak memory", "ratio", "start to first", "file", "merge",
                                                 "trained"}};
  for (const Json& method : facts["methods"]) {
    rows.push_back(
        {method["method"], milliseconds(method["step_seconds"]),
         fmt::format("{:.0f} %", method["spread"].get<double>() * 100),
         fmt::format("{:.2f}", method["step_ratio"].get<double>()), milliseconds(method["forward_seconds"]),
         milliseconds(method["backward_seconds"]), milliseconds(method["optimizer_seconds"]),
         format_bytes(method["peak_memory_bytes"]), fmt::format("{:.2f}", method["memory_ratio"].get<double>()),
         fmt::format("{:.2f} s", method["first_step_seconds"].get<double>()), format_bytes(method["adapter_bytes"]),
         milliseconds(method["merge_seconds"]), format_count(method["trained_parameters"])});
  }
  return text + table(rows);
}

}  // namespace deltaw::cli
