#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <csignal>
#include <set>

#include "cli/signals.h"
#include "support/temporary.h"
#include "train/run.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::adapter_config;
using test::tiny_options;
using test::TinyRun;

struct Killed {};

/// What a run leaves: the live tensors, the adapter's file, and the log without its timings.
struct Outcome {
  std::vector<Tensor> tensors;
  std::string file;
  std::string config;
  Json log;
  Json state;  // trainer_state.json without the log and paths
  TrainResult result;
};

/// The bytes of every file of that name, in a fixed order: those of a composite lie in folders.
std::string all_of(const fs::path& folder, const std::string& name) {
  std::set<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().filename() == name) files.insert(entry.path());
  }
  std::string bytes;
  for (const fs::path& file : files) bytes += read_file(file);
  return bytes;
}

Outcome outcome_of(TinyRun& run, const TrainResult& result, const fs::path& folder) {
  const fs::path saved = folder / "saved";
  fs::create_directories(saved);
  run.adapter.save(saved);
  Json state = read_json(folder / "trainer_state.json");
  Outcome outcome{test::copies(run.adapter),
                  all_of(saved, "adapter_model.safetensors"),
                  all_of(saved, "adapter_config.json"),
                  state.at("log_history"),
                  {},
                  result};
  state.erase("log_history");
  state.erase("best_model_checkpoint");
  outcome.state = std::move(state);
  for (Json& entry : outcome.log) {
    for (const char* key : {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}) entry.erase(key);
  }
  return outcome;
}

Outcome undisturbed(const AdapterConfig& config, TrainOptions options, const fs::path& folder) {
  options.output_dir = folder.string();
  TinyRun run(config, options);
  const TrainResult result = run.trainer.train();
  return outcome_of(run, result, folder);
}

/// Trains until the event of `killed_at`, then, as a new process would, goes on from the newest checkpoint.
Outcome killed_and_resumed(const AdapterConfig& config, TrainOptions options, const fs::path& folder,
                           int64_t killed_at) {
  options.output_dir = folder.string();
  {
    TinyRun run(config, options);
    run.trainer.on_event([&](const TrainEvent& event) {
      if (event.kind == TrainEvent::Kind::step && event.step == killed_at) throw Killed{};
    });
    EXPECT_THROW(run.trainer.train(), Killed);
  }
  options.resume_from_checkpoint = "true";
  TinyRun run(config, options);
  const TrainResult result = run.trainer.train();
  return outcome_of(run, result, folder);
}

void expect_same_run(const AdapterConfig& config, const TrainOptions& options) {
  const test::TemporaryFolder folder;
  const Outcome whole = undisturbed(config, options, folder / "whole");
  for (const int64_t killed_at : {3, 6, 10}) {
    const fs::path place = folder / ("killed-" + std::to_string(killed_at));
    const Outcome resumed = killed_and_resumed(config, options, place, killed_at);
    EXPECT_TRUE(test::equal(resumed.tensors, whole.tensors)) << "killed at step " << killed_at;
    EXPECT_TRUE(resumed.file == whole.file) << "killed at step " << killed_at;
    EXPECT_EQ(resumed.config, whole.config);
    EXPECT_EQ(resumed.log, whole.log);
    EXPECT_EQ(resumed.state, whole.state);
    EXPECT_EQ(resumed.result.steps, whole.result.steps);
    EXPECT_EQ(resumed.result.train_loss, whole.result.train_loss);
    EXPECT_EQ(resumed.result.stopped_early, whole.result.stopped_early);
  }
}

TrainOptions saving_every_two() {
  TrainOptions options = tiny_options("");
  options.save_strategy = "steps";
  options.save_steps = 2;
  options.logging_steps = 3;
  return options;
}

TEST(Resume, GivesTheUndisturbedAdapterWithDropout) {
  expect_same_run(adapter_config("lora", {{"r", 3}, {"lora_alpha", 6}, {"lora_dropout", 0.2}}), saving_every_two());
}

