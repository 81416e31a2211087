// Checkpoint folders written again as safetensors.
#include <gtest/gtest.h>

#include "core/files.h"
#include "deltaw/convert.h"
#include "io/checkpoint.h"
#include "support/golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::fixture;

// A checkpoint folder of one of the files of torch.save.
struct Source : test::TemporaryFolder {
  Source(const std::string& file, const std::string& model_type) {
    fs::copy_file(fixture("golden/torch_files/" + file), path() / "pytorch_model.bin");
    write_json(path() / "config.json", {{"model_type", model_type}, {"torch_dtype", "float16"}});
    write_file(path() / "spm.model", "pieces");
    write_file(path() / "pytorch_model.bin.index.json", "{}");
    write_file(path() / "README.md", "a page");
  }
};

TEST(ConvertFolder, WritesEveryTensorUnderItsNameAndInItsType) {
  const Source source("zip.bin", "of nobody");
  const test::TemporaryFolder target;
  const ConvertReport report = convert_folder(source.path(), target.path() / "out");
  EXPECT_EQ(report.problem, "");
  const io::Checkpoint found(target.path() / "out");
  const test::Golden expected(fixture("golden/torch_files/tensors.safetensors"));
  ASSERT_EQ(found.names().size(), expected.names("").size());
  EXPECT_EQ(report.tensors, static_cast<int64_t>(found.names().size()));
  for (const std::string& name : expected.names("")) {
    const io::TensorBytes* bytes = found.find(name);
    ASSERT_NE(bytes, nullptr) << name;
    const at::Tensor value = expected[name].contiguous();
    ASSERT_EQ(bytes->size(), value.nbytes()) << name;
    EXPECT_EQ(std::memcmp(bytes->data, value.data_ptr(), value.nbytes()), 0) << name;
  }
}

TEST(ConvertFolder, CopiesWhatStandsBesideTheWeights) {
  const Source source("zip.bin", "of nobody");
  const test::TemporaryFolder target;
  convert_folder(source.path(), target.path() / "out");
  EXPECT_EQ(read_file(target.path() / "out" / "spm.model"), "pieces");
  EXPECT_FALSE(fs::exists(target.path() / "out" / "pytorch_model.bin"));
  EXPECT_FALSE(fs::exists(target.path() / "out" / "pytorch_model.bin.index.json"));
  EXPECT_EQ(read_json(target.path() / "out" / "config.json"),
            (Json{{"model_type", "of nobody"}, {"torch_dtype", "float16"}}));
}

TEST(ConvertFolder, LeavesOutASecondNameOfTheWordEmbeddings) {
  const Source source("tied.bin", "bert");
  const test::TemporaryFolder target;
  EXPECT_EQ(convert_folder(source.path(), target.path() / "out").tensors, 3);
  const io::Checkpoint found(target.path() / "out");
  EXPECT_NE(found.find("bert.embeddings.word_embeddings.weight"), nullptr);
  EXPECT_EQ(found.find("cls.predictions.decoder.weight"), nullptr);
  EXPECT_EQ(found.find("bert.embeddings.position_ids")->dtype, io::Dtype::i64);
}

TEST(ConvertFolder, RoundsFloatingPointNumbersAlone) {
  const Source source("tied.bin", "bert");
  const test::TemporaryFolder target;
  convert_folder(source.path(), target.path() / "out", at::kBFloat16);
  const io::Checkpoint found(target.path() / "out");
  EXPECT_EQ(found.find("cls.predictions.bias")->dtype, io::Dtype::bf16);
  EXPECT_EQ(found.find("bert.embeddings.position_ids")->dtype, io::Dtype::i64);
  EXPECT_EQ(read_json(target.path() / "out" / "config.json"), (Json{{"model_type", "bert"}, {"dtype", "bfloat16"}}));
}

}  // namespace
}  // namespace deltaw
