#include "io/content_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/files.h"
#include "io/safetensors.h"
#include "io/write_weights.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::fixture;
using test::TemporaryFolder;

/// A checkpoint of one large and one small tensor, changed by a test before it is written.
struct Weights {
  std::vector<float> large = std::vector<float>(4096), small = {1, 2, 3};
  std::string name = "a";
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape = {64, 64};
  std::vector<int64_t> counter = {0, 1, 2};
  bool reversed = false;
  int64_t shard = 0;  // bytes; 0: one file

  Weights() { std::iota(large.begin(), large.end(), 0.5f); }

  std::string hash() const {
    const TemporaryFolder folder;
    write_file(folder / "config.json", "{}");
    std::vector<TensorBytes> tensors = {
        {name, dtype, shape, reinterpret_cast<const std::byte*>(large.data())},
        {"b", Dtype::f32, {3}, reinterpret_cast<const std::byte*>(small.data())},
        {"position_ids", Dtype::i64, {3}, reinterpret_cast<const std::byte*>(counter.data())}};
    if (reversed) std::reverse(tensors.begin(), tensors.end());
    if (shard > 0) {
      write_weights(folder.path(), tensors, shard);
    } else {
      write_safetensors(folder / "model.safetensors", tensors);
    }
    return content_hash(Checkpoint(folder.path()));
  }
};

TEST(ContentHash, IsThatOfTheSameTensorsInWhicheverFiles) {
  const std::string hash = Weights().hash();
  EXPECT_TRUE(is_content_hash(hash)) << hash;
  Weights others;
  others.reversed = true;
  EXPECT_EQ(others.hash(), hash);
  others.shard = 64;
  EXPECT_EQ(others.hash(), hash);
  others.counter = {0, 1, 3};
  EXPECT_EQ(others.hash(), hash) << "a counter is no weight";
  EXPECT_EQ(content_hash(Checkpoint(fixture("golden/models/bert_sharded"))),
            content_hash(Checkpoint(fixture("golden/models/bert_cls"))));
}

TEST(ContentHash, StaysAsItIs) {
  // By a program of its own after the description in docs/formats.md: files out there hold such hashes.
  EXPECT_EQ(content_hash(Checkpoint(fixture("golden/models/bert_cls"))), "sampled1:d43ac703607e725ddb5692c44ca12e03");
}

TEST(ContentHash, SeesOtherValuesNamesTypesAndShapes) {
  const std::string hash = Weights().hash();
  const auto hash_after = [](auto change) {
    Weights weights;
    change(weights);
    return weights.hash();
  };
  EXPECT_NE(hash_after([](Weights& w) { w.small[1] = 2.5; }), hash);
  EXPECT_NE(hash_after([](Weights& w) { w.large.front() = 1; }), hash);
  EXPECT_NE(hash_after([](Weights& w) { w.large.back() = 1; }), hash);
  EXPECT_NE(hash_after([](Weights& w) { w.large[4096 / 3] = 1; }), hash);
  EXPECT_NE(hash_after([](Weights& w) { w.large[4096 * 2 / 3] = 1; }), hash);
  EXPECT_NE(hash_after([](Weights& w) { w.name = "c"; }), hash);
  EXPECT_NE(hash_after([](Weights& w) { w.shape = {32, 128}; }), hash);
  EXPECT_NE(hash_after([](Weights& w) {
              w.dtype = Dtype::f16;
              w.shape = {64, 128};
            }),
            hash);
  EXPECT_NE(content_hash(Checkpoint(fixture("golden/models/bert_bf16"))),
            content_hash(Checkpoint(fixture("golden/models/bert_cls"))));
}

TEST(ContentHash, IsToldFromOtherTexts) {
  const std::string digits = "0123456789abcdef0123456789abcdef";
  EXPECT_TRUE(is_content_hash("sampled1:" + digits));
  for (const std::string& text :
       {digits, "sampled2:" + digits, "sampled1:" + digits + "0", "sampled1:" + digits.substr(1),
        "sampled1:" + digits.substr(1) + "\n", std::string()}) {
    EXPECT_FALSE(is_content_hash(text)) << text;
  }
}

}  // namespace
}  // namespace deltaw::io