TEST(Resume, GivesTheUndisturbedAdapterWithAccumulationAndDecay) {
  TrainOptions options = saving_every_two();
  options.per_device_train_batch_size = 2;
  options.gradient_accumulation_steps = 3;  // 11 batches: four steps an epoch, the last one of two batches
  options.num_train_epochs = 3;
  options.lr_scheduler_type = "cosine";
  options.weight_decay = 0.1;
  options.max_grad_norm = 0.1;
  expect_same_run(test::lora_config(), options);
}

TEST(Resume, GivesTheUndisturbedAdapterAtEveryPhaseOfARankBudget) {
  expect_same_run(
      adapter_config("adalora", {{"init_r", 4}, {"target_r", 2}, {"tinit", 2}, {"tfinal", 5}, {"deltaT", 2}}),
      saving_every_two());
}

TEST(Resume, GivesTheUndisturbedAdaptersWithTheirRankBudgets) {
  AdapterConfig config = test::lora_config();
  const Json targets = {"query", "value"};
  config.beside = {{{"method", "adalora"},
                    {"init_r", 4},
                    {"target_r", 2},
                    {"tinit", 2},
                    {"tfinal", 5},
                    {"deltaT", 2},
                    {"target_modules", targets}},
                   {{"method", "moslora"}, {"r", 4}, {"target_r", 3}, {"tfinal", 1}, {"target_modules", targets}}};
  expect_same_run(config, saving_every_two());
}

TEST(Resume, CountsOnTowardsAnEarlyStop) {
  TrainOptions options = saving_every_two();
  options.learning_rate = 0;
  options.eval_strategy = "steps";
  options.eval_steps = 2;
  options.early_stopping_patience = 4;  // stops at step 10
  options.metric_for_best_model = "loss";
  expect_same_run(test::lora_config(), options);
}

TEST(Resume, FindsTheBestAdapterFromBeforeTheKill) {
  TrainOptions options = saving_every_two();
  options.eval_strategy = "steps";
  options.eval_steps = 2;
  options.learning_rate = 0.3;
  options.load_best_model_at_end = true;
  options.metric_for_best_model = "loss";
  options.save_total_limit = 1;
  expect_same_run(test::lora_config(), options);
}

TEST(Resume, GoesOnAfterASignal) {
  const test::TemporaryFolder folder;
  const AdapterConfig config = test::lora_config();
  TrainOptions options = tiny_options(folder / "stopped");
  const Outcome whole = undisturbed(config, options, folder / "whole");
  {
    TinyRun run(config, options);
    run.trainer.on_event([](const TrainEvent& event) {
      if (event.kind == TrainEvent::Kind::step && event.step == 7) std::raise(SIGTERM);
    });
    const TrainResult result = cli::train_until_signalled(run.trainer);
    EXPECT_EQ(result.signal, SIGTERM);
    EXPECT_EQ(result.steps, 7);
    EXPECT_FALSE(result.stopped_early);
  }
  options.resume_from_checkpoint = (folder / "stopped" / "checkpoint-7").string();
  TinyRun run(config, options);
  const TrainResult result = run.trainer.train();
  EXPECT_EQ(result.signal, 0);
  EXPECT_TRUE(test::equal(outcome_of(run, result, folder / "stopped").tensors, whole.tensors));
}

/// A run on a machine with so much memory, of a method whose weights can be formed once for all micro-batches of a
/// step.
struct MachineRun {
  std::unique_ptr<Model> model = test::tiny_model();
  Adapter adapter = Adapter::create(*model, adapter_config("randlora", {{"r", 2}, {"randlora_alpha", 8}}), 7);
  std::unique_ptr<Task> task = task_of(*model);
  train::TrainerInputs inputs;
  int64_t kept = 0;  // bytes
  std::string said;

  MachineRun(TrainOptions options, int64_t memory)
      : inputs{.model = *model, .adapter = adapter, .task = *task, .options = std::move(options)} {
    inputs.train = test::invented_source(22, 1);
    inputs.memory = memory;
    kept = train::formed_bytes(adapter, inputs.options, std::vector<int64_t>{12});
  }
  void train() {
    testing::internal::CaptureStderr();
    train::Run(inputs).train();
    said = testing::internal::GetCapturedStderr();
  }
};

