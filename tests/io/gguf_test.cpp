#include "io/gguf.h"

#include <gtest/gtest.h>

#include "io/gguf_bytes.h"
#include "io/safetensors.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::error_of;
using test::gguf_list;
using test::gguf_tensor;
using test::gguf_text;
using test::gguf_value;
using test::GgufBytes;
using test::put;
using test::raw;
using test::TemporaryFolder;

constexpr uint32_t kU32 = 4, kI32 = 5, kBool = 7, kText = 8, kList = 9;
constexpr uint32_t kF32 = 0, kQ40 = 2, kQ80 = 8;

Error error_of_bytes(const std::string& bytes, const std::string& name = "x.gguf") {
  const TemporaryFolder folder;
  const auto path = put(folder / name, bytes);
  return error_of([&] { GgufFile file(path); });
}

void expect_refused(const GgufBytes& file, const std::string& id, const std::string& part) {
  const Error error = error_of_bytes(file.all());
  EXPECT_EQ(error.id(), id) << error.what();
  EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << "\n" << error.what();
  EXPECT_NE(error.parts().where.find("x.gguf"), std::string::npos) << error.what();
  EXPECT_FALSE(error.parts().fix.empty());
}

GgufBytes two_tensors() {
  return {.values = {gguf_value("general.architecture", kText, gguf_text("llama"))},
          .tensors = {gguf_tensor("a", {4, 2}, kF32, 0), gguf_tensor("b", {32, 3}, kQ80, 32)},
          .data = std::string(32 + 3 * 34, '\1')};
}

TEST(Gguf, ReadsEveryTypeOfValueAsThePackageWritesIt) {
  const GgufFile file(test::fixture("golden/gguf/blocks.gguf"));
  const Json& values = file.values();
  EXPECT_EQ(values["general.architecture"], "llama");
  EXPECT_EQ(file.metadata().at("general.architecture"), "llama");
  EXPECT_EQ(values["test.uint8"], 200);
  EXPECT_EQ(values["test.int8"], -3);
  EXPECT_EQ(values["test.uint16"], 60000);
  EXPECT_EQ(values["test.int16"], -300);
  EXPECT_EQ(values["test.uint32"], 4294967295u);
  EXPECT_EQ(values["test.int32"], -7);
  EXPECT_EQ(values["test.float32"], static_cast<double>(1e-5f));
  EXPECT_EQ(values["test.uint64"], (uint64_t{1} << 63) + 1);
  EXPECT_EQ(values["test.int64"], -(int64_t{1} << 40));
  EXPECT_EQ(values["test.float64"], 0.1);
  EXPECT_EQ(values["test.bool"], true);
  EXPECT_EQ(values["test.string"], "text \xc3\xa9");
  EXPECT_EQ(values["test.words"], Json({"one", "", "three"}));
  EXPECT_EQ(values["test.numbers"], Json({1, -2, 3}));
  EXPECT_EQ(values["test.lists"], Json::parse("[[1, 2], [3]]"));
  EXPECT_EQ(file.type_of("test.uint16").type, GgufType::u16);
  EXPECT_EQ(file.type_of("test.words").type, GgufType::list);
  EXPECT_EQ(file.type_of("test.words").items, GgufType::text);
  EXPECT_EQ(file.find_value("test.absent"), nullptr);
}

