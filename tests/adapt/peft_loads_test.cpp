// PEFT itself loads what we save, with equal logits and no name missing or unexpected. Needs the Python of
// scripts/setup --oracle.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "deltaw/adapter.h"
#include "support/golden.h"
#include "support/model_calls.h"
#include "support/oracle.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::fixture;

struct Saved {
  const char* name;
  const char* base;
  Json options;
  bool exported = false;   // as a plain LoRA
  int64_t new_tokens = 0;  // that the vocabulary grows by
};

// Saves the adapter and its logits below `folder`, and answers what the script needs to know of them.
std::string write_case(const Saved& saved, const std::filesystem::path& folder) {
  const std::string base = fixture(std::string("golden/models/") + saved.base).string();
  ModelOptions options{.dtype = "float32"};
  const int64_t stored = saved.new_tokens > 0 ? load_model(base, options)->vocab_size() : 0;
  if (saved.new_tokens > 0) options.vocab_size = stored + saved.new_tokens;
  const auto model = load_model(base, options);
  std::string input = base + "/io.safetensors";
  AdapterConfig config = adapter_config_from_json(saved.options, "test");
  if (saved.new_tokens > 0) {
    std::vector<int64_t> ids;
    for (int64_t id = stored; id < model->vocab_size(); ++id) ids.push_back(id);
    train_new_tokens(*model, config, ids);
    input = (folder / fmt::format("{}_input.safetensors", saved.name)).string();
    const Tensor tokens = at::cat({at::tensor(ids, at::kLong), at::arange(5, 9, at::kLong)}).unsqueeze(0);
    io::write_safetensors(input, {to_bytes("input_ids", tokens), to_bytes("attention_mask", at::ones_like(tokens))});
  }
  const auto rows = [&](int64_t) {  // for starts from data
    const ModelInput batch = test::Golden(input).input();
    return std::vector{test::calibration_batch(batch, at::zeros({batch.input_ids.size(0)}, at::kLong))};
  };
  Adapter adapter = Adapter::create(*model, config, 1, rows);
  test::randomise(adapter, 2);
  if (adapter.method().rank_budget()) {  // as after pruning
    for (const AdaptedLayer* layer : adapter.layers()) {
      const at::NoGradGuard no_grad;
      layer->params["lora_E"][1].zero_();
      adapter.kept_ranks[layer->info.name] = {true, false, true};
    }
  }
  const std::filesystem::path target = folder / saved.name;
  if (saved.exported) {
    export_lora(adapter, target, 0, test::probe_of(test::Golden(input).input()));
  } else {
    std::filesystem::create_directories(target);
    adapter.save(target);
  }
  const at::NoGradGuard no_grad;
  Call call{.adapter = &adapter};
  const Tensor logits = model->forward(test::Golden(input).input(), call).contiguous();
  const std::string logits_file = fmt::format("{}.safetensors", target.string());
  io::write_safetensors(logits_file, {to_bytes("logits", logits)});
  return fmt::format("{} {} {} {} ", base, target.string(), logits_file, input);
}

