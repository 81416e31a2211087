#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <csignal>

#include "cli/signals.h"
#include "support/temporary.h"
#include "train/named_tensors.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::adapter_config;
using test::lora_config;
using test::tiny_options;
using test::TinyRun;

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  return keys;
}

TEST(Trainer, LearnsAndTellsWhatHappens) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder.path());
  options.num_train_epochs = 10;
  options.learning_rate = 2e-2;
  options.eval_strategy = "epoch";
  TinyRun run(lora_config(), options);
  std::map<TrainEvent::Kind, std::vector<TrainEvent>> events;
  run.trainer.on_event([&](const TrainEvent& event) { events[event.kind].push_back(event); });
  const double before = run.trainer.evaluate().at("eval_loss").get<double>();
  const TrainResult result = run.trainer.train();

  EXPECT_EQ(result.steps, 60);
  EXPECT_EQ(run.trainer.total_steps(), 60);
  EXPECT_LT(result.eval_metrics.at("eval_loss").get<double>(), 0.5 * before);
  EXPECT_GT(result.first_step_seconds, 0);
  EXPECT_EQ(events[TrainEvent::Kind::step].size(), 60u);
  EXPECT_EQ(events[TrainEvent::Kind::eval].size(), 10u);
  EXPECT_EQ(events[TrainEvent::Kind::end].size(), 1u);
  const std::vector<TrainEvent>& logs = events[TrainEvent::Kind::log];
  ASSERT_EQ(logs.size(), 15u);
  EXPECT_EQ(keys_of(logs[0].values), (std::vector<std::string>{"data_wait_share", "epoch", "grad_norm", "learning_rate",
                                                               "loss", "num_input_tokens_seen", "tokens_per_second"}));
  double sum = 0;
  for (size_t i = 0; i < 4; ++i) sum += events[TrainEvent::Kind::step][i].values.at("loss").get<double>();
  EXPECT_DOUBLE_EQ(logs[0].values.at("loss").get<double>(), sum / 4) << "the mean since the last log";
  EXPECT_EQ(logs[0].values.at("learning_rate").get<double>(), 2e-2 * 3 / 6) << "the rate that the step used";
}

TEST(Trainer, WritesTheStateThatTransformersReads) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder.path());
  options.eval_strategy = options.save_strategy = "epoch";
  TinyRun run(lora_config(), options);
  run.trainer.set_companions([](const fs::path& inside) { write_file(inside / "README.md", "card"); });
  run.trainer.train();
  EXPECT_EQ(folder.names(),
            (std::vector<std::string>{"checkpoint-12", "checkpoint-6", "deltaw_manifest.json", "trainer_state.json"}));
  const Json state = read_json(folder / "checkpoint-12" / "trainer_state.json");
  EXPECT_EQ(keys_of(state), (std::vector<std::string>{"best_global_step",
                                                      "best_metric",
                                                      "best_model_checkpoint",
                                                      "epoch",
                                                      "eval_steps",
                                                      "global_step",
                                                      "is_hyper_param_search",
                                                      "is_local_process_zero",
                                                      "is_world_process_zero",
                                                      "log_history",
                                                      "logging_steps",
                                                      "max_steps",
                                                      "num_input_tokens_seen",
                                                      "num_train_epochs",
                                                      "save_steps",
                                                      "stateful_callbacks",
                                                      "total_flos",
                                                      "train_batch_size",
                                                      "trial_name",
                                                      "trial_params"}));
  EXPECT_EQ(state.at("epoch"), 2.0);
  int64_t tokens = 0;
  for (const EncodedRow& row : test::invented_rows(22, 1)) tokens += static_cast<int64_t>(row.ids.size());
  EXPECT_EQ(state.at("num_input_tokens_seen"), 2 * tokens);
  ASSERT_EQ(state.at("log_history").size(), 5u);
  EXPECT_EQ(keys_of(state.at("log_history")[0]),
            (std::vector<std::string>{"epoch", "grad_norm", "learning_rate", "loss", "step"}));
  EXPECT_EQ(keys_of(state.at("log_history")[1]),
            (std::vector<std::string>{"epoch", "eval_accuracy", "eval_loss", "eval_runtime", "eval_samples_per_second",
                                      "eval_steps_per_second", "step"}));
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors",
                           "scheduler.json", "rng_state.json", "training_args.json", "run_state.json", "README.md"}) {
    EXPECT_TRUE(fs::exists(folder / "checkpoint-12" / name)) << name;
  }
}

