#include "io/safetensors.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>

#include "core/files.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::error_of;
using test::put;
using test::TemporaryFolder;

/// The bytes of a file with this header, however wrong, and `data` bytes of data.
std::string file_bytes(const std::string& header, size_t data) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data, '\x01');
}

Error error_of_bytes(const std::string& bytes) {
  const TemporaryFolder folder;
  const auto path = put(folder / "x.safetensors", bytes);
  return error_of([&] { SafetensorsFile file(path); });
}

/// Expects a refusal with this id whose text holds `part`.
void expect_refused(const std::string& header, size_t data, const std::string& id, const std::string& part = "") {
  const Error error = error_of_bytes(file_bytes(header, data));
  EXPECT_EQ(error.id(), id) << header << "\n" << error.what();
  EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << header << "\n" << error.what();
  EXPECT_NE(error.parts().where.find("x.safetensors"), std::string::npos) << error.what();
  EXPECT_FALSE(error.parts().fix.empty());
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

template <class Value>
std::vector<Value> values(const TensorBytes* tensor) {
  std::vector<Value> values(static_cast<size_t>(tensor->count()));
  EXPECT_EQ(tensor->size(), values.size() * sizeof(Value));
  std::memcpy(values.data(), tensor->data, tensor->size());
  return values;
}

TEST(Safetensors, ReadsEveryTypeAsTheReferenceWritesIt) {
  const SafetensorsFile file(test::fixture("io/fixtures/every_type.safetensors"));
  EXPECT_EQ(file.tensors().size(), 12u);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(values<float>(file.find("scalar")), std::vector<float>{2.5});
  EXPECT_TRUE(file.find("scalar")->shape.empty());
  EXPECT_EQ(file.find("empty")->shape, (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(file.find("empty")->size(), 0u);
  EXPECT_EQ(values<uint16_t>(file.find("half")), (std::vector<uint16_t>{0, 0x3C00, 0x4000}));
  EXPECT_EQ(values<uint16_t>(file.find("bf")), (std::vector<uint16_t>{0, 0x3F80, 0x4000, 0x4040}));
  EXPECT_EQ(values<double>(file.find("f64")), (std::vector<double>{0, 1}));
  EXPECT_EQ(values<int64_t>(file.find("long")), (std::vector<int64_t>{-1, int64_t{1} << 40}));
  EXPECT_EQ(values<int32_t>(file.find("int")), std::vector<int32_t>{7});
  EXPECT_EQ(values<int16_t>(file.find("short")), std::vector<int16_t>{-3});
  EXPECT_EQ(values<uint8_t>(file.find("byte")), std::vector<uint8_t>{255});
  EXPECT_EQ(values<int8_t>(file.find("char")), (std::vector<int8_t>{-128, 127}));
  EXPECT_EQ(values<uint8_t>(file.find("flag")), (std::vector<uint8_t>{1, 0, 1}));
  EXPECT_EQ(values<float>(file.find("na\"me \xc3\xa9")), std::vector<float>(6, 1));
  EXPECT_EQ(file.find("bf")->dtype, Dtype::bf16);
  EXPECT_EQ(file.find("flag")->dtype, Dtype::boolean);
  EXPECT_EQ(file.find("no"), nullptr);
}

TEST(Safetensors, WritesTheSameBytesAsTheReference) {
  const TemporaryFolder folder;
  const auto path = test::fixture("io/fixtures/every_type.safetensors");
  const SafetensorsFile file(path);
  write_safetensors(folder / "copy", file.tensors());
  EXPECT_EQ(read_file(folder / "copy"), read_file(path));
}

TEST(Safetensors, KeepsTheOrderGivenAndPadsTheHeader) {
  const TemporaryFolder folder;
  const float data[] = {1, 2, 3};
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  for (const std::string name : {"z", "zz", "zzz", "zzzz", "zzzzz", "zzzzzz", "zzzzzzz", "zzzzzzzz"}) {
    write_safetensors(folder / "f", {{name, Dtype::f32, {2}, bytes}, {"a", Dtype::f32, {}, bytes + 8}}, {});
    const std::string text = read_file(folder / "f");
    EXPECT_EQ(static_cast<unsigned char>(text[0]) % 8, 0) << name;
    const SafetensorsFile file(folder / "f");
    ASSERT_EQ(file.tensors().size(), 2u);
    EXPECT_EQ(file.tensors()[0].name, name);
    EXPECT_TRUE(file.tensors()[0].is_aligned());
    EXPECT_EQ(values<float>(file.find("a")), std::vector<float>{3});
    EXPECT_TRUE(file.metadata().empty());
  }
}

TEST(Safetensors, SurvivesTheFileObjectThatWasCopied) {
  const TemporaryFolder folder;
  put(folder / "f", file_bytes("{\"a\":" + entry("U8", "[3]", "[0,3]") + "}", 3));
  std::vector<SafetensorsFile> files;
  {
    const SafetensorsFile file(folder / "f");
    files.push_back(file);
  }
  std::filesystem::remove(folder / "f");
  EXPECT_EQ(values<uint8_t>(files[0].find("a")), (std::vector<uint8_t>{1, 1, 1}));
}

TEST(Safetensors, AllowsWhatTheFormatAllows) {
  const TemporaryFolder folder;
  const auto count = [&](const std::string& header, size_t data) {
    return SafetensorsFile(put(folder / "f", file_bytes(header, data))).tensors().size();
  };
  EXPECT_EQ(count("{}", 0), 0u);
  EXPECT_EQ(count("{\"__metadata__\":{}}      ", 0), 0u);
  EXPECT_EQ(count("{\"__metadata__\":null}", 0), 0u);  // as MLX writes it
  EXPECT_EQ(count("{\"a\":" + entry("F64", "[]", "[0,8]") + "}", 8), 1u);
  // Empty tensors at the beginning, between others and at the end; entries in any order.
  EXPECT_EQ(count("{\"b\":" + entry("F32", "[1]", "[4,8]") + ",\"a\":" + entry("F32", "[1]", "[0,4]") +
                      ",\"x\":" + entry("I8", "[0]", "[4,4]") + ",\"y\":" + entry("F64", "[7,0]", "[8,8]") +
                      ",\"w\":" + entry("F64", "[0,9223372036854775807]", "[0,0]") + "}",
                  8),
            5u);
}

TEST(Safetensors, ReadsDataThatIsNotAligned) {
  const TemporaryFolder folder;
  const std::string header = "{\"a\":" + entry("U8", "[1]", "[0,1]") + ",\"b\":" + entry("F64", "[1]", "[1,9]") + "}";
  const SafetensorsFile file(put(folder / "f", file_bytes(header, 9)));
  const size_t place = 8 + header.size() + 1;
  EXPECT_EQ(file.find("b")->is_aligned(), place % 8 == 0);
  uint64_t bits = 0;
  std::memcpy(&bits, file.find("b")->data, 8);
  EXPECT_EQ(bits, 0x0101010101010101u);
}

TEST(Safetensors, RefusesAFileWithoutRoomForALength) {
  for (size_t size = 0; size < 8; ++size) {
    const Error error = error_of_bytes(std::string(size, '\0'));
    EXPECT_EQ(error.id(), "format.truncated");
    EXPECT_NE(error.parts().what.find(std::to_string(size) + " bytes"), std::string::npos);
  }
}

TEST(Safetensors, RefusesAHeaderLongerThanTheFile) {
  const Error error = error_of_bytes(file_bytes("{\"a\":" + entry("U8", "[3]", "[0,3]") + "}", 3).substr(0, 30));
  EXPECT_EQ(error.id(), "format.truncated");
  EXPECT_NE(error.parts().what.find("the file has 22"), std::string::npos) << error.what();
}

TEST(Safetensors, RefusesAHeaderBeyondTheLimit) {
  for (const uint64_t length : {uint64_t{100'000'001}, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    std::string bytes(64, ' ');
    std::memcpy(bytes.data(), &length, 8);
    EXPECT_EQ(error_of_bytes(bytes).id(), "format.header-length") << length;
  }
}

TEST(Safetensors, RefusesAHeaderThatIsNoJsonObject) {
  expect_refused("", 0, "format.header");
  expect_refused("[]", 0, "format.header");
  expect_refused(" {}", 0, "format.header");
  expect_refused("{", 0, "format.json", "line 1");
  expect_refused("{} x", 0, "format.json");
  expect_refused("{\"\xff\":1}", 0, "format.json");
  expect_refused(std::string("{}\0", 3), 0, "format.json");
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
  expect_refused(deep, 0, "format.json");
}

TEST(Safetensors, RefusesEntriesThatAreNotWhole) {
  expect_refused("{\"a\":1}", 0, "format.header", "tensor 'a'");
  expect_refused("{\"a\":[]}", 0, "format.header");
  expect_refused("{\"a\":{}}", 0, "format.header", "no 'dtype'");
  expect_refused(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "format.header", "no 'shape'");
  expect_refused(R"({"a":{"dtype":"U8","shape":[1]}})", 1, "format.header", "no 'data_offsets'");
}

TEST(Safetensors, RefusesTypesItDoesNotKnow) {
  expect_refused("{\"a\":" + entry("F99", "[1]", "[0,1]") + "}", 1, "format.dtype", "'F99' is unknown");
  expect_refused("{\"a\":" + entry("f32", "[1]", "[0,4]") + "}", 4, "format.dtype");
  expect_refused(R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,1]}})", 1, "format.dtype");
  for (const char* eight : {"F8_E4M3", "F8_E5M2", "F8_E8M0"}) {
    expect_refused("{\"a\":" + entry(eight, "[1]", "[0,1]") + "}", 1, "format.dtype",
                   std::string(eight) + " is not supported");
  }
}

TEST(Safetensors, RefusesShapesThatCannotBe) {
  for (const char* shape : {"[-1]", "[1.0]", "[1.5]", "[\"1\"]", "[null]", "[true]", "[[1]]", "{}", "1", "null",
                            "[9223372036854775808]", "[18446744073709551616]", "[1e3]"}) {
    expect_refused("{\"a\":" + entry("U8", shape, "[0,1]") + "}", 1, "format.shape");
  }
  for (const char* shape :
       {"[4294967296,4294967296]", "[9223372036854775807,2]", "[3037000500,3037000500]", "[4611686018427387904,4,0]"}) {
    expect_refused("{\"a\":" + entry("U8", shape, "[0,0]") + "}", 0, "format.shape", "more elements than");
  }
  // The elements can be counted, their bytes cannot; 2^61 doubles would wrap to no bytes at all.
  expect_refused("{\"a\":" + entry("F64", "[2305843009213693952]", "[0,0]") + "}", 0, "format.shape");
}

TEST(Safetensors, RefusesOffsetsThatAreNoPair) {
  for (const char* offsets :
       {"[]", "[0]", "[0,1,2]", "[-1,0]", "[0,1.0]", "[\"0\",1]", "0", "{}", "null", "[0,18446744073709551616]"}) {
    expect_refused("{\"a\":" + entry("U8", "[1]", offsets) + "}", 1, "format.offsets");
  }
  expect_refused("{\"a\":" + entry("U8", "[1]", "[1,0]") + "}", 1, "format.offsets", "backwards");
  expect_refused("{\"a\":" + entry("U8", "[0]", "[18446744073709551615,0]") + "}", 1, "format.offsets", "backwards");
}

TEST(Safetensors, RefusesOffsetsPastTheEnd) {
  expect_refused("{\"a\":" + entry("U8", "[2]", "[0,2]") + "}", 1, "format.offsets", "past the end");
  expect_refused("{\"a\":" + entry("U8", "[0]", "[2,2]") + "}", 1, "format.offsets", "past the end");
  expect_refused("{\"a\":" + entry("U8", "[1]", "[18446744073709551614,18446744073709551615]") + "}", 1,
                 "format.offsets", "past the end");
}

TEST(Safetensors, RefusesOffsetsThatDoNotFitTypeAndShape) {
  expect_refused("{\"a\":" + entry("F32", "[2]", "[0,4]") + "}", 4, "format.offsets",
                 "the shape [2] of F32 takes 8 bytes, the offsets [0, 4] hold 4");
  expect_refused("{\"a\":" + entry("U8", "[]", "[0,0]") + "}", 0, "format.offsets");
  expect_refused("{\"a\":" + entry("U8", "[0]", "[0,1]") + "}", 1, "format.offsets");
}

TEST(Safetensors, RefusesGapsOverlapsAndTrailingBytes) {
  const std::string a = "{\"a\":" + entry("U8", "[2]", "[0,2]");
  expect_refused(a + ",\"b\":" + entry("U8", "[1]", "[3,4]") + "}", 4, "format.offsets", "gap");
  expect_refused(a + ",\"b\":" + entry("U8", "[2]", "[1,3]") + "}", 3, "format.offsets", "overlaps");
  expect_refused(a + ",\"b\":" + entry("U8", "[2]", "[0,2]") + "}", 2, "format.offsets", "overlaps");
  expect_refused(a + ",\"b\":" + entry("U8", "[0]", "[1,1]") + "}", 2, "format.offsets");
  expect_refused("{\"a\":" + entry("U8", "[1]", "[1,2]") + "}", 2, "format.offsets", "gap");
  expect_refused(a + "}", 3, "format.offsets", "the tensors take 2 bytes, the file holds 3");
  expect_refused("{}", 1, "format.offsets");
}

TEST(Safetensors, RefusesNamesThatStandTwice) {
  const std::string a = "\"a\":" + entry("U8", "[1]", "[0,1]");
  expect_refused("{" + a + "," + a + "}", 1, "format.duplicate-key", "'a'");
  expect_refused("{" + a + ",\"\\u0061\":" + entry("U8", "[1]", "[1,2]") + "}", 2, "format.duplicate-key");
  expect_refused(R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1, "format.duplicate-key");
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, "format.duplicate-key");
}

