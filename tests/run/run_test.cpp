// A run from keys, without the program.
#include "deltaw/run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "core/files.h"
#include "deltaw/text_rows.h"
#include "support/data.h"
#include "support/temporary.h"
#include "train/train_options.h"

namespace deltaw::test {
namespace {

namespace fs = std::filesystem;

/// A checkpoint with a vocabulary of words, rows, and the keys of a run on them.
class RunOfKeys : public ::testing::Test {
 protected:
  RunOfKeys() {
    fs::create_directory(folder_ / "model");
    const fs::path golden = tests_folder() / "golden/models/bert_cls";
    for (const char* name : {"config.json", "model.safetensors"}) fs::copy(golden / name, folder_ / "model" / name);
    fs::copy(tests_folder() / "install/vocab.txt", folder_ / "model/vocab.txt");
    put(folder_ / "train.csv",
        "text,label\na dull film,negative\na bad film and a long one,negative\nnot good,negative\n"
        "the film is one,neutral\na fine film,positive\ngood actors and a good end,positive\n");
    put(folder_ / "dev.csv", "text,label\na bad end,negative\na good film,positive\n");
  }

  Json keys() const {
    return {{"model_name_or_path", (folder_ / "model").string()},
            {"train_file", (folder_ / "train.csv").string()},
            {"validation_file", (folder_ / "dev.csv").string()},
            {"label_names", {"negative", "neutral", "positive"}},
            {"output_dir", (folder_ / "out").string()},
            {"dtype", "float32"},
            {"r", 3},
            {"target_modules", "query,value"},
            {"max_steps", 4},
            {"per_device_train_batch_size", 2},
            {"learning_rate", 1e-2}};
  }
  Json keys_with(const Json& more) const {
    Json all = keys();
    all.update(more);
    return all;
  }
  std::string bytes(const std::string& name) const { return read_file(folder_ / name); }