TEST(Trainer, AccumulatesToTheGradientOfOneBatch) {
  const test::TemporaryFolder folder;
  TrainOptions whole = tiny_options(folder.path());
  whole.per_device_train_batch_size = 8;
  TrainOptions parts = whole;
  parts.per_device_train_batch_size = 2;
  parts.gradient_accumulation_steps = 4;
  for (const AdapterConfig& config :
       {adapter_config("adalora", {{"init_r", 3}, {"target_r", 3}}), adapter_config("randlora", {{"r", 4}}),
        adapter_config("loha", {{"r", 3}}), adapter_config("lora", {{"r", 2}, {"lora_bias", true}})}) {
    TinyRun one(config, whole, 24, "float64", false), four(config, parts, 24, "float64", false);
    one.trainer.train();
    four.trainer.train();
    const auto a = one.adapter.trained(), b = four.adapter.trained();
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_LT((a[i].value - b[i].value).abs().max().item<double>(), 1e-8) << a[i].name;
    }
  }
}

TEST(Trainer, StopsAtTheFirstValueThatIsNoNumber) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder.path());
  options.save_strategy = "steps";
  options.save_steps = 1;
  TinyRun run(lora_config(), options);
  run.trainer.on_event([&](const TrainEvent& event) {
    const at::NoGradGuard no_grad;
    if (event.kind == TrainEvent::Kind::save && event.step == 3) run.adapter.trained()[2].value.fill_(INFINITY);
  });
  const Error error = test::error_of([&] { run.trainer.train(); });
  EXPECT_EQ(error.id(), "numeric.non-finite");
  EXPECT_NE(error.parts().what.find("step 4"), std::string::npos) << error.parts().what;
  EXPECT_EQ(error.parts().where, "tensor '" + run.adapter.trained()[2].name + "'");
  EXPECT_EQ(folder.names(),
            (std::vector<std::string>{"checkpoint-1", "checkpoint-2", "checkpoint-3", "deltaw_manifest.json"}));
}

TEST(Trainer, RemovesAndReplacesOnlyItsOwnCheckpoints) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder.path());
  options.save_strategy = "steps";
  options.save_steps = 1;
  options.max_steps = 5;
  options.save_total_limit = 2;
  test::put(folder / "checkpoint-9" / "notes", "mine");
  TinyRun run(lora_config(), options);
  run.trainer.on_event([&](const TrainEvent& event) {
    if (event.kind == TrainEvent::Kind::save && event.step == 2) test::put(folder / "checkpoint-2" / "notes", "mine");
  });
  run.trainer.train();
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"checkpoint-2", "checkpoint-4", "checkpoint-5", "checkpoint-9",
                                                      "deltaw_manifest.json", "trainer_state.json"}));

  // The same steps once more: what is in the way is named before the first of them.
  TinyRun again(lora_config(), options);
  int64_t events = 0;
  again.trainer.on_event([&](const TrainEvent&) { ++events; });
  const Error error = test::error_of([&] { again.trainer.train(); });
  EXPECT_EQ(error.id(), "config.output-foreign");
  EXPECT_NE(error.parts().what.find("checkpoint-2/ (changed since"), std::string::npos) << error.parts().what;
  EXPECT_EQ(events, 0);
  EXPECT_EQ(read_file(folder / "checkpoint-2" / "notes"), "mine");
  EXPECT_EQ(read_file(folder / "checkpoint-9" / "notes"), "mine");
}

