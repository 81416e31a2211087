#include <gtest/gtest.h>

#include "io/resolve_model.h"
#include "support/environment.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::Environment;
using test::error_of;
using test::put;
using test::TemporaryFolder;
using test::Variables;

class ResolveModel : public testing::Test {
 protected:
  TemporaryFolder folder_;
  const std::string root_ = folder_.path().string();
  const std::string hub_ = root_ + "/huggingface/hub";
  Environment environment_{Variables{{"HF_HUB_CACHE", nullptr},
                                     {"HUGGINGFACE_HUB_CACHE", nullptr},
                                     {"HF_HOME", nullptr},
                                     {"XDG_CACHE_HOME", root_.c_str()},
                                     {"HOME", root_.c_str()}}};

  std::filesystem::path add(const std::string& cache, const std::string& name, const std::string& revision) {
    const std::filesystem::path model = cache + "/models--" + name;
    put(model / "refs" / "main", revision);
    put(model / "snapshots" / revision / "config.json", "{}");
    return model / "snapshots" / revision;
  }
};

TEST_F(ResolveModel, GivesAFolderAsItIs) {
  EXPECT_EQ(resolve_model(root_), folder_.path());
  put(folder_ / "sub/x", "");
  EXPECT_EQ(resolve_model("~/sub"), folder_ / "sub");
}

TEST_F(ResolveModel, FindsTheRevisionOfRefsMain) {
  const auto wanted = add(hub_, "org--my-model", "abc123");
  put(std::filesystem::path(hub_) / "models--org--my-model/snapshots/other/config.json", "{}");
  EXPECT_EQ(resolve_model("org/my-model"), wanted);
}

TEST_F(ResolveModel, FindsTheOnlySnapshotWithoutRefs) {
  const auto wanted = add(hub_, "bert-base", "abc");
  std::filesystem::remove(std::filesystem::path(hub_) / "models--bert-base/refs/main");
  EXPECT_EQ(resolve_model("bert-base"), wanted);
  put(std::filesystem::path(hub_) / "models--bert-base/snapshots/other/config.json", "{}");
  EXPECT_EQ(error_of([] { resolve_model("bert-base"); }).id(), "config.model-not-found");
}

TEST_F(ResolveModel, FollowsTheVariablesInTheOrderOfTheHub) {
  const auto general = add(hub_, "m", "1"), home = add(root_ + "/home/hub", "m", "2"),
             hub = add(root_ + "/c", "m", "3");
  EXPECT_EQ(resolve_model("m"), general);
  const std::string home_folder = root_ + "/home", cache = root_ + "/c";
  const Environment with_home(Variables{{"HF_HOME", home_folder.c_str()}});
  EXPECT_EQ(resolve_model("m"), home);
  const Environment with_cache(Variables{{"HF_HUB_CACHE", cache.c_str()}});
  EXPECT_EQ(resolve_model("m"), hub);
}

TEST_F(ResolveModel, GivesTheCommandThatDownloads) {
  const Error error = error_of([] { resolve_model("org/absent"); });
  EXPECT_EQ(error.id(), "config.model-not-found");
  EXPECT_EQ(error.parts().fix, "download it: deltaw download org/absent");
  EXPECT_EQ(error.parts().where, hub_);
  add(hub_, "org--absence", "1");
  EXPECT_EQ(error_of([] { resolve_model("org/absent"); }).parts().fix,
            "did you mean 'org/absence'? or download it: deltaw download org/absent");
}

TEST_F(ResolveModel, RefusesACopyThatIsNotWhole) {
  const auto snapshot = add(hub_, "m", "1");
  std::filesystem::remove(snapshot / "config.json");
  const Error error = error_of([] { resolve_model("m"); });
  EXPECT_EQ(error.id(), "config.model-not-found");
  EXPECT_NE(error.parts().what.find("not whole"), std::string::npos);
  put(snapshot / "adapter_config.json", "{}");
  EXPECT_EQ(resolve_model("m"), snapshot);
}

