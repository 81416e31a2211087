// Checkpoints of a run with damaged files: resuming goes on, or ends in an error that says what is wrong.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <random>
#include <tuple>

#include "support/mutations.h"
#include "support/temporary.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::tiny_options;
using test::TinyRun;

TEST(HostileCheckpoint, WithAnyValueOfAnyTypeEndsInAClearError) {
  const test::TemporaryFolder folder;
  const AdapterConfig config =
      test::adapter_config("adalora", {{"init_r", 4}, {"target_r", 2}, {"tinit", 1}, {"tfinal", 1}, {"deltaT", 1}});
  TrainOptions options = tiny_options(folder / "run");
  options.save_strategy = "steps";
  options.save_steps = 4;
  options.eval_strategy = "steps";
  options.eval_steps = 2;
  options.logging_steps = 2;
  options.max_steps = 4;
  TinyRun(config, options).trainer.train();
  const fs::path checkpoint = folder / "run" / "checkpoint-4";
  options.output_dir = (folder / "resumed").string();
  options.resume_from_checkpoint = checkpoint.string();

  std::mt19937 random(5);
  // Of trainer_state.json, which is for people, a run reads little.
  for (const auto& [name, one_in, refused_in] : {std::tuple{"trainer_state.json", 6u, 10},
                                                 {"run_state.json", 6u, 4},
                                                 {"scheduler.json", 1u, 4},
                                                 {"rng_state.json", 2u, 4},
                                                 {"training_args.json", 12u, 4}}) {
    const std::string before = read_file(checkpoint / name);
    int refused = 0, count = 0;
    test::each_mutation(
        read_json(checkpoint / name),
        [&, name = name, one_in = one_in](const Json& changed, const std::string& what) {
          if (random() % one_in != 0) return;
          test::put(checkpoint / name, changed.dump());
          TinyRun run(config, options);
          ++count;
          refused += !test::ends_clearly(std::string(name) + ": " + what, [&] { run.trainer.train(); });
        },
        /*most_members=*/30);
    EXPECT_GT(refused, count / refused_in) << name;
    for (const char* text : {"", "{", "[]", "3"}) {
      test::put(checkpoint / name, text);
      TinyRun run(config, options);
      EXPECT_FALSE(test::ends_clearly(std::string(name) + " is " + text, [&] { run.trainer.train(); }));
    }
    test::put(checkpoint / name, before);
  }
  TinyRun run(config, options);
  EXPECT_TRUE(test::ends_clearly("as it was", [&] { run.trainer.train(); }));
}

}  // namespace
}  // namespace deltaw