TEST(Trainer, GoesOnWhereAUserPutSomethingInTheWay) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder.path());
  options.save_strategy = "steps";
  options.save_steps = 1;
  options.max_steps = 4;
  TinyRun run(lora_config(), options);
  run.trainer.on_event([&](const TrainEvent& event) {
    if (event.kind != TrainEvent::Kind::save || event.step != 1) return;
    for (const char* name : {"checkpoint-2", "checkpoint-4"}) test::put(folder / name / "notes", "mine");
    test::put(folder / "trainer_state.json", "mine");
  });
  EXPECT_EQ(run.trainer.train().steps, 4);
  EXPECT_TRUE(fs::exists(folder / "checkpoint-3" / "run_state.json"));
  EXPECT_EQ(read_file(folder / "checkpoint-2" / "notes"), "mine");
  EXPECT_EQ(read_file(folder / "trainer_state.json"), "mine");

  options.output_dir = (folder / "stopped").string();
  TinyRun stopped(lora_config(), options);
  stopped.trainer.stop_when([&, steps = 0]() mutable {
    test::put(folder / "stopped" / "checkpoint-2" / "notes", "mine");
    return ++steps == 2 ? 7 : 0;
  });
  EXPECT_EQ(test::error_of([&] { stopped.trainer.train(); }).id(), "config.output-foreign") << "nothing was saved";
  EXPECT_EQ(read_file(folder / "stopped" / "checkpoint-2" / "notes"), "mine");
}

TEST(Trainer, StopsEarlyWhenNothingGetsBetter) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder.path());
  options.learning_rate = 0;
  options.eval_strategy = "steps";
  options.eval_steps = 2;
  options.early_stopping_patience = 2;
  options.metric_for_best_model = "eval_loss";
  TinyRun run(lora_config(), options);
  const TrainResult result = run.trainer.train();
  EXPECT_TRUE(result.stopped_early);
  EXPECT_EQ(result.steps, 6) << "the first evaluation is the best, two more are no better";
}

/// Evaluates and saves at every step; the adapter is spoilt after step 5, so that a step before it is the best.
TrainOptions best_options(const fs::path& folder) {
  TrainOptions options = tiny_options(folder);
  options.eval_strategy = options.save_strategy = "steps";
  options.eval_steps = options.save_steps = 1;
  options.max_steps = 9;
  options.metric_for_best_model = "loss";
  options.load_best_model_at_end = true;
  return options;
}

void spoil_after(TinyRun& run, int64_t step) {
  run.trainer.on_event([&run, step](const TrainEvent& event) {
    const at::NoGradGuard no_grad;
    if (event.kind != TrainEvent::Kind::step || event.step <= step) return;
    for (const NamedTensor& tensor : run.adapter.trained()) Tensor(tensor.value).mul_(-3).add_(1);
  });
}

TEST(Trainer, EndsWithTheBestAdapterAndKeepsItsCheckpoint) {
  const test::TemporaryFolder folder;
  TrainOptions options = best_options(folder.path());
  options.save_total_limit = 2;
  TinyRun run(lora_config(), options);
  spoil_after(run, 5);
  const TrainResult result = run.trainer.train();
  const Json state = read_json(folder / "trainer_state.json");
  const int64_t best = state.at("best_global_step").get<int64_t>();
  ASSERT_LE(best, 5);
  const std::string name = "checkpoint-" + std::to_string(best);
  EXPECT_EQ(folder.names(),
            (std::vector<std::string>{name, "checkpoint-9", "deltaw_manifest.json", "trainer_state.json"}));
  EXPECT_EQ(state.at("best_model_checkpoint"), (folder / name).string());
  EXPECT_EQ(result.eval_metrics.at("eval_loss"), state.at("best_metric"));
  const auto stored = train::read_tensors(folder / name / "optimizer.safetensors");
  for (const NamedTensor& tensor : run.adapter.trained()) {
    EXPECT_TRUE(at::equal(tensor.value, stored.at("param." + tensor.name))) << tensor.name;
  }
  EXPECT_DOUBLE_EQ(run.trainer.evaluate().at("eval_loss").get<double>(), state.at("best_metric").get<double>());
}

TEST(Trainer, SavesTheBestAdapterThoughNoSaveIsDue) {
  const test::TemporaryFolder folder;
  TrainOptions options = best_options(folder.path());
  options.save_steps = 9;
  TinyRun run(lora_config(), options);
  spoil_after(run, 5);
  run.trainer.train();
  const int64_t best = read_json(folder / "trainer_state.json").at("best_global_step").get<int64_t>();
  EXPECT_TRUE(fs::exists(folder / ("checkpoint-" + std::to_string(best))));
  const auto stored = train::read_tensors(folder / ("checkpoint-" + std::to_string(best)) / "optimizer.safetensors");
  EXPECT_TRUE(at::equal(run.adapter.trained()[0].value, stored.at("param." + run.adapter.trained()[0].name)));
}