class ResumeElsewhere : public testing::Test {
 protected:
  ResumeElsewhere() {
    options_ = saving_every_two();
    options_.output_dir = folder_.path().string();
    options_.gradient_accumulation_steps = 3;
    options_.per_device_train_batch_size = 2;
    options_.max_steps = 4;
    options_.num_train_epochs = 3;
  }

  Json& state(const std::string& key) {
    state_ = read_json(file_);
    return state_[key];
  }

  /// The tensors after step 4 of a run from checkpoint-2 on another machine.
  std::vector<Tensor> resumed(int64_t memory, std::string* said = nullptr) {
    TrainOptions options = options_;
    options.resume_from_checkpoint = (folder_ / "checkpoint-2").string();
    MachineRun run(options, memory);
    run.train();
    if (said) *said = run.said;
    return test::copies(run.adapter);
  }

  test::TemporaryFolder folder_;
  fs::path file_ = folder_ / "checkpoint-2" / "run_state.json";
  TrainOptions options_;
  Json state_;
};

TEST_F(ResumeElsewhere, GoesTheCheckpointsWayWhateverMemoryThereIs) {
  MachineRun large(options_, int64_t{1} << 40);
  const int64_t kept = large.kept;
  ASSERT_GT(kept, 0);
  large.train();
  EXPECT_EQ(state("forms_once"), true);
  const std::vector<Tensor> once = test::copies(large.adapter);
  std::string said;
  EXPECT_TRUE(test::equal(resumed(4 * kept, &said), once)) << "it fits, though a new run would not do it";
  EXPECT_EQ(said.find("memory"), std::string::npos) << said;

  fs::remove_all(folder_ / "checkpoint-4");
  resumed(kept, &said);
  EXPECT_NE(said.find("memory"), std::string::npos) << said;

  fs::remove_all(folder_ / "checkpoint-2");
  MachineRun small(options_, kept);
  small.train();
  EXPECT_EQ(state("forms_once"), false);
  const std::vector<Tensor> each = test::copies(small.adapter);
  EXPECT_FALSE(test::equal(once, each)) << "the two ways round alike, and nothing is tested";
  EXPECT_TRUE(test::equal(resumed(int64_t{1} << 40, &said), each));
  EXPECT_EQ(said.find("memory"), std::string::npos) << said;
}

TEST_F(ResumeElsewhere, SaysThatTheProcessorIsAnother) {
  MachineRun(options_, int64_t{1} << 40).train();
  std::string said;
  resumed(int64_t{1} << 40, &said);
  EXPECT_EQ(said.find("processor"), std::string::npos) << said;
  state("processor") = "AVX9";
  write_json(file_, state_);
  resumed(int64_t{1} << 40, &said);
  EXPECT_NE(said.find("processor that computes in AVX9"), std::string::npos) << said;
}

class ResumeRefusal : public testing::Test {
 protected:
  ResumeRefusal() {
    options_ = tiny_options(folder_.path());
    options_.save_strategy = "steps";
    options_.max_steps = 2;
    TinyRun(config_, options_).trainer.train();
    options_.resume_from_checkpoint = "true";
  }

  Error refusal(const AdapterConfig& config, const TrainOptions& options, int64_t rows = 22) const {
    TinyRun run(config, options, rows);
    return test::error_of([&] { run.trainer.train(); });
  }

  void expect_named(const Error& error, const std::string& key) const {
    EXPECT_EQ(error.id(), "config.resume");
    EXPECT_NE(error.parts().what.find("'" + key + "'"), std::string::npos) << error.parts().what;
  }

  test::TemporaryFolder folder_;
  AdapterConfig config_ = test::lora_config();
  TrainOptions options_;
};

TEST_F(ResumeRefusal, NamesTheOptionThatDiffers) {
  TrainOptions changed = options_;
  changed.learning_rate = 1e-4;
  const Error error = refusal(config_, changed);
  expect_named(error, "learning_rate");
  EXPECT_NE(error.parts().what.find("0.0001 here and 0.005"), std::string::npos) << error.parts().what;
  changed = options_;
  changed.logging_steps = 1;
  changed.save_steps = 1;
  EXPECT_EQ(refusal(config_, changed).id(), "none") << "how often to log or save changes nothing";
}

