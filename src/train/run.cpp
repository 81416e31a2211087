#include "train/run.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>

#include "core/files.h"
#include "core/log.h"
#include "core/output_folder.h"
#include "core/progress.h"
#include "deltaw/error.h"
#include "ops/formed_weights.h"
#include "ops/host_read.h"
#include "ops/sum.h"
#include "tasks/common/metrics.h"
#include "train/gradients.h"
#include "train/resume_check.h"
#include "train/run_plan.h"
#include "train/train_options.h"

namespace deltaw::train {
namespace {

namespace fs = std::filesystem;

using Clock = std::chrono::steady_clock;

class LapTimer {
 public:
  /// Seconds since the last call, or since the beginning.
  double lap() {
    const double seconds = seconds_since(begin_);
    begin_ = Clock::now();
    return seconds;
  }

 private:
  Clock::time_point begin_ = Clock::now();
};

TrainerInputs& checked(TrainerInputs& inputs) {
  check_inputs(inputs);
  return inputs;
}

std::vector<NamedTensor> trainable(const Adapter& adapter, double learning_rate) {
  std::vector<NamedTensor> tensors = adapter.trained();
  if (tensors.empty()) {
    throw Error({.id = "config.nothing-to-train",
                 .what = "the adapter has no tensor to train",
                 .where = "method " + adapter.spec().id,
                 .fix = "target at least one layer"});
  }
  for (NamedTensor& tensor : tensors) {
    tensor.value.set_requires_grad(true);
    if (tensor.own_rate > 0 && learning_rate > 0) tensor.rate = tensor.own_rate / learning_rate;
  }
  clear_gradients(tensors);
  return tensors;
}

/// It knows no rows: once a step is enough.
Tensor with_penalty(const Adapter& adapter, const Tensor& loss) {
  const Tensor penalty = adapter.penalty();
  return penalty.defined() ? loss + penalty : loss;
}

/// The outputs of several batches, rows below rows.
Outputs joined_rows(const std::vector<Outputs>& parts) {
  Outputs joined;
  for (size_t i = 0; i < parts.front().size(); ++i) {
    std::vector<Tensor> column;
    for (const Outputs& part : parts) column.push_back(part.at(i));
    joined.push_back(at::cat(column));
  }
  return joined;
}

void make_folder(const fs::path& folder) {
  std::error_code problem;
  fs::create_directories(folder, problem);
  if (!problem) return;
  throw Error({.id = "io.unwritable",
               .what = "the folder cannot be made: " + problem.message(),
               .where = folder.string(),
               .fix = "choose an output_dir you may write to"});
}

/// What a user put in the way since the run began ends no run: `write` is left out, and that is said.
bool unless_in_the_way(const std::function<void()>& write) {
  try {
    write();
    return true;
  } catch (const Error& error) {
    if (error.id() != "config.output-foreign") throw;
    log().warn("not written: {}", error.what());
    return false;
  }
}

[[noreturn]] void throw_unsaved(const fs::path& checkpoint) {
  throw Error({.id = "config.output-foreign",
               .what = "the run was stopped and its checkpoint could not be written: something else has its name",
               .where = checkpoint.string(),
               .fix = "move it away, and go on from the checkpoint before"});
}

}  // namespace

Run::Run(TrainerInputs& inputs)
    : inputs_(checked(inputs)),
      options_(inputs.options),
      schedule_(make_schedule(options_, inputs.train->size())),
      tensors_(trainable(inputs.adapter, options_.learning_rate)),
      optimizer_(tensors_, {options_.adam_beta1, options_.adam_beta2, options_.adam_epsilon, options_.weight_decay}),
      budgets_(inputs.adapter, schedule_.total_steps),
      costs_(costs_of(*inputs.train)),
      formed_bytes_(formed_bytes(inputs.adapter, options_, costs_)),
      forms_once_(keeps_formed(formed_bytes_, inputs.memory)) {
  identity_ = make_identity(inputs.adapter, inputs.train->fingerprint(),
                            inputs.validation ? inputs.validation->fingerprint() : "no rows", inputs.group_by_length);
  if (resumes(options_)) resume();
  make_folder(options_.output_dir);
  refuse_obstacles(options_.output_dir, obstacles_of(Manifest(options_.output_dir),
                                                     run_outputs(options_, schedule_, state_.step), Look::sizes));
}

void Run::resume() {
  const fs::path folder = find_checkpoint(options_.resume_from_checkpoint, options_.output_dir);
  read_checkpoint(folder, parts());
  forms_once_ = settled_path(folder);
  last_saved_ = state_.step;
  log().info("going on from {}", folder.string());
}

// The checkpoint's choice, which this machine may not have made: another rounds otherwise.
bool Run::settled_path(const fs::path& folder) const {
  const bool chosen = recorded_forms_once(folder).value_or(forms_once_);
  const bool fits = formed_bytes_ <= inputs_.memory / 2;
  if (!chosen || forms_once_ || fits) return chosen && formed_bytes_ > 0;
  log().warn(
      "the checkpoint was trained with the weights of folded layers kept over the micro-batches of a step; that takes "
      "{} "
      "MiB and there are {} MiB of memory, so each forms its own: results may differ in the last digits",
      formed_bytes_ >> 20, inputs_.memory >> 20);
  return false;
}

TrainResult Run::train() {
  const auto begin = Clock::now();
  TrainResult result;
  RunPlan plan(options_, schedule_, costs_, inputs_.group_by_length, state_.step);
  tasks::BatchStream stream(
      *inputs_.train, [&] { return plan.next(); }, options_.gradient_accumulation_steps);
  if (options_.eval_on_start && state_.step == 0) log_evaluation(evaluate(inputs_));
  while (state_.step < schedule_.total_steps && !out_of_patience() && result.signal == 0) {
    const auto step_begin = Clock::now();
    const Step step = take_step(stream);
    seconds_since_log_ += seconds_since(step_begin);
    waited_since_log_ += step.data_wait_seconds;
    if (result.first_step_seconds == 0) result.first_step_seconds = process_seconds();
    after_step(step);
    if (inputs_.stop_when) result.signal = inputs_.stop_when();
  }
  if (result.signal != 0 && last_saved_ != state_.step) {
    save();
    if (last_saved_ != state_.step) throw_unsaved(checkpoint_path(options_.output_dir, state_.step));
  }
  finish(result);
  result.seconds = seconds_since(begin);
  return result;
}

std::vector<Batch> Run::batches_of_step(tasks::BatchStream& stream) {
  std::vector<Batch> batches;
  for (int64_t i = 0; i < schedule_.batches_of(state_.step); ++i) {
    batches.push_back(std::move(stream.next().value()));
    const int64_t cost = std::accumulate(batches.back().costs.begin(), batches.back().costs.end(), int64_t{0});
    tokens_since_log_ += cost;
    state_.tokens_seen += cost;
  }
  return batches;
}

Run::Step Run::take_step(tasks::BatchStream& stream) {
  Step step;
  LapTimer timer;
  const std::vector<Batch> batches = batches_of_step(stream);
  step.data_wait_seconds = timer.lap();
  const Tensor loss =
      inputs_.task.compares_rows() ? add_compared_gradients(batches, step) : add_gradients(batches, step);
  timer.lap();
  if (!all_reached_) check_all_reached(tensors_);
  all_reached_ = true;
  step.loss += ops::host_number(loss);
  step.norm = gradient_norm(tensors_);
  check_finite(tensors_, step.loss, step.norm, state_.step + 1);
  if (options_.max_grad_norm > 0) clip_gradients(tensors_, step.norm, options_.max_grad_norm);
  step.rate = options_.learning_rate * rate_factor(options_, schedule_, state_.step);
  inputs_.adapter.before_step();
  optimizer_.step(step.rate);
  inputs_.adapter.after_step();
  ++state_.step;
  budgets_.update(state_.step);
  clear_gradients(tensors_);
  step.optimizer_seconds = timer.lap();
  return step;
}

Call Run::call_of(size_t micro_step) const {
  return {.adapter = &inputs_.adapter,
          .training = true,
          .seed = static_cast<uint64_t>(options_.seed),
          .step = state_.step,
          .micro_step = static_cast<int64_t>(micro_step),
          .recompute = options_.gradient_checkpointing};
}

LossScale Run::scale_of(const std::vector<Batch>& batches) const {
  LossScale scale{.label_smoothing = options_.label_smoothing_factor};
  for (const Batch& batch : batches) scale.total_weight += inputs_.task.weight(batch);
  return scale;
}

Tensor Run::add_gradients(const std::vector<Batch>& batches, Step& step) {
  LapTimer timer;
  const LossScale scale = scale_of(batches);
  std::optional<FormedWeights> formed;
  if (batches.size() > 1 && forms_once_) formed.emplace(static_cast<int64_t>(batches.size()));
  Tensor sum;
  for (size_t i = 0; i < batches.size(); ++i) {
    Call call = call_of(i);
    call.formed = formed ? &*formed : nullptr;
    const Outputs outputs = inputs_.task.outputs(inputs_.model, batches[i], call);
    Tensor loss = inputs_.task.loss(inputs_.model, outputs, batches[i], call, scale);
    if (i + 1 == batches.size()) loss = with_penalty(inputs_.adapter, loss);
    step.forward_seconds += timer.lap();
    loss.backward();
    sum = ops::plus(sum, loss.detach().to(at::kDouble));
    step.backward_seconds += timer.lap();
  }
  if (formed) formed->finish();
  step.backward_seconds += timer.lap();
  return sum;
}

// The outputs of all batches, those of the first with their graph; the loss of all of them; then each batch's backward
// pass, for which the others go through the model once more. The dropout masks are drawn again from their keys, so that
// both passes compute the same.
Tensor Run::add_compared_gradients(const std::vector<Batch>& batches, Step& step) {
  LapTimer timer;
  const auto outputs_of = [&](size_t i) {
    Call call = call_of(i);
    return inputs_.task.outputs(inputs_.model, batches[i], call);
  };
  std::vector<Outputs> parts(batches.size());
  {
    const at::NoGradGuard no_grad;
    for (size_t i = 1; i < batches.size(); ++i) parts[i] = outputs_of(i);
  }
  const Outputs first = outputs_of(0);  // last, so that no other pass needs room beside its graph
  for (const Tensor& output : first) parts[0].push_back(output.detach());
  Outputs leaves = joined_rows(parts);
  for (Tensor& leaf : leaves) leaf.requires_grad_();
  Call call = call_of(0);
  const Batch all = joined(batches);
  Tensor loss = inputs_.task.loss(inputs_.model, leaves, all, call, scale_of(batches));
  loss = with_penalty(inputs_.adapter, loss);
  step.forward_seconds += timer.lap();
  loss.backward();
  int64_t begin = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    const Outputs outputs = i == 0 ? first : outputs_of(i);
    std::vector<Tensor> moved, gradients;
    for (size_t k = 0; k < outputs.size(); ++k) {
      if (!outputs[k].requires_grad()) continue;  // of a tower that is frozen
      moved.push_back(outputs[k]);
      gradients.push_back(leaves[k].grad().narrow(0, begin, batches[i].rows));
    }
    if (!moved.empty()) torch::autograd::backward(moved, gradients);
    begin += batches[i].rows;
  }
  step.backward_seconds += timer.lap();
  return loss.detach();
}