TEST(Safetensors, RefusesMetadataThatIsNoText) {
  for (const char* metadata : {"1", "[]", "\"x\"", "{\"a\":1}", "{\"a\":null}", "{\"a\":{}}"}) {
    expect_refused(std::string("{\"__metadata__\":") + metadata + "}", 0, "format.metadata");
  }
}

TEST(Safetensors, TellsWhatAFileIsInstead) {
  const std::pair<const char*, const char*> kinds[] = {{"version https://git-lfs.github.com/spec/v1\noid", "LFS"},
                                                       {"PK\x03\x04 and more bytes", "zip"},
                                                       {"GGUF    and more", "GGUF"},
                                                       {"<!DOCTYPE html><html></html>", "web page"}};
  for (const auto& [bytes, kind] : kinds) {
    const Error error = error_of_bytes(bytes);
    EXPECT_EQ(error.id(), "format.not-safetensors");
    EXPECT_NE(error.parts().what.find(kind), std::string::npos) << error.what();
    EXPECT_EQ(error.parts().fix.find(".bin") != std::string::npos, std::string(kind) == "zip") << error.what();
  }
}

TEST(Safetensors, RefusesPipesFoldersAndNothing) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(error_of([&] { SafetensorsFile file(folder / "pipe"); }).id(), "io.unreadable");
  EXPECT_EQ(error_of([&] { SafetensorsFile file(folder.path()); }).id(), "io.unreadable");
  EXPECT_EQ(error_of([&] { SafetensorsFile file("/dev/zero"); }).id(), "io.unreadable");
  EXPECT_EQ(error_of([&] { SafetensorsFile file(folder / "no"); }).id(), "io.not-found");
}