/// Another value of one key.
TrainOptions with_another(const TrainOptions& options, const FieldInfo& field) {
  TrainOptions changed = options;
  Json values = write_fields(fields_of(changed));
  Json& value = values[field.name];
  if (value.is_boolean()) {
    value = !value.get<bool>();
  } else if (value.is_number_integer()) {
    value = field.name == "eval_steps" ? 1 : value.get<int64_t>() + 1;
  } else if (value.is_number()) {
    value = value.get<double>() == 0 ? 0.25 : value.get<double>() / 2;
  } else if (!field.choices.empty()) {
    value = field.choices[field.choices[0] == value.get<std::string>() ? 1 : 0];
  } else {
    value = "loss";
  }
  read_fields(fields_of(changed), values, "test");
  return changed;
}

TEST_F(ResumeRefusal, NamesEveryOptionThatMovesTheTensorsAndNoOther) {
  const std::set<std::string> never = {
      "eval_on_start", "per_device_eval_batch_size", "logging_steps",         "save_strategy",
      "save_steps",    "save_total_limit",           "gradient_checkpointing"};
  const std::set<std::string> of_evaluations = {"eval_strategy",           "eval_steps",
                                                "load_best_model_at_end",  "metric_for_best_model",
                                                "greater_is_better",       "early_stopping_patience",
                                                "early_stopping_threshold"};
  options_.resume_from_checkpoint = (folder_ / "checkpoint-2").string();
  for (const FieldInfo& field : describe_fields(fields_of(options_))) {
    if (field.name == "output_dir" || field.name == "resume_from_checkpoint") continue;
    if (field.name == "lr_scheduler_kwargs") continue;  // refused with any schedule but its own
    TrainOptions changed = with_another(options_, field);
    // The best needs both strategies, and patience evaluations: the run may begin, and nothing of the past is another.
    if (field.name == "load_best_model_at_end" || field.name == "early_stopping_patience") continue;
    SCOPED_TRACE(field.name);
    const Error error = refusal(config_, changed);
    if (never.contains(field.name) || of_evaluations.contains(field.name)) {
      EXPECT_EQ(error.id(), "none") << error.what();
    } else {
      expect_named(error, field.name);
    }
  }

  // Where evaluations decide which adapter a run ends with, what they do counts too.
  TrainOptions best = options_;
  best.output_dir = (folder_ / "best").string();
  best.resume_from_checkpoint.clear();
  best.eval_strategy = best.save_strategy = "steps";
  best.eval_steps = best.save_steps = 2;
  best.load_best_model_at_end = true;
  best.early_stopping_patience = 3;
  TinyRun(config_, best).trainer.train();
  best.resume_from_checkpoint = (folder_ / "best" / "checkpoint-2").string();
  for (const FieldInfo& field : describe_fields(fields_of(best))) {
    if (!of_evaluations.contains(field.name)) continue;
    SCOPED_TRACE(field.name);
    TrainOptions changed = with_another(best, field);
    if (field.name == "eval_strategy") changed.eval_strategy = changed.save_strategy = "epoch";
    expect_named(refusal(config_, changed), field.name);
  }
}

