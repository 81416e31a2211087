#include "io/gguf_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/files.h"
#include "io/decode.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::error_of;
using test::TemporaryFolder;

std::vector<GgufTensor> tensors_of(const GgufFile& file) {
  std::vector<GgufTensor> tensors;
  for (const TensorBytes& tensor : file.tensors()) {
    tensors.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .stored = tensor.data});
  }
  return tensors;
}

std::function<void(std::span<float>)> counting(float from) {
  return [from](std::span<float> out) { std::iota(out.begin(), out.end(), from); };
}

TEST(GgufWriter, WritesTheBytesThatThePackageWrites) {
  const TemporaryFolder folder;
  const auto path = test::fixture("golden/gguf/blocks.gguf");
  const GgufFile file(path);
  EXPECT_EQ(error_of([&] { gguf_values(file); }).id(), "format.unsupported");  // a list of lists
  const auto plain = test::fixture("golden/gguf/plain.gguf");
  const GgufFile without(plain);
  write_gguf(folder / "copy", gguf_values(without), tensors_of(without));
  EXPECT_EQ(read_file(folder / "copy"), read_file(plain));
}

TEST(GgufWriter, EncodesTensorByTensor) {
  const TemporaryFolder folder;
  std::vector<std::string> order;
  const auto source = [&](const char* name, float from) {
    return [&order, name, from](std::span<float> out) {
      order.push_back(name);
      counting(from)(out);
    };
  };
  write_gguf(folder / "f",
             {{.key = "general.architecture", .value = "llama"},
              {.key = "general.alignment", .type = GgufType::u32, .value = 128},
              {.key = "scores", .type = GgufType::list, .value = {0.5, -1}, .items = GgufType::f32}},
             {{.name = "a", .dtype = Dtype::f16, .shape = {3}, .numbers = source("a", 0)},
              {.name = "big", .dtype = Dtype::f32, .shape = {70000, 2}, .numbers = source("big", 1)},
              {.name = "none", .dtype = Dtype::f32, .shape = {0, 2}},
              {.name = "q", .dtype = Dtype::q8_0, .shape = {2, 32}, .numbers = source("q", -30)},
              {.name = "scalar", .dtype = Dtype::bf16, .shape = {}, .numbers = source("scalar", 5)}});
  EXPECT_EQ(order, (std::vector<std::string>{"a", "big", "q", "scalar"}));
  const GgufFile file(folder / "f");
  EXPECT_EQ(file.values()["scores"], Json({0.5, -1.0}));
  const auto numbers = [&](const char* name) {
    std::vector<float> result(static_cast<size_t>(file.find(name)->count()));
    decode(*file.find(name), result);
    return result;
  };
  EXPECT_EQ(numbers("a"), (std::vector<float>{0, 1, 2}));
  EXPECT_EQ(numbers("scalar"), std::vector<float>{5});
  std::vector<float> wanted(140000);
  std::iota(wanted.begin(), wanted.end(), 1.0f);
  EXPECT_EQ(numbers("big"), wanted);
  EXPECT_EQ(file.find("big")->shape, (std::vector<int64_t>{70000, 2}));
  EXPECT_NEAR(numbers("q")[0], -30, 0.2);
  EXPECT_NEAR(numbers("q")[63], 33, 0.2);
}

TEST(GgufWriter, LeavesTheOldFileWhereANumberCannotBeHeld) {
  const TemporaryFolder folder;
  test::put(folder / "f", "old");
  const Error error = error_of([&] {
    write_gguf(folder / "f", {}, {{.name = "w", .dtype = Dtype::f16, .shape = {2}, .numbers = [](std::span<float> out) {
                                     out[0] = 1;
                                     out[1] = 1e6f;
                                   }}});
  });
  EXPECT_EQ(error.id(), "numeric.non-finite");
  EXPECT_NE(error.parts().what.find("place 1 is 1000000"), std::string::npos) << error.what();
  EXPECT_NE(error.parts().where.find("tensor 'w'"), std::string::npos) << error.what();
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"f"});
}

TEST(GgufWriter, RefusesWhatTheFormatCannotHold) {
  const TemporaryFolder folder;
  const auto value = [&](const GgufValue& given) {
    return error_of([&] { write_gguf(folder / "f", {given}, {}); }).id();
  };
  EXPECT_EQ(value({.key = "a", .type = GgufType::u8, .value = 255}), "none");
  EXPECT_EQ(value({.key = "a", .type = GgufType::u8, .value = 256}), "internal.gguf");
  EXPECT_EQ(value({.key = "a", .type = GgufType::u32, .value = -1}), "internal.gguf");
  EXPECT_EQ(value({.key = "a", .type = GgufType::i8, .value = -129}), "internal.gguf");
  EXPECT_EQ(value({.key = "a", .type = GgufType::u64, .value = std::numeric_limits<uint64_t>::max()}), "none");
  EXPECT_EQ(value({.key = "a", .type = GgufType::u32, .value = 1.5}), "internal.gguf");
  EXPECT_EQ(value({.key = "a", .type = GgufType::text, .value = 1}), "internal.gguf");
  EXPECT_EQ(value({.key = "a", .type = GgufType::text, .value = "\xff"}), "internal.gguf");
  EXPECT_EQ(value({.key = "a", .type = GgufType::boolean, .value = 1}), "internal.gguf");
  EXPECT_EQ(value({.key = "", .type = GgufType::boolean, .value = true}), "internal.gguf");
  EXPECT_EQ(value({.key = "a", .type = GgufType::list, .value = {1, "x"}, .items = GgufType::i32}), "internal.gguf");
  EXPECT_EQ(value({.key = "general.alignment", .type = GgufType::u32, .value = 48}), "internal.gguf");

  const auto tensors = [&](const std::vector<GgufTensor>& given) {
    return error_of([&] { write_gguf(folder / "f", {}, given); }).id();
  };
  const auto numbers = counting(0);
  EXPECT_EQ(tensors({{.name = "a", .shape = {2}, .numbers = numbers}}), "none");
  EXPECT_EQ(tensors({{.name = "a", .shape = {2}, .numbers = numbers}, {.name = "a", .shape = {2}, .numbers = numbers}}),
            "internal.gguf");
  EXPECT_EQ(tensors({{.name = std::string(64, 'a'), .shape = {2}, .numbers = numbers}}), "internal.gguf");
  EXPECT_EQ(tensors({{.name = "a", .shape = {2, -1}, .numbers = numbers}}), "internal.gguf");
  EXPECT_EQ(tensors({{.name = "a", .shape = {1, 1, 1, 1, 1}, .numbers = numbers}}), "internal.gguf");
  EXPECT_EQ(tensors({{.name = "a", .dtype = Dtype::q8_0, .shape = {32, 2}, .numbers = numbers}}), "internal.gguf");
  EXPECT_EQ(tensors({{.name = "a", .dtype = Dtype::u8, .shape = {2}, .numbers = numbers}}), "internal.gguf");
  EXPECT_EQ(tensors({{.name = "a", .dtype = Dtype::q4_0, .shape = {32}, .numbers = numbers}}), "internal.tensor");
  EXPECT_EQ(tensors({{.name = "a", .shape = {2}}}), "internal.gguf");
}

}  // namespace
}  // namespace deltaw::io