bool Run::out_of_patience() const {
  return options_.early_stopping_patience > 0 && state_.evaluations_without_gain >= options_.early_stopping_patience;
}

void Run::after_step(const Step& step) {
  state_.losses.add(step.loss);
  state_.total_loss += step.loss;
  state_.loss_since_log += step.loss;
  ++state_.steps_since_log;
  emit(TrainEvent::Kind::step, {{"loss", step.loss},
                                {"grad_norm", step.norm},
                                {"learning_rate", step.rate},
                                {"data_wait_seconds", step.data_wait_seconds},
                                {"forward_seconds", step.forward_seconds},
                                {"backward_seconds", step.backward_seconds},
                                {"optimizer_seconds", step.optimizer_seconds}});
  if (state_.step % options_.logging_steps == 0) log_step(step);
  const bool is_best = is_due(schedule_, options_.eval_strategy, options_.eval_steps, state_.step) && run_evaluation();
  const bool saves = is_due(schedule_, options_.save_strategy, options_.save_steps, state_.step);
  if (saves || (is_best && options_.load_best_model_at_end)) save();
}

void Run::log_step(const Step& step) {
  Json entry = {{"epoch", schedule_.epochs_done(state_.step)},
                {"grad_norm", step.norm},
                {"learning_rate", step.rate},
                {"loss", state_.loss_since_log / static_cast<double>(state_.steps_since_log)},
                {"step", state_.step}};
  state_.log_history.push_back(entry);
  entry.erase("step");
  entry["tokens_per_second"] = static_cast<double>(tokens_since_log_) / seconds_since_log_;
  entry["data_wait_share"] = waited_since_log_ / seconds_since_log_;
  entry["num_input_tokens_seen"] = state_.tokens_seen;
  if (const auto ranks = budgets_.ranks(); !ranks.empty()) entry["ranks"] = Json(ranks);
  emit(TrainEvent::Kind::log, std::move(entry));
  state_.loss_since_log = 0;
  state_.steps_since_log = 0;
  tokens_since_log_ = 0;
  seconds_since_log_ = 0;
  waited_since_log_ = 0;
}

