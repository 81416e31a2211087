#include "io/checkpoint.h"

#include <gtest/gtest.h>

#include "core/files.h"
#include "io/write_weights.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::error_of;
using test::fixture;
using test::put;
using test::TemporaryFolder;

const float kData[] = {1, 2, 3, 4};

TensorBytes tensor(const std::string& name, int64_t size) {
  return {name, Dtype::f32, {size}, reinterpret_cast<const std::byte*>(kData)};
}

Error error_of_opening(const TemporaryFolder& folder) {
  return error_of([&] { Checkpoint checkpoint(folder.path()); });
}

constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

/// Two shards: b, a in the first, c in the second.
void write_shards(const TemporaryFolder& folder) {
  put(folder / "config.json", R"({"model_type": "bert"})");
  write_safetensors(folder / kFirst, {tensor("b", 2), tensor("a", 1)});
  write_safetensors(folder / kSecond, {tensor("c", 3)});
  write_json(folder / "model.safetensors.index.json",
             {{"metadata", {{"total_size", 24}}}, {"weight_map", {{"a", kFirst}, {"b", kFirst}, {"c", kSecond}}}});
}

void write_index(const TemporaryFolder& folder, const Json& weight_map) {
  write_json(folder / "model.safetensors.index.json", {{"weight_map", weight_map}});
}

TEST(Checkpoint, ReadsOneFile) {
  const TemporaryFolder folder;
  put(folder / "config.json", R"({"model_type": "bert", "hidden_size": 4})");
  write_safetensors(folder / "model.safetensors", {tensor("z", 2), tensor("a", 1)});
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.config()["hidden_size"], 4);
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"z", "a"}));
  EXPECT_EQ(checkpoint.find("a")->size(), 4u);
  EXPECT_EQ(checkpoint.find("no"), nullptr);
  EXPECT_EQ(checkpoint.file_of("z"), folder / "model.safetensors");
  const Error error = error_of([&] { checkpoint.file_of("zz"); });
  EXPECT_EQ(error.id(), "format.missing-tensor");
}

TEST(WriteWeights, MakesShardsThatAreReadAgain) {
  const std::vector<TensorBytes> tensors{tensor("b", 2), tensor("a", 1), tensor("c", 3), tensor("d", 4)};
  const TemporaryFolder folder;
  put(folder / "config.json", "{}");
  write_weights(folder.path(), tensors, 12);  // bytes: c and d do not fit together, and d fits nowhere
  for (const char* name : {"00001", "00002", "00003"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / ("model-" + std::string(name) + "-of-00003.safetensors")));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors"));
  const Json index = read_json(folder / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 40);
  EXPECT_EQ(index["weight_map"]["a"], "model-00001-of-00003.safetensors");
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"b", "a", "c", "d"}));
  EXPECT_EQ(checkpoint.find("d")->size(), 16u);
}

TEST(WriteWeights, MakesNoShardWithoutTensors) {
  const TemporaryFolder folder;
  write_weights(folder.path(), {tensor("b", 4), tensor("a", 1)}, 12);  // b fits nowhere
  EXPECT_EQ(folder.names(),
            (std::vector<std::string>{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                      "model.safetensors.index.json"}));
}

TEST(WriteWeights, MakesOneFileOfWhatFits) {
  const TemporaryFolder folder;
  write_weights(folder.path(), {tensor("b", 2), tensor("a", 1)}, 12);
  EXPECT_TRUE(std::filesystem::exists(folder / "model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors.index.json"));
}

TEST(Checkpoint, ReadsShards) {
  const TemporaryFolder folder;
  write_shards(folder);
  const Checkpoint original(folder.path());
  const Checkpoint checkpoint = original;  // a copy points into its own files
  EXPECT_EQ(checkpoint.files().size(), 2u);
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"b", "a", "c"}));
  EXPECT_EQ(checkpoint.find("c")->shape, std::vector<int64_t>{3});
  EXPECT_EQ(checkpoint.find("c")->data, checkpoint.files()[1].tensors()[0].data);
  EXPECT_EQ(checkpoint.file_of("c"), folder / kSecond);
}

TEST(Checkpoint, RefusesAnIndexThatDisagreesWithItsShards) {
  const auto refused = [](const Json& weight_map, const std::string& part) {
    const TemporaryFolder folder;
    write_shards(folder);
    write_index(folder, weight_map);
    const Error error = error_of_opening(folder);
    EXPECT_EQ(error.id(), "format.index") << weight_map;
    EXPECT_NE(error.parts().what.find(part), std::string::npos) << error.what();
  };
  refused({{"a", kFirst}, {"c", kSecond}}, "'b' of " + std::string(kFirst) + " is not listed");
  refused({{"a", kFirst}, {"b", kSecond}, {"c", kSecond}}, "'b' should be in " + std::string(kSecond) + " but is in");
  refused({{"a", kFirst}, {"b", kFirst}, {"c", kSecond}, {"d", kSecond}}, "'d' should be in");
  refused(Json::object(), "empty");
  refused(Json::array(), "weight_map");
  refused({{"a", 1}}, "no file name");
}

