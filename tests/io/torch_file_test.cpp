// Files of torch.save: the same tensors as from safetensors, and nothing but tensors.
#include "io/torch_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "core/files.h"
#include "io/safetensors.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::error_of;
using test::fixture;
using test::put;
using test::TemporaryFolder;

std::filesystem::path golden(const std::string& name) {
  return fixture("golden/torch_files") / name;
}

class TorchFiles : public testing::TestWithParam<const char*> {};

TEST_P(TorchFiles, HoldWhatSafetensorsHold) {
  const TorchFile file(golden(GetParam()));
  const SafetensorsFile expected(golden("tensors.safetensors"));
  EXPECT_EQ(file.tensors().size(), expected.tensors().size());
  for (const TensorBytes& wanted : expected.tensors()) {
    const TensorBytes* found = file.find(wanted.name);
    ASSERT_NE(found, nullptr) << wanted.name;
    EXPECT_EQ(found->dtype, wanted.dtype) << wanted.name;
    EXPECT_EQ(found->shape, wanted.shape) << wanted.name;
    const bool equal = wanted.size() == 0 || std::memcmp(found->data, wanted.data, wanted.size()) == 0;
    EXPECT_TRUE(equal) << wanted.name;
  }
}

// Many ends and changed bytes: an error, or tensors within the file.
TEST_P(TorchFiles, MayBeDamaged) {
  const std::string whole = read_file(golden(GetParam()));
  const TemporaryFolder folder;
  const auto outcome = [&](const std::string& bytes) -> std::string {
    put(folder / "f.bin", bytes);
    try {
      const TorchFile file(folder / "f.bin");
      unsigned sum = 0;
      for (const TensorBytes& tensor : file.tensors()) {
        for (size_t i = 0; i < tensor.size(); ++i) sum += static_cast<unsigned>(tensor.data[i]);
      }
      return "read " + std::to_string(sum);
    } catch (const Error& error) {
      EXPECT_FALSE(error.parts().where.empty()) << error.what();
      return error.id();
    }
  };
  for (size_t end = 0; end < whole.size(); end += 7) {
    EXPECT_EQ(outcome(whole.substr(0, end)).substr(0, 7), "format.") << end;
  }
  std::mt19937_64 engine(7);
  size_t refused = 0;
  for (int i = 0; i < 1000; ++i) {
    std::string bytes = whole;
    for (uint64_t changes = 1 + engine() % 3; changes > 0; --changes) {
      bytes[engine() % bytes.size()] = static_cast<char>(engine());
    }
    refused += outcome(bytes).starts_with("format.");
  }
  EXPECT_GT(refused, 100u);
}

INSTANTIATE_TEST_SUITE_P(, TorchFiles, testing::Values("zip.bin", "protocol_4.bin", "legacy.bin"),
                         [](const auto& i) { return std::string(i.param).substr(0, std::strlen(i.param) - 4); });

TEST(TorchFile, ExecutesNothing) {
  const Error error = error_of([] { TorchFile file(golden("command.bin")); });
  EXPECT_EQ(error.id(), "format.pickle");
  EXPECT_NE(error.parts().what.find("system"), std::string::npos) << error.what();
  EXPECT_FALSE(std::filesystem::exists("executed"));
}

TEST(TorchFile, HoldsTensorsAlone) {
  const Error error = error_of([] { TorchFile file(golden("nested.bin")); });
  EXPECT_EQ(error.id(), "format.pickle");
  EXPECT_NE(error.parts().what.find("'model' is no tensor"), std::string::npos) << error.what();
}

TEST(TorchFile, IsToldFromOtherFiles) {
  const TemporaryFolder folder;
  put(folder / "empty.bin", "");
  EXPECT_EQ(error_of([&] { TorchFile file(folder / "empty.bin"); }).id(), "format.torch-file");
  EXPECT_EQ(error_of([&] { TorchFile file(golden("tensors.safetensors")); }).id(), "format.torch-file");
  EXPECT_EQ(error_of([&] { TorchFile file(folder / "absent.bin"); }).id(), "io.not-found");
}

// A pickle that nests without end must not exhaust the stack, nor one that holds itself.
TEST(TorchFile, MayNestWithoutEnd) {
  const TemporaryFolder folder;
  const std::string magic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e", 15);
  put(folder / "deep.bin", magic + "\x80\x02)" + std::string(1 << 20, '\x85') + ".");
  EXPECT_EQ(error_of([&] { TorchFile file(folder / "deep.bin"); }).id(), "format.pickle");
  put(folder / "itself.bin", magic + std::string("\x80\x02]q\x00h\x00"
                                                 "a.",
                                                 9));
  EXPECT_EQ(error_of([&] { TorchFile file(folder / "itself.bin"); }).id(), "format.pickle");
}

}  // namespace
}  // namespace deltaw::io
