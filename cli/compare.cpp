#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "aliases.h"
#include "cell_run.h"
#include "core/comparison.h"
#include "core/comparison_table.h"
#include "core/files.h"
#include "core/json.h"
#include "core/progress.h"
#include "core/suggest.h"
#include "deltaw/error.h"
#include "other_tools.h"
#include "output.h"
#include "run_keys.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kWidth = 80;
constexpr const char* kOwnPlace[] = {"overwrite_output_dir", "adopt_output_dir", "resume_from_checkpoint"};

struct Keys {
  std::string output_dir;
  std::vector<std::string> tasks, settings, seeds, metric;
  bool dry_run = false;
  bool json = false;
  bool markdown = false;

  void fields(FieldVisitor& f) {
    f.field("output_dir", output_dir, "Folder of the runs: TASK/SETTING/seed-N below it. Wins over the file's.");
    f.field("tasks", tasks, "These tasks of the file alone.");
    f.field("settings", settings, "These settings of the file alone.");
    f.field("seeds", seeds, "These seeds, in place of the file's.");
    f.field("metric", metric, "What the table shows: accuracy,f1. Default: the file's, else the first of each task.");
    f.field("dry_run", dry_run, "Train nothing: say what would be trained, and show the table of what is there.");
    f.field("json", json, "The table and the results of every run as one JSON object.");
    f.field("markdown", markdown, "The table in Markdown.");
  }
};

const Usage kUsageText = {
    .verb = "compare",
    .what =
        "Trains settings x seeds, on one task or several, and prints a table: mean and standard deviation of the "
        "metric over the seeds, trained parameters, seconds, peak memory. Every run is the one that `deltaw train` "
        "makes with its keys, in a process and a folder of its own. Called again it goes on: a finished run is kept "
        "unless its keys have changed, one that was cut goes on from its checkpoint, and one that failed is tried "
        "again. Any key of `deltaw train` may stand here as a flag and wins in every run.",
    .example =
        "  deltaw compare examples/glue/minilm.yaml --tasks mrpc --settings lora,moslora \\\n"
        "    --dataset_dir glue --output_dir out\n"
        "  deltaw compare ranks.yaml --output_dir out --max_steps 20 --dry_run",
    .positional = "FILE",
    .positional_help =
        "YAML or JSON. settings: names, each with the keys that it changes. Also base: keys of `deltaw train`; seeds: "
        "a list; tasks: names with keys, or a list of values of task_name; metric; output_dir. The key `config` of a "
        "part names a file of keys below its own, {task} in it the task. null takes a key away.",
    .exit_codes =
        "0 all runs are finished; 1 some failed; 2 usage or configuration, nothing was started; 128+n stopped by "
        "signal n: the same command goes on",
};

std::vector<Section> sections() {
  std::vector<Section> all = {section_of<Keys>("Comparison")};
  for (Section& section : run_sections("")) all.push_back(std::move(section));
  return all;
}

/// Keys of a part of the file, or of a file that it names, by the names that this program has for them.
Json canonical_keys(const Json& keys, const fs::path& file, const std::string& where, const Json& flags) {
  static const std::vector<std::string> known = run_keys();
  const std::set<std::string> allowed(known.begin(), known.end());
  std::map<std::string, Json> given;
  for (const auto& [name, value] : flags.items()) given[name] = value;
  Problems problems;
  const OtherTool other = translate_other_tool(keys, allowed, given, file.string(), problems);
  note(other.report);
  Json values = translate(other.values, allowed, where, problems);
  problems.gather([&] { refuse_unknown_keys(values, known, where); });
  problems.settle();
  return values;
}

std::vector<int64_t> as_seeds(const std::vector<std::string>& texts) {
  std::vector<int64_t> seeds;
  for (const std::string& text : texts) {
    int64_t seed = -1;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), seed);
    if (problem != std::errc() || end != text.data() + text.size() || seed < 0) {
      throw Error({.id = "config.wrong-type",
                   .what = fmt::format("'{}' is no seed", text),
                   .where = "command line, --seeds",
                   .fix = "give whole numbers from 0: --seeds 42,43,44"});
    }
    seeds.push_back(seed);
  }
  return seeds;
}

/// A comparison as it was asked for.
struct Asked {
  Keys keys;
  Json flags;  // keys of every run
  std::string file;
  Comparison comparison;
};

/// The flags that are keys of every run.
Json flags_of_runs(const Invocation& invocation) {
  for (const char* key : kOwnPlace) {
    if (!invocation.flags.contains(key)) continue;
    throw Error({.id = "usage.arguments",
                 .what = fmt::format("--{} says nothing here: finished runs are kept and others go on", key),
                 .where = "command line",
                 .fix = "leave it out; to train a run anew remove its folder"});
  }
  Json flags = invocation.flags;
  Keys none;
  for (const FieldInfo& key : describe_fields(fields_of(none))) flags.erase(key.name);
  flags.erase("seed");
  return flags;
}

