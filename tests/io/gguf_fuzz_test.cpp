// Damaged GGUF files: each is refused with an Error, or read without a byte outside the file.
#include <gtest/gtest.h>

#include <random>

#include "core/files.h"
#include "io/decode.h"
#include "io/gguf.h"
#include "io/gguf_bytes.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using namespace test;  // NOLINT: builders of files

/// "read", or the id of the error; decodes every tensor that the file hands out.
std::string outcome(const std::filesystem::path& path, const std::string& bytes) {
  put(path, bytes);
  try {
    const GgufFile file(path);
    size_t total = 0;
    float sum = 0;
    for (const TensorBytes& tensor : file.tensors()) {
      total += tensor.size();
      if (tensor.dtype == Dtype::i8 || tensor.dtype == Dtype::i16 || tensor.dtype == Dtype::i32 ||
          tensor.dtype == Dtype::i64) {
        for (size_t i = 0; i < tensor.size(); ++i) sum += static_cast<float>(tensor.data[i]);
        continue;
      }
      std::vector<float> numbers(static_cast<size_t>(tensor.count()));
      decode(tensor, numbers);
      for (const float number : numbers) sum += number;
    }
    EXPECT_LE(total, bytes.size()) << sum;
    return "read";
  } catch (const Error& error) {
    EXPECT_FALSE(error.parts().where.empty()) << error.what();
    return error.id();
  }
}

GgufBytes valid_file() {
  GgufBytes file;
  file.values = {gguf_value("general.architecture", 8, gguf_text("llama")),
                 gguf_value("general.alignment", 4, raw<uint32_t>(32)),
                 gguf_value("tokens", 9, gguf_list(8, 2, gguf_text("a") + gguf_text("b"))),
                 gguf_value("lists", 9, gguf_list(9, 1, gguf_list(5, 2, raw<int32_t>(1) + raw<int32_t>(2)))),
                 gguf_value("flag", 7, "\1")};
  file.tensors = {gguf_tensor("left", {3, 2}, 0, 0), gguf_tensor("blocks", {32, 2}, 8, 32),
                  gguf_tensor("super", {256}, 12, 128), gguf_tensor("half", {5}, 1, 288)};
  file.data = std::string(288 + 10, '\x11');
  return file;
}

TEST(GgufFuzz, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  const std::string valid = valid_file().all();
  EXPECT_EQ(outcome(folder / "cut", valid), "read");
  for (size_t size = 0; size < valid.size(); ++size) {
    const std::string result = outcome(folder / "cut", valid.substr(0, size));
    EXPECT_TRUE(result == "format.truncated" || (size < 4 && result == "format.gguf")) << size << " " << result;
  }
  EXPECT_EQ(outcome(folder / "cut", valid + std::string(32, '\0')), "format.offsets");
}

TEST(GgufFuzz, FlippedBitsOfTheHeaderAreRefusedOrHarmless) {
  const TemporaryFolder folder;
  const std::string valid = valid_file().all();
  const size_t header = valid_file().header().size();
  int refused = 0;
  for (size_t at = 0; at < header; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = valid;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      const std::string result = outcome(folder / "flipped", damaged);
      EXPECT_TRUE(result == "read" || result.starts_with("format.")) << at << " " << bit << " " << result;
      refused += result != "read";
    }
  }
  EXPECT_GT(refused, static_cast<int>(4 * header));
}

TEST(GgufFuzz, NumbersThatNoFileHoldsAreRefusedOrHarmless) {
  const TemporaryFolder folder;
  const std::string valid = valid_file().all();
  const size_t header = valid_file().header().size();
  const std::vector<uint64_t> numbers = {0, 255, 1ull << 33, 1ull << 62, UINT64_MAX - 7, UINT64_MAX};
  for (size_t at = 4; at + 8 <= header; ++at) {
    for (const uint64_t number : numbers) {
      for (const size_t width : {size_t{4}, size_t{8}}) {
        const std::string result =
            outcome(folder / "n", std::string(valid).replace(at, width, raw(number).substr(0, width)));
        EXPECT_TRUE(result == "read" || result.starts_with("format.")) << at << " " << number << " " << result;
      }
    }
  }
}

TEST(GgufFuzz, RandomPiecesAreRefusedOrHarmless) {
  const TemporaryFolder folder;
  const std::vector<std::string> pieces = {gguf_text("a"),
                                           gguf_text(""),
                                           gguf_list(9, 1, ""),
                                           gguf_list(8, 3, gguf_text("x")),
                                           gguf_value("b", 7, "\1"),
                                           gguf_value("general.alignment", 4, raw<uint32_t>(8)),
                                           gguf_value("split.count", 2, raw<uint16_t>(2)),
                                           gguf_tensor("t", {32}, 2, 0),
                                           gguf_tensor("left", {1}, 0, 320),
                                           raw<uint32_t>(9),
                                           raw<uint32_t>(12),
                                           raw<uint64_t>(1),
                                           raw<uint64_t>(UINT64_MAX),
                                           std::string("\0", 1),
                                           std::string(32, '\0')};
  std::mt19937 random(20260101);
  const std::string valid = valid_file().all();
  const size_t header = valid_file().header().size();
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = valid;
    for (auto edits = 1 + random() % 3; edits > 0; --edits) {
      bytes.replace(4 + random() % (header - 4), random() % 24, pieces[random() % pieces.size()]);
    }
    const std::string result = outcome(folder / "random", bytes);
    EXPECT_TRUE(result == "read" || result.starts_with("format.")) << round << " " << result;
  }
}

TEST(GgufFuzz, TheFileOfThePackageIsRefusedWhereverItIsCut) {
  const TemporaryFolder folder;
  const std::string valid = read_file(fixture("golden/gguf/blocks.gguf"));
  EXPECT_EQ(outcome(folder / "cut", valid), "read");
  for (size_t size = 0; size + 32 <= valid.size(); size += 13) {
    EXPECT_TRUE(outcome(folder / "cut", valid.substr(0, size)).starts_with("format.")) << size;
  }
}

}  // namespace
}  // namespace deltaw::io
