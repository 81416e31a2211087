// Parquet and Arrow files: every value as pyarrow reads it (oracle/make_columns.py).
#include <gtest/gtest.h>

#include <cmath>

#include "core/files.h"
#include "core/json.h"
#include "core/text_file.h"
#include "io/column_file.h"
#include "io/column_values.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::error_of;
using test::fixture;
using test::put;
using test::TemporaryFolder;

std::filesystem::path golden(const std::string& name) {
  return fixture("golden/columns") / name;
}

std::vector<Json> rows_of(const std::filesystem::path& file) {
  std::vector<Json> rows;
  const auto take = [&](Json& row, int64_t number) {
    rows.push_back(std::move(row));
    EXPECT_EQ(number, static_cast<int64_t>(rows.size()));
  };
  if (file.extension() == ".parquet") {
    each_parquet_row(file, take);
  } else {
    each_arrow_row(file, take);
  }
  return rows;
}

/// With null for bytes that are no text, as the expected rows have it.
void drop_bytes(Json& value) {
  if (value.is_binary()) value = nullptr;
  if (!value.is_structured()) return;
  for (Json& part : value) drop_bytes(part);
}

class ColumnFiles : public testing::TestWithParam<const char*> {};

TEST_P(ColumnFiles, HoldWhatPyarrowReads) {
  std::vector<Json> expected;
  each_line(read_file(golden(std::string(GetParam()) + ".rows.jsonl")),
            [&](std::string_view line, int64_t) { expected.push_back(parse_json(line, "expected")); });
  std::vector<Json> rows = rows_of(golden(GetParam()));
  ASSERT_EQ(rows.size(), expected.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    drop_bytes(rows[i]);
    EXPECT_EQ(rows[i], expected[i]) << "row " << i + 1;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ColumnFiles,
                         testing::Values("texts.parquet", "texts_delta.parquet", "numbers.parquet",
                                         "numbers_delta.parquet", "times.parquet", "int96.parquet", "nested.parquet",
                                         "nested_new_pages.parquet", "nested_old_names.parquet", "polars.parquet",
                                         "polars_snappy.parquet", "polars.arrow", "file.arrow", "file_zstd.arrow",
                                         "stream.arrow", "parts.arrow", "words.parquet", "questions.parquet",
                                         "choices.parquet", "endings.parquet"));

TEST(ColumnFile, KeepsItsOrderOfColumnsAndMarksBytesThatAreNoText) {
  const std::vector<Json> rows = rows_of(golden("texts.parquet"));
  std::vector<std::string> names;
  for (const auto& [name, value] : rows.at(0).items()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"text", "numbered", "label", "bytes"}));
  int binary = 0;
  for (const Json& row : rows) binary += row["bytes"].is_binary();
  EXPECT_GT(binary, 0);
}

TEST(ColumnFile, SaysWhatIsWrongWithAFileOfAnotherKind) {
  const TemporaryFolder folder;
  const Error text = error_of([&] { rows_of(put(folder / "a.parquet", "text,label\na,b\n")); });
  EXPECT_EQ(text.id(), "format.parquet");
  EXPECT_NE(text.parts().what.find("does not begin as a Parquet file"), std::string::npos) << text.what();
  const Error stream = error_of([&] { rows_of(put(folder / "a.arrow", "text,label\na,b\n")); });
  EXPECT_EQ(stream.id(), "format.arrow");
  EXPECT_EQ(error_of([&] { rows_of(folder / "none.parquet"); }).id(), "io.not-found");
  const std::string whole = read_file(golden("texts.parquet"));
  const Error locked = error_of([&] { rows_of(put(folder / "b.parquet", "PARE" + whole.substr(4))); });
  EXPECT_NE(locked.parts().what.find("encrypted"), std::string::npos) << locked.what();
}

TEST(ColumnFile, NamesTheColumnOfAPageWhoseChecksumIsWrong) {
  const TemporaryFolder folder;
  std::string bytes = read_file(golden("times.parquet"));
  const size_t frame = bytes.find("\x28\xB5\x2F\xFD");
  ASSERT_NE(frame, std::string::npos);
  bytes[frame + 12] = static_cast<char>(bytes[frame + 12] ^ 1);
  const Error error = error_of([&] { rows_of(put(folder / "a.parquet", bytes)); });
  EXPECT_EQ(error.id(), "format.parquet");
  EXPECT_NE(error.parts().what.find("column 'decimal'"), std::string::npos) << error.what();
  EXPECT_NE(error.parts().what.find("checksum"), std::string::npos) << error.what();
}

TEST(ColumnValues, AreSpelledAsPythonSpellsThem) {
  EXPECT_EQ(date_text(0), "1970-01-01");
  EXPECT_EQ(date_text(-1), "1969-12-31");
  EXPECT_EQ(date_text(11016), "2000-02-29");
  EXPECT_EQ(date_text(-135081), "1600-02-29");
  EXPECT_EQ(date_text(-719162), "0001-01-01");
  EXPECT_EQ(timestamp_text(-1, TimeUnit::milliseconds, true), "1969-12-31T23:59:59.999+00:00");
  EXPECT_EQ(timestamp_text(86399, TimeUnit::seconds, false), "1970-01-01T23:59:59");
  EXPECT_EQ(time_text(3'723'000'004, TimeUnit::microseconds), "01:02:03.000004");
  EXPECT_EQ(duration_text(-1500, TimeUnit::milliseconds), "-1.500");
  EXPECT_EQ(decimal_text(std::string("\xFF\x85", 2), 2), "-1.23");
  EXPECT_EQ(decimal_text(std::string("\0\x05", 2), 3), "0.005");
  EXPECT_EQ(decimal_text(std::string("\x80", 1), 0), "-128");
  EXPECT_EQ(decimal_text(std::string("\x0C", 1), -2), "1200");
  EXPECT_EQ(half_to_double(0x3C00), 1.0);
  EXPECT_EQ(half_to_double(0x8001), -std::ldexp(1, -24));
  EXPECT_EQ(half_to_double(0x7BFF), 65504.0);
  EXPECT_TRUE(real_value(std::nan("")).is_null());
  EXPECT_EQ(uuid_text(std::string("\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x14\x17\x40\x00", 16)),
            "123e4567-e89b-12d3-a456-426614174000");
}

}  // namespace
}  // namespace deltaw::io