TEST(Checkpoint, RefusesATensorInTwoShards) {
  const TemporaryFolder folder;
  write_shards(folder);
  write_safetensors(folder / kSecond, {tensor("c", 3), tensor("a", 1)});
  const Error error = error_of_opening(folder);
  EXPECT_EQ(error.id(), "format.index");
  EXPECT_NE(error.parts().what.find("'a' is in"), std::string::npos) << error.what();
}

TEST(Checkpoint, RefusesShardsOutsideItsFolder) {
  for (const char* shard : {"../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ""}) {
    const TemporaryFolder folder;
    write_shards(folder);
    write_index(folder, {{"a", shard}});
    EXPECT_EQ(error_of_opening(folder).id(), "format.index") << shard;
  }
}

TEST(Checkpoint, NamesAMissingShard) {
  const TemporaryFolder folder;
  write_shards(folder);
  std::filesystem::remove(folder / kSecond);
  const Error error = error_of_opening(folder);
  EXPECT_EQ(error.id(), "io.not-found");
  EXPECT_NE(error.parts().what.find(kSecond), std::string::npos) << error.what();
}

TEST(Checkpoint, SaysWhatAFolderHoldsInstead) {
  const TemporaryFolder folder;
  put(folder / "notes.txt", "");
  EXPECT_NE(error_of_opening(folder).parts().what.find("notes.txt"), std::string::npos);
  put(folder / "adapter_config.json", "{}");
  Error error = error_of_opening(folder);
  EXPECT_EQ(error.id(), "io.not-found");
  EXPECT_NE(error.parts().what.find("an adapter"), std::string::npos) << error.what();
  EXPECT_NE(error.parts().fix.find("adapter_name_or_path"), std::string::npos) << error.what();

  put(folder / "config.json", "{}");
  error = error_of_opening(folder);
  EXPECT_EQ(error.id(), "io.not-found");
  EXPECT_NE(error.parts().what.find("notes.txt"), std::string::npos) << error.what();
  put(folder / "pytorch_model.bin", "");
  EXPECT_EQ(error_of_opening(folder).id(), "format.torch-file");
  EXPECT_EQ(error_of([&] { Checkpoint checkpoint(folder / "no"); }).id(), "io.not-found");
  EXPECT_EQ(error_of([&] { Checkpoint checkpoint(folder / "notes.txt"); }).id(), "io.not-found");
}

TEST(Checkpoint, ReadsFilesOfTorchSaveWhereThereIsNothingElse) {
  const TemporaryFolder folder;
  put(folder / "config.json", "{}");
  std::filesystem::copy_file(fixture("golden/torch_files/zip.bin"), folder / "pytorch_model.bin");
  EXPECT_NE(Checkpoint(folder.path()).find("0.weight"), nullptr);

  std::filesystem::rename(folder / "pytorch_model.bin", folder / "pytorch_model-00001-of-00001.bin");
  Json shards = Json::object();
  const SafetensorsFile expected(fixture("golden/torch_files/tensors.safetensors"));
  for (const TensorBytes& tensor : expected.tensors()) {
    shards[tensor.name] = "pytorch_model-00001-of-00001.bin";
  }
  write_json(folder / "pytorch_model.bin.index.json", {{"weight_map", shards}});
  EXPECT_EQ(Checkpoint(folder.path()).names().size(), shards.size());

  std::filesystem::copy_file(fixture("golden/torch_files/tensors.safetensors"), folder / "model.safetensors");
  EXPECT_EQ(Checkpoint(folder.path()).file_of("0.weight").filename(), "model.safetensors");
}

TEST(Checkpoint, RefusesAConfigThatIsNoObject) {
  const TemporaryFolder folder;
  put(folder / "config.json", "[]");
  EXPECT_EQ(error_of_opening(folder).id(), "format.config");
  put(folder / "config.json", "{");
  EXPECT_EQ(error_of_opening(folder).id(), "format.json");
}

TEST(Checkpoint, OpensARealOne) {
  DELTAW_NEEDS_DATA(folder, "models/rxnmapper_albert");
  const Checkpoint checkpoint(folder);
  EXPECT_TRUE(checkpoint.config().contains("hidden_size"));
  EXPECT_GT(checkpoint.names().size(), 10u);
  for (const std::string& name : checkpoint.names()) EXPECT_GT(checkpoint.find(name)->size(), 0u) << name;
}

}  // namespace
}  // namespace deltaw::io