TEST(WriteSafetensors, LeavesNothingOnAFullDisk) {
  const TemporaryFolder folder;
  const std::vector<std::byte> data(1 << 20);
  const std::vector<TensorBytes> tensors = {{"a", Dtype::u8, {1 << 20}, data.data()}};
  EXPECT_EQ(error_of([&] { write_safetensors("/dev/full", tensors); }).id(), "io.full-disk");

  rlimit before = {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {100000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const Error error = error_of([&] { write_safetensors(folder / "f", tensors); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_EQ(error.id(), "io.unwritable");
  EXPECT_TRUE(folder.names().empty());
}

TEST(WriteSafetensors, RefusesTensorsThatNoReaderWouldTake) {
  const TemporaryFolder folder;
  const std::byte data[8] = {};
  const auto id = [&](const std::vector<TensorBytes>& tensors) {
    return error_of([&] { write_safetensors(folder / "f", tensors); }).id();
  };
  EXPECT_EQ(id({{"a", Dtype::u8, {1}, data}, {"a", Dtype::u8, {1}, data}}), "internal.tensor");
  EXPECT_EQ(id({{"__metadata__", Dtype::u8, {1}, data}}), "internal.tensor");
  EXPECT_EQ(id({{"a", Dtype::u8, {-1}, data}}), "internal.tensor");
  EXPECT_EQ(id({{"a", Dtype::u8, {1}, nullptr}}), "internal.tensor");
  EXPECT_EQ(id({{"\xff", Dtype::u8, {1}, data}}), "internal.tensor");
  EXPECT_TRUE(folder.names().empty());
  EXPECT_EQ(id({{"a", Dtype::u8, {0}, nullptr}}), "none");
}

// ---- a file that others change while it is open ----

TEST(SafetensorsFile, NoticesThatItWasCutWhileItIsOpen) {
  const TemporaryFolder folder;
  const std::vector<std::byte> data(1 << 16);
  write_safetensors(folder / "f", {{"a", Dtype::u8, {1 << 16}, data.data()}});
  const SafetensorsFile file(folder / "f");
  EXPECT_NO_THROW(file.check_length());
  const auto size = std::filesystem::file_size(folder / "f");
  std::filesystem::resize_file(folder / "f", size - 1);
  const Error error = error_of([&] { file.check_length(); });
  EXPECT_EQ(error.id(), "io.file-cut");
  EXPECT_NE(error.parts().what.find(std::to_string(size - 1)), std::string::npos) << error.what();
  EXPECT_EQ(error.parts().where, (folder / "f").string());
  std::filesystem::resize_file(folder / "f", size + 1);  // longer does no harm: what was there is there
  EXPECT_NO_THROW(file.check_length());
}

TEST(SafetensorsFile, IsKnownByItsAddresses) {
  const TemporaryFolder folder;
  const std::byte data[64] = {};
  const std::filesystem::path path = folder / "a\x1b[31m";
  write_safetensors(path, {{"a", Dtype::u8, {64}, data}});
  const std::byte* address = nullptr;
  {
    const SafetensorsFile file(path);
    address = file.find("a")->data;
    ASSERT_NE(mapped_file(address), nullptr);
    EXPECT_EQ(std::string(mapped_file(address)), (folder / "a\\x1b[31m").string()) << "fit for a terminal";
    EXPECT_EQ(mapped_file(data), nullptr);
  }
  EXPECT_EQ(mapped_file(address), nullptr);
}

}  // namespace
}  // namespace deltaw::io
