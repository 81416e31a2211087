#include <fmt/format.h>

#include <algorithm>

#include "bench_rounds.h"
#include "bench_steps.h"
#include "core/files.h"
#include "deltaw/method.h"
#include "machine.h"
#include "method_infos.h"
#include "output.h"
#include "run/task_keys.h"
#include "run_keys.h"
#include "temporary_folder.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

struct Keys {
  int64_t steps = 6;
  int64_t rounds = 3;
  std::vector<std::string> methods;

  void fields(FieldVisitor& f) {
    f.field("steps", steps, "Optimiser steps of each process; the first is reported apart.", at_least(2));
    f.field("rounds", rounds, "How often each method is timed, in turns. The least figure of all rounds counts.",
            at_least(1));
    f.field("methods", methods,
            "Methods to compare, the others with the first; default: the one that method names. An option of one of "
            "them is not looked at by the rest.");
  }
};

const Usage kUsageText = {
    .verb = "bench",
    .what =
        "Times training steps of a model on rows of random tokens, with the loop that `deltaw train` runs. Every round "
        "is a fresh process and the methods take turns. The dropouts of the model's config.json act. Prints one line "
        "of "
        "JSON for each method: step_ms, the median, and min_ms of all timed steps, peak_mib (VmHWM), first_step_s "
        "(from "
        "the start of the process), trainable, and more; a table of them goes to standard error. One method in one "
        "round "
        "runs in this process, without the table.",
    .example =
        "  deltaw bench --model_name_or_path MODEL --per_device_train_batch_size 32\n"
        "  deltaw bench run.yaml --methods lora,randlora,dora --r 8",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
    .exit_codes = "0 done; 1 failed; 2 usage or configuration, nothing was started; 128+n stopped by signal n",
    .needs = {{.name = "model_name_or_path",
               .any_of = {"model_name_or_path"},
               .fix = "add --model_name_or_path MODEL"}},
};

/// Keys of a run that have no part in a step.
std::vector<std::string> unused_keys() {
  std::vector<std::string> keys = {"output_dir",
                                   "num_train_epochs",
                                   "max_steps",
                                   "per_device_eval_batch_size",
                                   "logging_steps",
                                   "eval_strategy",
                                   "eval_steps",
                                   "eval_on_start",
                                   "save_strategy",
                                   "save_steps",
                                   "save_total_limit",
                                   "load_best_model_at_end",
                                   "greater_is_better",
                                   "metric_for_best_model",
                                   "data_seed",
                                   "early_stopping_patience",
                                   "early_stopping_threshold",
                                   "resume_from_checkpoint"};
  std::vector<Section> sections = task_sections(/*trains=*/true);
  for (Section section : {section_of<DataOptions>(""), section_of<OutputKeys>(""), section_of<ContinueKeys>("")}) {
    sections.push_back(std::move(section));
  }
  std::vector<std::string> used = run::extending_task_keys();
  used.push_back("max_length");
  for (const Section& section : sections) {
    for (const FieldInfo& key : section.keys) {
      if (std::find(used.begin(), used.end(), key.name) == used.end()) keys.push_back(key.name);
    }
  }
  return keys;
}

/// The keys as `method` reads them: without the options that only others of `methods` have.
Invocation keys_for(const std::string& method, const std::vector<std::string>& methods, Invocation invocation) {
  invocation.flags["method"] = method;
  const auto takes = [](const MethodInfo& info, const std::string& key) {
    return std::any_of(info.options.begin(), info.options.end(), [&](const FieldInfo& o) { return o.name == key; });
  };
  std::vector<MethodInfo> infos = method_infos();
  const auto info_of = [&](const std::string& name) {
    return *std::find_if(infos.begin(), infos.end(), [&](const MethodInfo& i) { return i.id == find_method(name).id; });
  };
  const MethodInfo own = info_of(method);
  for (const std::string& name : methods) {
    for (const FieldInfo& option : info_of(name).options) {
      if (takes(own, option.name)) continue;
      invocation.file.erase(option.name);
      invocation.flags.erase(option.name);
    }
  }
  return invocation;
}

int run_in_turns(const Keys& keys, const Invocation& invocation) {
  warn_of_busy_cores();
  const TemporaryFolder scratch;
  std::vector<Contestant> contestants;
  for (const std::string& method : keys.methods) {
    const RunSettings settings = settings_of(kUsageText, keys_for(method, keys.methods, invocation), {});
    Json values = settings.to_json();
    if (!settings.asked.has("max_length")) values.erase("max_length");
    const fs::path file = scratch.path() / (std::to_string(contestants.size()) + ".json");
    write_json(file, values, KeyOrder::kept);
    contestants.push_back({method, {file.string(), "--rounds=1", "--steps=" + std::to_string(keys.steps)}});
    const Json all = invocation.all();
    if (all.contains("log_level"))
      contestants.back().args.push_back("--log_level=" + all["log_level"].get<std::string>());
  }
  try {
    const std::vector<Json> methods = run_rounds(contestants, keys.rounds);
    for (const Json& method : methods) print(to_line(method));
    note(fmt::format("\n{}", figures_text(methods)));
    return kDone;
  } catch (const ChildFailed& failure) {
    return failure.exit_code;
  }
}

}  // namespace

int bench(const Args& args) {
  Invocation invocation;
  Problems problems;
  if (!parse_run_keys(kUsageText, args, section_of<Keys>("Benchmark"), invocation, problems, unused_keys()))
    return kDone;
  Keys keys;
  read_into(keys, invocation);
  problems.gather([&] {
    if (keys.methods.empty()) keys.methods = {chosen_method(invocation.all(), invocation.where())};
  });
  problems.settle();
  if (keys.methods.size() > 1 || keys.rounds > 1) return run_in_turns(keys, invocation);
  RunSettings settings = settings_of(kUsageText, keys_for(keys.methods[0], keys.methods, invocation), {});
  const Timed timed = time_steps(settings, keys.steps);
  if (timed.signal != 0) return 128 + timed.signal;
  print(to_line(figures_of(keys.methods[0], {timed.figures})));
  return kDone;
}

}  // namespace deltaw::cli
