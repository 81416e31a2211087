// How configurations of other tools are recognised, and what holds for all of them.
#include "core/foreign_test.h"

#include <set>

#include "core/foreign/table.h"
#include "support/data.h"
#include "support/mutations.h"

namespace deltaw {
namespace {

using test::Configurations;
using test::contains;
using test::put;

TEST_F(Configurations, AFileOfDeltawsOwnIsNoOtherToolsWhateverNamesItUses) {
  for (const char* yaml : {
           "model_name_or_path: m\ntrain_file: a.jsonl\nr: 8\nlearning_rate: 1e-3",
           "base_model: m\nadapter: folder\nlora_r: 8\nsequence_len: 64\nmicro_batch_size: 2\nnum_epochs: "
           "1\nval_set_size: 0.1",
           "model: m\ndata: a.jsonl\niters: 5\nbatch_size: 2\nmask_prompt: true\nmax_seq_length: 9",
           "stage: sft\nfinetuning_type: lora\ndataset: a.jsonl, b.jsonl\nlora_target: all\ncutoff_len: 9",
           "dataset_name: a.csv\nlora_target_modules: [q]\nreport_to: none\nassistant_only_loss: true",
           "datasets: a.jsonl\nsample_packing: true",
           "peft_type: LORA\nbase_model_name_or_path: m",
           "lerning_rate: 3",
           "",
       }) {
    EXPECT_FALSE(read(yaml)) << yaml;
  }
}

TEST_F(Configurations, AMarkThatDeltawHasAsAKeyMarksNothing) {
  EXPECT_TRUE(read("template: x"));
  here.keys.insert("template");
  EXPECT_FALSE(read("template: x"));
}

TEST_F(Configurations, TheToolThatKnowsMostOfTheKeysIsMeant) {
  const std::string sets = "datasets: [{path: a.jsonl, type: alpaca}]\n";
  EXPECT_EQ(of(sets + "base_model: m\nadapter: lora\nsequence_len: 9").tool, "axolotl");
  EXPECT_EQ(of(sets + "model_name_or_path: m\nuse_peft: true\nlora_r: 4\nmax_length: 9").tool, "TRL");
}

TEST_F(Configurations, TheReportHasALineForWhatItIsWhatChangedAndWhatIsPassedOver) {
  const foreign::Translation translation =
      of("template: qwen\nplot_loss: true\noverwrite_cache: true\nddp_timeout: 9\nrandlora_alpha: 3\npure_bf16: true");
  EXPECT_EQ(translation.report("c.yaml"),
            "c.yaml is a configuration of LLaMA-Factory, known by template, overwrite_cache, plot_loss and more\n"
            "  keys of deltaw in it, as they are: randlora_alpha\n"
            "  what became of it: template qwen is the checkpoint's own chat template\n"
            "  passed over: plot_loss, overwrite_cache, ddp_timeout\n");
}

TEST_F(Configurations, KeysOfDeltawInItWinAndSettleWhatTheyReplace) {
  const std::string yaml = "template: qwen\nstage: sft\nfinetuning_type: freeze\ndataset: nowhere\nlora_rank: 4\n";
  EXPECT_EQ(of(yaml).problems.size(), 2u);
  const std::string own = yaml + "method: randlora\nrandlora_alpha: 3\ntrain_file: rows.jsonl\nr: 32\n";
  expect_values(own, {{"method", "randlora"}, {"randlora_alpha", 3}, {"train_file", "rows.jsonl"}, {"r", 32}});
  EXPECT_FALSE(values_of(own).contains("lora_alpha"));  // of LoRA alone
  EXPECT_EQ(of(own).own, (std::vector<std::string>{"method", "randlora_alpha", "train_file", "r"}));
}

TEST_F(Configurations, WhatTheCommandLineGivesSettlesItsProblems) {
  const std::string yaml =
      "template: qwen\nstage: sft\ndataset: nowhere\noptim: lion_8bit\nval_size: 1\nshift_attn: true\n";
  EXPECT_EQ(of(yaml).problems.size(), 4u);
  EXPECT_EQ(of(yaml).meant.front(), "optim");
  here.given = {{"train_file", "a.jsonl"}, {"optim", nullptr}, {"validation_file", "b"}, {"shift_attn", nullptr}};
  EXPECT_TRUE(of(yaml).problems.empty());
}

TEST_F(Configurations, WhatFollowsFromTheRankFollowsFromTheOneThatCounts) {
  here.given = {{"r", "2"}};
  expect_values("template: x\nstage: sft\ndataset: a.json\nlora_rank: 16", {{"lora_alpha", 4}});
  expect_values("fine_tune_type: lora\nlora_parameters: {rank: 16, scale: 3}", {{"lora_alpha", 6}});
}

TEST_F(Configurations, EverythingThatIsWrongIsToldAtOnceWithWhatToDo) {
  const foreign::Translation translation =
      of("template: qwen\nstage: dpo\nuse_galore: true\nlora_rnak: 3\nfrobnicate: 1\nfp16: true\nlr_scheduler_type: "
         "polynomial");
  EXPECT_EQ(translation.problems.size(), 6u);
  for (const Error& problem : translation.problems) {
    EXPECT_EQ(problem.exit_code(), 2);
    EXPECT_FALSE(problem.parts().fix.empty());
    EXPECT_TRUE(contains(problem.parts().where, "c.yaml"));
  }
  EXPECT_TRUE(contains(problem_of("template: x\nlora_rnak: 3", "lora_rnak"), "did you mean 'lora_rank'?"));
  EXPECT_TRUE(contains(problem_of("template: x\nfrobnicate: 3", "frobnicate"), "docs/configurations.md"));
  EXPECT_TRUE(contains(problem_of("template: x\nuse_galore: true", "use_galore"), "the optimiser of deltaw is AdamW"));
}

TEST_F(Configurations, AWishThatIsOffIsNone) {
  for (const char* off : {"null", "false", "0", "''", "[]", "{}", "none", "'no'"}) {
    EXPECT_TRUE(of(std::string("template: x\nneftune_noise_alpha: ") + off).problems.empty()) << off;
  }
  EXPECT_TRUE(of("template: x\nmix_strategy: concat").problems.empty());
  EXPECT_FALSE(of("template: x\nmix_strategy: interleave_under").problems.empty());
}

TEST_F(Configurations, TwoKeysOfOneMeaningMustAgree) {
  const std::string yaml = "template: x\nfinetuning_type: oft\noft_target: all\nlora_target: ";
  EXPECT_TRUE(of(yaml + "all").problems.empty());
  EXPECT_TRUE(
      contains(problem_of(yaml + "q_proj", "lora_target"), "'oft_target' and 'lora_target' are both target_modules"));
}

TEST_F(Configurations, OptimisersOfAdamWAreDeltawsAndOthersAreNot) {
  for (const char* name : {"adamw", "adamw_torch", "adamw_torch_fused"}) {
    EXPECT_TRUE(of(std::string("template: x\noptim: ") + name).problems.empty()) << name;
  }
  EXPECT_TRUE(
      became("template: alpaca\noptim: paged_adamw_8bit", "optim paged_adamw_8bit is AdamW with its state in float32"));
  for (const char* name : {"adafactor", "lion_8bit", "sgd", "[adamw]"}) {
    EXPECT_EQ(of(std::string("template: x\noptim: ") + name).problems.size(), 1u) << name;
  }
}

TEST_F(Configurations, StepsBelowOneAreAShareOfAllSteps) {
  expect_values("template: x\nstage: sft\neval_strategy: steps\neval_steps: 0.1\nsave_steps: 50",
                {{"eval_strategy", "epoch"}, {"save_strategy", "steps"}, {"save_steps", 50}});
  EXPECT_TRUE(contains(problem_of("template: x\nsave_strategy: best", "save_strategy"), "no, steps and epoch"));
}

TEST_F(Configurations, WhatStartsProcessesIsNoTraining) {
  const foreign::Translation accelerate =
      of("compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 2");
  EXPECT_EQ(accelerate.tool, "accelerate");
  EXPECT_EQ(accelerate.problems.size(), 1u);
  EXPECT_EQ(of("zero_optimization: {stage: 2}\ntrain_batch_size: auto").tool, "DeepSpeed");
  const foreign::Translation second = of("model: m\npeft_config: {name: lora, r: 16}\ntrain_dataset: d.yaml");
  EXPECT_EQ(second.tool, "LLaMA-Factory's version 1");
  EXPECT_EQ(second.problems.size(), 1u);
}

TEST_F(Configurations, NoTableHasAKeyTwice) {
  for (const foreign::Tool& tool : foreign::tools()) {
    std::set<std::string> seen;
    for (const foreign::Key& key : tool.keys) {
      for (const std::string& name : key.names) EXPECT_TRUE(seen.insert(name).second) << tool.name << ": " << name;
      EXPECT_EQ(key.fate == foreign::Fate::computed, key.take != nullptr) << key.names.front();
    }
  }
}

TEST_F(Configurations, ThePageOfTheDocumentationIsWhatTheTablesGive) {
  const std::string page = read_file(test::tests_folder().parent_path() / "docs/configurations.md");
  EXPECT_TRUE(page == foreign::markdown()) << "write it anew: deltaw help --markdown configurations";
}

TEST_F(Configurations, HostileConfigurationsGiveProblemsAndNothingElse) {
  put(folder / "info/dataset_info.json", R"({"a": {"file_name": "a.json", "formatting": "sharegpt",
    "columns": {"messages": "m", "system": "system"}, "tags": {"role_tag": "role"}},
    "b": {"file_name": "b.json", "columns": {"prompt": "q", "response": "a"}}})");
  const std::string info = (folder / "info").string();
  const Json good[] = {
      {{"template", "qwen"},
       {"dataset", "a,b"},
       {"dataset_dir", info},
       {"stage", "sft"},
       {"finetuning_type", "lora"},
       {"lora_rank", 8},
       {"quantization_bit", 4},
       {"val_size", 0.1},
       {"pissa_init", true},
       {"pissa_iter", 4},
       {"bf16", true},
       {"save_steps", 0.5},
       {"eval_strategy", "no"},
       {"optim", "adamw"}},
      {{"datasets",
        {{{"path", "a.jsonl"},
          {"type", "chat_template"},
          {"roles", {{"user", {"human"}}}},
          {"message_property_mappings", {{"role", "from"}}},
          {"field_messages", "m"}}}},
       {"base_model", "m"},
       {"adapter", "qlora"},
       {"batch_size", 8},
       {"micro_batch_size", 2},
       {"val_set_size", 0.1},
       {"saves_per_epoch", 2},
       {"special_tokens", {{"pad_token", "x"}, {"additional_special_tokens", {"y"}}}},
       {"plugins", {"axolotl.integrations.liger.LigerPlugin"}},
       {"bnb_config_kwargs", {{"bnb_4bit_quant_type", "nf4"}}}},
      {{"use_peft", true},
       {"datasets", {{{"path", "json"}, {"data_files", {"a.jsonl"}}}}},
       {"lora_r", 4},
       {"max_length", 3},
       {"assistant_only_loss", true},
       {"dtype", "bfloat16"}},
      {{"lora_parameters", {{"rank", 8}, {"scale", 2.0}, {"dropout", 0.1}, {"keys", {"q"}}}},
       {"model", "m"},
       {"data", info},
       {"num_layers", 4},
       {"iters", 10},
       {"batch_size", 2},
       {"grad_accumulation_steps", 2},
       {"lr_schedule", {{"name", "cosine_decay"}, {"warmup", 1}, {"arguments", {1e-4, 10, 0.0}}}},
       {"optimizer", "adamw"},
       {"optimizer_config", {{"adamw", {{"betas", {0.9, 0.95}}, {"eps", 1e-6}}}}}},
      {{"peft_type", "LORA"}, {"inference_mode", false}, {"r", 8}, {"target_modules", {"q"}}, {"loftq_config", {}}},
  };
  int seen = 0;
  for (const Json& whole : good) {
    test::each_mutation(whole, [&](const Json& changed, const std::string&) {
      if (!changed.is_object()) return;  // which reading the file refuses
      const auto translation = foreign::translate(changed, here, "c.yaml");
      seen += translation ? 1 : 0;
      EXPECT_FALSE(translation && translation->report("c.yaml").empty());
    });
  }
  EXPECT_GT(seen, 1000);
}

}  // namespace
}  // namespace deltaw
