// Damaged files of columns: each is refused with an Error, or read within bounds.
#include <gtest/gtest.h>

#include <random>

#include "core/files.h"
#include "io/column_error.h"
#include "io/column_file.h"
#include "io/column_values.h"
#include "io/parquet_values.h"
#include "io/thrift.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::fixture;
using test::put;
using test::TemporaryFolder;

constexpr const char* kFiles[] = {
    "texts.parquet", "texts_delta.parquet", "numbers_delta.parquet", "nested.parquet",  "polars.parquet",
    "times.parquet", "file.arrow",          "stream.arrow",          "file_zstd.arrow", "polars.arrow"};

/// "read", or the id of the error.
std::string outcome(const std::filesystem::path& path, const std::string& bytes, bool parquet) {
  put(path, bytes);
  int64_t rows = 0;
  const auto take = [&](Json& row, int64_t) {
    EXPECT_TRUE(row.is_object());
    ++rows;
  };
  try {
    parquet ? each_parquet_row(path, take) : each_arrow_row(path, take);
    return "read";
  } catch (const Error& error) {
    EXPECT_FALSE(error.parts().where.empty() || error.parts().fix.empty()) << error.what();
    return error.id();
  }
}

class ColumnFuzz : public testing::TestWithParam<const char*> {
 protected:
  std::string whole_ = read_file(fixture("golden/columns") / GetParam());
  bool parquet_ = std::string(GetParam()).ends_with(".parquet");
  TemporaryFolder folder_;

  std::string try_bytes(const std::string& bytes) const { return outcome(folder_ / "f", bytes, parquet_); }
  void expect_clear(const std::string& result, const std::string& what) const {
    const bool clear =
        result == "read" || result == "format.encoding" || result == (parquet_ ? "format.parquet" : "format.arrow");
    EXPECT_TRUE(clear) << what << " " << result;
  }
};

TEST_P(ColumnFuzz, EveryFileThatIsCutIsRefused) {
  const std::string id = parquet_ ? "format.parquet" : "format.arrow";
  const size_t step = whole_.size() / 400 + 1;
  for (size_t size = 0; size < whole_.size(); size += step) EXPECT_EQ(try_bytes(whole_.substr(0, size)), id) << size;
  for (size_t size = whole_.size() - 40; size < whole_.size(); ++size) {
    // Of a stream, what follows its end may be missing.
    EXPECT_EQ(try_bytes(whole_.substr(0, size)), id) << size;
  }
}

TEST_P(ColumnFuzz, ChangedBytesAreRefusedOrHarmless) {
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string damaged = whole_;
    // The descriptions stand at the end of a file, and everywhere in a stream.
    const size_t window = round % 2 == 0 ? damaged.size() : std::min<size_t>(damaged.size(), 1500);
    for (auto edits = 1 + random() % 3; edits > 0; --edits) {
      const size_t at = damaged.size() - 1 - random() % window;
      constexpr unsigned char kBytes[] = {0, 1, 0x7F, 0x80, 0xFE, 0xFF};
      damaged[at] = static_cast<char>(random() % 2 == 0 ? random() % 256 : kBytes[random() % 6]);
    }
    const std::string result = try_bytes(damaged);
    refused += result != "read";
    expect_clear(result, std::to_string(round));
  }
  EXPECT_GT(refused, 150);
}

TEST_P(ColumnFuzz, PiecesInOtherPlacesAreRefusedOrHarmless) {
  std::mt19937 random(8);
  for (int round = 0; round < 500; ++round) {
    std::string damaged = whole_;
    const size_t size = 1 + random() % 64, from = random() % damaged.size(), to = random() % damaged.size();
    const std::string piece = damaged.substr(from, size);
    if (round % 2 == 0) {
      damaged.replace(to, piece.size(), piece);
    } else {
      damaged.insert(to, piece);
    }
    expect_clear(try_bytes(damaged), std::to_string(round));
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ColumnFuzz, testing::ValuesIn(kFiles));

/// What `action` throws; empty where nothing.
template <class Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const ColumnError& error) {
    return error.what();
  }
  return {};
}

TEST(ColumnBounds, AThriftListIsNoLongerThanItsBytes) {
  std::string_view bytes("\x19\xFC\xFF\xFF\xFF\xFF\x07", 7);  // a list of 2^31 records
  EXPECT_NE(refusal([&] { read_thrift(bytes); }).find("longer than what holds it"), std::string::npos);
  const std::string deep(100000, '\x1C');  // a record in a record ...
  std::string_view nested = deep;
  EXPECT_NE(refusal([&] { read_thrift(nested); }).find("nested too deeply"), std::string::npos);
}

TEST(ColumnBounds, ADictionaryHoldsNoMoreThanItsBytes) {
  EXPECT_NE(refusal([] { read_dictionary(Physical::byte_array, 0, "abcd", int64_t{1} << 40); }), "");
  EXPECT_NE(refusal([] { read_dictionary(Physical::int64, 0, "abcdefgh", 2); }), "");
  EXPECT_EQ(refusal([] { read_dictionary(Physical::int64, 0, "abcdefgh", 1); }), "");
}

TEST(ColumnBounds, ALongRunCostsNothingUntilItIsRead) {
  HybridReader run(std::string_view("\xFE\xFF\xFF\xFF\x0F\x03", 6), 2);  // 2^31 - 1 times 3
  EXPECT_EQ(run.next(), 3u);
  EXPECT_EQ(run.next(), 3u);
  HybridReader packed(std::string_view("\x03\xE4\xE4", 3), 2);  // eight numbers of two bits
  for (const uint32_t wanted : {0u, 1u, 2u, 3u, 0u, 1u, 2u, 3u}) EXPECT_EQ(packed.next(), wanted);
  EXPECT_NE(refusal([&] { packed.next(); }), "");
}

TEST(ColumnBounds, WhatComesOfAFileIsLimited) {
  Allowance allowance(10);
  allowance.spend(uint64_t{1} << 30);
  EXPECT_NE(refusal([&] { allowance.spend(1); }), "");
  EXPECT_NE(refusal([] {
              Allowance nested(10);
              for (int i = 0; i < 1000; ++i) nested.enter();
            }),
            "");
}

}  // namespace
}  // namespace deltaw::io
