#include "core/text_file.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/files.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::put;
using test::TemporaryFolder;

/// The message of the error with which the bytes are refused; empty where they are taken.
std::string refusal(const std::string& bytes, const std::string& encoding = "utf-8") {
  const Error error = error_of([&] { to_utf8(bytes, encoding, "a.txt"); });
  if (error.id() == "none") return "";
  EXPECT_EQ(error.id(), "format.encoding");
  EXPECT_EQ(error.parts().where, "a.txt");
  return error.parts().what + " | " + error.parts().fix;
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << word << " is not in " << text;
}

std::string wide(std::string_view ascii, bool little = true) {
  std::string bytes;
  for (const char c : ascii) bytes += little ? std::string{c, '\0'} : std::string{'\0', c};
  return bytes;
}

TEST(ToUtf8, TakesUtf8AsItIsLessItsMark) {
  EXPECT_EQ(to_utf8("\xEF\xBB\xBF"
                    "caf\xC3\xA9\r\n",
                    "utf-8", "a"),
            "caf\xC3\xA9\r\n");
  EXPECT_EQ(to_utf8("\xEF\xBB\xBF"
                    "a",
                    "utf-8", "a", /*first_line=*/2),
            "\xEF\xBB\xBF"
            "a");
  EXPECT_EQ(to_utf8("\xEF\xBB\xBF"
                    "\xC3\xA9",
                    "latin-1", "a"),
            "\xC3\xA9");  // the file knows better
  EXPECT_EQ(to_utf8(std::string("a\0b", 3), "utf-8", "a").size(), 3u);
}

TEST(ToUtf8, NamesPlaceAndByteThatIsNoUtf8) {
  expect_words(refusal("one\nna\xC3\xAFve \xC3\xA9t\xC3\xA9\nthe caf\xC3\xA9 caf\xE9"),
               {"0xE9 at line 3, column 13", "mend"});
  expect_words(refusal("a\ncaf\xE9\n"), {"0xE9 at line 2, column 4", "--encoding latin-1", "iconv -f LATIN1"});
  expect_words(refusal("a\rb\rcaf\xE9\r"), {"line 3, column 4"});
  expect_words(refusal("\x93quoted\x94"), {"0x93 at line 1, column 1", "--encoding windows-1252"});
  expect_words(refusal("\xED\xA0\x80"), {"0xED"});  // half of a pair
  expect_words(refusal("cut \xE2\x82"), {"0xE2 at line 1, column 5"});
}

TEST(ToUtf8, CountsLinesFromTheOneThatIsGiven) {
  EXPECT_NE(error_of([] { to_utf8("\xE9", "utf-8", "a", 7); }).parts().what.find("line 7, column 1"),
            std::string::npos);
}

TEST(ToUtf8, ReadsOtherEncodings) {
  for (const char* name : {"latin-1", "latin1", "ISO-8859-1", "iso8859-1"}) {
    EXPECT_EQ(to_utf8("caf\xE9", name, "a"), "caf\xC3\xA9") << name;
  }
  EXPECT_EQ(to_utf8("\x93", "windows-1252", "a"), "\xE2\x80\x9C");
  EXPECT_EQ(to_utf8("\x82\xA0", "shift_jis", "a"), "\xE3\x81\x82");
  EXPECT_EQ(to_utf8("\x94\x39\xDA\x33", "gb18030", "a"), "\xF0\x9F\x92\xA9");
  EXPECT_EQ(to_utf8(wide("ab"), "utf-16le", "a"), "ab");
  EXPECT_EQ(to_utf8(wide("ab", false), "utf-16be", "a"), "ab");
  EXPECT_EQ(to_utf8("\xFF\xFE" + wide("ab"), "utf-16", "a"), "ab");
  EXPECT_EQ(to_utf8("\xFF\xFE" + wide("ab"), "utf-16le", "a"), "ab");
  EXPECT_EQ(to_utf8("\xFE\xFF" + wide("ab", false), "utf-16", "a"), "ab");
  EXPECT_EQ(to_utf8(wide("text"), "utf-16", "a"), "text");
}

TEST(ToUtf8, ReadsTextsOfAnyLength) {
  std::string latin, utf8;
  for (int i = 0; i < 50000; ++i) {
    latin += i % 3 == 0 ? "\xE9" : "e";
    utf8 += i % 3 == 0 ? "\xC3\xA9" : "e";
  }
  EXPECT_EQ(to_utf8(latin, "latin-1", "a"), utf8);
  for (const int before : {0, 1}) {  // pairs may be cut where the converter's room ends
    std::string wide_text = before ? wide("a") : "", pairs = before ? "a" : "";
    for (int i = 0; i < 20000; ++i) {
      wide_text += "\x3D\xD8\xA9\xDC";
      pairs += "\xF0\x9F\x92\xA9";
    }
    EXPECT_EQ(to_utf8(wide_text, "utf-16le", "a"), pairs);
  }
}