TEST_F(ResumeRefusal, NamesEveryPartOfTheDataThatDiffers) {
  using Rows = std::vector<EncodedRow>;
  const auto named = [&](const std::function<void(Rows&, Rows&)>& change, const TrainOptions& options,
                         bool grouped = true) {
    TinyRun run(config_, options, 22);
    Rows train = test::invented_rows(22, 1), validation = test::invented_rows(9, 2);
    change(train, validation);
    run.trainer.set_data(test::source_of(train), test::source_of(validation), grouped);
    return test::error_of([&] { run.trainer.train(); });
  };
  const auto nothing = [](auto&, auto&) {};
  EXPECT_EQ(named(nothing, options_).id(), "none");
  expect_named(named(nothing, options_, false), "group_by_length");
  expect_named(named([](auto& train, auto&) { train[4].ids[1] += 1; }, options_), "train_rows");
  expect_named(named([](auto& train, auto&) { train[4].type_ids[1] = 1; }, options_), "train_rows");
  expect_named(named([](auto& train, auto&) { train[4].label = train[4].label == 0 ? 1 : 0; }, options_), "train_rows");
  expect_named(named([](auto& train, auto&) { train[4].token_labels = train[4].ids; }, options_), "train_rows");
  expect_named(named([](auto& train, auto&) { train[4].documents.assign(train[4].ids.size(), 1); }, options_),
               "train_rows");
  expect_named(named([](auto& train, auto&) { std::swap(train[0], train[1]); }, options_), "train_rows");
  const auto other_validation = [](auto&, auto& validation) { validation.pop_back(); };
  EXPECT_EQ(named(other_validation, options_).id(), "none") << "nothing is decided by it";

  TrainOptions wider = options_;
  TinyRun run(config_, wider, 22, "float64");
  EXPECT_EQ(test::error_of([&] { run.trainer.train(); }).id(), "config.resume") << "another dtype";
}

TEST_F(ResumeRefusal, NamesDataAndAdapterThatDiffer) {
  expect_named(refusal(config_, options_, 23), "train_rows");
  expect_named(refusal(adapter_config("lora", {{"r", 3}, {"lora_alpha", 12}}), options_), "lora_alpha");
  expect_named(refusal(adapter_config("moslora", Json::object()), options_), "method");
  AdapterConfig more = config_;
  more.target_modules = Json::array({"query"});
  const Error error = refusal(more, options_);
  EXPECT_EQ(error.id(), "config.resume");
  EXPECT_NE(error.parts().where.find("value.lora_A"), std::string::npos) << error.parts().where;
}

TEST(Resume, NamesAnOptionOfAnAdapterBesideThatDiffers) {
  const test::TemporaryFolder folder;
  TrainOptions options = saving_every_two();
  options.output_dir = folder.path().string();
  options.max_steps = 4;
  AdapterConfig config = test::lora_config();
  const auto beside = [](int64_t target) {
    return Json::array({{{"method", "adalora"}, {"init_r", 4}, {"target_r", target}}});
  };
  config.beside = beside(2);
  TinyRun(config, options).trainer.train();
  options.resume_from_checkpoint = "true";
  config.beside = beside(1);
  TinyRun run(config, options);
  const Error error = test::error_of([&] { run.trainer.train(); });
  EXPECT_EQ(error.id(), "config.resume");
  EXPECT_NE(error.parts().what.find("'target_r' is 1 here and 2"), std::string::npos) << error.parts().what;
}

TEST_F(ResumeRefusal, PassesOverWhatIsNoWholeCheckpoint) {
  fs::create_directories(folder_ / ".checkpoint-9.tmp-1-0");
  fs::create_directories(folder_ / "checkpoint-8");
  fs::create_directories(folder_ / "checkpoint-x");
  EXPECT_EQ(refusal(config_, options_).id(), "none");
  TrainOptions named = options_;
  named.resume_from_checkpoint = (folder_ / "checkpoint-8").string();
  EXPECT_EQ(refusal(config_, named).id(), "config.no-checkpoint");
  named.resume_from_checkpoint = "true";
  named.output_dir = (folder_ / "checkpoint-8").string();
  EXPECT_EQ(refusal(config_, named).id(), "config.no-checkpoint");
}

TEST_F(ResumeRefusal, NamesAFileFromAnotherStep) {
  const fs::path file = folder_ / "checkpoint-2" / "rng_state.json";
  Json position = read_json(file);
  position["step"] = 1;
  write_json(file, position);
  EXPECT_EQ(refusal(config_, options_).id(), "format.checkpoint");
  write_file(folder_ / "checkpoint-2" / "run_state.json", "{\"progress\": {}}");
  EXPECT_EQ(refusal(config_, options_).id(), "format.checkpoint");
}

}  // namespace
}  // namespace deltaw
