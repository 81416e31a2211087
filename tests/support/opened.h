// Fixtures with an adapter, opened: those that PEFT wrote, and those of the dense formulas, which bring their own
// config.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/family.h"
#include "support/golden.h"
#include "support/temporary.h"

namespace deltaw::test {

inline std::vector<std::string> folders(const std::string& kind) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fixture("golden/" + kind))) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::string base_folder(const std::string& name) {
  return fixture("golden/models/" + name).string();
}

/// Of a causal model [batch, seq, vocabulary], zero on padding: nothing is said of what a model computes there.
inline Tensor logits_of(const Model& model, const Adapter* adapter, const ModelInput& input) {
  const at::NoGradGuard no_grad;
  Call call{.adapter = adapter};
  const Tensor logits = model.forward(input, call);
  return logits.dim() == 3 ? logits.masked_fill(input.attention_mask.eq(0).unsqueeze(-1), 0) : logits;
}

/// What a fixture is loaded for: the head that its config.json names.
inline std::string task_of_fixture(const std::string& name) {
  const Json config = read_json(base_folder(name) + "/config.json");
  for (const HeadSpec& head : find_family(config["model_type"].get<std::string>())->heads) {
    if (config.value("architectures", Json::array({""}))[0] == head.architecture) return head.task_type;
  }
  return "";
}

struct Opened {
  std::unique_ptr<Model> model;
  std::unique_ptr<Adapter> adapter;
  Golden io;
  Json facts;
  TemporaryFolder folder;

  Opened(const std::string& kind, const std::string& name, const std::string& dtype)
      : io(fixture("golden/" + kind + "/" + name + "/io.safetensors")),
        facts(read_json(fixture("golden/" + kind + "/" + name + "/case.json"))) {
    const std::filesystem::path source = fixture("golden/" + kind + "/" + name);
    std::filesystem::copy(source, folder.path(), std::filesystem::copy_options::recursive);
    if (kind == "dense") write_config();
    const std::string base = base_folder(facts["base"]);
    ModelOptions options{.task_type = io.has("labels") ? "" : task_of_fixture(facts["base"]), .dtype = dtype};
    if (task_type_of(base, options.task_type) == "CAUSAL_LM") options = with_adapter_vocabulary(options, folder.path());
    model = load_model(base, options);
    adapter = std::make_unique<Adapter>(Adapter::load(*model, folder.path(), {.trainable = true}));
  }

 private:
  void write_config() const {
    const MethodSpec& spec = find_method(facts["method"].get<std::string>());
    Json config = facts["options"];
    config.update(spec.peft_settings);
    config["peft_type"] = spec.peft_type;
    config["task_type"] = "SEQ_CLS";
    config["target_modules"] = facts["target_modules"];
    config["modules_to_save"] = facts["modules_to_save"];
    write_json(folder / "adapter_config.json", config);
  }
};

struct AdapterCase {
  std::string kind, name;
};

inline void PrintTo(const AdapterCase& c, std::ostream* out) {
  *out << c.kind << "/" << c.name;
}

inline std::vector<AdapterCase> adapter_cases() {
  std::vector<AdapterCase> cases;
  for (const char* kind : {"adapters", "dense"}) {
    for (const std::string& name : folders(kind)) cases.push_back({kind, name});
  }
  return cases;
}

}  // namespace deltaw::test
