#include "data/table.h"

#include "data/files.h"

namespace deltaw::data {
namespace {

using test::expect_error;
class Tsv : public test::Files {};
class Csv : public test::Files {};
class JsonRows : public test::Files {};

std::vector<std::string> texts(const Row& row) {
  std::vector<std::string> result;
  for (const Cell& cell : row.cells) result.push_back(cell.text);
  return result;
}

using Strings = std::vector<std::string>;

TEST_F(Tsv, KeepsQuotesAndDropsTheByteOrderMarkAndCarriageReturns) {
  const Table table = read_table(write("a.tsv", "\xEF\xBB\xBFlabel\ttext\r\n1\tsay \"yes\r\n0\t\" no , sir\r\n"));
  EXPECT_EQ(table.columns, (Strings{"label", "text"}));
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(texts(table.rows[0]), (Strings{"1", "say \"yes"}));
  EXPECT_EQ(texts(table.rows[1]), (Strings{"0", "\" no , sir"}));
  EXPECT_EQ(table.rows[1].line, 3);
}

TEST_F(Tsv, KeepsEmptyFieldsAndALastLineWithoutAnEnd) {
  const Table table = read_table(write("a.tsv", "a\tb\tc\n\t\t\n1\t\t3"));
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(texts(table.rows[0]), (Strings{"", "", ""}));
  EXPECT_EQ(texts(table.rows[1]), (Strings{"1", "", "3"}));
}

TEST_F(Tsv, TakesCarriageReturnsForLineEndsWhereThereAreNoOthers) {
  const Table table = read_table(write("a.tsv", "a\tb\r1\t2\r3\t4\r"));
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(texts(table.rows[1]), (Strings{"3", "4"}));
  EXPECT_EQ(table.rows[1].line, 3);
}

TEST_F(Tsv, ReadsQuotesAsPandasWritesThemAndLeavesOthers) {
  const Table table = read_table(
      write("a.tsv",
            "text\tlabel\n\"He said \"\"stop\"\"\"\ta\n\"whole\"\tb\n\"Yes\" and \"no\"\tc\n\"\"\td\n\"\"\"\"\te\n"));
  Strings found;
  for (const Row& row : table.rows) found.push_back(row.cells[0].text);
  EXPECT_EQ(found, (Strings{"He said \"stop\"", "\"whole\"", "\"Yes\" and \"no\"", "\"\"", "\""}));
  const Table all = read_table(write("b.tsv", "\"text\"\t\"label\"\n\"a\tb\"\t\"x\"\n"));
  EXPECT_EQ(all.columns, (Strings{"text", "label"}));
  EXPECT_EQ(texts(all.rows.at(0)), (Strings{"a\tb", "x"}));
  const Table one = read_table(write("c.tsv", "text\na\n\"\"\nb\n"));
  ASSERT_EQ(one.rows.size(), 3u);
  EXPECT_EQ(texts(one.rows[1]), (Strings{""}));
}

TEST_F(Tsv, TakesItsColumnsFromOutsideUnlessTheFirstLineNamesOneOfThem) {
  const Table bare = read_table(write("a.tsv", "gj04\t1\nx\t0\n"), {"source", "label"});
  EXPECT_EQ(bare.rows.size(), 2u);
  const Table headed = read_table(write("b.tsv", "index\tlabel\nx\t0\n"), {"source", "label"});
  EXPECT_EQ(headed.columns, (Strings{"index", "label"}));
  EXPECT_EQ(headed.rows.size(), 1u);
}

TEST_F(Tsv, NamesFileAndLineOfARowWithTooManyOrTooFewFields) {
  const auto many = write("many.tsv", "text\tlabel\ngood\t1\nb\tad\t0\n");
  expect_error([&] { read_table(many); }, "data.field-count", {"3 fields", "2 columns", "many.tsv, line 3"});
  const auto few = write("few.tsv", "text\tlabel\n\ngood\n");
  expect_error([&] { read_table(few); }, "data.field-count", {"1 field,", "few.tsv, line 3"});
}

TEST_F(Tsv, RefusesEmptyFilesUtf16AndColumnsOfOneName) {
  expect_error([&] { read_table(write("a.tsv", "")); }, "data.empty-file", {"a.tsv", "is empty"});
  expect_error([&] { read_table(write("b.tsv", "text\tlabel\n")); }, "data.empty-file", {"b.tsv", "no rows"});
  expect_error([&] { read_table(write("c.tsv", std::string_view("\xFF\xFEt\0", 4))); }, "format.encoding", {"UTF-16"});
  expect_error([&] { read_table(write("d.tsv", "text\ttext\na\tb\n")); }, "format.duplicate-column", {"'text'"});
}

TEST_F(Tsv, NamesWhatIsMissingOrOfAnUnknownKind) {
  expect_error([&] { read_table(folder_ / "none.tsv"); }, "config.not-found", {"none.tsv"});
  expect_error([&] { read_table(write("a.xlsx", "x")); }, "config.file-format", {".xlsx", ".jsonl"});
}

TEST_F(Tsv, SuggestsTheNearestColumn) {
  const Table table = read_table(write("a.tsv", "sentence\tlabel\na\t1\n"));
  EXPECT_EQ(table.column("label", "label_column"), 1u);
  expect_error([&] { table.column("sentense", "text_column"); }, "config.missing-column",
               {"'sentense'", "sentence, label", "text_column", "did you mean 'sentence'"});
}

TEST_F(Csv, ReadsQuotedCommasQuotesAndLineBreaks) {
  const Table table = read_table(write("a.csv", "text,label\r\n\"a, \"\"b\"\"\nc\",1\r\n\"\",2\nit's 5\" long,3"));
  ASSERT_EQ(table.rows.size(), 3u);
  EXPECT_EQ(texts(table.rows[0]), (Strings{"a, \"b\"\nc", "1"}));
  EXPECT_EQ(texts(table.rows[1]), (Strings{"", "2"}));
  EXPECT_EQ(texts(table.rows[2]), (Strings{"it's 5\" long", "3"}));
  EXPECT_EQ(table.rows[0].line, 2);
  EXPECT_EQ(table.rows[1].line, 4);  // the first row spans two lines
}

TEST_F(Csv, KeepsAnEmptyLastField) {
  const Table table = read_table(write("a.csv", "a,b\n1,\n2,"));
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(texts(table.rows[0]), (Strings{"1", ""}));
  EXPECT_EQ(texts(table.rows[1]), (Strings{"2", ""}));
}

TEST_F(Csv, NamesTheLineWhereAQuoteOpensAndNeverCloses) {
  expect_error([&] { read_table(write("a.csv", "text,label\nok,1\n\"never,1\nmore,0\n")); }, "format.csv",
               {"not closed", "a.csv, line 3"});
}

TEST_F(Csv, KeepsAnEmptyFieldInQuotesAndPassesOverBlankLines) {
  const Table table = read_table(write("a.csv", "text\na\n\"\"\n\nb\n"));
  ASSERT_EQ(table.rows.size(), 3u);
  EXPECT_EQ(texts(table.rows[1]), (Strings{""}));
  EXPECT_EQ(table.rows[2].line, 5);
}

TEST_F(Csv, TakesCarriageReturnsForLineEndsWhereTheFirstLineEndsInOne) {
  const Table table = read_table(write("a.csv", "text,label\r\"a\rb\nc\",1\rd,2\r\r\"e\",3"));
  ASSERT_EQ(table.rows.size(), 3u);
  EXPECT_EQ(texts(table.rows[0]), (Strings{"a\rb\nc", "1"}));
  EXPECT_EQ(texts(table.rows[2]), (Strings{"e", "3"}));
  EXPECT_EQ(table.rows[1].line, 5);
  EXPECT_EQ(table.rows[2].line, 7);
  EXPECT_EQ(texts(read_table(write("b.csv", "text\na\rb\n")).rows.at(0)), (Strings{"a\rb"}));
  EXPECT_EQ(texts(read_table(write("c.csv", "text\r\na\rb\r\n")).rows.at(0)), (Strings{"a\rb"}));
}

TEST_F(Csv, NamesColumnsWithoutAName) {
  const Table table = read_table(write("a.csv", ",text,label,,\n0,a,x,,\n"));
  EXPECT_EQ(table.columns, (Strings{"Unnamed: 0", "text", "label", "Unnamed: 3", "Unnamed: 4"}));
  EXPECT_EQ(table.rows.size(), 1u);
}

TEST_F(Csv, NamesTheSeparatorThatTheFileHas) {
  const auto refuses = [&](const char* name, std::string_view text, const std::vector<std::string>& words) {
    expect_error([&] { read_table(write(name, text)); }, "format.separator", words);
  };
  refuses("a.csv", "text;label\na;x\n", {"a.csv", "'text;label'", "semicolons", "commas"});
  refuses("b.csv", "text;label\na, b;x\n", {"semicolons"});
  refuses("c.csv", "text\tlabel\na\tx\n", {"tabs", ".tsv"});
  refuses("d.tsv", "text,label\na,x\n", {"commas", ".csv"});
  refuses("e.csv", "text|label\na|x\n", {"bars"});
  EXPECT_EQ(read_table(write("f.csv", "a; b\nc; d\ne\n")).rows.size(), 2u);  // one column, by its rows
}

TEST_F(Csv, RefusesZeroBytes) {
  expect_error([&] { read_table(write("a.csv", std::string_view("text,label\nhello th\0ere,x\n", 27))); },
               "format.zero-byte", {"a.csv", "line 2, column 9"});
}

TEST_F(Csv, CountsOneColumnAsOne) {
  expect_error([&] { read_table(write("a.csv", "text\na\nb,c\n")); }, "data.field-count",
               {"2 fields", "1 column (text)", "a.csv, line 3"});
}

TEST_F(Csv, IsReadInTheEncodingThatIsNamed) {
  const auto file = write("a.csv", "text\ncaf\xE9\n");
  EXPECT_EQ(texts(read_table(file, {}, "latin-1").rows.at(0)), (Strings{"caf\xC3\xA9"}));
  expect_error([&] { read_table(file); }, "format.encoding",
               {"a.csv", "line 2, column 4", "0xE9", "--encoding latin-1"});
}

TEST_F(Csv, RefusesTextBehindAClosingQuote) {
  expect_error([&] { read_table(write("a.csv", "text,label\n\"a\"b,1\n")); }, "format.csv", {"a.csv, line 2"});
}

TEST_F(JsonRows, ReadsStringsNumbersAndNestedValuesByKey) {
  const Table table = read_table(write("a.jsonl",
                                       "{\"text\": \"a\\tb\\u00e9\", \"label\": 1}\n\n"
                                       "{\"label\": 2.0, \"extra\": [1], \"text\": true}\n{\"label\": null}\n"));
  EXPECT_EQ(table.columns, (Strings{"text", "label", "extra"}));
  ASSERT_EQ(table.rows.size(), 3u);
  EXPECT_EQ(table.rows[0].cell(0).text, "a\tb\xC3\xA9");
  EXPECT_EQ(table.rows[0].cell(1).kind, Cell::Kind::number);
  EXPECT_EQ(table.rows[0].cell(2).kind, Cell::Kind::missing);
  EXPECT_EQ(table.rows[1].cell(0).text, "true");
  EXPECT_EQ(table.rows[1].cell(1).text, "2.0");
  EXPECT_EQ(table.rows[1].cell(2).kind, Cell::Kind::list);
  ASSERT_EQ(table.rows[1].cell(2).items.size(), 1u);
  EXPECT_EQ(table.rows[1].cell(2).items[0].text, "1");
  EXPECT_EQ(table.rows[1].line, 3);
  EXPECT_EQ(table.rows[2].cell(1).kind, Cell::Kind::missing);
}

TEST_F(JsonRows, RefusesBytesThatAreNoUtf8) {
  const auto file =
      write("a.jsonl", "{\"text\": \"\xE2\x82\xAC\", \"label\": 1}\n{\"text\": \"\xC3\xA9\xC3z\", \"label\": 1}\n");
  expect_error([&] { read_table(file); }, "format.encoding", {"0xC3", "line 2, column 12", "a.jsonl"});
}

TEST_F(JsonRows, RefusesWhatAZeroByteWouldHide) {
  expect_error([&] { read_table(write("a.jsonl", std::string_view("{\"text\": \"a\"}\0{}\n", 18))); },
               "format.json-line", {"a.jsonl, line 1", "column 14: a zero byte"});
}

TEST_F(JsonRows, TellsNullFromAKeyThatIsMissing) {
  const Table table = read_table(write("a.jsonl", "{\"a\": null, \"b\": [1], \"c\": {}}\n{\"b\": 1}\n"));
  EXPECT_TRUE(is_null(table.rows[0].cell(0)));
  EXPECT_FALSE(is_null(table.rows[1].cell(0)));
  EXPECT_EQ(table.rows[0].cell(1).text, "a list");
  EXPECT_EQ(table.rows[0].cell(2).text, "an object");
}

TEST_F(JsonRows, ReadsOneArrayOfObjects) {
  const Table table = read_table(write("a.json", " [{\"text\": \"a\"},\n {\"text\": \"b\"}]"));
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_NE(table.where(table.rows[1]).find("a.json, item 2"), std::string::npos);
}

TEST_F(JsonRows, NamesTheLineThatIsNoObject) {
  expect_error([&] { read_table(write("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \n")); }, "format.json-line",
               {"a.jsonl, line 2", "unexpected end"});
  expect_error([&] { read_table(write("b.jsonl", "{\"text\": \"a\"}\n\"b\"\n")); }, "format.json-line",
               {"b.jsonl, line 2", "found string"});
  expect_error([&] { read_table(write("c.json", "[{\"text\": \"a\"}, ")); }, "format.json-line", {"c.json"});
}

TEST(Clipped, CutsBetweenCodePoints) {
  EXPECT_EQ(clipped("short"), "short");
  const std::string text = std::string(59, 'a') + "\xC3\xA9\xC3\xA9";
  EXPECT_EQ(clipped(text), std::string(59, 'a') + "...");
}

}  // namespace
}  // namespace deltaw::data
