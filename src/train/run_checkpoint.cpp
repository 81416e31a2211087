#include "train/run_checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "adapt/adapter_folder.h"
#include "core/files.h"
#include "core/log.h"
#include "core/output_folder.h"
#include "deltaw/error.h"
#include "ops/matrix_units.h"
#include "ops/vectors.h"
#include "train/named_tensors.h"
#include "train/resume_check.h"
#include "train/train_options.h"

namespace deltaw::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNeeded[] = {"optimizer.safetensors", "run_state.json", kTrainerState, "training_args.json"};
constexpr const char* kOthers[] = {"rank_budget.safetensors", "scheduler.json", "rng_state.json"};

/// Of resume_from_checkpoint: the newest checkpoint, and none is no error. diffusers' scripts say "latest".
bool is_newest_if_any(const std::string& resume_from_checkpoint) {
  return resume_from_checkpoint == "auto" || resume_from_checkpoint == "latest";
}

/// Step and path of every checkpoint-<step>, oldest first.
std::vector<std::pair<int64_t, fs::path>> list_checkpoints(const fs::path& output_dir) {
  std::vector<std::pair<int64_t, fs::path>> found;
  if (!fs::is_directory(output_dir)) return found;
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    const auto step = checkpoint_step(entry.path().filename().string());
    if (step && entry.is_directory()) found.emplace_back(*step, entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

Json position(const RunParts& parts) {
  const int64_t step = parts.state.step;
  return {{"seed", parts.options.seed},
          {"data_seed", data_seed(parts.options)},
          {"step", step},
          {"epoch", parts.schedule.epoch_of(step)},
          {"batch_in_epoch", parts.schedule.batch_of(step)}};
}

Json scheduler_state(const RunParts& parts) {
  const double rate = parts.options.learning_rate * rate_factor(parts.options, parts.schedule, parts.state.step);
  return {{"last_epoch", parts.state.step},
          {"base_lrs", Json::array({parts.options.learning_rate})},
          {"_last_lr", Json::array({rate})}};
}

/// The instructions that vectors are computed with: they set the order of sums, and what is rounded to bf16.
std::string processor() {
  const char* units = ops::has_matrix_units() ? " with matrix units" : ops::has_bf16_units() ? " with bf16 units" : "";
  return at::get_cpu_capability() + units;
}

void warn_of_another_machine(const JsonFields& run_state) {
  if (const auto threads = run_state.get_or<int64_t>("threads", 0); threads != at::get_num_threads()) {
    log().warn("the checkpoint was trained with {} threads, this run has {}: results may differ in the last digits",
               threads, at::get_num_threads());
  }
  const std::string before = run_state.get_or<std::string>("processor", processor());
  if (before != processor()) {
    log().warn(
        "the checkpoint was trained on a processor that computes in {}, this one computes in {}: results may "
        "differ in the last digits",
        before, processor());
  }
}

Json run_state(const RunParts& parts) {
  Json state = parts.identity;
  state["progress"] = to_progress(parts.state);
  state["kept_ranks"] = kept_ranks(parts.adapter);
  state["threads"] = at::get_num_threads();
  state["processor"] = processor();
  state["forms_once"] = parts.forms_once;
  return state;
}

std::vector<NamedTensor> all_tensors(const RunParts& parts) {
  std::vector<NamedTensor> all;
  for (NamedTensor& tensor : parts.adapter.trained()) all.push_back({"param." + tensor.name, tensor.value});
  for (NamedTensor& tensor : parts.optimizer.state()) all.push_back(std::move(tensor));
  return all;
}

[[noreturn]] void refuse_tensor(const fs::path& file, const std::string& name, const std::string& what) {
  throw Error({.id = "config.resume",
               .what = what,
               .where = fmt::format("{}, tensor '{}'", file.string(), name),
               .fix = "resume with the options that the checkpoint was trained with"});
}

/// Copies the file's tensors into `targets`, one for one.
void copy_tensors(const fs::path& file, const std::map<std::string, Tensor>& stored,
                  const std::vector<NamedTensor>& targets) {
  const at::NoGradGuard no_grad;
  for (const NamedTensor& target : targets) {
    const auto found = stored.find(target.name);
    if (found == stored.end()) refuse_tensor(file, target.name, "the checkpoint lacks this trained tensor");
    const Tensor& source = found->second;
    if (source.sizes() != target.value.sizes() || source.scalar_type() != target.value.scalar_type()) {
      refuse_tensor(file, target.name,
                    fmt::format("the checkpoint has {} {}, {} {} is trained", toString(source.scalar_type()),
                                fmt::join(source.sizes(), "x"), toString(target.value.scalar_type()),
                                fmt::join(target.value.sizes(), "x")));
    }
    Tensor live = target.value;
    live.copy_(source);
  }
}

void check_position(const fs::path& folder, const RunParts& parts) {
  const Json stored = read_json(folder / "rng_state.json");
  const auto scheduled = read_checkpoint_file(folder / "scheduler.json").get<int64_t>("last_epoch");
  if (!is_same(stored, position(parts)) || scheduled != parts.state.step) {
    throw Error({.id = "format.checkpoint",
                 .what = fmt::format("the files of the checkpoint are from different steps: trainer_state.json says {}",
                                     parts.state.step),
                 .where = (folder / "rng_state.json").string(),
                 .fix = "resume from another checkpoint"});
  }
}

/// Where a checkpoint's best one lies now, when the output folder was moved or renamed since.
fs::path find_best(const fs::path& recorded, const fs::path& beside) {
  if (recorded.empty() || fs::exists(recorded)) return recorded;
  const fs::path sibling = beside / recorded.filename();
  return fs::exists(sibling) ? sibling : fs::path();
}

}  // namespace

bool is_checkpoint_file(const std::string& name) {
  return std::find(std::begin(kNeeded), std::end(kNeeded), name) != std::end(kNeeded) ||
         std::find(std::begin(kOthers), std::end(kOthers), name) != std::end(kOthers);
}

bool is_whole_checkpoint(const fs::path& folder) {
  return std::all_of(std::begin(kNeeded), std::end(kNeeded), [&](auto* name) { return fs::exists(folder / name); });
}

NameTest run_outputs(const TrainOptions& options, const Schedule& schedule, int64_t done) {
  return [&options, schedule, done](const std::string& name) {
    const auto step = checkpoint_step(name);
    return name == kTrainerState || (step && *step > done && may_save(options, schedule, *step));
  };
}

bool resumes(const TrainOptions& options) {
  const std::string& from = options.resume_from_checkpoint;
  if (!is_newest_if_any(from)) return !from.empty() && from != "false";
  const auto checkpoints = list_checkpoints(options.output_dir);
  return std::any_of(checkpoints.begin(), checkpoints.end(),
                     [](const auto& entry) { return is_whole_checkpoint(entry.second); });
}

int64_t resumed_step(const TrainOptions& options) {
  if (!resumes(options)) return 0;
  return read_run_state(find_checkpoint(options.resume_from_checkpoint, options.output_dir)).step;
}

fs::path checkpoint_path(const fs::path& output_dir, int64_t step) {
  return output_dir / fmt::format("checkpoint-{}", step);
}

void write_checkpoint(const fs::path& folder, const RunParts& parts,
                      const std::function<void(const fs::path&)>& companions) {
  add_to_folder(folder.parent_path(), [&](const fs::path& around) {
    const fs::path inside = around / folder.filename();
    fs::create_directory(inside);
    parts.adapter.save(inside);
    write_tensors(inside / "optimizer.safetensors", all_tensors(parts));
    if (!parts.budgets.empty()) write_tensors(inside / "rank_budget.safetensors", parts.budgets.state());
    write_json(inside / "scheduler.json", scheduler_state(parts));
    write_json(inside / "rng_state.json", position(parts));
    write_json(inside / kTrainerState, to_trainer_state(parts.state, parts.options, parts.schedule));
    TrainOptions options = parts.options;
    write_json(inside / "training_args.json", write_fields(fields_of(options)), KeyOrder::outermost_sorted);
    write_json(inside / "run_state.json", run_state(parts), KeyOrder::outermost_sorted);
    if (companions) companions(inside);
  });
}

void read_checkpoint(const fs::path& folder, const RunParts& parts) {
  parts.state = read_run_state(folder);
  const JsonFields run_state = read_checkpoint_file(folder / "run_state.json");
  check_resumable(folder, parts.options, parts.identity, run_state);
  check_position(folder, parts);
  warn_of_another_machine(run_state);
  parts.state.best_checkpoint = find_best(parts.state.best_checkpoint, folder.parent_path());
  restore_adapter(folder, parts.adapter);
  const fs::path file = folder / "optimizer.safetensors";
  copy_tensors(file, read_tensors(file), parts.optimizer.state());
  parts.optimizer.set_steps(parts.state.step);
  if (!parts.budgets.empty()) parts.budgets.set_state(read_tensors(folder / "rank_budget.safetensors"));
}

std::optional<bool> recorded_forms_once(const fs::path& folder) {
  return read_checkpoint_file(folder / "run_state.json").find<bool>("forms_once");
}

void restore_adapter(const fs::path& folder, Adapter& adapter) {
  const fs::path file = folder / "optimizer.safetensors";
  const std::map<std::string, Tensor> stored = read_tensors(file);
  std::vector<NamedTensor> targets;
  std::set<std::string> names;
  for (NamedTensor& tensor : adapter.trained()) {
    targets.push_back({"param." + tensor.name, tensor.value});
    names.insert(targets.back().name);
  }
  for (const auto& [name, tensor] : stored) {
    if (name.rfind("param.", 0) == 0 && !names.contains(name)) {
      refuse_tensor(file, name, "the checkpoint trained this tensor, the adapter has none of this name");
    }
  }
  copy_tensors(file, stored, targets);
  set_kept_ranks(adapter, read_checkpoint_file(folder / "run_state.json").object("kept_ranks"));
}

fs::path find_checkpoint(const std::string& resume_from_checkpoint, const fs::path& output_dir) {
  if (resume_from_checkpoint != "true" && !is_newest_if_any(resume_from_checkpoint)) {
    for (const fs::path& folder : {fs::path(resume_from_checkpoint), output_dir / resume_from_checkpoint}) {
      if (is_whole_checkpoint(folder)) return folder;
    }
    throw Error({.id = "config.no-checkpoint",
                 .what = fs::exists(resume_from_checkpoint) ? "this folder is no whole checkpoint of deltaw"
                                                            : "there is no such folder",
                 .where = fmt::format("key \"resume_from_checkpoint\" = {}", resume_from_checkpoint),
                 .fix = "give a folder checkpoint-<step>, or true for the newest in output_dir"});
  }
  const auto checkpoints = list_checkpoints(output_dir);
  for (auto entry = checkpoints.rbegin(); entry != checkpoints.rend(); ++entry) {
    if (is_whole_checkpoint(entry->second)) return entry->second;
    log().warn("{} is not a whole checkpoint and is left out", entry->second.string());
  }
  throw Error({.id = "config.no-checkpoint",
               .what = "output_dir holds no checkpoint to resume from",
               .where = output_dir.string(),
               .fix = "start without resume_from_checkpoint, or correct output_dir"});
}

void remove_old_checkpoints(const fs::path& output_dir, int64_t limit, const fs::path& newest, const fs::path& best) {
  if (limit <= 0) return;
  const Manifest manifest(output_dir);
  auto own = list_checkpoints(output_dir);
  std::erase_if(own, [&](const auto& entry) {
    return manifest.standing(entry.second.filename().string(), Look::sizes) != Standing::own;
  });
  auto left = static_cast<int64_t>(own.size());
  for (const auto& [step, path] : own) {
    if (left <= limit) return;
    if (path.filename() == newest.filename() || path.filename() == best.filename()) continue;
    remove_from_folder(output_dir, path.filename().string());
    --left;  // also where it was changed, and is the user's now
  }
}

}  // namespace deltaw::train