TEST(Trainer, PrunesToTheBudgetAndSaysSo) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder.path());
  options.save_strategy = "epoch";
  TinyRun run(adapter_config("adalora", {{"init_r", 4}, {"target_r", 2}, {"tinit", 2}, {"tfinal", 3}, {"deltaT", 2}}),
              options);
  Json ranks;
  run.trainer.on_event([&](const TrainEvent& event) {
    if (event.kind == TrainEvent::Kind::log) ranks = event.values.value("ranks", Json());
  });
  run.trainer.train();
  int64_t kept = 0, live = 0;
  for (const AdaptedLayer* layer : run.adapter.layers()) {
    const std::vector<bool>& flags = run.adapter.kept_ranks.at(layer->info.name);
    kept += std::count(flags.begin(), flags.end(), true);
    live += layer->params["lora_E"].count_nonzero().item<int64_t>();
    EXPECT_EQ(ranks.at(layer->info.name), std::count(flags.begin(), flags.end(), true));
  }
  EXPECT_EQ(kept, 8) << "two of four, in four layers";
  EXPECT_EQ(live, 8);
  EXPECT_EQ(run.adapter.config().options.at("total_step"), 12);
}

TEST(Trainer, RefusesBeforeAnythingIsWritten) {
  const test::TemporaryFolder parent;
  const fs::path folder = parent / "out";
  TinyRun late(adapter_config("adalora", {{"init_r", 4}, {"target_r", 2}, {"tinit", 12}}), tiny_options(folder));
  EXPECT_EQ(test::error_of([&] { late.trainer.train(); }).id(), "config.rank-budget");

  TrainOptions options = tiny_options(folder);
  options.eval_strategy = "epoch";
  options.metric_for_best_model = "acuracy";
  TinyRun misspelt(lora_config(), options);
  EXPECT_EQ(test::error_of([&] { misspelt.trainer.train(); }).id(), "config.unknown-metric");

  TinyRun label(lora_config(), tiny_options(folder));
  auto rows = test::invented_rows(8, 1);
  rows[5].label = 3;
  label.trainer.set_data(test::source_of(rows));
  const Error error = test::error_of([&] { label.trainer.train(); });
  EXPECT_EQ(error.id(), "data.label");
  EXPECT_EQ(error.parts().where, "training row 5");

  TinyRun empty(lora_config(), tiny_options(folder));
  empty.trainer.set_data(test::source_of({}));
  EXPECT_EQ(test::error_of([&] { empty.trainer.train(); }).id(), "config.no-data");
  EXPECT_EQ(test::error_of([&] { empty.trainer.evaluate(); }).id(), "config.no-data");
  EXPECT_FALSE(fs::exists(folder));
}

TEST(Trainer, SmoothsLabelsAsTorchDoes) {
  const auto model = test::tiny_model("float64");
  const auto task = task_of(*model);
  const Tensor logits = at::tensor({1.0, -2.0, 0.5, 0.0, 3.0, -1.0}, at::kDouble).view({2, 3});
  const Tensor labels = at::tensor({2.0, 1.0}, at::kDouble);
  const Batch batch{.rows = 2, .tensors = {{"labels", labels}}};
  Call call;
  const auto loss = [&](double smoothing) {
    return task->loss(*model, {logits}, batch, call, {.total_weight = 2, .label_smoothing = smoothing}).item<double>();
  };
  // torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
  EXPECT_NEAR(loss(0.1), 0.6852404030498562, 1e-14);
  EXPECT_EQ(loss(0), at::cross_entropy_loss(logits, labels.to(at::kLong)).item<double>());
}