TEST(ToUtf8, NamesPlaceAndBytesThatAreNotOfTheEncoding) {
  expect_words(refusal("a\nb\x82", "shift_jis"), {"0x82 at line 2, column 2", "shift_jis"});
  expect_words(refusal("a\xFF", "us-ascii"), {"0xFF at line 1, column 2"});
  expect_words(refusal(wide("ab") + "c", "utf-16le"), {"0x63 at line 1, column 3"});
}

TEST(ToUtf8, RefusesEncodingsThatThereAreNot) {
  for (const char* name : {"latin-x", "", "../utf8", "a\x1b"}) {
    const Error error = error_of([&] { to_utf8("a", name, "a"); });
    EXPECT_EQ(error.id(), "config.encoding") << name;
    EXPECT_EQ(error.exit_code(), 2);
    expect_words(error.parts().fix, {"latin-1", "shift_jis"});
  }
}

TEST(ToUtf8, KnowsUtf16WithoutAMark) {
  expect_words(refusal(wide("text,label\na,b\n")), {"looks like UTF-16", "--encoding utf-16le"});
  expect_words(refusal(wide("text,label\na,b\n", false)), {"--encoding utf-16be"});
  // Letters of two bytes: few zero bytes, and no UTF-8.
  std::string chinese = wide("text\n");
  for (int i = 0; i < 40; ++i) chinese += "\x2D\x4E\x87\x65";
  expect_words(refusal(chinese), {"--encoding utf-16le"});
  EXPECT_EQ(refusal(std::string("a long text with a zero byte\0 and one more\0, both at even places", 64)), "");
}

TEST(ToUtf8, NamesUtf16WithAMarkAndWhatIsNoText) {
  expect_words(refusal("\xFF\xFE" + wide("a")), {"UTF-16", "--encoding utf-16"});
  expect_words(refusal("\xFE\xFF" + wide("a", false), "latin-1"), {"UTF-16"});
  expect_words(refusal(std::string("\xFF\xFE\0\0a\0\0\0", 8)), {"UTF-32"});
  expect_words(refusal("\x1F\x8B\x08\xFF"), {"gzip"});
  expect_words(refusal("PK\x03\x04\xFF"), {"zip", ".xlsx"});
  expect_words(refusal("PAR1\xFF"), {"Parquet"});
}

TEST(ToUtf8, WarnsOfGoodUtf8ThatIsSaidToBeSomethingElse) {
  const auto warning = [](const std::string& bytes) {
    ::testing::internal::CaptureStderr();
    to_utf8(bytes, "latin-1", "a.txt");
    return ::testing::internal::GetCapturedStderr();
  };
  expect_words(warning("caf\xC3\xA9"), {"a.txt", "latin-1", "UTF-8"});
  EXPECT_EQ(warning("caf\xE9"), "");
  EXPECT_EQ(warning("cafe"), "");
}

TEST(ReadUtf8, FollowsAMarkAndOffersNoKey) {
  const TemporaryFolder folder;
  EXPECT_EQ(read_utf8(put(folder / "a", "\xFF\xFE" + wide("seed: 1"))), "seed: 1");
  const Error error = error_of([&] { read_utf8(put(folder / "b", "caf\xE9")); });
  EXPECT_EQ(error.id(), "format.encoding");
  EXPECT_EQ(error.parts().fix.find("--encoding"), std::string::npos);
  EXPECT_EQ(error_of([&] { read_json(put(folder / "c", "{\"a\": \"\xE9\"}")); }).id(), "format.encoding");
  for (const char* name : {"c.yaml", "c.json"}) {
    const Error config = error_of([&] { read_config_file(put(folder / name, "{\"a\": \"\xE9\"}")); });
    EXPECT_NE(config.parts().what.find("0xE9 at line 1, column 8"), std::string::npos) << config.what();
  }
  EXPECT_EQ(read_config_file(put(folder / "d.yaml", "\xFF\xFE" + wide("seed: 1")))["seed"], 1);
}

TEST(EachLine, EndsLinesAsTheTextDoes) {
  using Lines = std::vector<std::string>;
  const auto lines = [](std::string_view text) {
    Lines found;
    each_line(text, [&](std::string_view line, int64_t number) {
      found.emplace_back(line);
      EXPECT_EQ(number, static_cast<int64_t>(found.size()));
    });
    return found;
  };
  EXPECT_EQ(lines(""), Lines{});
  EXPECT_EQ(lines("a\n\nb\n"), (Lines{"a", "", "b"}));
  EXPECT_EQ(lines("a\r\nb\rc\r\n"), (Lines{"a", "b\rc"}));
  EXPECT_EQ(lines("a\rb\r\rc\r"), (Lines{"a", "b", "", "c"}));
  EXPECT_EQ(lines("\n\n"), (Lines{"", ""}));
}

}  // namespace
}  // namespace deltaw
