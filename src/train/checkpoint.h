// The folder checkpoint-<step>: the Hugging Face Trainer's layout, with safetensors and JSON in place of its pickles.
//
//   adapter_config.json, adapter_model.safetensors   as Adapter::save writes them
//   optimizer.safetensors     param.<name>, exp_avg.<name>, exp_avg_sq.<name>: the live tensors, whole
//   rank_budget.safetensors   the state of the rank budgets, where there is one
//   scheduler.json, rng_state.json   the rate's position; the seeds and the position in the data, from which every
//                             random number of the run follows
//   trainer_state.json        as transformers reads it
//   training_args.json        the options
//   run_state.json            what resuming must find equal, and running sums
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "adapt/rank_budgets.h"
#include "deltaw/adapter.h"
#include "deltaw/train.h"
#include "train/adamw.h"
#include "train/run_state.h"
#include "train/schedule.h"

namespace deltaw::train {

/// The moving parts of a run, by reference.
struct RunParts {
  const TrainOptions& options;
  const Schedule& schedule;
  const Json& identity;  // see make_identity
  RunState& state;
  Adapter& adapter;
  AdamW& optimizer;
  RankBudgets& budgets;
};

/// Writes `folder` whole or not at all; `companions`, where set, adds its files before the folder takes its name.
void write_checkpoint(const std::filesystem::path& folder, const RunParts& parts,
                      const std::function<void(const std::filesystem::path&)>& companions);

/// Puts state, tensors, optimiser and rank budget of a checkpoint back. Throws config.resume naming the key whose value
/// would make another run of it, format.checkpoint for files that disagree with each other.
void read_checkpoint(const std::filesystem::path& folder, const RunParts& parts);

/// Copies the trained tensors and the kept ranks of a checkpoint into the adapter.
void restore_adapter(const std::filesystem::path& folder, Adapter& adapter);

/// What `resume_from_checkpoint` names: a folder, or for "true" the newest whole checkpoint-<step> in `output_dir`.
/// Throws config.no-checkpoint.
std::filesystem::path find_checkpoint(const std::string& resume_from_checkpoint,
                                      const std::filesystem::path& output_dir);

std::filesystem::path checkpoint_path(const std::filesystem::path& output_dir, int64_t step);

/// Removes the oldest checkpoints of `output_dir` until `limit` are left, but never `newest` or `best`. 0: no limit.
void remove_old_checkpoints(const std::filesystem::path& output_dir, int64_t limit, const std::filesystem::path& newest,
                            const std::filesystem::path& best);

}  // namespace deltaw::train
