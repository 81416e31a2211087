#include "core/unpack.h"

#include <gtest/gtest.h>

#include "core/text_file.h"
#include "support/packed.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::gzipped;
using test::put;
using test::zstd_packed;

std::string long_text() {
  std::string text;
  for (int i = 0; i < 30000; ++i) text += "line " + std::to_string(i * 7919 % 1000) + "\n";
  return text;
}

std::string id_of(const std::function<void()>& action) {
  return error_of(action).id();
}

TEST(Unpack, GivesBackWhatGzipAndZstdPacked) {
  for (const std::string& text : {std::string(), std::string("a"), long_text(), std::string(3'000'000, 'x')}) {
    EXPECT_EQ(unpacked(gzipped(text), "f"), text);
    EXPECT_EQ(unpacked(zstd_packed(text), "f"), text);
  }
  EXPECT_EQ(unpacked("text\n", "f"), "text\n");
  EXPECT_EQ(unpacked("", "f"), "");
}

TEST(Unpack, ReadsMembersAndFramesOneBehindTheOther) {
  const std::string text = long_text();
  EXPECT_EQ(unpacked(gzipped("a\n") + gzipped(text), "f"), "a\n" + text);
  EXPECT_EQ(unpacked(zstd_packed("a\n") + zstd_packed(text), "f"), "a\n" + text);
  EXPECT_EQ(unpacked(gzipped("a\n") + std::string(512, '\0'), "f"), "a\n");  // a block filled with zeros
}

TEST(Unpack, RefusesEveryStreamThatIsCut) {
  std::string text = "some words, some more words, and some words again";
  for (const std::string& packed : {gzipped(text), zstd_packed(text)}) {
    for (size_t size = 4; size < packed.size(); ++size) {
      const Error error = error_of([&] { unpacked(packed.substr(0, size), "rows.jsonl.gz"); });
      EXPECT_EQ(error.id(), "format.compressed") << size;
      EXPECT_EQ(error.parts().where, "rows.jsonl.gz");
    }
  }
}

TEST(Unpack, RefusesDamageAndWhatFollowsTheEnd) {
  const std::string packed = gzipped(long_text());
  std::string damaged = packed;
  damaged[packed.size() / 2] = static_cast<char>(damaged[packed.size() / 2] ^ 16);
  EXPECT_EQ(id_of([&] { unpacked(damaged, "f"); }), "format.compressed");
  EXPECT_EQ(id_of([&] { unpacked(packed + "more", "f"); }), "format.compressed");
  EXPECT_EQ(id_of([&] { unpacked(zstd_packed("a") + "more", "f"); }), "format.compressed");
}

TEST(Unpack, StopsWhereMoreComesThanMay) {
  const std::string text(5'000'000, 'x');
  EXPECT_EQ(id_of([&] { unpack(gzipped(text), Packing::gzip, 4'999'999, "f"); }), "format.compressed");
  EXPECT_EQ(id_of([&] { unpack(zstd_packed(text), Packing::zstd, 4'999'999, "f"); }), "format.compressed");
  EXPECT_EQ(unpack(zstd_packed(text), Packing::zstd, text.size(), "f"), text);
  EXPECT_EQ(most_unpacked(1), uint64_t{1} << 30);
  EXPECT_EQ(most_unpacked(uint64_t{1} << 30), 1000 * (uint64_t{1} << 30));
}

TEST(Unpack, IsWhatEveryFileOfTextGoesThroughWhateverItsName) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(read_text(put(folder / "a.txt", gzipped("b\xC3\xA9\n"))), "b\xC3\xA9\n");
  EXPECT_EQ(read_text(put(folder / "a.txt.gz", "plain\n")), "plain\n");
  EXPECT_EQ(read_text(put(folder / "b.txt", zstd_packed("caf\xE9")), "latin-1"), "caf\xC3\xA9");
  EXPECT_EQ(id_of([&] { read_text(put(folder / "c.txt", gzipped("caf\xE9"))); }), "format.encoding");
}

}  // namespace
}  // namespace deltaw
