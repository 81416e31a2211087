// The folder checkpoint-<step>: the Hugging Face Trainer's layout, with safetensors and JSON in place of its pickles.
//
//   adapter_config.json, adapter_model.safetensors   as Adapter::save writes them
//   optimizer.safetensors     param.<name>, exp_avg.<name>, exp_avg_sq.<name>: the live tensors, whole
//   rank_budget.safetensors   the state of the rank budgets, where there is one
//   scheduler.json, rng_state.json   the rate's position; the seeds and the position in the data, from which every
//                             random number of the run follows
//   trainer_state.json        as transformers reads it
//   training_args.json        the options
//   run_state.json            what resuming must find equal, what it must do alike, and running sums
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "adapt/rank_budgets.h"
#include "core/manifest.h"
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
  bool forms_once;  // W of folded layers for all micro-batches of a step, which rounds otherwise than each on its own
};

inline constexpr const char* kTrainerState = "trainer_state.json";

/// Whether a file of this name is part of a checkpoint, besides the adapter's and the companions.
bool is_checkpoint_file(const std::string& name);

/// What a run writes into output_dir after its first `done` steps: trainer_state.json, the checkpoints planned.
NameTest run_outputs(const TrainOptions& options, const Schedule& schedule, int64_t done);

/// Finished steps of the checkpoint that a run goes on from; 0 for one that goes on from none.
int64_t resumed_step(const TrainOptions& options);

/// Whether the run goes on from a checkpoint.
bool resumes(const TrainOptions& options);

/// Whether a folder holds what resuming needs.
bool is_whole_checkpoint(const std::filesystem::path& folder);

/// Writes `folder` whole or not at all; `companions`, where set, adds its files before the folder takes its name. The
/// folder around it records it as its own.
void write_checkpoint(const std::filesystem::path& folder, const RunParts& parts,
                      const std::function<void(const std::filesystem::path&)>& companions);

/// Puts state, tensors, optimiser and rank budget of a checkpoint back. Throws config.resume naming the key whose value
/// would make another run of it, format.checkpoint for files that disagree with each other.
void read_checkpoint(const std::filesystem::path& folder, const RunParts& parts);

/// What RunParts::forms_once was; nothing in a checkpoint that does not say.
std::optional<bool> recorded_forms_once(const std::filesystem::path& folder);

/// Copies the trained tensors and the kept ranks of a checkpoint into the adapter.
void restore_adapter(const std::filesystem::path& folder, Adapter& adapter);

/// What `resume_from_checkpoint` names: a folder, by itself or in `output_dir`, or for "true", "auto" and "latest" the
/// newest whole checkpoint-<step> in `output_dir`. Throws config.no-checkpoint.
std::filesystem::path find_checkpoint(const std::string& resume_from_checkpoint,
                                      const std::filesystem::path& output_dir);

std::filesystem::path checkpoint_path(const std::filesystem::path& output_dir, int64_t step);

/// Removes the oldest checkpoints of `output_dir` until `limit` are left, but never `newest` or `best`. 0: no limit.
/// Those that deltaw did not write, or that were changed since, stay and do not count.
void remove_old_checkpoints(const std::filesystem::path& output_dir, int64_t limit, const std::filesystem::path& newest,
                            const std::filesystem::path& best);

}  // namespace deltaw::train