Asked read_asked(const Invocation& invocation) {
  if (invocation.positional.empty()) {
    refuse_missing(kUsageText,
                   {.name = "a file of settings", .any_of = {}, .fix = "name it: deltaw compare ranks.yaml"});
  }
  Asked asked{.keys = {}, .flags = flags_of_runs(invocation), .file = invocation.positional, .comparison = {}};
  read_into(asked.keys, invocation);
  if (asked.keys.seeds.empty() && invocation.flags.contains("seed")) {
    asked.keys.seeds = {invocation.flags["seed"].get<std::string>()};
  }
  asked.comparison = read_comparison(
      asked.file,
      [&](const Json& keys, const fs::path& file, const std::string& where) {
        return canonical_keys(keys, file, where, asked.flags);
      },
      {.tasks = asked.keys.tasks, .settings = asked.keys.settings, .seeds = as_seeds(asked.keys.seeds)});
  if (asked.keys.output_dir.empty()) asked.keys.output_dir = asked.comparison.output_dir;
  if (asked.keys.output_dir.empty()) refuse_missing(kUsageText, kNeedsOutput, asked.file);
  if (asked.keys.metric.empty()) asked.keys.metric = asked.comparison.metrics;
  for (Cell& cell : asked.comparison.cells) {
    for (const auto& [key, value] : asked.flags.items()) cell.keys[key] = value;
  }
  return asked;
}

/// What `deltaw train` makes of keys, their places and what is only said aside. Throws what is wrong with them.
Json settings_of(const Json& keys, const Json& flags, const std::string& where) {
  Invocation given;
  given.file = keys;
  given.flags = flags;
  given.file_name = where;
  Problems problems;
  for (const Need& need : {kNeedsModel, kNeedsRows}) {
    const bool is_met = std::any_of(need.any_of.begin(), need.any_of.end(), [&](const std::string& key) {
      return keys.contains(key) && !keys[key].is_null() && keys[key] != "";
    });
    if (!is_met) problems.gather([&] { refuse_missing(kUsageText, need, where); });
  }
  Json settings = settings_of(kUsageText, given, problems).to_json();
  for (const char* key : {"output_dir", "log_level"}) settings.erase(key);
  return settings;
}

/// How the settings of a run differ from those that it was trained with; empty where they are the same.
std::string change_of(const Json& now, const std::string& keys_file) {
  Json before;
  try {
    before = settings_of(read_config_file(keys_file), Json::object(), keys_file);
  } catch (const Error&) {  // of another version, or not ours
    return "its keys cannot be read again";
  }
  std::vector<std::string> changes;
  const auto value_in = [](const Json& settings, const std::string& key) {
    return settings.contains(key) ? shown(settings[key]) : "not given";
  };
  Json all = before;
  all.update(now);
  for (const auto& [key, value] : all.items()) {
    const std::string then = value_in(before, key), today = value_in(now, key);
    if (then != today) changes.push_back(fmt::format("{} was {} and is {}", key, then, today));
  }
  return fmt::format("{}", fmt::join(changes, ", "));
}

void check_folder(const std::string& output_dir) {
  std::error_code unseen;
  if (!fs::exists(output_dir, unseen) || fs::is_directory(output_dir, unseen)) return;
  throw Error(
      {.id = "config.output-exists", .what = "output_dir is a file", .where = output_dir, .fix = "name a folder"});
}

/// A run and where it stands.
struct Planned {
  CellResult result;
  CellPlace place;
  std::string change;  // why what is there is of no use
};

/// Throws all that is wrong with the keys of any run.
std::vector<Planned> plan_of(const Asked& asked) {
  std::vector<Planned> plan;
  Problems problems;
  for (const Cell& cell : asked.comparison.cells) {
    const CellPlace place = place_of(asked.keys.output_dir, cell);
    problems.gather([&] {
      const Json settings = settings_of(cell.keys, asked.flags, fmt::format("{}, {}", asked.file, cell.name()));
      Planned planned{.result = {.cell = cell, .state = "open", .folder = place.folder.string()}, .place = place};
      std::error_code unseen;
      if (fs::exists(place.keys_file(), unseen)) {
        planned.change = change_of(settings, place.keys_file());
        if (planned.change.empty()) planned.result = result_of(cell, place);
      }
      plan.push_back(std::move(planned));
    });
  }
  problems.settle();
  return plan;
}

std::string scores_text(const CellResult& result, const std::vector<std::string>& metrics) {
  std::string text;
  for (const TaskResults& task : summarise({result}, metrics)) {
    for (size_t i = 0; i < task.metrics.size(); ++i) {
      const auto& score = task.settings.front().metrics[i];
      if (score) text += fmt::format("{} {:.4f}, ", task.metrics[i], score->mean);
    }
  }
  const Json seconds = result.results.value("train_runtime", Json());
  return text + (seconds.is_number() ? format_duration(seconds.get<double>()) : "");
}