TEST_F(ResolveModel, SaysWhatOfAPipelineIsMissing) {
  put(folder_ / "p/unet/config.json", "{}");
  put(folder_ / "p/vae/config.json", "{}");
  put(folder_ / "p/README.md", "");
  const auto refused = [&](const std::string& name) {
    const Error error = error_of([&] { resolve_model(name); });
    EXPECT_EQ(error.id(), "config.model-not-found");
    return error.parts();
  };
  EXPECT_NE(refused(root_ + "/p").what.find("it holds unet, vae"), std::string::npos);
  EXPECT_EQ(refused(root_ + "/p").fix, "give the folder of the UNet: " + root_ + "/p/unet");
  std::filesystem::remove_all(folder_ / "p/unet");
  EXPECT_NE(refused(root_ + "/p").what.find("no unet/config.json"), std::string::npos);

  const auto snapshot = add(hub_, "org--sd", "1");
  std::filesystem::remove(snapshot / "config.json");
  put(snapshot / "model_index.json", R"({"unet": ["diffusers", "UNet2DConditionModel"]})");
  EXPECT_EQ(refused("org/sd").what, "the pipeline's unet is missing");
  EXPECT_EQ(refused("org/sd").fix, "download it: deltaw download org/sd");
  put(snapshot / "unet/config.json", "{}");
  EXPECT_EQ(resolve_model("org/sd"), snapshot / "unet");
}

TEST_F(ResolveModel, RefusesAModelOfStableDiffusionInOneFile) {
  const std::string header = R"({"model.diffusion_model.input_blocks.0.0.bias":{"dtype":"F32"}})";
  const auto refused = [&](const std::string& name) {
    const Error error = error_of([&] { resolve_model(name); });
    EXPECT_EQ(error.id(), "config.model-not-found");
    EXPECT_NE(error.parts().what.find("in one file"), std::string::npos) << error.what();
    return error.parts().fix;
  };
  for (const char* name : {"sd/v1-5.safetensors", "old/v1-4.ckpt"}) {
    const auto file = put(folder_ / name, "12345678" + header);
    for (const auto& given : {file, file.parent_path()}) {
      const std::string fix = refused(given.string());
      EXPECT_NE(fix.find("from_single_file(\"" + file.filename().string() + "\")"), std::string::npos);
      EXPECT_NE(fix.find("save_pretrained"), std::string::npos);
    }
  }
  const auto other = put(folder_ / "lora/style.safetensors", R"({"lora_unet_x.alpha":{}})");
  EXPECT_EQ(resolve_model((folder_ / "lora").string()), folder_ / "lora");
  EXPECT_NE(error_of([&] { resolve_model(other.string()); }).parts().what.find("this is a file"), std::string::npos);
}

TEST_F(ResolveModel, NamesTheNearestFolder) {
  put(folder_ / "minilm/config.json", "{}");
  const Error error = error_of([&] { resolve_model(root_ + "/minlm/"); });
  EXPECT_EQ(error.id(), "config.model-not-found");
  EXPECT_EQ(error.parts().fix, "did you mean 'minilm'?");
  EXPECT_EQ(error_of([&] { resolve_model(root_ + "/minilm/config.json"); }).id(), "config.model-not-found");
  EXPECT_EQ(error_of([] { resolve_model(""); }).id(), "config.model-not-found");
}

TEST_F(ResolveModel, TakesAGgufFileByItsMagicOrItsName) {
  const std::string magic = "GGUF and more";
  EXPECT_EQ(resolve_model(put(folder_ / "sha256-0", magic).string()), folder_ / "sha256-0");
  EXPECT_EQ(resolve_model(put(folder_ / "cut.gguf", "").string()), folder_ / "cut.gguf");  // its reader says what it is
  const Error error = error_of([&] { resolve_model(put(folder_ / "other", "x").string()); });
  EXPECT_EQ(error.id(), "config.model-not-found");
}

TEST_F(ResolveModel, NamesTheNearestGgufFile) {
  put(folder_ / "smollm2.gguf", "GGUF");
  const Error error = error_of([&] { resolve_model(root_ + "/smollm.gguf"); });
  EXPECT_EQ(error.parts().what, "there is no such file");
  EXPECT_EQ(error.parts().fix, "did you mean 'smollm2.gguf'?");
  EXPECT_EQ(error_of([] { resolve_model("absent.gguf"); }).parts().what, "there is no such file");  // no hub name
}

