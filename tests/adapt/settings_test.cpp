// Keys that choose or change a method: each acts, or is refused beside a method that does not have it.
#include <gtest/gtest.h>

#include <cmath>

#include "adapt/config.h"
#include "deltaw/error.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::error_of;

std::vector<std::string> all_names() {
  std::vector<std::string> names;
  for (const MethodSpec* spec : method_table()) {
    names.push_back(spec->id);
    for (const Preset& preset : spec->presets) names.push_back(preset.id);
  }
  return names;
}

/// Every key and value that chooses a method.
Json all_settings() {
  Json settings = Json::array();
  for (const MethodSpec* spec : method_table()) {
    for (const auto& [key, value] : spec->peft_settings.items()) settings.push_back({{"key", key}, {"value", value}});
  }
  return settings;
}

bool holds(const Json& options, const Json& wanted) {
  return std::all_of(wanted.items().begin(), wanted.items().end(), [&](const auto& item) {
    return options.contains(item.key()) && options[item.key()] == item.value();
  });
}

TEST(Settings, ActOrAreRefusedBesideEveryMethodAndShortName) {
  int acting = 0, refused = 0;
  for (const std::string& name : all_names()) {
    for (const Json& setting : all_settings()) {
      const std::string key = setting["key"];
      for (const Json& value : {setting["value"], Json("true"), Json("True"), Json("yes"), Json(1)}) {
        const std::string pair = name + " beside " + key + " = " + value.dump();
        AdapterConfig config;
        const Error error = error_of([&] {
          config = adapter_config_from_json({{"method", name}, {key, value}}, "test");
        });
        if (error.id() == "none") {
          EXPECT_TRUE(find_method(config.method).peft_settings.contains(key)) << pair << " was dropped";
          const Preset* preset = find_preset(name);
          EXPECT_TRUE(!preset || holds(config.options, preset->options)) << name << " was dropped: " << pair;
          ++acting;
        } else {
          EXPECT_EQ(error.id(), "config.conflict") << pair;
          EXPECT_NE(error.parts().what.find(key), std::string::npos) << error.what();
          EXPECT_NE(error.parts().what.find(name), std::string::npos) << error.what();
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(acting, 5 * 8);
  EXPECT_GT(refused, 5 * 30);
}

TEST(Settings, AreRefusedInAnAdaptersFolderToo) {
  for (const std::string& name : all_names()) {
    for (const Json& setting : all_settings()) {
      const std::string key = setting["key"];
      Json json = adapter_config_to_json(adapter_config_from_json({{"method", name}}, "test"));
      if (json.contains(key)) continue;
      const std::string before = choose_method(json, "test").id;
      json[key] = setting["value"];
      const Error error = error_of([&] { refuse_other_keys(json, choose_method(json, "test"), "test"); });
      EXPECT_TRUE(error.id() != "none" || choose_method(json, "test").id != before) << name << " beside " << key;
    }
  }
}

TEST(Settings, ThatAreOffSayNothing) {
  for (const std::string& name : all_names()) {
    const MethodSpec& spec = find_method(name);
    for (const Json& setting : all_settings()) {
      const std::string key = setting["key"];
      for (const Json& off : {Json(false), Json("false"), Json()}) {
        const Error error = error_of([&] { adapter_config_from_json({{"method", name}, {key, off}}, "test"); });
        const bool contrary = spec.peft_settings.contains(key) && !off.is_null();
        EXPECT_EQ(error.id(), contrary ? "config.conflict" : "none") << name << " beside " << key << " = " << off;
      }
    }
  }
}

TEST(Settings, ExcludeEachOther) {
  const Error error = error_of([] {
    adapter_config_from_json({{"use_dora", true}, {"lora_use_mixer", true}}, "test");
  });
  EXPECT_EQ(error.id(), "config.conflict");
  EXPECT_NE(error.parts().what.find("use_dora"), std::string::npos) << error.what();
  EXPECT_NE(error.parts().what.find("lora_use_mixer"), std::string::npos) << error.what();
}

TEST(Settings, HaveAValueOfTheirType) {
  EXPECT_EQ(error_of([] { adapter_config_from_json({{"use_dora", "x"}}, "test"); }).id(), "config.wrong-type");
  EXPECT_EQ(error_of([] { adapter_config_from_json({{"peft_type", 5}}, "test"); }).id(), "config.wrong-type");
}

TEST(Settings, NameOneMethodInTwoWays) {
  EXPECT_EQ(adapter_config_from_json({{"method", "dora"}, {"peft_type", "LORA"}}, "test").method, "dora");
  EXPECT_EQ(error_of([] {
              adapter_config_from_json({{"method", "ia3"}, {"peft_type", "LORA"}}, "test");
            }).id(),
            "config.conflict");
}

// alpha / r or alpha / sqrt(r), with the rank and the alpha of the layer's own patterns.
TEST(Settings, ScaleByTheRankOfTheLayer) {
  const test::TinyModel model(6, 5, at::kDouble);
  const Json patterns = {
      {"r", 4}, {"lora_alpha", 6}, {"rank_pattern", {{"key", 2}}}, {"alpha_pattern", {{"dense", 10}}}};
  for (const char* method : {"lora", "dora", "moslora"}) {
    for (const bool root : {false, true}) {
      Json options = patterns;
      options["use_rslora"] = root;
      const Adapter adapter = Adapter::create(model, test::small_config(find_method(method), options), 1);
      ASSERT_EQ(adapter.layers().size(), 2u);
      const AdaptedLayer &key = *adapter.layers()[0], &dense = *adapter.layers()[1];
      EXPECT_EQ(key.params["lora_A"].size(0), 2);
      EXPECT_EQ(dense.params["lora_A"].size(0), 4);
      EXPECT_DOUBLE_EQ(key.update().scale, root ? 6 / std::sqrt(2.0) : 3) << method;
      EXPECT_DOUBLE_EQ(dense.update().scale, root ? 5 : 2.5) << method;
    }
  }
}

}  // namespace
}  // namespace deltaw
