// Damaged files: each is refused with an Error, or read without a byte outside the file.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "core/files.h"
#include "io/safetensors.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::put;
using test::TemporaryFolder;

/// "read", or the id of the error; reads every byte that the file hands out.
std::string outcome(const std::filesystem::path& path, const std::string& bytes) {
  put(path, bytes);
  try {
    const SafetensorsFile file(path);
    size_t total = 0;
    unsigned sum = 0;
    for (const TensorBytes& tensor : file.tensors()) {
      total += tensor.size();
      for (size_t i = 0; i < tensor.size(); ++i) sum += static_cast<unsigned>(tensor.data[i]);
    }
    EXPECT_LE(total, bytes.size()) << sum;
    return "read";
  } catch (const Error& error) {
    EXPECT_FALSE(error.parts().where.empty()) << error.what();
    return error.id();
  }
}

std::string valid_file(const TemporaryFolder& folder) {
  std::vector<float> data(12);
  std::iota(data.begin(), data.end(), 0.0f);
  const auto* bytes = reinterpret_cast<const std::byte*>(data.data());
  write_safetensors(folder / "valid", {{"left", Dtype::f32, {2, 3}, bytes},
                                       {"scalar", Dtype::f64, {}, bytes},
                                       {"none", Dtype::bf16, {0, 4}, nullptr},
                                       {"right", Dtype::f16, {3}, bytes}});
  return read_file(folder / "valid");
}

TEST(SafetensorsFuzz, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  const std::string valid = valid_file(folder);
  for (size_t size = 0; size < valid.size(); ++size) {
    const std::string result = outcome(folder / "cut", valid.substr(0, size));
    EXPECT_TRUE(result.starts_with("format.")) << size << " " << result;
  }
  EXPECT_EQ(outcome(folder / "cut", valid), "read");
  EXPECT_EQ(outcome(folder / "cut", valid + '\0'), "format.offsets");
}

TEST(SafetensorsFuzz, FlippedBitsOfTheHeaderAreRefusedOrHarmless) {
  const TemporaryFolder folder;
  const std::string valid = valid_file(folder);
  const size_t header = 8 + static_cast<unsigned char>(valid[0]) + 256 * static_cast<unsigned char>(valid[1]);
  ASSERT_LT(header, valid.size());
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
  EXPECT_GT(refused, static_cast<int>(header));  // only letters of names and metadata may change unnoticed
}

TEST(SafetensorsFuzz, RandomHeadersAreRefusedOrHarmless) {
  const TemporaryFolder folder;
  const char* const words[] = {"{",
                               "}",
                               "[",
                               "]",
                               ",",
                               ":",
                               "\"a\"",
                               "\"b\"",
                               "\"dtype\":",
                               "\"F32\"",
                               "\"U8\"",
                               "\"shape\":",
                               "\"data_offsets\":",
                               "[0,4]",
                               "[4,8]",
                               "[1]",
                               "[]",
                               "0",
                               "4",
                               "-1",
                               "18446744073709551615",
                               "4294967296",
                               "\"__metadata__\":",
                               "null",
                               "1e9",
                               "\\u0000"};
  std::mt19937 random(20240229);
  for (int round = 0; round < 4000; ++round) {
    std::string header =
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})";
    for (auto edits = 1 + random() % 3; edits > 0; --edits) {
      const size_t at = random() % (header.size() + 1);
      header.replace(at, random() % 6, words[random() % std::size(words)]);
    }
    std::string bytes(8, '\0');
    bytes[0] = static_cast<char>(header.size() & 255);
    bytes[1] = static_cast<char>(header.size() >> 8);
    const std::string result = outcome(folder / "random", bytes + header + "12345678");
    EXPECT_TRUE(result == "read" || result.starts_with("format.")) << header << " " << result;
  }
}

}  // namespace
}  // namespace deltaw::io
