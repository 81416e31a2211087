// Folders of adapters that were written to do harm, or by a faulty tool: every one ends in an error that says what is
// wrong.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "adapt/adapter_folder.h"
#include "core/files.h"
#include "io/safetensors.h"
#include "support/golden.h"
#include "support/mutations.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::put;
using test::small_config;

class HostileConfig : public testing::Test {
 protected:
  HostileConfig() : model(load_model(test::fixture("golden/models/bert_cls").string(), {.dtype = "float32"})) {}

  void save(const std::string& method, const Json& more, const fs::path& to) const {
    Json values = test::small_options(find_method(method));
    if (more.is_object()) values.update(more);
    values["method"] = method;
    fs::create_directories(to);
    Adapter::create(*model, adapter_config_from_json(values, "test"), 1).save(to);
  }
  /// The reading that gets furthest, since it passes over missing tensors.
  void read_all(const fs::path& at, const std::string& what) const {
    test::ends_clearly(what, [&] { Adapter::load(*model, at, {.allow_partial = true, .trainable = true}); });
  }
  /// All that reads the folder.
  void read(const fs::path& at, const std::string& what) const {
    read_all(at, what);
    test::ends_clearly(what, [&] { Adapter::load(*model, at); });
    test::ends_clearly(what, [&] { with_adapter_head({}, at); });
    test::ends_clearly(what, [&] { with_adapter_vocabulary({}, at); });
  }

  std::unique_ptr<Model> model;
  test::TemporaryFolder folder;
};

TEST_F(HostileConfig, WithAnyKeyOfAnyTypeEndsInAClearError) {
  const std::vector<Json> values = test::strange_values();
  std::vector<std::pair<std::string, Json>> adapters = {
      {"lora", {{"rank_pattern", {{"query", 2}}}, {"trainable_token_indices", {1, 2}}, {"bias", "all"}}},
      {"lora", {{"init_lora_weights", "pissa"}, {"share", {{"lora_A", "query"}}}}}};
  for (const MethodSpec* spec : method_table()) adapters.emplace_back(spec->id, Json::object());
  const std::set<std::string> unread = {"auto_mapping", "revision", "inference_mode", "peft_version"};
  int number = 0;
  for (const auto& [method, more] : adapters) {
    const bool first = number == 0;
    const fs::path at = folder / std::to_string(number++);
    save(method, more, at);
    const Json whole = read_json(at / "adapter_config.json");
    std::vector<std::string> keys = {"parts", "method", "beside", "share", "kept_components", "rank_pattern"};
    for (const auto& [key, value] : whole.items()) keys.push_back(key);
    for (const std::string& key : keys) {
      if (!first && unread.contains(key)) continue;
      for (const Json& value : values) {
        Json changed = whole;
        changed[key] = value;
        put(at / "adapter_config.json", changed.dump());
        const std::string what = method + ": " + key + " = " + value.dump().substr(0, 60);
        first ? read(at, what) : read_all(at, what);  // the others read what no method has a part in
      }
    }
    fs::remove_all(at);
  }
}

TEST_F(HostileConfig, MayBeNoObject) {
  save("lora", {}, folder / "a");
  for (const char* text : {"[]", "[{\"r\": 8}]", "null", "3", "\"LORA\"", "", "{"}) {
    put(folder / "a" / "adapter_config.json", text);
    const Error error = error_of([&] { Adapter::load(*model, folder / "a"); });
    EXPECT_EQ(error.id().substr(0, 7), "format.") << text;
    read(folder / "a", text);
  }
}

TEST_F(HostileConfig, MayHaveMetadataOfAnyKind) {
  save("lora", {}, folder / "a");
  const fs::path path = folder / "a" / "adapter_model.safetensors";
  fs::copy(path, folder / "whole");
  const io::SafetensorsFile whole(folder / "whole");
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  for (const char* key : {"labels", "problem_type", "shared_hash", "format", "base"}) {
    for (const std::string& text : {std::string(), std::string("["), std::string("3"), std::string("{}"),
                                    std::string("[1, null, {\"a\": []}]"), std::string("[\"\\u001b\"]"), deep}) {
      std::map<std::string, std::string> metadata = whole.metadata();
      metadata[key] = text;
      io::write_safetensors(path, whole.tensors(), metadata);
      read(folder / "a", std::string(key) + " = " + text.substr(0, 20));
    }
  }
  // A file without the head lets the labels alone say how many there are.
  std::vector<io::TensorBytes> headless;
  for (const io::TensorBytes& tensor : whole.tensors()) {
    if (tensor.name.find("classifier") == std::string::npos) headless.push_back(tensor);
  }
  io::write_safetensors(path, headless, {{"labels", deep}});
  read(folder / "a", "labels without a head");
  EXPECT_TRUE(with_adapter_head({}, folder / "a").label_names.empty());
}