const std::vector<Saved>& saved_cases() {
  static const std::vector<Saved> cases{
      Saved{"lora", "bert_cls", {{"method", "lora"}, {"r", 4}, {"lora_alpha", 16}}},
      Saved{"lora_patterns_bias",
            "roberta_cls",
            {{"method", "lora"},
             {"target_modules", {"query", "dense"}},
             {"use_rslora", true},
             {"rank_pattern", {{"query", 3}}},
             {"bias", "lora_only"}}},
      Saved{"dora", "bert_cls", {{"method", "dora"}, {"target_modules", "all-linear"}}},
      Saved{"adalora", "bert_cls", {{"method", "adalora"}, {"init_r", 3}, {"target_r", 2}, {"total_step", 9}}},
      Saved{"randlora", "bert_cls", {{"method", "randlora"}, {"r", 4}, {"target_modules", {"query", "dense"}}}},
      Saved{"randlora_key", "roberta_reg", {{"method", "randlora"}, {"r", 5}, {"save_projection", false}}},
      Saved{"randlora_sparse",
            "bert_cls",
            {{"method", "randlora"}, {"r", 4}, {"sparse", true}, {"save_projection", false}}},
      Saved{"pissa", "bert_cls", {{"method", "pissa"}, {"r", 2}}},
      Saved{"olora", "roberta_cls", {{"method", "olora"}, {"r", 3}, {"target_modules", {"query", "dense"}}}},
      Saved{"eva", "bert_cls", {{"method", "eva"}, {"r", 3}, {"target_modules", {"query", "dense"}}}},
      Saved{"corda_exported", "bert_cls", {{"method", "corda"}, {"r", 2}}, true},
      Saved{"lora_ga_exported", "roberta_cls", {{"method", "lora_ga"}, {"r", 2}}, true},
      Saved{"vera", "bert_cls", {{"method", "vera"}, {"r", 6}, {"target_modules", {"query", "dense"}}}},
      Saved{"vera_key", "roberta_reg", {{"method", "vera"}, {"r", 5}, {"save_projection", false}}},
      Saved{"loha", "bert_cls", {{"method", "loha"}, {"r", 3}, {"target_modules", "all-linear"}}},
      Saved{"lokr", "roberta_cls", {{"method", "lokr"}, {"r", 1}, {"target_modules", {"query", "dense"}}}},
      Saved{"oft", "bert_cls", {{"method", "oft"}, {"oft_block_size", 4}, {"target_modules", {"query", "dense"}}}},
      Saved{"prompt_tuning", "bert_cls", {{"method", "prompt_tuning"}, {"num_virtual_tokens", 3}}},
      Saved{"prompt_from_text",
            "bert_cls",
            {{"method", "prompt_tuning"},
             {"num_virtual_tokens", 3},
             {"prompt_tuning_init", "TEXT"},
             {"prompt_tuning_init_text", "mean"},
             {"tokenizer_name_or_path", fixture("golden/prompts/tokenizer").string()}}},
      Saved{"prefix_tuning", "roberta_cls", {{"method", "prefix_tuning"}, {"num_virtual_tokens", 3}}},
      Saved{"moslora_exported", "bert_cls", {{"method", "moslora"}, {"r", 4}, {"lora_alpha", 8}}, true},
      Saved{"lora_bias", "bert_cls", {{"method", "lora"}, {"r", 3}, {"lora_bias", true}}},
      Saved{"lora_embedding",
            "roberta_cls",
            {{"method", "lora"}, {"r", 3}, {"target_modules", {"word_embeddings", "query"}}}},
      Saved{"ia3", "roberta_reg", {{"method", "ia3"}}},
      Saved{"head_tokens",
            "llama_heads",
            {{"method", "lora"}, {"trainable_token_indices", {{"embed_tokens", {3, 5}}, {"lm_head", {5}}}}}},
      Saved{"head_rows_of_its_own",
            "llama_tied",
            {{"method", "lora"}, {"trainable_token_indices", {{"embed_tokens", {3, 5}}, {"lm_head", {5, 8, 9}}}}}},
      Saved{"lora_bias_all", "roberta_cls", {{"method", "lora"}, {"bias", "all"}}},
      Saved{"lora_whole_names",
            "llama_tied",
            {{"method", "lora"},
             {"target_modules", {"q_proj", "model.layers.0.self_attn.v_proj"}},
             {"layers_to_transform", 1}}},
      Saved{"overlapping_patterns",
            "bert_cls",
            {{"method", "lora"},
             {"rank_pattern", {{"query", 2}, {"(query|value)", 3}}},
             {"alpha_pattern", {{"value", 4}, {".*", 1}, {"query", 9}}}}},
      Saved{"saved_ends_tied",
            "llama_tied",
            {{"method", "lora"}, {"modules_to_save", {"lm_head"}}, {"ensure_weight_tying", true}}},
      Saved{"adapted_ends_tied",
            "llama_tied",
            {{"method", "lora"}, {"target_modules", {"q_proj", "embed_tokens"}}, {"ensure_weight_tying", true}}},
      Saved{"saved_words_gpt2",
            "gpt2",
            {{"method", "lora"}, {"modules_to_save", {"wte"}}, {"ensure_weight_tying", true}}},
      Saved{"pissa_on_embedding",
            "llama_tied",
            {{"method", "pissa"}, {"r", 2}, {"target_modules", {"embed_tokens", "q_proj"}}}},
      Saved{"vera_exclude",
            "bert_cls",
            {{"method", "vera"},
             {"r", 4},
             {"save_projection", false},
             {"target_modules", {"query", "dense"}},
             {"exclude_modules", {"pooler.dense"}}}},
      Saved{"randlora_exclude",
            "bert_cls",
            {{"method", "randlora"}, {"r", 4}, {"target_modules", {"query", "key"}}, {"exclude_modules", {"key"}}}},
      Saved{"ia3_layers", "bert_cls", {{"method", "ia3"}, {"layers_to_transform", 1}}},
      Saved{
          "ia3_feed_forward", "bert_cls", {{"method", "ia3"}, {"feedforward_modules", {"intermediate.dense", "key"}}}},
      Saved{"new_tokens", "llama_heads", {{"method", "lora"}}, false, 3},
      Saved{"new_tokens_tied", "llama_tied", {{"method", "lora"}}, false, 3},
      Saved{"new_tokens_gpt2", "gpt2", {{"method", "lora"}}, false, 3},
      Saved{"new_tokens_exported", "llama_heads", {{"method", "lora"}}, true, 3},
      Saved{"new_tokens_head_adapted",
            "llama_heads",
            {{"method", "lora"}, {"target_modules", {"q_proj", "lm_head"}}},
            false,
            3},
      Saved{"new_tokens_saved",
            "llama_tied",
            {{"method", "lora"}, {"target_modules", {"q_proj"}}, {"modules_to_save", {"embed_tokens"}}},
            false,
            3},
      Saved{"causal_lora", "mistral_window", {{"method", "lora"}, {"r", 4}}},
      Saved{"causal_all_linear", "phi3_window", {{"method", "lora"}, {"r", 3}, {"target_modules", "all-linear"}}},
      Saved{"causal_conv1d", "gpt2", {{"method", "dora"}, {"r", 3}, {"target_modules", {"c_attn", "c_fc"}}}},
      Saved{"causal_ends",
            "llama_heads",
            {{"method", "lora"}, {"r", 3}, {"target_modules", {"q_proj", "embed_tokens", "lm_head"}}}},
      Saved{"causal_save_ends",
            "llama_heads",
            {{"method", "lora"}, {"r", 3}, {"modules_to_save", {"embed_tokens", "lm_head"}}}},
      Saved{"causal_tokens", "llama_tied", {{"method", "lora"}, {"r", 3}, {"trainable_token_indices", {3, 5, 8}}}},
      Saved{"causal_prefix", "qwen2_tied", {{"method", "prefix_tuning"}, {"num_virtual_tokens", 3}}},
      Saved{"causal_prompt", "gemma2", {{"method", "prompt_tuning"}, {"num_virtual_tokens", 3}}}};
  return cases;
}

// One Python for all: it starts slowly.
TEST(PeftLoads, WhatWeSave) {
  if (!test::has_peft()) GTEST_SKIP() << "needs PEFT in " << test::oracle_python() << ": scripts/setup --oracle";
  const test::TemporaryFolder folder;
  std::string arguments;
  for (const Saved& saved : saved_cases()) arguments += write_case(saved, folder.path());
  test::expect_no_problems("check_peft_loads.py", arguments, saved_cases().size(), folder.path());
}

}  // namespace
}  // namespace deltaw
