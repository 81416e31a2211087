#include "train/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "core/files.h"
#include "core/log.h"
#include "deltaw/error.h"
#include "train/options.h"
#include "train/resume_check.h"
#include "train/tensor_file.h"

namespace deltaw::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNeeded[] = {"optimizer.safetensors", "run_state.json", "trainer_state.json",
                                   "training_args.json"};

bool is_whole(const fs::path& folder) {
  return std::all_of(std::begin(kNeeded), std::end(kNeeded), [&](auto* name) { return fs::exists(folder / name); });
}

/// Step and path of every checkpoint-<step>, oldest first.
std::vector<std::pair<int64_t, fs::path>> list_checkpoints(const fs::path& output_dir) {
  std::vector<std::pair<int64_t, fs::path>> found;
  if (!fs::is_directory(output_dir)) return found;
  const std::string prefix = "checkpoint-";
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || name.rfind(prefix, 0) != 0) continue;
    const std::string number = name.substr(prefix.size());
    const bool digits = std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (digits && !number.empty() && number.size() < 18) found.emplace_back(std::stoll(number), entry.path());
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

Json run_state(const RunParts& parts) {
  Json state = parts.identity;
  state["progress"] = to_progress(parts.state);
  state["kept_ranks"] = kept_ranks(parts.adapter);
  state["threads"] = at::get_num_threads();
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
  if (!is_same(stored, position(parts)) || read_json(folder / "scheduler.json").at("last_epoch") != parts.state.step) {
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

fs::path checkpoint_path(const fs::path& output_dir, int64_t step) {
  return output_dir / fmt::format("checkpoint-{}", step);
}

void write_checkpoint(const fs::path& folder, const RunParts& parts,
                      const std::function<void(const fs::path&)>& companions) {
  write_folder(folder, [&](const fs::path& inside) {
    parts.adapter.save(inside);
    write_tensors(inside / "optimizer.safetensors", all_tensors(parts));
    if (!parts.budgets.empty()) write_tensors(inside / "rank_budget.safetensors", parts.budgets.state());
    write_json(inside / "scheduler.json", scheduler_state(parts));
    write_json(inside / "rng_state.json", position(parts));
    write_json(inside / "trainer_state.json", to_trainer_state(parts.state, parts.options, parts.schedule));
    TrainOptions options = parts.options;
    write_json(inside / "training_args.json", write_fields(fields_of(options)));
    write_json(inside / "run_state.json", run_state(parts));
    if (companions) companions(inside);
  });
}

void read_checkpoint(const fs::path& folder, const RunParts& parts) {
  parts.state = read_run_state(folder);
  const Json run_state = read_json(folder / "run_state.json");
  check_resumable(folder, parts.options, parts.identity, run_state);
  check_position(folder, parts);
  if (const int threads = run_state.value("threads", 0); threads != at::get_num_threads()) {
    log().warn("the checkpoint was trained with {} threads, this run has {}: results may differ in the last digits",
               threads, at::get_num_threads());
  }
  parts.state.best_checkpoint = find_best(parts.state.best_checkpoint, folder.parent_path());
  restore_adapter(folder, parts.adapter);
  const fs::path file = folder / "optimizer.safetensors";
  copy_tensors(file, read_tensors(file), parts.optimizer.state());
  parts.optimizer.set_steps(parts.state.step);
  if (!parts.budgets.empty()) parts.budgets.set_state(read_tensors(folder / "rank_budget.safetensors"));
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
  set_kept_ranks(adapter, read_json(folder / "run_state.json").at("kept_ranks"));
}

fs::path find_checkpoint(const std::string& resume_from_checkpoint, const fs::path& output_dir) {
  if (resume_from_checkpoint != "true") {
    if (is_whole(resume_from_checkpoint)) return fs::path(resume_from_checkpoint);
    throw Error({.id = "config.no-checkpoint",
                 .what = fs::exists(resume_from_checkpoint) ? "this folder is no whole checkpoint of deltaw"
                                                            : "there is no such folder",
                 .where = fmt::format("key \"resume_from_checkpoint\" = {}", resume_from_checkpoint),
                 .fix = "give a folder checkpoint-<step>, or true for the newest in output_dir"});
  }
  const auto checkpoints = list_checkpoints(output_dir);
  for (auto entry = checkpoints.rbegin(); entry != checkpoints.rend(); ++entry) {
    if (is_whole(entry->second)) return entry->second;
    log().warn("{} is not a whole checkpoint and is left out", entry->second.string());
  }
  throw Error({.id = "config.no-checkpoint",
               .what = "output_dir holds no checkpoint to resume from",
               .where = output_dir.string(),
               .fix = "start without resume_from_checkpoint, or correct output_dir"});
}

void remove_old_checkpoints(const fs::path& output_dir, int64_t limit, const fs::path& newest, const fs::path& best) {
  if (limit <= 0) return;
  const auto checkpoints = list_checkpoints(output_dir);
  auto left = static_cast<int64_t>(checkpoints.size());
  for (const auto& [step, path] : checkpoints) {
    if (left <= limit) return;
    if (path.filename() == newest.filename() || path.filename() == best.filename()) continue;
    fs::remove_all(path);
    --left;
  }
}

}  // namespace deltaw::train
