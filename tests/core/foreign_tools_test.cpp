// Each tool's keys, values and defaults.
#include "core/foreign_test.h"

namespace deltaw {
namespace {

using test::Configurations;
using test::contains;

TEST_F(Configurations, OfLlamaFactoryTrainAsThere) {
  const std::string yaml =
      "model_name_or_path: m\nstage: sft\ndo_train: true\nfinetuning_type: lora\nlora_rank: 16\nlora_target: all\n"
      "dataset: rows.json\ntemplate: llama3\ncutoff_len: 512\nmax_samples: 100\noverwrite_cache: true\n"
      "preprocessing_num_workers: 16\noutput_dir: out\nlogging_steps: 10\nsave_steps: 500\nplot_loss: true\n"
      "per_device_train_batch_size: 2\ngradient_accumulation_steps: 8\nlearning_rate: 1.0e-4\nnum_train_epochs: 3.0\n"
      "lr_scheduler_type: cosine\nwarmup_ratio: 0.1\nbf16: true\nddp_timeout: 180000000\ntrust_remote_code: true\n"
      "val_size: 0.1\nper_device_eval_batch_size: 1\neval_strategy: steps\neval_steps: 500\nuse_dora: true\n"
      "report_to: wandb\nresume_from_checkpoint: null\n";
  expect_values(yaml, {{"model_name_or_path", "m"},
                       {"method", "lora"},
                       {"r", 16},
                       {"target_modules", "all-linear"},
                       {"train_file", "rows.json"},
                       {"as_conversation", true},
                       {"max_length", 512},
                       {"max_train_samples", 100},
                       {"save_strategy", "steps"},
                       {"save_steps", 500},
                       {"learning_rate", 1e-4},
                       {"lr_scheduler_type", "cosine"},
                       {"dtype", "bf16"},
                       {"validation_split", 0.1},
                       {"use_dora", true},
                       {"lora_alpha", 32}});
  EXPECT_EQ(of(yaml).passed_over,
            (std::vector<std::string>{"do_train", "overwrite_cache", "preprocessing_num_workers", "plot_loss",
                                      "ddp_timeout", "trust_remote_code", "report_to"}));
  const std::string bare = "stage: sft\ntemplate: x\ndataset: a.json\n";
  expect_values(bare, {{"max_length", 2048}, {"lora_alpha", 16}, {"target_modules", "all-linear"}});
  expect_values(bare + "lora_target: q_proj,v_proj\nlora_alpha: 3",
                {{"target_modules", "q_proj,v_proj"}, {"lora_alpha", 3}});
}

TEST_F(Configurations, OfLlamaFactoryHaveMethodsStartsAndCodes) {
  const std::string bare = "stage: sft\ntemplate: x\ndataset: a.json\n";
  expect_values(bare + "pissa_init: true", {{"init_lora_weights", "pissa_niter_16"}});
  expect_values(bare + "pissa_init: true\npissa_iter: -1", {{"init_lora_weights", "pissa"}});
  EXPECT_FALSE(values_of(bare + "pissa_init: false\npissa_iter: 4").contains("init_lora_weights"));
  expect_values(bare + "quantization_bit: 4", {{"load_in_4bit", true}, {"bnb_4bit_use_double_quant", true}});
  expect_values(bare + "quantization_bit: 4\ndouble_quantization: false", {{"bnb_4bit_use_double_quant", false}});
  expect_values(bare + "quantization_bit: 8\nquantization_method: bnb", {{"load_in_8bit", true}});
  problem_of(bare + "quantization_bit: 2", "quantization_bit");
  problem_of(bare + "quantization_bit: 4\nquantization_method: hqq", "quantization_method");
  expect_values(bare + "finetuning_type: oft\noft_block_size: 32\noft_target: all",
                {{"method", "oft"}, {"oft_block_size", 32}, {"target_modules", "all-linear"}});
  EXPECT_FALSE(values_of(bare + "finetuning_type: oft").contains("lora_alpha"));
  EXPECT_FALSE(values_of(bare + "finetuning_type: full").contains("target_modules"));
  problem_of(bare + "finetuning_type: freeze", "finetuning_type");
  problem_of(bare + "adapter_name_or_path: a,b", "adapter_name_or_path");
  expect_values(bare + "val_size: 100", {{"validation_split", 100}});
  problem_of(bare + "val_size: 1", "val_size");
  problem_of(bare + "val_size: 20.5", "val_size");
}

TEST_F(Configurations, OfLlamaFactorySayWhatIsLearned) {
  const std::string bare = "stage: sft\ndataset: a.json\n";
  EXPECT_FALSE(values_of(bare + "template: alpaca").contains("as_conversation"));
  problem_of(bare + "template: empty", "template");
  expect_values(bare + "template: x\ntrain_on_prompt: true", {{"completion_only_loss", false}});
  expect_values(bare + "template: x\nneat_packing: true", {{"packing", true}});
  EXPECT_FALSE(values_of("template: x\nstage: pt\ndataset: a.txt").contains("as_conversation"));
  expect_values("template: x\nstage: pt\ndataset: a.txt\npacking: false", {{"packing", false}});
  expect_values(bare + "template: x\ndisable_gradient_checkpointing: false", {{"gradient_checkpointing", true}});
}

TEST_F(Configurations, OfLlamaFactoryForItsExportAreForMerging) {
  const std::string yaml =
      "model_name_or_path: m\nadapter_name_or_path: a\ntemplate: x\nexport_dir: merged\nexport_size: 5";
  EXPECT_EQ(values_of(yaml),
            (Json{{"model_name_or_path", "m"}, {"adapter_name_or_path", "a"}, {"output_dir", "merged"}}));
  problem_of(yaml + "\nstage: sft", "export_dir");
}

TEST_F(Configurations, OfAxolotlTrainAsThere) {
  const std::string yaml =
      "base_model: m\nmodel_type: LlamaForCausalLM\ntokenizer_type: AutoTokenizer\nload_in_8bit: false\n"
      "load_in_4bit: true\nstrict: false\ndatasets:\n  - path: rows.jsonl\n    type: alpaca\n    ds_type: json\n"
      "dataset_prepared_path: last_run\nval_set_size: 0.05\noutput_dir: ./out\nadapter: qlora\nlora_model_dir:\n"
      "sequence_len: 4096\nsample_packing: true\npad_to_sequence_len: true\nlora_r: 32\nlora_alpha: 16\n"
      "lora_dropout: 0.05\nlora_target_modules:\nlora_target_linear: true\nwandb_project:\nwandb_entity: me\n"
      "gradient_accumulation_steps: 4\nmicro_batch_size: 2\nnum_epochs: 4\noptimizer: paged_adamw_32bit\n"
      "lr_scheduler: cosine\nlearning_rate: 0.0002\nbf16: auto\ntf32: false\ngradient_checkpointing: true\n"
      "flash_attention: true\nwarmup_steps: 10\nevals_per_epoch: 4\nsaves_per_epoch: 1\nweight_decay: 0.0\n"
      "special_tokens:\n  pad_token: <pad>\n";
  expect_values(yaml, {{"model_name_or_path", "m"},
                       {"method", "lora"},
                       {"load_in_4bit", true},
                       {"train_file", "rows.jsonl"},
                       {"validation_split", 0.05},
                       {"max_length", 4096},
                       {"packing", true},
                       {"r", 32},
                       {"lora_alpha", 16},
                       {"target_modules", "all-linear"},
                       {"per_device_train_batch_size", 2},
                       {"num_train_epochs", 4},
                       {"lr_scheduler_type", "cosine"},
                       {"dtype", "auto"},
                       {"eval_strategy", "epoch"},
                       {"save_strategy", "epoch"},
                       {"warmup_steps", 10}});
  EXPECT_TRUE(became(yaml, "evals_per_epoch 4 is eval_strategy epoch, once each"));
  const std::string bare = "base_model: m\nadapter: lora\ndatasets: [{path: a.jsonl, type: alpaca}]\n";
  expect_values(bare, {{"max_length", 512},
                       {"num_train_epochs", 1},
                       {"per_device_train_batch_size", 1},
                       {"lr_scheduler_type", "cosine"}});
  for (const char* cosine : {"", "lr_scheduler: cosine\n"}) {
    expect_values(bare + cosine + "cosine_min_lr_ratio: 0.1",
                  {{"lr_scheduler_type", "cosine_with_min_lr"}, {"lr_scheduler_kwargs", {{"min_lr_rate", 0.1}}}});
  }
  EXPECT_FALSE(values_of(bare + "lr_scheduler: linear\ncosine_min_lr_ratio: 0.1").contains("lr_scheduler_kwargs"));
  EXPECT_FALSE(values_of(bare).contains("target_modules"));
  EXPECT_FALSE(values_of(bare).contains("load_in_4bit"));
  expect_values(bare + "lora_target_modules: [q_proj]\nlora_target_linear: true", {{"target_modules", {"q_proj"}}});
}

TEST_F(Configurations, OfAxolotlHaveWhatElseItSays) {
  const std::string bare = "base_model: m\nadapter: lora\ndatasets: [{path: a.jsonl, type: alpaca}]\n";
  expect_values("base_model: m\ndatasets: [{path: a.jsonl, type: alpaca}]", {{"method", "full"}});
  expect_values("base_model: m\ndatasets: [{path: a.jsonl, type: alpaca}]\nmethod: lora", {{"method", "lora"}});
  const std::string quantised = "base_model: m\nadapter: qlora\ndatasets: [{path: a.jsonl, type: alpaca}]\n";
  expect_values(quantised, {{"method", "lora"}, {"load_in_4bit", true}});
  expect_values(quantised + "load_in_4bit: false", {{"load_in_4bit", false}});
  expect_values(bare + "batch_size: 8\nmicro_batch_size: 2", {{"gradient_accumulation_steps", 4}});
  problem_of(bare + "batch_size: 9\nmicro_batch_size: 2", "batch_size");
  expect_values(bare + "gradient_checkpointing: offload", {{"gradient_checkpointing", true}});
  expect_values(bare + "train_on_inputs: true", {{"completion_only_loss", false}});
  expect_values(bare + "special_tokens: {additional_special_tokens: ['<a>']}\ntokens: ['<b>']",
                {{"add_special_tokens", {"<a>"}}, {"add_tokens", {"<b>"}}});
  EXPECT_TRUE(became(bare + "special_tokens: {eos_token: '</s>'}", "special_tokens eos_token are the tokenizer's own"));
  values_of(bare + "plugins: [axolotl.integrations.liger.LigerPlugin]");
  problem_of(bare + "plugins: [axolotl.integrations.diffusion.DiffusionPlugin]", "plugins");
  problem_of(bare + "rl: dpo", "rl");
  expect_values(bare + "val_set_size: 500", {{"validation_split", 500}});
  problem_of(bare + "val_set_size: 1", "val_set_size");
  problem_of(bare + "chat_template: jinja", "chat_template");
  problem_of(bare + "processor_type: AutoProcessor", "processor_type");
}

TEST_F(Configurations, OfTrlTrainAsThere) {
  const std::string bare = "model_name_or_path: m\ndataset_name: a.jsonl\nuse_peft: true\n";
  expect_values(bare, {{"r", 16},
                       {"lora_alpha", 32},
                       {"lora_dropout", 0.05},
                       {"max_length", 1024},
                       {"learning_rate", 2e-5},
                       {"logging_steps", 10}});
  EXPECT_FALSE(values_of(bare).contains("target_modules"));
  expect_values(bare +
                    "lora_r: 4\nlora_alpha: 8\nlora_dropout: 0\nlora_target_modules: [q]\nlora_modules_to_save: [h]\n"
                    "use_rslora: true\nmax_seq_length: 64\npacking: true\ndtype: bfloat16\nlora_task_type: CAUSAL_LM\n"
                    "use_bnb_nested_quant: true\nload_in_4bit: true\neval_strategy: 'no'\ndataset_num_proc: 4",
                {{"r", 4},
                 {"lora_alpha", 8},
                 {"lora_dropout", 0},
                 {"target_modules", {"q"}},
                 {"modules_to_save", {"h"}},
                 {"use_rslora", true},
                 {"max_length", 64},
                 {"packing", true},
                 {"dtype", "bf16"},
                 {"task_type", "CAUSAL_LM"},
                 {"bnb_4bit_use_double_quant", true}});
  const std::string whole = "model_name_or_path: m\ndataset_name: a.jsonl\nuse_peft: false\nlora_r: 4\n";
  expect_values(whole, {{"method", "full"}});
  EXPECT_FALSE(values_of(whole).contains("r"));
}

TEST_F(Configurations, OfTrlSayWhatIsLearned) {
  const std::string bare = "dataset_name: a.jsonl\nuse_peft: true\n";
  EXPECT_FALSE(values_of(bare).contains("completion_only_loss"));
  EXPECT_TRUE(contains(of(bare).became.front(), "completion_only_loss stays true"));
  expect_values(bare + "assistant_only_loss: true", {{"completion_only_loss", true}});
  expect_values(bare + "completion_only_loss: false", {{"completion_only_loss", false}});
  expect_values(bare + "completion_only_loss: false\nassistant_only_loss: true", {{"completion_only_loss", true}});
  problem_of(bare + "eos_token: <|im_end|>", "eos_token");
  problem_of(bare + "packing_strategy: wrapped", "packing_strategy");
  values_of(bare + "packing_strategy: bfd\nloss_type: nll\nmodel_revision: main");
}

TEST_F(Configurations, OfMlxTrainAsThere) {
  const std::string yaml =
      "model: m\ntrain: true\nfine_tune_type: dora\nseed: 7\nnum_layers: 8\nbatch_size: 2\niters: 600\n"
      "learning_rate: 1e-4\nsteps_per_report: 10\ngrad_accumulation_steps: 2\nadapter_path: out\nsave_every: 100\n"
      "max_seq_length: 512\ngrad_checkpoint: true\nmask_prompt: true\noptimizer: adamw\n"
      "lora_parameters: {keys: [self_attn.q_proj], rank: 4, scale: 10.0, dropout: 0.1}\n";
  expect_values(yaml, {{"model_name_or_path", "m"},
                       {"method", "dora"},
                       {"seed", 7},
                       {"layers_to_transform", {16, 17, 18, 19, 20, 21, 22, 23}},
                       {"per_device_train_batch_size", 2},
                       {"max_steps", 300},
                       {"logging_steps", 5},
                       {"save_steps", 50},
                       {"save_strategy", "steps"},
                       {"learning_rate", 1e-4},
                       {"lr_scheduler_type", "constant"},
                       {"output_dir", "out"},
                       {"max_length", 512},
                       {"gradient_checkpointing", true},
                       {"completion_only_loss", true},
                       {"r", 4},
                       {"lora_alpha", 40},
                       {"lora_dropout", 0.1},
                       {"target_modules", {"self_attn.q_proj"}},
                       {"weight_decay", 0.01},
                       {"max_grad_norm", 0}});
  for (const char* sentence : {"iters 600 is max_steps 300", "num_layers 8 of 24 is layers_to_transform 16 to 23",
                               "scale 10 is lora_alpha 40, scale times rank 4"}) {
    EXPECT_TRUE(became(yaml, sentence)) << sentence;
  }
}

TEST_F(Configurations, OfMlxHaveItsDefaults) {
  expect_values("model: m\nfine_tune_type: lora", {{"r", 8},
                                                   {"lora_alpha", 160},
                                                   {"target_modules", "all-linear"},
                                                   {"max_steps", 1000},
                                                   {"seed", 0},
                                                   {"learning_rate", 1e-5},
                                                   {"per_device_train_batch_size", 4},
                                                   {"max_length", 2048},
                                                   {"completion_only_loss", false},
                                                   {"weight_decay", 0},
                                                   {"output_dir", "adapters"}});
  EXPECT_EQ(values_of("model: m\nfine_tune_type: lora")["layers_to_transform"].size(), 16u);
  for (const char* all : {"-1", "24", "30"}) {
    EXPECT_FALSE(
        values_of(std::string("model: m\nfine_tune_type: lora\nnum_layers: ") + all).contains("layers_to_transform"));
  }
  here.blocks = [](const std::string&) { return std::optional<int64_t>(); };
  EXPECT_FALSE(values_of("model: m\nfine_tune_type: lora").contains("layers_to_transform"));
}

TEST_F(Configurations, OfMlxHaveSchedulesThatEndWithTheRun) {
  const std::string bare = "model: m\nfine_tune_type: lora\niters: 1000\nlr_schedule: ";
  expect_values(bare + "{name: cosine_decay, warmup: 100, arguments: [1e-4, 1000, 1e-7]}",
                {{"learning_rate", 1e-4},
                 {"lr_scheduler_type", "cosine_with_min_lr"},
                 {"lr_scheduler_kwargs", {{"min_lr", 1e-7}}},
                 {"warmup_steps", 100}});
  expect_values(bare + "{name: cosine_decay, arguments: [1e-4, 1000]}", {{"lr_scheduler_type", "cosine"}});
  expect_values(bare + "{name: linear_schedule, arguments: [1e-4, 0.0, 1000]}",
                {{"learning_rate", 1e-4}, {"lr_scheduler_type", "linear"}});
  for (const char* other :
       {"{name: cosine_decay, arguments: [1e-4, 300]}", "{name: cosine_decay, arguments: [1e-4, 1000, 2e-4]}",
        "{name: linear_schedule, arguments: [1e-4, 5e-5, 1000]}", "{name: step_decay, arguments: [1e-4, 0.9, 10]}",
        "{name: cosine_decay}", "3"}) {
    EXPECT_FALSE(of(bare + other).problems.empty()) << other;
  }
  expect_values(
      bare + "null\noptimizer: adamw\noptimizer_config: {adamw: {betas: [0.8, 0.9], eps: 1e-6, weight_decay: 0.1}}",
      {{"adam_beta1", 0.8}, {"adam_beta2", 0.9}, {"adam_epsilon", 1e-6}, {"weight_decay", 0.1}});
  problem_of(bare + "null\noptimizer: muon", "optimizer");
  problem_of(bare + "null\nlora_parameters: {rnak: 3}", "lora_parameters");
  problem_of("model: m\nfine_tune_type: full", "fine_tune_type");
  problem_of("fine_tune_type: lora\nresume_adapter_file: a.safetensors", "resume_adapter_file");
}

TEST_F(Configurations, OfPeftAreAdapters) {
  expect_values(
      "peft_type: LORA\ninference_mode: true\nauto_mapping: null\nbase_model_name_or_path: m\nr: 8\n"
      "lora_alpha: 16\ntarget_modules: [q]\nbias: none\nuse_dora: false\ntask_type: CAUSAL_LM\n"
      "megatron_core: megatron.core\nloftq_config: {}\nlayer_replication: null\nuse_qalora: false",
      {{"method", "LORA"},
       {"model_name_or_path", "m"},
       {"r", 8},
       {"lora_alpha", 16},
       {"target_modules", {"q"}},
       {"bias", "none"},
       {"use_dora", false},
       {"task_type", "CAUSAL_LM"}});
  EXPECT_TRUE(of("peft_type: LORA\ninference_mode: true\nr: 8").own.empty());
  // Keys that another method has, and this one does not.
  const std::string allocated = "peft_type: ADALORA\ninference_mode: true\ninit_r: 12\n";
  EXPECT_EQ(values_of(allocated + "r: 8\nlora_dropout: 0.0\nuse_rslora: false\nlora_alpha: 8"),
            (Json{{"method", "ADALORA"}, {"init_r", 12}, {"lora_alpha", 8}}));
  problem_of(allocated + "use_rslora: true", "use_rslora");
  EXPECT_TRUE(
      of("peft_type: LORA\ninference_mode: true\nencoder_hidden_size: 9\nprefix_projection: false").problems.empty());
  problem_of("peft_type: LORA\ninference_mode: true\nencoder_hidden_size: 9\nprefix_projection: true",
             "prefix_projection");
  const std::string unknown = "peft_type: BOFT\ninference_mode: true\nboft_block_size: 4\n";
  EXPECT_EQ(of(unknown).problems.size(), 1u);
  EXPECT_TRUE(contains(problem_of(unknown, "peft_type"), "PEFT's BOFT is none of the methods of deltaw"));
}

}  // namespace
}  // namespace deltaw