bool Run::run_evaluation() {
  Json metrics = evaluate(inputs_);
  const std::string chosen = inputs_.chosen_metric();
  const Json& score = metrics.at("eval_" + chosen);
  const double value = score.is_null() ? std::numeric_limits<double>::quiet_NaN() : score.get<double>();
  const bool greater = options_.greater_is_better && tasks::greater_is_better(chosen);
  const bool is_best = note_metric(state_, options_, value, greater);
  log_evaluation(std::move(metrics));
  return is_best;
}

void Run::log_evaluation(Json metrics) {
  Json entry = metrics;
  entry["epoch"] = schedule_.epochs_done(state_.step);
  entry["step"] = state_.step;
  state_.log_history.push_back(std::move(entry));
  emit(TrainEvent::Kind::eval, std::move(metrics));
}

void Run::save() {
  const fs::path path = checkpoint_path(options_.output_dir, state_.step), best_before = state_.best_checkpoint;
  if (state_.best_metric) {
    const fs::path best = checkpoint_path(options_.output_dir, state_.best_step);
    if (state_.best_step == state_.step || fs::exists(best)) state_.best_checkpoint = best;
  }
  if (!unless_in_the_way([&] { write_checkpoint(path, parts(), inputs_.companions); })) {
    state_.best_checkpoint = best_before;
    return;
  }
  last_saved_ = state_.step;
  remove_old_checkpoints(options_.output_dir, options_.save_total_limit, path, state_.best_checkpoint);
  emit(TrainEvent::Kind::save, {{"checkpoint", path.string()}});
}