TEST_F(HostileConfig, NamesPartsInsideTheFolderOnly) {
  const Json good = {{"folder", "0-lora"}, {"weight", 1.0}, {"frozen", false}};
  const auto list = [](const Json& part) { return Json::array({part}); };  // braces around one value are that value
  const auto part = [&](const Json& change) {
    Json changed = good;
    changed.update(change);
    return list(changed);
  };
  const fs::path whole = folder / "whole";
  save("lora", {}, whole / "0-lora");
  save("lora", {}, folder / "outside");
  fs::create_directory_symlink(folder / "outside", whole / "link");
  fs::create_directory_symlink(whole, whole / "itself");
  fs::create_directories(whole / "nested" / "0-lora");
  write_json(whole / "nested" / "adapter_config.json", {{"peft_type", "COMPOSITE"}, {"parts", list(good)}});
  const auto load = [&](const Json& parts) {
    write_json(whole / "adapter_config.json", {{"peft_type", "COMPOSITE"}, {"parts", parts}});
    read(whole, parts.dump());
    return error_of([&] { Adapter::load(*model, whole); });
  };
  EXPECT_EQ(load(list(good)).id(), "none");
  const std::vector<Json> wrong = {list(Json::object()),
                                   Json::array(),
                                   "x",
                                   3,
                                   {good, nullptr},
                                   part({{"weight", "1"}}),
                                   part({{"frozen", 0}}),
                                   part({{"folder", ""}}),
                                   part({{"folder", "."}}),
                                   part({{"folder", ".."}}),
                                   part({{"folder", "../outside"}}),
                                   part({{"folder", (folder / "outside").string()}}),
                                   part({{"folder", "link"}}),
                                   part({{"folder", "itself"}}),
                                   part({{"folder", "absent"}}),
                                   part({{"folder", "adapter_config.json"}}),
                                   part({{"folder", "nested"}}),
                                   {good, part({{"folder", "nested"}})[0]}};
  for (const Json& parts : wrong) EXPECT_EQ(load(parts).id(), "format.bad-adapter") << parts;
  write_json(whole / "adapter_config.json", {{"peft_type", "COMPOSITE"}});
  EXPECT_EQ(error_of([&] { Adapter::load(*model, whole); }).id(), "format.bad-adapter");
}

// What a folder is instead of an adapter's.
TEST(AdapterFolders, AreToldFromWhatTheyAreNot) {
  const test::TemporaryFolder folder;
  const auto refused = [&](const fs::path& path) {
    const Error error = error_of([&] { open_adapter_folder(path); });
    EXPECT_EQ(error.id(), "config.no-adapter") << path;
    return error.parts().what + " | " + error.parts().fix;
  };
  const auto says = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  says(refused(folder / "absent"), "no such folder");

  put(folder / "run/checkpoint-9/adapter_config.json", "{}");
  put(folder / "run/checkpoint-10/adapter_config.json", "{}");
  put(folder / "run/checkpoint-11/trainer_state.json", "{}");
  says(refused(folder / "run"), (folder / "run/checkpoint-10").string());

  put(folder / "model/config.json", "{}");
  says(refused(folder / "model"), "model_name_or_path");

  put(folder / "mlx/adapters.safetensors", "");
  says(refused(folder / "mlx"), "adapter_config.json beside its tensors");
  put(folder / "mlx/adapter_config.json", R"({"fine_tune_type": "full"})");
  says(refused(folder / "mlx"), "mlx_lm.fuse");
  put(folder / "old/adapters.npz", "");
  says(refused(folder / "old"), "adapters.npz");

  put(folder / "adapter/adapter_config.json", "{}");
  says(refused(folder / "adapter"), "adapter_model.safetensors");
  put(folder / "adapter/adapter_model.bin", "");
  says(refused(folder / "adapter/adapter_model.bin"), "name its folder: " + (folder / "adapter").string());

  put(folder / "half/adapter_model.safetensors", "");
  says(refused(folder / "half"), "fetch that file too");
  fs::create_directories(folder / "empty");
  says(refused(folder / "empty"), "training run");
}

}  // namespace
}  // namespace deltaw
