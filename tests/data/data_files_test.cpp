// Several files, patterns, folders and packed files as one split.
#include <gtest/gtest.h>

#include "core/files.h"
#include "data/bytes.h"
#include "data/file_formats.h"
#include "data/find_files.h"
#include "data/row_formats.h"
#include "data/table.h"
#include "data/text_formats.h"
#include "deltaw/data.h"
#include "deltaw/text_data.h"
#include "support/data.h"
#include "support/packed.h"

namespace deltaw {
namespace {

using test::expect_error;
using test::fixture;
using Strings = std::vector<std::string>;

std::filesystem::path golden(const std::string& name) {
  return fixture("golden/columns") / name;
}

class ManyFiles : public test::TextFormats {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  Strings texts(const DataFiles& files) const {
    Strings found;
    for (const TextExample& row : load_texts(files, {}, {}, test::render_turns).rows) found.push_back(row.text);
    return found;
  }

  Strings names_of(const std::optional<DataFiles>& files) const {
    Strings names;
    if (!files) return {"none"};
    for (const std::string& name : files->names()) {
      names.push_back(std::filesystem::path(name).lexically_relative(folder_).string());
    }
    return names;
  }

  Strings split(const std::string& folder, Split which) const {
    return names_of(split_file({.dataset_dir = path(folder)}, which));
  }
};

TEST_F(ManyFiles, AreReadInTheirOrderAndThoseOfAPatternSorted) {
  write("b-2.jsonl", "{\"text\": \"three\"}\n");
  write("b-1.jsonl", "{\"text\": \"two\"}\n");
  write("a.jsonl", "{\"text\": \"one\"}\n");
  EXPECT_EQ(texts(Strings{path("b-2.jsonl"), path("a.jsonl")}), (Strings{"three", "one"}));
  EXPECT_EQ(texts(path("b-*.jsonl")), (Strings{"two", "three"}));
  EXPECT_EQ(texts(Strings{path("a.jsonl"), path("b-?.jsonl")}), (Strings{"one", "two", "three"}));
  EXPECT_EQ(texts(path("b-[2-9].jsonl")), (Strings{"three"}));
  EXPECT_EQ(texts(path("a.jsonl") + "," + path("b-2.jsonl")), (Strings{"one", "three"}));
}

TEST_F(ManyFiles, ANameIsTakenAsItIsWhereThereIsSuchAFile) {
  write("a,b.jsonl", "{\"text\": \"comma\"}\n");
  write("a[1].jsonl", "{\"text\": \"bracket\"}\n");
  write("a1.jsonl", "{\"text\": \"other\"}\n");
  EXPECT_EQ(texts(path("a,b.jsonl")), (Strings{"comma"}));
  EXPECT_EQ(texts(path("a[1].jsonl")), (Strings{"bracket"}));
}

TEST_F(ManyFiles, APatternWithoutFilesShowsWhatTheFolderHolds) {
  write("train-1.jsonl", "{}");
  expect_error([&] { texts(path("trian-*.jsonl")); }, "config.no-files", {"holds train-1.jsonl", "trian-*.jsonl"});
  expect_error([&] { texts(path("none/*.jsonl")); }, "config.no-files", {"there is no folder"});
  expect_error([&] { texts(path("tran-1.jsonl")); }, "config.not-found", {"did you mean 'train-1.jsonl'"});
}

TEST_F(ManyFiles, MessagesNameTheFileOfARow) {
  write("a.jsonl", "{\"text\": \"one\"}\n");
  write("b.jsonl", "{\"text\": \"two\"}\n\n{\"text\": \"\"}\n");
  const Strings both = {path("a.jsonl"), path("b.jsonl")};
  expect_error([&] { load_texts(both, {}, {.max_bad_rows = 0}, {}); }, "data.empty-text", {"b.jsonl, line 3"});
  const TextDataset dataset = load_texts(both, {}, {.max_bad_rows = 1}, {});
  EXPECT_EQ(dataset.where(dataset.rows.at(0)), path("a.jsonl") + ", line 1");
  EXPECT_EQ(dataset.where(dataset.rows.at(1)), path("b.jsonl") + ", line 1");
  ASSERT_EQ(dataset.reasons.size(), 1u);
  EXPECT_NE(dataset.reasons[0].find("b.jsonl, line 3"), std::string::npos) << dataset.reasons[0];
  write("c.csv", "text,label\ngood,yes\n");
  write("d.jsonl", "{\"label\": \"no\", \"text\": \"bad\"}\n{\"label\": \"no\"}\n");
  expect_error(
      [&] {
        load_training_data({.train_file = Strings{path("c.csv"), path("d.jsonl")}}, 42);
      },
      "data.not-text", {"d.jsonl, line 2"});
}

TEST_F(ManyFiles, ColumnsAreMatchedByName) {
  write("a.csv", "text,label\ngood,yes\n");
  write("b.csv", "label,extra,text\nno,x,bad\n");
  const TrainingData data = load_training_data({.train_file = Strings{path("a.csv"), path("b.csv")}}, 42);
  ASSERT_EQ(data.train.rows.size(), 2u);
  EXPECT_EQ(data.train.rows[1].text, "bad");
  EXPECT_EQ(data.labels.names, (Strings{"no", "yes"}));
  write("d.csv", "label\nno\n");
  expect_error(
      [&] {
        load_training_data({.train_file = Strings{path("a.csv"), path("d.csv")}}, 42);
      },
      "data.not-text", {"column 'text' is missing", "d.csv, line 2"});
  write("c.csv", "text\nlost\n");
  expect_error(
      [&] {
        load_training_data({.train_file = Strings{path("a.csv"), path("c.csv")}}, 42);
      },
      "data.missing-label", {"c.csv, line 2"});
}

TEST_F(ManyFiles, OfRunningTextFollowOneAnotherAndMixWithNoRows) {
  write("a.txt", "one");
  write("b.txt.gz", test::gzipped("two\n"));
  write("c.jsonl", "{\"text\": \"three\"}\n");
  const TextDataset text = load_texts(Strings{path("a.txt"), path("b.txt.gz")}, {}, {}, {});
  EXPECT_TRUE(text.continuous);
  EXPECT_EQ(text.rows.at(0).text, "one\ntwo\n");
  expect_error(
      [&] {
        load_texts(Strings{path("a.txt"), path("c.jsonl")}, {}, {}, {});
      },
      "config.file-format", {"a.txt is running text", "c.jsonl"});
}

TEST_F(ManyFiles, ArePackedByGzipOrZstdWhateverTheirNames) {
  const std::string rows = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
  for (const char* name : {"a.jsonl.gz", "a.jsonl.zst", "a.jsonl", "a.json.GZ"}) {
    EXPECT_EQ(texts(write(name, test::gzipped(rows))), (Strings{"one", "two"})) << name;
    EXPECT_EQ(texts(write(name, test::zstd_packed(rows))), (Strings{"one", "two"})) << name;
    EXPECT_EQ(texts(write(name, rows)), (Strings{"one", "two"})) << name;
  }
  const std::string table = "text,label\ngood,yes\nbad,no\n";
  EXPECT_EQ(load_training_data({.train_file = write("t.csv.zst", test::zstd_packed(table))}, 42).train.rows.size(), 2u);
  const std::string packed = test::gzipped(rows);
  expect_error([&] { texts(write("cut.jsonl.gz", packed.substr(0, packed.size() - 9))); }, "format.compressed",
               {"cut.jsonl.gz", "cut short"});
}

TEST_F(ManyFiles, OfColumnsLackTheFieldsThatAreNull) {
  std::vector<Json> rows;
  const auto take = [&](Json& row, int64_t, const std::string&) { rows.push_back(row); };
  data::each_row(golden("file.arrow").string(), "utf-8", take);
  const Json& first = rows.at(0);
  EXPECT_EQ(first["messages"][0].size(), 2u);
  EXPECT_EQ(first["messages"][1], Json({{"content", "hi 1"}}));
  EXPECT_EQ(first["pair"], Json({{"a", 0}}));
  EXPECT_TRUE(rows.at(1)["matrix"].is_null());  // columns and entries of lists are there
  EXPECT_EQ(first["matrix"], Json::array({nullptr, nullptr}));
}

TEST_F(ManyFiles, OfColumnsAreRowsLikeOthers) {
  const TextDataset talk = load_texts(golden("polars.parquet"), {.text_column = "numbered"}, {}, test::render_turns);
  EXPECT_EQ(talk.unit, "row");
  EXPECT_EQ(talk.rows.size(), 24u);
  EXPECT_EQ(talk.where(talk.rows.at(11)), golden("polars.parquet").string() + ", row 12");
  std::filesystem::copy_file(golden("texts.parquet"), folder_ / "rows.bin");  // by its first bytes
  const TrainingData data = load_training_data({.train_file = path("rows.bin"), .text_column = "numbered"}, 42);
  EXPECT_EQ(data.labels.names, (Strings{"no", "yes"}));
  EXPECT_EQ(data.train.rows.size(), 24u);
  expect_error([&] { load_training_data({.train_file = path("rows.bin"), .text_column = "text"}, 42); },
               "data.not-text", {"column 'text' is null", "rows.bin, row"});
  expect_error([&] { load_training_data({.train_file = path("rows.bin"), .text_column = "bytes"}, 42); },
               "data.not-text", {"row 1"});
  expect_error([&] { load_training_data({.train_file = path("rows.bin"), .text_column = "txt"}, 42); },
               "config.missing-column", {"did you mean 'text'"});
}

TEST_F(ManyFiles, ANoteOfGitLfsIsNotTheFile) {
  const auto note = write("a.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n");
  expect_error([&] { texts(note); }, "format.lfs-pointer", {"git lfs pull", "a.parquet"});
}

// ---- folders ----

TEST_F(ManyFiles, ASavedDataSetIsRead) {
  const DataOptions options{.dataset_dir = golden("saved").string()};
  const TrainingData data = load_training_data(options, 42);
  ASSERT_EQ(data.train.rows.size(), 5u);
  EXPECT_EQ(data.train.rows[4].text, "row 4");
  EXPECT_EQ(data.labels.names, (Strings{"0", "1"}));
  EXPECT_TRUE(data.validation.rows.empty());
  const Dataset test = load_split(options, Split::test, data.labels, Labels::needed, 42);
  EXPECT_EQ(test.rows.at(0).text, "row 5");
  EXPECT_EQ(texts(golden("saved/train")).size(), 5u);
  EXPECT_EQ(load_training_data({.train_file = golden("saved"), .validation_file = golden("saved/test")}, 42)
                .validation.rows.size(),
            2u);
  expect_error([&] { load_training_data({.train_file = golden("saved"), .validation_file = golden("saved")}, 42); },
               "config.no-files", {"no validation split", "test, train"});
}

TEST_F(ManyFiles, ASavedDataSetThatKeepsOnlyNumbersOfRowsIsRefused) {
  std::filesystem::copy(golden("saved/test"), folder_ / "chosen");
  Json state = read_json(folder_ / "chosen/state.json");
  state["_indices_files"] = Json::array({{{"filename", "indices.arrow"}}});
  write("chosen/state.json", state.dump());
  expect_error([&] { texts(path("chosen")); }, "config.dataset-folder", {"flatten_indices"});
  state = read_json(golden("saved/test/state.json"));
  state["_data_files"][0]["filename"] = "../../secret";
  write("chosen/state.json", state.dump());
  expect_error([&] { texts(path("chosen")); }, "config.dataset-folder", {"_data_files"});
}

TEST_F(ManyFiles, SplitsAreToldByNamesAsDatasetsDoes) {
  for (const char* name : {"hub/data/train-00001-of-00002.jsonl", "hub/data/train-00000-of-00002.jsonl",
                           "hub/data/test-00000-of-00001.jsonl", "hub/README.md", "hub/dataset_infos.json",
                           "hub/.cache/train.jsonl", "plain/train.jsonl", "plain/dev.jsonl", "plain/my-eval.jsonl",
                           "dirs/training/1.csv", "dirs/valid/1.csv", "bare/rows.jsonl", "bare/notes.txt"}) {
    write(name, "{\"text\": \"x\"}\n");
  }
  EXPECT_EQ(split("hub", Split::train),
            (Strings{"hub/data/train-00000-of-00002.jsonl", "hub/data/train-00001-of-00002.jsonl"}));
  EXPECT_EQ(split("hub", Split::test), (Strings{"hub/data/test-00000-of-00001.jsonl"}));
  EXPECT_EQ(split("hub", Split::validation), (Strings{"none"}));
  EXPECT_EQ(split("plain", Split::validation), (Strings{"plain/dev.jsonl"}));
  EXPECT_EQ(split("plain", Split::test), (Strings{"plain/my-eval.jsonl"}));
  EXPECT_EQ(split("dirs", Split::train), (Strings{"dirs/training/1.csv"}));
  EXPECT_EQ(split("dirs", Split::validation), (Strings{"dirs/valid/1.csv"}));
  EXPECT_EQ(split("bare", Split::train), (Strings{"bare/rows.jsonl"}));
  EXPECT_EQ(split("bare", Split::test), (Strings{"none"}));
  EXPECT_EQ(names_of(text_split_file({.validation_file = path("hub/data/test-*")}, Split::validation)),
            (Strings{"hub/data/test-00000-of-00001.jsonl"}));
}

TEST_F(ManyFiles, AFolderThatLeavesItOpenIsAnErrorWithWhatThereIs) {
  for (const char* name : {"sft/data/train_sft-00000-of-00001.jsonl", "sft/data/train_gen-00000-of-00001.jsonl",
                           "two/main/train.jsonl", "two/other/train.jsonl", "kinds/train.csv", "kinds/train.jsonl"}) {
    write(name, "{\"text\": \"x\"}\n");
  }
  expect_error([&] { split("sft", Split::train); }, "config.dataset-dir", {"train_gen, train_sft", "--train_file"});
  expect_error([&] { split("two", Split::train); }, "config.dataset-dir", {"main, other"});
  expect_error([&] { split("kinds", Split::train); }, "config.dataset-dir", {".csv, .jsonl"});
  std::filesystem::create_directories(folder_ / "empty");
  expect_error([&] { split("empty", Split::train); }, "config.dataset-dir", {"no files of data"});
  expect_error([&] { split("none", Split::train); }, "config.dataset-dir", {"no such folder"});
  expect_error([&] { texts(path("sft")); }, "config.no-files", {"several splits"});
}

// ---- options ----

TEST_F(ManyFiles, AKeyHoldsOnePathOrAList) {
  DataOptions options;
  const auto read = [&](const Json& value) {
    read_fields(fields_of(options), Json{{"train_file", value}}, "run.yaml");
    return options.train_file.names();
  };
  EXPECT_EQ(read("a,b.csv"), (Strings{"a,b.csv"}));
  EXPECT_EQ(read(Json::array({"a.csv", "b.csv"})), (Strings{"a.csv", "b.csv"}));
  EXPECT_EQ(read("[\"a.csv\",\"b.csv\"]"), (Strings{"a.csv", "b.csv"}));
  EXPECT_EQ(read("[ab].csv"), (Strings{"[ab].csv"}));
  EXPECT_TRUE(read("").empty());
  expect_error([&] { read(3); }, "config.wrong-type", {"a path, or a list of paths"});
  read(Json::array({"a.csv", "b.csv"}));
  EXPECT_EQ(write_fields(fields_of(options))["train_file"], Json::array({"a.csv", "b.csv"}));
  read("a.csv");
  EXPECT_EQ(write_fields(fields_of(options))["train_file"], "a.csv");
  EXPECT_EQ(write_fields(fields_of(options))["test_file"], "");
}

}  // namespace
}  // namespace deltaw