void Run::load_best() {
  if (state_.best_checkpoint.empty()) {
    log().warn("load_best_model_at_end: no evaluation gave a metric, the last adapter stays");
    return;
  }
  if (state_.best_step == state_.step) return;
  restore_adapter(state_.best_checkpoint, inputs_.adapter);
  log().info("the best adapter is that of {}", state_.best_checkpoint.string());
}

void Run::finish(TrainResult& result) {
  result.steps = state_.step;
  result.train_loss = state_.step > 0 ? state_.total_loss / static_cast<double>(state_.step) : 0;
  result.first_loss = state_.losses.first.value_or(0);
  result.last_loss = state_.losses.end(state_.step).value_or(result.first_loss);
  result.chance_loss = inputs_.task.chance_loss(inputs_.model, *inputs_.train);
  result.stopped_early = result.signal == 0 && state_.step < schedule_.total_steps;
  const bool best = options_.load_best_model_at_end && result.signal == 0;
  if (best) load_best();
  result.eval_metrics = state_.evaluation(best && state_.best_metric ? state_.best_step : -1);
  result.eval_metrics.erase("step");
  unless_in_the_way([&] {
    add_to_folder(options_.output_dir, [&](const fs::path& inside) {
      write_json(inside / kTrainerState, to_trainer_state(state_, options_, schedule_));
    });
  });
  Json values = {{"train_loss", result.train_loss}};
  if (result.signal != 0) values["signal"] = result.signal;
  emit(TrainEvent::Kind::end, std::move(values));
}

void Run::emit(TrainEvent::Kind kind, Json values) const {
  if (!inputs_.on_event) return;
  inputs_.on_event({.kind = kind,
                    .step = state_.step,
                    .max_steps = schedule_.total_steps,
                    .epoch = schedule_.epochs_done(state_.step),
                    .values = std::move(values)});
}

RunParts Run::parts() {
  return {options_, schedule_, identity_, state_, inputs_.adapter, optimizer_, budgets_, forms_once_};
}

}  // namespace deltaw::train