  TemporaryFolder folder_;
};

ErrorParts refused(const Json& keys) {
  return error_of([&] { RunSettings::from_json(keys, "keys of the test"); }).parts();
}

TEST_F(RunOfKeys, KeysBecomeSettingsThatWriteThemselvesAgain) {
  const RunSettings settings = RunSettings::from_json(keys());
  EXPECT_EQ(settings.base.model_name_or_path, (folder_ / "model").string());
  EXPECT_EQ(settings.data.train_file.names(), std::vector<std::string>{(folder_ / "train.csv").string()});
  EXPECT_EQ(settings.adapter.method, "lora");
  EXPECT_EQ(settings.adapter.target_modules, Json::array({"query", "value"}));
  EXPECT_EQ(settings.adapter.options["r"], 3);
  EXPECT_EQ(settings.train.max_steps, 4);
  EXPECT_EQ(settings.adapter.base_model_name_or_path, settings.base.model_name_or_path);
  EXPECT_FALSE(settings.goes_on());

  const Json written = settings.to_json();
  EXPECT_EQ(written["max_steps"], 4);
  EXPECT_FALSE(written.contains("adapter_name_or_path"));
  EXPECT_EQ(RunSettings::from_json(written).to_json(), written);
}

TEST_F(RunOfKeys, TextsCountAsValuesAndKeysOfOtherVerbsAreLeftAlone) {
  const RunSettings settings = RunSettings::from_json(
      keys_with({{"learning_rate", "2e-3"}, {"input_file", "rows.csv"}, {"log_level", "warn"}, {"seed", 7}}));
  EXPECT_EQ(settings.train.learning_rate, 2e-3);
  EXPECT_EQ(settings.model.seed, 7u);
  EXPECT_FALSE(settings.to_json().contains("input_file"));
}

TEST_F(RunOfKeys, WrongKeysAreRefusedByNameAndPlace) {
  const ErrorParts unknown = refused(keys_with({{"lerning_rate", 1}}));
  EXPECT_EQ(unknown.id, "config.unknown-key");
  EXPECT_EQ(unknown.where, "keys of the test");
  EXPECT_NE(unknown.fix.find("learning_rate"), std::string::npos) << unknown.fix;
  const ErrorParts type = refused(keys_with({{"max_steps", "many"}}));
  EXPECT_EQ(type.id, "config.wrong-type");
  EXPECT_NE(type.where.find("keys of the test"), std::string::npos) << type.where;
  EXPECT_EQ(refused(keys_with({{"r", 0}})).id, "config.out-of-range");
  EXPECT_EQ(refused(keys_with({{"method", "lorra"}})).id, "config.unknown-method");
  EXPECT_EQ(refused(Json::array({"train.csv"})).id, "config.wrong-type");

  const ErrorParts foreign = refused(keys_with({{"randlora_alpha", 8}}));
  EXPECT_EQ(foreign.id, "config.other-method");
  EXPECT_EQ(foreign.where, "keys of the test");
  std::string told;
  try {
    RunSettings::from_json(keys_with({{"lerning_rate", 1}, {"randlora_alpha", 8}, {"seed", -3}}));
  } catch (const Error& error) {
    told = error.what();
  }
  for (const char* name : {"lerning_rate", "randlora_alpha", "seed"}) {
    EXPECT_NE(told.find(name), std::string::npos) << told;
  }
}

TEST_F(RunOfKeys, AFileIsReadAsItsKeysAndNamed) {
  const fs::path file = put(folder_ / "run.yaml", "model_name_or_path: model\ntrain_file: rows.csv\nr: 5\n");
  const RunSettings settings = RunSettings::from_file(file);
  EXPECT_EQ(settings.adapter.options["r"], 5);
  EXPECT_EQ(settings.asked.file, file.string());
  put(folder_ / "wrong.json", R"({"rr": 5})");
  EXPECT_EQ(error_of([&] { RunSettings::from_file(folder_ / "wrong.json"); }).parts().where,
            (folder_ / "wrong.json").string());
}

TEST_F(RunOfKeys, LoadingSettlesWhatTheRowsDecideAndWritesNothing) {
  const LoadedRun run = load_run(RunSettings::from_json(keys_with({{"eval_steps", 3}})));
  EXPECT_EQ(run.train()->size(), 6);
  EXPECT_EQ(run.validation()->size(), 2);
  EXPECT_EQ(run.best_metric, "accuracy");
  EXPECT_EQ(run.settings.adapter.task_type, "SEQ_CLS");
  EXPECT_EQ(run.adapter->config().task_type, "SEQ_CLS");
  EXPECT_EQ(run.adapter->layers().size(), run.model->shape().layers * 2u);
  EXPECT_NE(run.settings.record.base_hash, "");
  ASSERT_EQ(run.warnings.size(), 1u);
  EXPECT_EQ(run.warnings[0], "keys without effect here: eval_steps, because eval_strategy is not steps");
  EXPECT_FALSE(fs::exists(folder_ / "out"));

  const Json facts = run_facts(run);
  EXPECT_EQ(facts["training"]["steps"], 4);
  EXPECT_EQ(facts["data"]["train_rows"], 6);
  EXPECT_EQ(facts["memory"], memory_estimate(run));
  EXPECT_EQ(facts["memory"]["adapter_bytes"], run.adapter->trained_count() * 3 * 4);
  EXPECT_EQ(likely_mistakes(run), run.warnings);
}

TEST_F(RunOfKeys, WhatIsLikelyToGoWrongIsSaid) {
  const LoadedRun run =
      load_run(RunSettings::from_json(keys_with({{"learning_rate", 3}, {"validation_file", nullptr}})));
  const std::vector<std::string> sentences = likely_mistakes(run);
  ASSERT_EQ(sentences.size(), 1u);
  EXPECT_NE(sentences[0].find("learning_rate 3"), std::string::npos) << sentences[0];
}

TEST_F(RunOfKeys, LoadingRefusesWhatCannotBeTrainedAndTellsBeforeWhatIsOdd) {
  RunSettings nameless = RunSettings::from_json({{"train_file", "rows.csv"}});
  EXPECT_EQ(error_of([&] { load_run(nameless); }).id(), "config.missing-key");
  EXPECT_EQ(error_of([&] {
              load_run(RunSettings::from_json({{"model_name_or_path", (folder_ / "model").string()}}));
            }).id(),
            "config.no-data");
  std::vector<std::string> heard;
  const Error metric = error_of([&] {
    load_run(RunSettings::from_json(keys_with({{"metric_for_best_model", "recal"}, {"eval_steps", 3}})),
             [&](const std::string& sentence) { heard.push_back(sentence); });
  });
  EXPECT_EQ(metric.id(), "config.unknown-metric");
  ASSERT_FALSE(heard.empty());
  EXPECT_NE(heard[0].find("eval_steps"), std::string::npos) << heard[0];
}

TEST_F(RunOfKeys, TrainingWritesAdapterResultsAndPage) {
  const TrainedRun trained = run_training(RunSettings::from_json(keys_with({{"save_strategy", "epoch"}})));
  EXPECT_EQ(trained.adapter, folder_ / "out");
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "all_results.json", "eval_results.json",
                           "log.jsonl", "README.md", "run.json", "trainer_state.json", "train_results.json",
                           "checkpoint-3/README.md", "checkpoint-3/run.json", "vocab.txt"}) {
    EXPECT_TRUE(fs::exists(folder_ / "out" / name)) << name;
  }
  const Json written = read_config_file(folder_ / "out/all_results.json");
  EXPECT_EQ(written.size(), trained.results.size());
  for (const auto& [key, value] : trained.results.items()) EXPECT_EQ(written.value(key, Json()), value) << key;
  EXPECT_EQ(trained.results["steps"], 4);
  EXPECT_TRUE(trained.results.contains("eval_accuracy"));
  const std::string page = bytes("out/README.md");
  EXPECT_NE(page.find("# lora adapter"), std::string::npos);
  EXPECT_NE(page.find("| accuracy |"), std::string::npos);
  EXPECT_NE(page.find("`train.csv` (6 rows to train on, 2 to evaluate on)"), std::string::npos);