void say_plan(const std::vector<Planned>& plan, const std::string& output_dir, bool each) {
  size_t finished = 0, cut = 0;
  for (const Planned& planned : plan) {
    finished += planned.result.state == "finished";
    cut += planned.result.state == "cut";
    if (!planned.change.empty()) {
      note(fmt::format("{} is to be trained anew: {}\n", planned.result.cell.name(), planned.change));
    } else if (each) {
      note(fmt::format("{}: {}\n", planned.result.cell.name(), planned.result.state));
    }
  }
  note(fmt::format("{} runs in {}: {} finished, {} to go on with, {} to train\n", plan.size(), output_dir, finished,
                   cut, plan.size() - finished - cut));
}

/// Trains what is not finished, until a signal comes.
void train_open(std::vector<Planned>& plan, const Asked& asked, const SignalGuard& guard) {
  StatusLine status;
  for (size_t i = 0; i < plan.size() && guard.caught() == 0; ++i) {
    Planned& planned = plan[i];
    if (planned.result.state == "finished") continue;
    const std::string head = fmt::format("[{}/{}] {}", i + 1, plan.size(), planned.result.cell.name());
    note(fmt::format("{}: {}\n", head, planned.result.state == "cut" ? "goes on from its checkpoint" : "is trained"));
    if (!planned.change.empty()) clear_run(planned.place);
    write_keys(planned.result.cell, planned.place);
    planned.result = run_cell(planned.result.cell, planned.place, guard,
                              [&](const std::string& line) { status.show(head + "  " + line); });
    status.clear();
    if (planned.result.state == "finished") {
      note(fmt::format("{}: {}\n", head, scores_text(planned.result, asked.keys.metric)));
    } else if (planned.result.state == "failed") {
      warning(fmt::format("{} failed: {} ({})", planned.result.cell.name(), planned.result.problem,
                          planned.place.log_file()));
    }
  }
}

size_t width_of(const std::string& text) {
  size_t width = 0, begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    width = std::max(width, columns(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return width;
}

/// Scores and costs side by side, or one below the other where that is too wide.
std::string table_text(const TaskResults& task) {
  const auto rows = table_rows(task);
  std::string text = table(rows);
  if (width_of(text) <= kWidth) return text;
  const auto costs = static_cast<std::ptrdiff_t>(rows.front().size() - 3);
  std::vector<std::vector<std::string>> scores, rest;
  for (const auto& row : rows) {
    scores.emplace_back(row.begin(), row.begin() + costs);
    rest.push_back({row.front()});
    rest.back().insert(rest.back().end(), row.begin() + costs, row.end());
  }
  return table(scores) + "\n" + table(rest);
}

void print_table(const std::vector<Planned>& plan, const Asked& asked) {
  const Keys& keys = asked.keys;
  std::vector<CellResult> results;
  for (const Planned& planned : plan) results.push_back(planned.result);
  // The file's metrics are those of all its tasks, of which some may be left out.
  const bool may_miss = !keys.tasks.empty() && keys.metric == asked.comparison.metrics;
  const auto missing = may_miss ? std::vector<std::string>() : missing_metrics(results, keys.metric);
  for (const std::string& metric : missing) {
    warning(fmt::format("no run has the metric '{}': {}", metric, suggest_names(metric, known_metrics(results))));
  }
  const std::vector<TaskResults> tasks = summarise(results, keys.metric);
  if (keys.json) return print(to_text(to_json(tasks, results)));
  if (keys.markdown) return print(markdown(tasks));
  std::string text;
  for (const TaskResults& task : tasks) {
    if (!text.empty()) text += "\n";
    if (!task.task.empty()) text += task.task + "\n\n";
    text += table_text(task);
  }
  show(text);
}

}  // namespace

int compare(const Args& args) {
  const Invocation invocation = parse_args(kUsageText, sections(), args);
  if (invocation.help) {
    print_help(kUsageText, {section_of<Keys>("Comparison"), section_of<LogKeys>("Log")});
    return kDone;
  }
  const Asked asked = read_asked(invocation);
  check_folder(asked.keys.output_dir);
  const SignalGuard guard;
  if (asked.keys.dry_run) {
    const std::vector<Planned> plan = plan_of(asked);
    say_plan(plan, asked.keys.output_dir, /*each=*/true);
    print_table(plan, asked);
    return kDone;
  }
  plan_of(asked);  // before a folder is made, all that is wrong
  fs::create_directories(asked.keys.output_dir);
  const FolderLock lock(asked.keys.output_dir, guard, [&] {
    note(fmt::format("another process is at work in {}: waiting for it to end\n", asked.keys.output_dir));
  });
  std::vector<Planned> plan = plan_of(asked);
  say_plan(plan, asked.keys.output_dir, /*each=*/false);
  train_open(plan, asked, guard);
  print_table(plan, asked);
  if (guard.caught() != 0) {
    note("stopped; the same command goes on\n");
    return 128 + guard.caught();
  }
  const bool failed =
      std::any_of(plan.begin(), plan.end(), [](const Planned& run) { return run.result.state == "failed"; });
  return failed ? kFailed : kDone;
}

}  // namespace deltaw::cli
