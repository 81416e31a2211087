// PEFT itself loads what we save, with equal logits and no name missing or unexpected. Needs the Python of
// scripts/setup --oracle.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdlib>

#include "deltaw/adapter.h"
#include "support/golden.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::fixture;

std::string oracle_python() {
  if (const char* set = std::getenv("DELTAW_ORACLE_PYTHON")) return set;
  return (std::filesystem::path(DELTAW_TESTS_FOLDER).parent_path() / ".venv/bin/python").string();
}

struct Saved {
  const char* name;
  const char* base;
  Json options;
  bool exported = false;  // as a plain LoRA
};

void PrintTo(const Saved& saved, std::ostream* out) {
  *out << saved.name << " over " << saved.base;
}

class PeftLoads : public testing::TestWithParam<Saved> {};

TEST_P(PeftLoads, WhatWeSave) {
  const std::string python = oracle_python();
  if (std::system((python + " -c 'import peft' 2>/dev/null").c_str()) != 0) {
    GTEST_SKIP() << "needs PEFT in " << python << ": scripts/setup --oracle";
  }
  const std::string base = fixture(std::string("golden/models/") + GetParam().base).string();
  const auto model = load_model(base, {.dtype = "float32"});
  const std::string input = base + "/io.safetensors";
  const auto rows = [&](int64_t) {  // for starts from data
    const ModelInput batch = test::Golden(input).input();
    return std::vector<LabelledInput>{{batch, at::zeros({batch.input_ids.size(0)}, at::kLong)}};
  };
  Adapter adapter = Adapter::create(*model, adapter_config_from_json(GetParam().options, "test"), 1, rows);
  test::randomise(adapter, 2);
  if (adapter.method().rank_budget()) {  // as after pruning
    for (const AdaptedLayer* layer : adapter.layers()) {
      const at::NoGradGuard no_grad;
      layer->params["lora_E"][1].zero_();
      adapter.kept_ranks[layer->info.name] = {true, false, true};
    }
  }
  const test::TemporaryFolder folder;
  std::filesystem::path saved = folder.path();
  if (GetParam().exported) {
    saved = folder / "lora";
    export_lora(adapter, saved, 0, test::Golden(input).input());
  } else {
    adapter.save(saved);
  }
  Call call{.adapter = &adapter};
  Tensor logits;
  {
    const at::NoGradGuard no_grad;
    logits = model->forward(test::Golden(input).input(), call).contiguous();
  }
  io::write_safetensors(folder / "logits.safetensors", {to_bytes("logits", logits)});
  const std::string script = fixture("../oracle/check_peft_loads.py").string();
  const std::string command = python + " " + script + " " + base + " " + saved.string() + " " +
                              (folder / "logits.safetensors").string() + " " + input + " >" +
                              (folder / "report.json").string() + " 2>" + (folder / "errors.txt").string();
  const int status = std::system(command.c_str());
  EXPECT_EQ(status, 0) << read_file(folder / "report.json") << read_file(folder / "errors.txt");
}

INSTANTIATE_TEST_SUITE_P(
    Adapters, PeftLoads,
    testing::Values(
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
        Saved{"prefix_tuning", "roberta_cls", {{"method", "prefix_tuning"}, {"num_virtual_tokens", 3}}},
        Saved{"moslora_exported", "bert_cls", {{"method", "moslora"}, {"r", 4}, {"lora_alpha", 8}}, true},
        Saved{"ia3", "roberta_reg", {{"method", "ia3"}}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace deltaw