  // What it wrote down is the run: again, and the adapter is the same.
  RunSettings again = RunSettings::from_file(folder_ / "out/run.json");
  again.train.output_dir = (folder_ / "again").string();
  run_training(again);
  EXPECT_EQ(bytes("again/adapter_model.safetensors"), bytes("out/adapter_model.safetensors"));
}

TEST_F(RunOfKeys, ItTrainsWhatATrainerOfOnesOwnTrains) {
  run_training(RunSettings::from_json(keys()));

  const RunSettings settings = RunSettings::from_json(keys());
  const auto model = load_model((folder_ / "model").string(), {.dtype = "float32"});
  const Tokenizer tokenizer = Tokenizer::from_folder(folder_ / "model");
  const TrainingData data = load_training_data(settings.data, 42);
  const auto rows = std::make_shared<const TextRows>(encode_rows(data.train, tokenizer, model->max_positions()),
                                                     tokenizer.pad_id().value_or(0), tokenizer.pads_left());
  Adapter adapter = Adapter::create(*model, settings.adapter, 42);
  const auto task = task_of(*model);
  TrainOptions options = settings.train;
  options.output_dir = (folder_ / "own").string();
  Trainer trainer(*model, adapter, *task, options);
  trainer.set_data(rows);
  trainer.train();
  adapter.save(folder_ / "own");
  EXPECT_EQ(bytes("own/adapter_model.safetensors"), bytes("out/adapter_model.safetensors"));
}

TEST_F(RunOfKeys, EventsAreHeardInOrderAndEndsByRequestLeaveACheckpoint) {
  std::vector<std::string> heard;
  const RunEvents events{
      .ready = [&](const Json& facts) { heard.push_back("ready " + facts["training"]["steps"].dump()); },
      .event =
          [&](const TrainEvent& event) {
            if (event.kind == TrainEvent::Kind::step) heard.push_back("step " + std::to_string(event.step));
            EXPECT_TRUE(fs::exists(folder_ / "out/run.json"));
          },
      .warn = [&](const std::string&) { heard.push_back("warning"); },
      .train =
          [&](Trainer& trainer) {
            heard.push_back("begin");
            trainer.stop_when([&] { return heard.back() == "step 2" ? 15 : 0; });
            return trainer.train();
          }};
  LoadedRun run = load_run(RunSettings::from_json(keys_with({{"learning_rate", 3}})));
  const TrainedRun trained = run_training(run, events);
  EXPECT_EQ(heard, (std::vector<std::string>{"ready 4", "warning", "begin", "step 1", "step 2"}));
  EXPECT_EQ(trained.result.signal, 15);
  EXPECT_TRUE(trained.results.empty());
  EXPECT_TRUE(fs::exists(folder_ / "out/checkpoint-2"));
  EXPECT_FALSE(fs::exists(folder_ / "out/adapter_model.safetensors"));
}

TEST_F(RunOfKeys, AResultIsReplacedOnlyWhereThatIsAsked) {
  run_training(RunSettings::from_json(keys()));
  const std::string before = bytes("out/adapter_model.safetensors");
  const Json other = keys_with({{"seed", 3}});
  EXPECT_EQ(error_of([&] { run_training(RunSettings::from_json(other)); }).id(), "config.output-exists");
  EXPECT_EQ(bytes("out/adapter_model.safetensors"), before);
  Json asked = other;
  asked["overwrite_output_dir"] = true;
  run_training(RunSettings::from_json(asked));
  EXPECT_NE(bytes("out/adapter_model.safetensors"), before);

  // Nor is what is read written over.
  Json inside = keys_with({{"output_dir", (folder_ / "model").string()}});
  EXPECT_EQ(error_of([&] { run_training(RunSettings::from_json(inside)); }).id(), "config.output-is-input");
}

TEST_F(RunOfKeys, TrainingGoesOnFromAnAdapterWithItsBaseAndMethod) {
  run_training(RunSettings::from_json(keys_with({{"method", "vera"}, {"r", 4}})));
  Json more = {{"adapter_name_or_path", (folder_ / "out").string()},
               {"train_file", (folder_ / "dev.csv").string()},
               {"label_names", {"negative", "neutral", "positive"}},
               {"dtype", "float32"},
               {"max_steps", 1}};
  const RunSettings settings = RunSettings::from_json(more);
  EXPECT_TRUE(settings.goes_on());
  EXPECT_EQ(settings.base.model_name_or_path, (folder_ / "model").string());
  EXPECT_EQ(settings.adapter.method, "vera");
  EXPECT_EQ(settings.adapters(), std::vector<std::string>{(folder_ / "out").string()});
  const LoadedRun run = load_run(settings);
  EXPECT_EQ(run.settings.adapter.options["r"], 4);

  more["r"] = 5;
  EXPECT_EQ(error_of([&] { load_run(RunSettings::from_json(more)); }).id(), "config.conflict");
  more["method"] = "lora";
  EXPECT_EQ(refused(more).id, "config.conflict");
}

}  // namespace
}  // namespace deltaw::test
