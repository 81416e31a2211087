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
  const Error other = error_of([&] { TorchFile file(golden("tensors.safetensors")); });
  EXPECT_EQ(other.id(), "format.torch-file");
  EXPECT_NE(other.parts().what.find("safetensors"), std::string::npos) << other.what();
  EXPECT_NE(other.parts().fix.find(".safetensors"), std::string::npos) << other.what();
  EXPECT_EQ(error_of([&] { TorchFile file(folder / "absent.bin"); }).id(), "io.not-found");
  put(folder / "pointer.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  const Error pointer = error_of([&] { TorchFile file(folder / "pointer.bin"); });
  EXPECT_NE(pointer.parts().what.find("Git LFS"), std::string::npos) << pointer.what();
  EXPECT_NE(pointer.parts().fix.find("git lfs pull"), std::string::npos) << pointer.what();
}

TEST(TorchFile, IsToldFromOtherArchives) {
  const auto number = [](uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
    return text;
  };
  const std::string name = "a.txt", sizes = number(0, 4) + number(0, 4) + number(0, 4);
  const std::string local = "PK\x03\x04" + number(20, 2) + number(0, 2) + number(0, 2) + number(0, 4) + sizes +
                            number(name.size(), 2) + number(0, 2) + name;
  const std::string central = "PK\x01\x02" + number(20, 2) + number(20, 2) + number(0, 2) + number(0, 2) +
                              number(0, 4) + sizes + number(name.size(), 2) + number(0, 2) + number(0, 2) +
                              number(0, 2) + number(0, 2) + number(0, 4) + number(0, 4) + name;
  const std::string end = "PK\x05\x06" + number(0, 4) + number(1, 2) + number(1, 2) + number(central.size(), 4) +
                          number(local.size(), 4) + number(0, 2);
  const TemporaryFolder folder;
  put(folder / "other.bin", local + central + end);
  const Error error = error_of([&] { TorchFile file(folder / "other.bin"); });
  EXPECT_NE(error.parts().what.find("zip archive that torch.save did not write"), std::string::npos) << error.what();
  EXPECT_NE(error.parts().fix.find("unpack"), std::string::npos) << error.what();
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

// What a pickle makes the reader keep is bounded by its bytes, whatever instruction it takes for that.
TEST(TorchFile, FillsNoMemory) {
  const TemporaryFolder folder;
  const std::string magic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e", 15);
  const auto times = [](int count, const std::string& text) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
  };
  const auto said = [&](const std::string& instructions) {
    put(folder / "f.bin", magic + "\x80\x02" + instructions + ".");
    const Error error = error_of([&] { TorchFile file(folder / "f.bin"); });
    EXPECT_EQ(error.id(), "format.pickle");
    return error.parts().what;
  };
  const auto holds = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const std::string put_0("q\0", 2), get_0("h\0", 2);
  holds(said(times(70'000, "(")), "more values at a time");
  holds(said(times(70'000, "]")), "more values at a time");
  holds(said(")" + put_0 + times(70'000, get_0)), "more values at a time");
  holds(said(")" + times(20'000, "\x85")), "more values than");
  holds(said(")" + times(20'000, "\x85\x94")), "more values than");
}

}  // namespace
}  // namespace deltaw::io
