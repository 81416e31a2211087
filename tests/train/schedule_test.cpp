#include "train/schedule.h"

#include <gtest/gtest.h>

#include "support/temporary.h"
#include "train/train_options.h"

namespace deltaw::train {
namespace {

TrainOptions ten_steps(const std::string& type) {
  TrainOptions options;
  options.max_steps = 10;
  options.warmup_steps = 3;
  options.lr_scheduler_type = type;
  return options;
}

// transformers.get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=10), get_last_lr() at each step.
TEST(Schedule, HasTheRatesOfTransformers) {
  const std::map<std::string, std::vector<double>> expected = {
      {"linear",
       {0.0, 0.3333333333333333, 0.6666666666666666, 1.0, 0.8571428571428571, 0.7142857142857143, 0.5714285714285714,
        0.42857142857142855, 0.2857142857142857, 0.14285714285714285, 0.0}},
      {"cosine",
       {0.0, 0.3333333333333333, 0.6666666666666666, 1.0, 0.9504844339512095, 0.8117449009293668, 0.6112604669781572,
        0.38873953302184283, 0.18825509907063326, 0.04951556604879048, 0.0}},
      {"constant", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
      {"constant_with_warmup", {0.0, 0.3333333333333333, 0.6666666666666666, 1, 1, 1, 1, 1, 1, 1, 1}},
  };
  for (const auto& [type, rates] : expected) {
    const TrainOptions options = ten_steps(type);
    const Schedule schedule = make_schedule(options, 100);
    for (size_t step = 0; step < rates.size(); ++step) {
      EXPECT_NEAR(rate_factor(options, schedule, static_cast<int64_t>(step)), rates[step], 1e-15) << type << step;
    }
  }
}

// Likewise with scheduler_specific_kwargs={'min_lr_rate': 0.01} and {'min_lr': 0.25}, of a rate of 1.
TEST(Schedule, EndsWhereTransformersEnds) {
  const std::vector<std::pair<Json, std::vector<double>>> expected = {
      {{{"min_lr_rate", 0.01}},
       {0.0, 0.3333333333333333, 0.6666666666666666, 1.0, 0.9509795896116974, 0.8136274519200731, 0.6151478623083756,
        0.3948521376916244, 0.19637254807992693, 0.05902041038830258, 0.01}},
      {{{"min_lr", 0.25}},
       {0.0, 0.3333333333333333, 0.6666666666666666, 1.0, 0.9628633254634071, 0.8588086756970251, 0.7084453502336179,
        0.5415546497663821, 0.39119132430297493, 0.28713667453659286, 0.25}}};
  for (const auto& [kwargs, rates] : expected) {
    TrainOptions options = ten_steps("cosine_with_min_lr");
    options.learning_rate = 1;
    options.lr_scheduler_kwargs = kwargs;
    check_options(options, false, false);
    const Schedule schedule = make_schedule(options, 100);
    for (size_t step = 0; step < rates.size(); ++step) {
      EXPECT_NEAR(rate_factor(options, schedule, static_cast<int64_t>(step)), rates[step], 1e-15) << kwargs << step;
    }
  }
}

TEST(Schedule, RoundsStepsAndEpochsUp) {
  TrainOptions options;
  options.per_device_train_batch_size = 4;
  options.gradient_accumulation_steps = 2;
  options.num_train_epochs = 2.5;
  const Schedule schedule = make_schedule(options, 19);  // 5 batches, 3 steps an epoch
  EXPECT_EQ(schedule.batches_per_epoch, 5);
  EXPECT_EQ(schedule.steps_per_epoch, 3);
  EXPECT_EQ(schedule.total_steps, 8);
  EXPECT_EQ(schedule.epochs, 3);
  EXPECT_EQ(schedule.batches_of(1), 2);
  EXPECT_EQ(schedule.batches_of(2), 1) << "the last step of an epoch takes what is left";
  EXPECT_EQ(schedule.batch_of(2), 4);
  EXPECT_EQ(schedule.epoch_of(3), 1);
  EXPECT_DOUBLE_EQ(schedule.epochs_done(1), 0.4);
  EXPECT_DOUBLE_EQ(schedule.epochs_done(3), 1);
  EXPECT_TRUE(schedule.ends_epoch(3));
  EXPECT_FALSE(schedule.ends_epoch(4));
}

TEST(Schedule, MaxStepsWins) {
  TrainOptions options;
  options.max_steps = 7;
  EXPECT_EQ(make_schedule(options, 8).total_steps, 7);
  EXPECT_EQ(make_schedule(options, 8).epochs, 7);
}

TEST(Schedule, WarmsUpBySteps) {
  TrainOptions options;
  options.max_steps = 115;
  options.warmup_ratio = 0.06;
  EXPECT_EQ(make_schedule(options, 8).warmup_steps, 7);
  options.warmup_steps = 0.1;
  EXPECT_EQ(make_schedule(options, 8).warmup_steps, 12) << "warmup_steps below 1 is a ratio and wins";
  options.warmup_steps = 20;
  EXPECT_EQ(make_schedule(options, 8).warmup_steps, 20);
}

void expect_refused(const TrainOptions& options, const std::string& key, bool validation = true,
                    bool smooths_labels = true) {
  const Error error = test::error_of([&] { check_options(options, validation, smooths_labels); });
  EXPECT_EQ(error.id(), "config.training");
  EXPECT_EQ(error.parts().where, "key \"" + key + "\"");
}

TEST(TrainOptions, ThatContradictEachOtherAreRefused) {
  TrainOptions good;
  good.eval_strategy = good.save_strategy = "steps";
  good.load_best_model_at_end = true;
  EXPECT_NO_THROW(check_options(good, true, true));

  TrainOptions options = good;
  options.save_strategy = "epoch";
  expect_refused(options, "load_best_model_at_end");
  options = good;
  options.eval_strategy = options.save_strategy = "no";
  expect_refused(options, "load_best_model_at_end");
  options = good;
  options.save_steps = 750;
  expect_refused(options, "save_steps");
  expect_refused(good, "eval_strategy", false);
  options = {};
  options.early_stopping_patience = 2;
  expect_refused(options, "early_stopping_patience");
  options = {};
  options.max_steps = 0;
  expect_refused(options, "max_steps");
  options = {};
  options.label_smoothing_factor = 0.1;
  EXPECT_NO_THROW(check_options(options, true, true));
  expect_refused(options, "label_smoothing_factor", true, false);
}

TEST(TrainOptions, SchedulesTakeTheirOwnParameters) {
  TrainOptions options = ten_steps("cosine_with_min_lr");
  options.learning_rate = 0.5;
  for (const Json& wrong :
       {Json(), Json::object(), Json(0.1), Json{{"min_lr", 0.6}}, Json{{"min_lr_rate", -0.1}}, Json{{"min_lr", "low"}},
        Json{{"rate", 0.1}}, Json{{"min_lr", 0.1}, {"min_lr_rate", 0.1}}}) {
    options.lr_scheduler_kwargs = wrong;
    expect_refused(options, "lr_scheduler_kwargs", false, false);
  }
  options.lr_scheduler_kwargs = {{"min_lr_rate", 0.1}};
  check_options(options, false, false);
  options.lr_scheduler_type = "cosine";
  expect_refused(options, "lr_scheduler_kwargs", false, false);
}

TEST(TrainOptions, ReadTheNamesAndDefaultsOfTransformers) {
  TrainOptions options;
  read_fields(fields_of(options), {{"learning_rate", "1e-3"}, {"warmup_steps", 0.06}, {"eval_strategy", "epoch"}}, "x");
  EXPECT_EQ(options.learning_rate, 1e-3);
  EXPECT_EQ(options.warmup_steps, 0.06);
  EXPECT_EQ(options.per_device_train_batch_size, 8);
  EXPECT_EQ(options.num_train_epochs, 3);
  EXPECT_EQ(data_seed(options), 42u);
  EXPECT_THROW(read_fields(fields_of(options), {{"lr_scheduler_type", "liner"}}, "x"), Error);
  EXPECT_THROW(read_fields(fields_of(options), {{"adam_beta1", 1.0}}, "x"), Error);
}

}  // namespace
}  // namespace deltaw::train
