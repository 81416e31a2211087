// Configurations of other tools, translated.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>

#include "core/files.h"
#include "core/foreign/configuration.h"
#include "support/temporary.h"

namespace deltaw::test {

/// A place with a handful of deltaw's keys and methods; its checkpoints have 24 blocks.
inline foreign::Here some_here() {
  foreign::Here here;
  here.keys = {"model_name_or_path",
               "adapter_name_or_path",
               "method",
               "train_file",
               "validation_file",
               "text_column",
               "label_column",
               "validation_split",
               "max_length",
               "max_train_samples",
               "dtype",
               "r",
               "lora_alpha",
               "lora_dropout",
               "target_modules",
               "layers_to_transform",
               "learning_rate",
               "output_dir",
               "dataset_dir",
               "randlora_alpha",
               "use_dora",
               "bias",
               "task_type",
               "modules_to_save",
               "packing",
               "chat_template"};
  here.methods = {{"LORA", {"r", "lora_alpha", "lora_dropout", "use_rslora"}},
                  {"ADALORA", {"init_r", "target_r", "lora_alpha"}},
                  {"RANDLORA", {"r", "randlora_alpha"}}};
  here.whole_model = "full";
  here.blocks = [](const std::string&) { return std::optional<int64_t>(24); };
  return here;
}

class Configurations : public ::testing::Test {
 protected:
  TemporaryFolder folder;
  foreign::Here here = some_here();

  std::optional<foreign::Translation> read(const std::string& yaml) const {
    return foreign::translate(read_config_file(put(folder / "c.yaml", yaml)), here, "c.yaml");
  }

  /// Of a file that is another tool's.
  foreign::Translation of(const std::string& yaml) const {
    const auto translation = read(yaml);
    EXPECT_TRUE(translation) << yaml;
    return translation.value_or(foreign::Translation());
  }

  /// Of one without problems.
  Json values_of(const std::string& yaml) const {
    const foreign::Translation translation = of(yaml);
    for (const Error& problem : translation.problems) ADD_FAILURE() << problem.what();
    return translation.values;
  }

  void expect_values(const std::string& yaml, const Json& wanted) const {
    const Json values = values_of(yaml);
    for (const auto& [key, value] : wanted.items()) {
      EXPECT_EQ(values.value(key, Json("missing")), value) << key << " of\n" << yaml;
    }
  }

  /// The words of the one problem that names `key`; fails unless there is one.
  std::string problem_of(const std::string& yaml, const std::string& key) const {
    std::string words;
    for (const Error& problem : of(yaml).problems) {
      const bool names_it = problem.parts().where.find("'" + key + "'") != std::string::npos ||
                            problem.parts().what.find("'" + key + "'") != std::string::npos;
      if (names_it) words += problem.what();
    }
    EXPECT_FALSE(words.empty()) << "no problem with " << key << " in\n" << yaml;
    return words;
  }

  bool became(const std::string& yaml, const std::string& sentence) const {
    const std::vector<std::string> all = of(yaml).became;
    const bool found = std::find(all.begin(), all.end(), sentence) != all.end();
    if (!found) {
      for (const std::string& other : all) ADD_FAILURE() << "became: " << other;
    }
    return found;
  }
};

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace deltaw::test