TEST_F(ResolveModel, FindsTheOnlyGgufFileOfAFolder) {
  put(folder_ / "m/README.md", "");
  put(folder_ / "m/b.gguf", "GGUF");
  EXPECT_EQ(resolve_model(root_ + "/m"), folder_ / "m/b.gguf");
  put(folder_ / "m/config.json", "{}");  // some hub folders have one beside GGUF files
  EXPECT_EQ(resolve_model(root_ + "/m"), folder_ / "m/b.gguf");
  put(folder_ / "m/a.gguf", "GGUF");
  const Error error = error_of([&] { resolve_model(root_ + "/m"); });
  EXPECT_EQ(error.id(), "config.model-not-found");
  EXPECT_EQ(error.parts().what, "the folder holds 2 GGUF files: a.gguf, b.gguf");
  EXPECT_EQ(error.parts().fix, "give one of them: model_name_or_path: " + root_ + "/m/a.gguf");
  put(folder_ / "m/model.safetensors", "");
  EXPECT_EQ(resolve_model(root_ + "/m"), folder_ / "m");
  put(folder_ / "adapter/adapter_config.json", "{}");
  put(folder_ / "adapter/x.gguf", "GGUF");
  EXPECT_EQ(resolve_model(root_ + "/adapter"), folder_ / "adapter");
}

TEST_F(ResolveModel, FindsTheGgufFileOfASnapshot) {
  const auto snapshot = add(hub_, "org--m-GGUF", "1");
  std::filesystem::remove(snapshot / "config.json");
  put(snapshot / "m.gguf", "GGUF");
  EXPECT_EQ(resolve_model("org/m-GGUF"), snapshot / "m.gguf");
  put(snapshot / "n.gguf", "GGUF");
  EXPECT_NE(error_of([] { resolve_model("org/m-GGUF"); }).parts().what.find("m.gguf, n.gguf"), std::string::npos);
}

TEST_F(ResolveModel, FindsTheGgufFileOfAQuantisation) {
  const auto snapshot = add(hub_, "org--m-GGUF", "1");
  for (const char* file :
       {"m-Q4_K_M.gguf", "m-q8_0.gguf", "BF16/m-00001-of-00002.gguf", "BF16/m-00002-of-00002.gguf"}) {
    put(snapshot / file, "GGUF");
  }
  EXPECT_EQ(resolve_model("org/m-GGUF:Q4_K_M"), snapshot / "m-Q4_K_M.gguf");
  EXPECT_EQ(resolve_model("hf.co/org/m-GGUF:Q8_0"), snapshot / "m-q8_0.gguf");
  EXPECT_EQ(resolve_model("org/m-GGUF:bf16"), snapshot / "BF16/m-00001-of-00002.gguf");
  EXPECT_EQ(resolve_model(snapshot.string() + ":q4_k_m"), snapshot / "m-Q4_K_M.gguf");
  const Error absent = error_of([] { resolve_model("org/m-GGUF:Q6_K"); });
  EXPECT_EQ(absent.id(), "config.model-not-found");
  EXPECT_NE(absent.parts().what.find("no GGUF file of 'Q6_K'"), std::string::npos) << absent.what();
  EXPECT_NE(absent.parts().fix.find("m-Q4_K_M.gguf, m-q8_0.gguf"), std::string::npos) << absent.what();
  EXPECT_NE(absent.parts().fix.find("deltaw download org/m-GGUF:Q6_K"), std::string::npos) << absent.what();
  EXPECT_EQ(error_of([] { resolve_model("org/n:Q6_K"); }).parts().fix, "download it: deltaw download org/n:Q6_K");
  EXPECT_EQ(error_of([] { resolve_model("no file: this"); }).parts().what, "there is no such folder");
}

TEST_F(ResolveModel, StaysInsideTheCache) {
  put(folder_ / "huggingface/secret/config.json", "{}");
  put(std::filesystem::path(hub_) / "models--m/refs/main", "../../../secret\n");
  EXPECT_EQ(error_of([] { resolve_model("m"); }).id(), "config.model-not-found");
  for (const char* name : {"../secret", "a/b/c", "org/", "a//b", "m m"}) {
    EXPECT_EQ(error_of([&] { resolve_model(name); }).id(), "config.model-not-found") << name;
  }
}

}  // namespace
}  // namespace deltaw::io
