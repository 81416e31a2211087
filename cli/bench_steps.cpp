#include "bench_steps.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/memory.h"
#include "core/progress.h"
#include "deltaw/error.h"
#include "io/resolve_model.h"
#include "output.h"
#include "run/task_keys.h"
#include "signals.h"
#include "tasks/common/extends_model.h"
#include "tasks/common/text_files.h"
#include "temporary_folder.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// Milliseconds to merge the update into every adapted layer, one after another in memory, in the type that the base is
/// held in. Null where it cannot be merged.
Json merge_ms(const Adapter& adapter) {
  if (!adapter.spec().mergeable()) return nullptr;
  const auto begin = Clock::now();
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Tensor weight = as_stored(layer->info, layer->base->matrix());
    const Parameter& bias = layer->base->bias;
    try {
      merge_layer(*layer, weight, adapter.overrides(bias) ? adapter.value(bias) : bias.value);
    } catch (const Error& error) {
      if (error.id() == "config.not-mergeable") return nullptr;
      throw;
    }
  }
  return seconds_since(begin) * 1e3;
}

/// Dropouts that act: those that config.json names, and the adapter's.
Json dropouts(const Model& model, const Adapter& adapter) {
  Json found = Json::object();
  for (const auto& [key, value] : model.config().items()) {
    const bool names_dropout = key.find("dropout") != std::string::npos || key.ends_with("_pdrop");
    if (names_dropout && value.is_number()) found[key] = value;
  }
  found["adapter"] = adapter.method().dropout();
  return found;
}

int64_t head_parameters(const Model& model, const Adapter& adapter) {
  int64_t count = 0;
  for (const NamedTensor& tensor : adapter.trained()) {
    if (!model.head().empty() && tensor.name.starts_with(model.head() + ".")) count += tensor.value.numel();
  }
  return count;
}

const char* dtype_name(const Model& model) {
  return model.dtype() == at::kBFloat16 ? "bf16" : model.dtype() == at::kDouble ? "float64" : "float32";
}

Json what_was_set(const RunSettings& settings, const Model& model, const Adapter& adapter) {
  const Json options = adapter.spec().normalized(adapter.config().options, "the options");
  return {{"model_name_or_path", settings.base.model_name_or_path},
          {"threads", at::get_num_threads()},
          {"per_device_train_batch_size", settings.train.per_device_train_batch_size},
          {"gradient_accumulation_steps", settings.train.gradient_accumulation_steps},
          {"rows_per_step", settings.train.per_device_train_batch_size * settings.train.gradient_accumulation_steps},
          {"max_length", settings.data.max_length},
          {"gradient_checkpointing", settings.train.gradient_checkpointing},
          {"dropouts", dropouts(model, adapter)},
          {"adapted_layers", adapter.layers().size()},
          {"options", options}};
}

/// What the loop says of each step.
struct Timings {
  struct Step {
    double seconds = 0, waited = 0, forward = 0, backward = 0, optimizer = 0;
  };
  std::vector<Step> steps;
  Clock::time_point last = Clock::now();

  void add(const TrainEvent& event) {
    if (event.kind != TrainEvent::Kind::step) return;
    const Json& values = event.values;
    steps.push_back({seconds_since(last), values.at("data_wait_seconds"), values.at("forward_seconds"),
                     values.at("backward_seconds"), values.at("optimizer_seconds")});
    last = Clock::now();
  }
};

/// Settles the length, as `deltaw train` would.
void settle_length(RunSettings& settings, const TaskSpec& task, const Model& model) {
  if (!settings.asked.has("max_length") && task.max_length > 0) settings.data.max_length = task.max_length;
  settings.data.max_length = tasks::checked_length(model, settings.data.max_length, settings.asked.has("max_length"));
}

/// A rank budget with a schedule for a whole run is timed over its first steps, not squeezed into them.
void lengthen_budget(AdapterConfig& config) {
  const Json options = find_method(config.method).normalized(config.options, "the options");
  if (options.value("total_step", int64_t{1}) != 0) return;
  const int64_t kept = options["tinit"].get<int64_t>() + options["tfinal"].get<int64_t>();
  if (kept > 0) config.options["total_step"] = kept + 1000;
}

}  // namespace

Timed time_steps(RunSettings& settings, int64_t steps) {
  const TemporaryFolder scratch;
  TrainOptions& options = settings.train;
  options.max_steps = steps;
  options.output_dir = (scratch.path() / "run").string();
  const auto seed = static_cast<uint64_t>(options.seed);
  const std::string base = io::resolve_model(settings.base.model_name_or_path).string();
  const TaskSpec& spec = task_for(base, settings.model.task_type);
  settings.model.task_type = head_type(settings.model.task_type);
  const auto model = load_model(base, settings.model);
  settle_length(settings, spec, *model);
  if (spec.reader) {
    const auto reader = settings.tasks->reader_of(spec);
    tasks::extend(*reader, *model, {.data = settings.data, .model = settings.model, .base = base});
    reader->settle_adapter(*model, settings.adapter);
  }
  lengthen_budget(settings.adapter);
  const int64_t rows_per_step = options.per_device_train_batch_size * options.gradient_accumulation_steps;
  const auto task = spec.make();
  // As many rows as a step takes, all of one length, so that every step is the same work.
  const std::shared_ptr<const RowSource> rows =
      task->random_rows(*model, rows_per_step, settings.data.max_length, seed);
  Adapter adapter = Adapter::create(*model, settings.adapter, seed, [&](int64_t samples) {
    return calibration_batches(*task, *rows, options.per_device_train_batch_size, seed, samples);
  });

  Timings timings;
  Trainer trainer(*model, adapter, *task, options);
  trainer.set_data(rows);
  trainer.on_event([&](const TrainEvent& event) { timings.add(event); });
  const TrainResult result = train_until_signalled(trainer);
  if (result.signal != 0) return {.figures = {}, .signal = result.signal};
  const int64_t peak = peak_memory_bytes();  // before merging takes its own

  const fs::path folder = scratch.path() / "adapter";
  fs::create_directory(folder);
  adapter.save(folder);
  Json all = Json::array();
  const Timings::Step* fastest = &timings.steps[1];  // the first step is reported apart
  for (size_t i = 1; i < timings.steps.size(); ++i) {
    all.push_back(timings.steps[i].seconds * 1e3);
    if (timings.steps[i].seconds < fastest->seconds) fastest = &timings.steps[i];
  }
  const std::vector<int64_t> costs = costs_of(*rows);
  const int64_t tokens = std::accumulate(costs.begin(), costs.end(), int64_t{0});
  return {.figures = {{"dtype", dtype_name(*model)},
                      {"min_ms", fastest->seconds * 1e3},
                      {"data_wait_ms", fastest->waited * 1e3},
                      {"forward_ms", fastest->forward * 1e3},
                      {"backward_ms", fastest->backward * 1e3},
                      {"optimizer_ms", fastest->optimizer * 1e3},
                      {"all_ms", all},
                      {"peak_mib", static_cast<double>(peak) / (1 << 20)},
                      {"first_step_s", result.first_step_seconds},
                      {"merge_ms", merge_ms(adapter)},
                      {"trainable", adapter.trained_count()},
                      {"head_trainable", head_parameters(*model, adapter)},
                      {"adapter_bytes", fs::file_size(folder / "adapter_model.safetensors")},
                      {"tokens_per_step", tokens},
                      {"tokens_per_second", static_cast<double>(tokens) / fastest->seconds},
                      {"set", what_was_set(settings, *model, adapter)}}};
}

}  // namespace deltaw::cli