TEST(Gguf, GivesTensorsInTorchsShapesWithTheirStoredBytes) {
  const GgufFile file(test::fixture("golden/gguf/blocks.gguf"));
  EXPECT_EQ(file.tensors().size(), 15u);
  EXPECT_EQ(file.find("F32")->shape, (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(file.find("F32")->size(), 96u);
  EXPECT_TRUE(file.find("F32")->is_plain());
  EXPECT_TRUE(file.find("F32")->is_aligned());
  EXPECT_EQ(file.find("Q4_K")->dtype, Dtype::q4_k);
  EXPECT_EQ(file.find("Q4_K")->shape, (std::vector<int64_t>{2, 512}));
  EXPECT_EQ(file.find("Q4_K")->count(), 1024);
  EXPECT_EQ(file.find("Q4_K")->size(), 4u * 144);
  EXPECT_FALSE(file.find("Q4_K")->is_plain());
  EXPECT_FALSE(file.find("Q4_K")->is_aligned());
  EXPECT_EQ(file.find("I32")->dtype, Dtype::i32);
  for (const TensorBytes& tensor : file.tensors()) file.release(tensor);
  EXPECT_EQ(file.find("Q8_0")->size(), 12u * 34);
  file.check_length();
}

TEST(Gguf, KnowsTheSizeOfEveryType) {
  for (const auto& [name, numbers, bytes] : std::vector<std::tuple<const char*, int64_t, size_t>>{{"F32", 1, 4},
                                                                                                  {"Q4_0", 32, 18},
                                                                                                  {"Q4_1", 32, 20},
                                                                                                  {"Q5_0", 32, 22},
                                                                                                  {"Q5_1", 32, 24},
                                                                                                  {"Q8_0", 32, 34},
                                                                                                  {"Q2_K", 256, 84},
                                                                                                  {"Q3_K", 256, 110},
                                                                                                  {"Q4_K", 256, 144},
                                                                                                  {"Q5_K", 256, 176},
                                                                                                  {"Q6_K", 256, 210}}) {
    const auto dtype = dtype_named(name);
    ASSERT_TRUE(dtype) << name;
    EXPECT_STREQ(dtype_name(*dtype), name);
    EXPECT_EQ(dtype_block(*dtype).numbers, numbers) << name;
    EXPECT_EQ(dtype_block(*dtype).bytes, bytes) << name;
    EXPECT_EQ(is_block_type(*dtype), numbers > 1) << name;
    EXPECT_EQ(stored_size(*dtype, 3 * numbers), 3 * bytes) << name;
    EXPECT_TRUE(gguf_number(*dtype)) << name;
  }
  EXPECT_FALSE(stored_size(Dtype::q8_0, 33));
  EXPECT_EQ(error_of([] { dtype_size(Dtype::q8_0); }).id(), "internal.dtype");
  EXPECT_FALSE(gguf_number(Dtype::boolean));
}

TEST(Gguf, NeverGoesIntoSafetensors) {
  const TemporaryFolder folder;
  const GgufFile file(test::fixture("golden/gguf/blocks.gguf"));
  EXPECT_EQ(error_of([&] { write_safetensors(folder / "f", {*file.find("Q8_0")}); }).id(), "internal.tensor");
  const std::string header = R"({"a":{"dtype":"Q8_0","shape":[32],"data_offsets":[0,34]}})";
  put(folder / "f", raw<uint64_t>(header.size()) + header + std::string(34, '\0'));
  EXPECT_EQ(error_of([&] { SafetensorsFile f(folder / "f"); }).id(), "format.dtype");
}

TEST(Gguf, IsKnownByItsEndingOrItsMagic) {
  const TemporaryFolder folder;
  const GgufBytes file = two_tensors();
  EXPECT_EQ(open_tensors(put(folder / "f.gguf", file.all())).tensors().size(), 2u);
  EXPECT_TRUE(is_gguf(folder / "f.gguf"));
  EXPECT_TRUE(is_gguf(put(folder / "sha256-1", file.all())));
  EXPECT_EQ(open_tensors(folder / "sha256-1").tensors().size(), 2u);
  EXPECT_TRUE(is_gguf(put(folder / "short.gguf", "GGU")));
  EXPECT_FALSE(is_gguf(put(folder / "short", "GGU")));
  EXPECT_FALSE(is_gguf(folder / "absent.gguf"));
  EXPECT_FALSE(is_gguf(folder.path()));
}

TEST(Gguf, AllowsWhatTheFormatAllows) {
  GgufBytes file = two_tensors();
  file.version = 2;
  file.data += std::string(31, '\0');  // that aligns a tensor which does not follow
  const TemporaryFolder folder;
  EXPECT_EQ(GgufFile(put(folder / "f", file.all())).tensors().size(), 2u);

  GgufBytes other;
  other.alignment = 64;
  other.values = {gguf_value("general.alignment", kU32, raw<uint32_t>(64))};
  other.tensors = {gguf_tensor("second", {2}, kF32, 64), gguf_tensor("first", {1}, kF32, 0),
                   gguf_tensor("scalar", {}, kF32, 128), gguf_tensor("none", {0, 3}, kF32, 192)};
  other.data = std::string(192, '\0');
  const GgufFile read(put(folder / "f", other.all()));
  EXPECT_EQ(read.tensors()[0].name, "first");
  EXPECT_TRUE(read.find("scalar")->shape.empty());
  EXPECT_EQ(read.find("none")->shape, (std::vector<int64_t>{3, 0}));
  EXPECT_EQ(reinterpret_cast<const char*>(read.find("second")->data) -
                reinterpret_cast<const char*>(read.find("first")->data),
            64);

  GgufBytes vocabulary;
  vocabulary.values = {gguf_value("a", kList, gguf_list(kText, 0, ""))};
  EXPECT_EQ(GgufFile(put(folder / "f", vocabulary.all())).values()["a"], Json::array());
}

TEST(Gguf, RefusesAHeadThatIsNoneOfItsOwn) {
  GgufBytes file = two_tensors();
  file.version = 1;
  expect_refused(file, "format.gguf", "version 1 of the format; versions 2 and 3");
  file.version = 4;
  expect_refused(file, "format.gguf", "version 4");
  file.version = 3u << 24;
  expect_refused(file, "format.gguf", "big endian");
  file.version = 3;
  file.magic = "tjgg";
  expect_refused(file, "format.gguf", "before GGUF");
  file.magic = "what";
  expect_refused(file, "format.gguf", "does not begin with the letters GGUF");
  EXPECT_EQ(error_of_bytes("").id(), "format.gguf");
  EXPECT_NE(error_of_bytes("version https://git-lfs.github.com").parts().what.find("Git LFS"), std::string::npos);
}

TEST(Gguf, RefusesCountsThatTheFileCannotHold) {
  const std::string head = "GGUF" + raw<uint32_t>(3);
  for (const uint64_t count : {uint64_t{1}, uint64_t{1} << 40, UINT64_MAX}) {
    EXPECT_EQ(error_of_bytes(head + raw(count) + raw<uint64_t>(0)).id(), "format.truncated") << count;
    EXPECT_EQ(error_of_bytes(head + raw<uint64_t>(0) + raw(count)).id(), "format.truncated") << count;
    GgufBytes file;
    file.values = {gguf_value("a", kList, gguf_list(kU32, count, ""))};
    expect_refused(file, "format.truncated", "the number of members of the value of 'a'");
    file.values = {gguf_value("a", kText, raw(count))};
    expect_refused(file, "format.truncated", "are missing");
    file.values = {raw(count) + "a"};
    EXPECT_EQ(error_of_bytes(file.all()).id(), "format.truncated") << count;
  }
}

TEST(Gguf, RefusesValuesThatAreNone) {
  const auto refuse = [](const std::string& value, const std::string& part) {
    GgufBytes file;
    file.values = {value};
    expect_refused(file, "format.gguf", part);
  };
  refuse(gguf_value("a", 13, "12345678"), "is 13; the format has 0 to 12");
  refuse(gguf_value("a", kBool, "\2"), "is 2, not true (1) or false (0)");
  refuse(gguf_value("a", kText, gguf_text("\xff")), "not UTF-8");
  refuse(gguf_value("\xff", kBool, "\1"), "not UTF-8");
  refuse(gguf_value("", kBool, "\1" + std::string(8, '\0')), "a key is empty");
  refuse(gguf_value("general.alignment", kU32, raw<uint32_t>(0)), "the alignment 0 is no power of two");
  refuse(gguf_value("general.alignment", kU32, raw<uint32_t>(48)), "the alignment 48");
  refuse(gguf_value("general.alignment", kU32, raw<uint32_t>(1u << 31)), "the alignment 2147483648");
  refuse(gguf_value("general.alignment", kI32, raw<int32_t>(32)), "no number of the type u32");
  std::string deep = gguf_list(kU32, 0, "");
  for (int i = 0; i < 20; ++i) deep = gguf_list(kList, 1, deep);
  refuse(gguf_value("a", kList, deep), "more than 8 deep");
  refuse(gguf_value(std::string(65536, 'a'), kBool, "\1"), "the limit is 65535");

  GgufBytes twice;
  twice.values = {gguf_value("a", kBool, std::string("\1")), gguf_value("a", kBool, std::string("\1"))};
  expect_refused(twice, "format.gguf", "the key 'a' stands twice");
}

TEST(Gguf, RefusesTensorsThatCannotBe) {
  const auto refuse = [](const std::string& tensor, const std::string& id, const std::string& part) {
    GgufBytes file;
    file.tensors = {tensor};
    file.data = std::string(128, '\0');
    expect_refused(file, id, part);
  };
  refuse(gguf_tensor("a", {32}, 20, 0), "format.dtype", "the type IQ4_NL is not supported");
  refuse(gguf_tensor("a", {32}, 20, 0), "format.dtype", "llama-quantize");
  refuse(gguf_tensor("a", {32}, 99, 0), "format.dtype", "number 99 is unknown");
  refuse(gguf_tensor("a", {1, 1, 1, 1, 1}, kF32, 0), "format.shape", "5 dimensions, the limit is 4");
  refuse(gguf_tensor("a", {uint64_t{1} << 63}, kF32, 0), "format.shape", "9223372036854775808, which is no size");
  refuse(gguf_tensor("a", {uint64_t{1} << 32, uint64_t{1} << 32}, kF32, 0), "format.shape", "can be counted");
  refuse(gguf_tensor("a", {uint64_t{1} << 62}, kF32, 0), "format.shape", "can be counted");
  refuse(gguf_tensor("a", {16, 2}, kQ40, 0), "format.shape", "its rows have 16 numbers, Q4_0 has blocks of 32");
  refuse(gguf_tensor("a", {}, kQ40, 0), "format.shape", "its rows have 1 numbers");
  refuse(gguf_tensor("a", {32}, kF32, 8), "format.offsets", "8 is no multiple of 32");
  refuse(gguf_tensor("a", {16}, kF32, 32), "format.offsets", "leaves a gap");
  refuse(gguf_tensor("a", {16}, kF32, ~uint64_t{31}), "format.offsets", "past any file");
  refuse(gguf_tensor("a", {4}, kF32, 0), "format.offsets", "take 16 bytes, the file holds 128");
  refuse(gguf_tensor("", {32}, kF32, 0), "format.gguf", "the name of a tensor is empty");
  refuse(gguf_tensor(std::string(256, 'n'), {32}, kF32, 0), "format.gguf", "the limit is 255");

  GgufBytes file = two_tensors();
  file.tensors[1] = gguf_tensor("a", {32, 3}, kQ80, 32);
  expect_refused(file, "format.gguf", "the tensor 'a' stands twice");
  file.tensors[1] = gguf_tensor("b", {32, 3}, kQ80, 0);
  expect_refused(file, "format.offsets", "overlaps the tensor before it, that ends at 32");
}

TEST(Gguf, SaysHowManyBytesAreMissing) {
  GgufBytes file = two_tensors();
  const size_t whole = file.all().size();
  file.data.resize(file.data.size() - 7);
  expect_refused(file, "format.truncated",
                 "the file has " + std::to_string(whole - 7) + " bytes and should have " + std::to_string(whole) +
                     ": 7 are missing");
  expect_refused(file, "format.truncated", "tensor 'b'");
  file.data.clear();
  const Error error = error_of_bytes(file.header());
  EXPECT_NE(error.parts().what.find("should have " + std::to_string(whole)), std::string::npos) << error.what();
}

TEST(Gguf, TellsHowToMergeTheParts) {
  GgufBytes file;
  file.values = {gguf_value("split.no", 2, raw<uint16_t>(1)), gguf_value("split.count", 2, raw<uint16_t>(3))};
  const Error error = error_of_bytes(file.all(), "m-q8-00002-of-00003.gguf");
  EXPECT_EQ(error.id(), "format.split");
  EXPECT_NE(error.parts().what.find("part 2 of 3"), std::string::npos) << error.what();
  EXPECT_NE(error.parts().fix.find("llama-gguf-split --merge m-q8-00001-of-00003.gguf"), std::string::npos);
  file.values[1] = gguf_value("split.count", 2, raw<uint16_t>(1));
  EXPECT_EQ(error_of_bytes(file.all()).id(), "none");
}

}  // namespace
}  // namespace deltaw::io