TEST(Trainer, TakesTheLossOfSeveralClassesARowAsTransformersDoes) {
  const auto model = load_model(test::fixture("golden/models/bert_cls").string(),
                                {.dtype = "float64", .problem_type = "multi_label_classification"});
  const auto task = task_of(*model);
  const Tensor logits = at::tensor({1.0, -2.0, 0.5, 0.0, 3.0, -1.0}, at::kDouble).view({2, 3});
  std::vector<EncodedRow> rows = test::invented_rows(2, 1);
  rows[0].labels = {1, 0, 1};
  rows[1].labels = {0, 1, 1};
  const auto source = test::source_of(rows);
  const Batch batch = source->collate({0, 1}, {});
  Call call;
  // torch.nn.BCEWithLogitsLoss()(logits, labels)
  EXPECT_NEAR(task->loss(*model, {logits}, batch, call, {.total_weight = 2}).item<double>(), 0.4948771503988687, 1e-14);
  // A batch of a step of ten rows.
  EXPECT_NEAR(task->loss(*model, {logits}, batch, call, {.total_weight = 10}).item<double>(), 0.4948771503988687 / 5,
              1e-14);
  task->check(*model, nullptr, *source, "training");
  EXPECT_EQ(test::error_of([&] { task->check(*model, nullptr, *test::invented_source(2, 1), "training"); }).id(),
            "data.label");
  EXPECT_EQ(
      test::error_of([&] { task_of(*test::tiny_model())->check(*test::tiny_model(), nullptr, *source, ""); }).id(),
      "data.label");
}

TEST(PredictLogits, ComeInTheRowsOrder) {
  const auto model = test::tiny_model();
  const Adapter adapter = Adapter::create(*model, lora_config(), 7);
  const auto rows = test::invented_rows(11, 3);
  const Tensor all = predict_logits(*model, &adapter, *test::source_of(rows), 4);
  ASSERT_EQ(all.sizes(), (std::vector<int64_t>{11, 3}));
  EXPECT_FALSE(all.requires_grad());
  for (size_t i = 0; i < rows.size(); ++i) {
    const Tensor one = predict_logits(*model, &adapter, *test::source_of({rows[i]}), 1);
    EXPECT_TRUE(at::allclose(all[static_cast<int64_t>(i)], one[0], 1e-4, 1e-5)) << "row " << i;
  }
}

TEST(Trainer, StopsWhenItIsToldAndHandlesNoSignalsItself) {
  const test::TemporaryFolder folder;
  TinyRun run(lora_config(), tiny_options(folder.path()));
  int64_t steps = 0;
  run.trainer.on_event([&](const TrainEvent& event) {
    if (event.kind != TrainEvent::Kind::step) return;
    steps = event.step;
    for (const int number : {SIGINT, SIGTERM}) {
      struct sigaction action {};
      sigaction(number, nullptr, &action);
      EXPECT_EQ(action.sa_handler, SIG_DFL) << number;
    }
  });
  run.trainer.stop_when([&] { return steps == 3 ? 7 : 0; });
  const TrainResult result = run.trainer.train();
  EXPECT_EQ(result.signal, 7);
  EXPECT_EQ(result.steps, 3);
  EXPECT_TRUE(fs::exists(folder / "checkpoint-3"));
}

volatile std::sig_atomic_t caught_outside = 0;

TEST(Trainer, GivesASecondSignalBackToItsOwner) {
  const test::TemporaryFolder folder;
  struct sigaction own {
  }, before{};
  own.sa_handler = [](int number) { caught_outside = number; };
  sigaction(SIGINT, &own, &before);
  TinyRun run(lora_config(), tiny_options(folder.path()));
  run.trainer.on_event([](const TrainEvent& event) {
    if (event.kind != TrainEvent::Kind::step || event.step != 2) return;
    std::raise(SIGTERM);
    EXPECT_EQ(caught_outside, 0);
    std::raise(SIGINT);
  });
  const TrainResult result = cli::train_until_signalled(run.trainer);
  struct sigaction after {};
  sigaction(SIGINT, &before, &after);
  EXPECT_EQ(caught_outside, SIGINT);
  EXPECT_EQ(result.signal, SIGTERM);
  EXPECT_EQ(after.sa_handler, own.sa_handler) << "the handler is restored";
  EXPECT_TRUE(fs::exists(folder / "checkpoint-2"));
}

}  // namespace
}  // namespace deltaw
