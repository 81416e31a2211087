// Sets and tables of images: folders of classes, binary files, files of rows.
#include "data/image_tables.h"

#include <gtest/gtest.h>

#include "core/files.h"
#include "data/files.h"
#include "data/image_records.h"
#include "data/image_sets.h"
#include "support/data.h"
#include "support/packed.h"

namespace deltaw {
namespace {

using data::ImageFiles;
using data::ImageTables;
using data::Table;
using test::expect_error;
using test::fixture;
using Strings = std::vector<std::string>;

class SomeImages : public test::Files {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  void put_images(const Strings& names) const {
    for (const std::string& name : names) write(name, "");
  }

  /// "a/b.png: label" of every row.
  Strings rows(const Table& table) const {
    Strings found;
    for (const data::Row& row : table.rows) {
      found.push_back(
          std::filesystem::path(row.cells.at(table.column("image", "")).text).lexically_relative(folder_).string() +
          ": " + row.cells.at(table.column("label", "")).text);
    }
    return found;
  }

  Strings named(const DataFiles& files, Split split = Split::train) const {
    return rows(ImageTables(options_, {}).read_named(files, split));
  }

  Strings split_of(const std::string& folder, Split split) {
    options_ = {.dataset_dir = path(folder)};
    const ImageTables tables(options_, {});
    return tables.has(split) ? rows(tables.read(split)) : Strings{"none"};
  }

  DataOptions options_;
};

// As Hugging Face's imagefolder has it: before classes, and before images that no row names.
TEST_F(SomeImages, AreThoseThatMetadataBesideThemNames) {
  put_images({"set/a.png", "set/b.png", "set/cat/c.png"});
  write("set/metadata.csv", "file_name,label,text\nb.png,x,one\ncat/c.png,y,two\n");
  EXPECT_EQ(named(path("set")), (Strings{"set/b.png: x", "set/cat/c.png: y"}));
  EXPECT_EQ(split_of("set", Split::train), (Strings{"set/b.png: x", "set/cat/c.png: y"}));
  EXPECT_EQ(split_of("set", Split::test), Strings{"none"});
  put_images({"parts/train/a.png", "parts/test/b.png"});
  write("parts/train/metadata.jsonl", R"({"file_name": "a.png", "label": "x"})");
  write("parts/test/metadata.jsonl", R"({"file_name": "b.png", "label": "y"})");
  EXPECT_EQ(split_of("parts", Split::train), Strings{"parts/train/a.png: x"});
  EXPECT_EQ(split_of("parts", Split::test), Strings{"parts/test/b.png: y"});
  EXPECT_EQ(split_of("parts", Split::validation), Strings{"none"});
}

// As datasets writes Parquet files.
TEST_F(SomeImages, ThatLieInAFileOfRowsAreRefusedWithWhatToDo) {
  write("rows.jsonl", R"({"image": {"bytes": "x", "path": null}, "label": "a"})");
  expect_error([&] { named(path("rows.jsonl")); }, "data.not-text",
               {"column 'image' holds an object", "rows.jsonl, line 1", "save each as a file"});
}

TEST_F(SomeImages, OfAClassLieAtAnyDepthOfItsFolderAndOtherFilesArePassedOver) {
  put_images({"set/cat/b.JPG", "set/cat/a.png", "set/cat/more/c.webp", "set/10/x.jpeg", "set/2/y.png", "set/cat/.b.png",
              "set/cat/notes.txt", "set/cat/d.gif", "set/.git/z.png", "set/__MACOSX/cat/a.png", "set/loose.png",
              "set/cat/.cache/q.png"});
  EXPECT_EQ(named(path("set")), (Strings{"set/10/x.jpeg: 10", "set/2/y.png: 2", "set/cat/a.png: cat",
                                         "set/cat/b.JPG: cat", "set/cat/more/c.webp: cat"}));
}

TEST_F(SomeImages, OfAFolderThatHoldsItselfEnd) {
  put_images({"set/cat/a.png"});
  std::filesystem::create_directory_symlink(folder_ / "set/cat", folder_ / "set/cat/again");
  EXPECT_EQ(named(path("set")), (Strings{"set/cat/a.png: cat"}));
}

TEST_F(SomeImages, ThatALinkLeadsToAreThere) {
  put_images({"set/cat/a.png", "elsewhere.png"});
  std::filesystem::create_symlink(folder_ / "elsewhere.png", folder_ / "set/cat/b.png");
  EXPECT_EQ(named(path("set")), (Strings{"set/cat/a.png: cat", "set/cat/b.png: cat"}));
  std::filesystem::remove(folder_ / "elsewhere.png");
  expect_error([&] { named(path("set")); }, "io.not-found", {"set/cat/b.png", "leads to no file"});
}

TEST_F(SomeImages, AreAskedForWhereAClassOrAFolderHasNone) {
  put_images({"set/cat/a.png", "set/dog/readme.txt", "other/readme.md"});
  expect_error([&] { named(path("set")); }, "data.no-images", {"set/dog", "no image"});
  expect_error([&] { named(path("other")); }, "config.no-files", {"other", "a folder of JPEG"});
  options_.dataset_dir = path("other");
  expect_error([&] { ImageTables(options_, {}).read(Split::train); }, "config.dataset-dir", {"a folder of JPEG"});
}

TEST_F(SomeImages, OfOneClassAloneAreRowsOfIt) {
  put_images({"set/cat/a.png"});
  EXPECT_EQ(named(path("set")), (Strings{"set/cat/a.png: cat"}));
  options_ = {.train_file = path("set"), .text_column = data::kImageColumn};
  expect_error([&] { data::training_rows(options_, 1, {}, ImageTables(options_, {})); }, "data.one-label", {"cat"});
}

TEST_F(SomeImages, WithoutLabelsAreReadToPredict) {
  put_images({"flat/b.png", "flat/a.jpg", "flat/notes.txt"});
  EXPECT_EQ(named(path("flat"), Split::test), (Strings{"flat/a.jpg: ", "flat/b.png: "}));
  EXPECT_EQ(named(path("flat/b.png"), Split::test), (Strings{"flat/b.png: "}));
  expect_error([&] { named(path("flat/*"), Split::test); }, "config.conflict", {"notes.txt"});
}

TEST_F(SomeImages, WithoutLabelsTrainWhereLabelsAreNotAskedFor) {
  put_images({"flat/b.png", "flat/a.jpg"});
  const data::ImageChoice any{.unlabelled = true};
  EXPECT_EQ(rows(ImageTables(options_, any).read_named(path("flat"), Split::train)),
            (Strings{"flat/a.jpg: ", "flat/b.png: "}));
  expect_error([&] { named(path("flat")); }, "config.no-files", {"flat"});
  options_.dataset_dir = path("flat");
  EXPECT_EQ(ImageTables(options_, any).read(Split::train).rows.size(), 2);
  EXPECT_FALSE(ImageTables(options_, any).has(Split::validation)) << "what no split names is for training";
}

TEST_F(SomeImages, OfChosenLabelsAloneAreTrainedAndEvaluatedOn) {
  put_images({"set/cat/a.png", "set/dog/b.png", "set/emu/c.png"});
  const ImageTables tables(options_, {.only_labels = {"emu", "cat"}});
  EXPECT_EQ(rows(tables.read_named(path("set"), Split::train)), (Strings{"set/cat/a.png: cat", "set/emu/c.png: emu"}));
  EXPECT_EQ(tables.read_named(path("set"), Split::test).rows.size(), 3) << "what is predicted needs no label";
  std::filesystem::remove_all(folder_ / "set/emu");
  EXPECT_EQ(tables.read_named(path("set"), Split::validation).rows.size(), 1);
  expect_error([&] { tables.read_named(path("set"), Split::train); }, "data.no-such-label",
               {"'emu'", "only_labels", "cat, dog"});
  const ImageTables none(options_, {.only_labels = {"ant", "bee"}});
  expect_error([&] { none.read_named(path("set"), Split::validation); }, "data.no-such-label", {"ant or bee"});
}

TEST_F(SomeImages, OfChosenLabelsMatchByValue) {
  put_images({"d/a.png", "d/b.png"});
  write("d/rows.csv", "image,kind\na.png,7\nb.png,8\n");
  options_.label_column = "kind";
  const ImageTables tables(options_, {.only_labels = {"7.0"}});
  EXPECT_EQ(tables.read_named(path("d/rows.csv"), Split::train).rows.size(), 1);
  options_.label_column = "label";
  expect_error([&] { tables.read_named(path("d/rows.csv"), Split::train); }, "config.missing-column", {"label"});
}

// ---- folders of data ----

TEST_F(SomeImages, OfSplitsLieInFoldersOfTheirNames) {
  put_images({"d/train/cat/a.png", "d/train/dog/b.png", "d/val/cat/c.png", "d/test/dog/e.png"});
  EXPECT_EQ(split_of("d", Split::train), (Strings{"d/train/cat/a.png: cat", "d/train/dog/b.png: dog"}));
  EXPECT_EQ(split_of("d", Split::validation), (Strings{"d/val/cat/c.png: cat"}));
  EXPECT_EQ(split_of("d", Split::test), (Strings{"d/test/dog/e.png: dog"}));
  EXPECT_EQ(named(path("d"), Split::validation), (Strings{"d/val/cat/c.png: cat"}));
  std::filesystem::remove_all(folder_ / "d/val");
  EXPECT_EQ(split_of("d", Split::validation), (Strings{"none"})) << "not the folders of the other splits";
}

TEST_F(SomeImages, OfClassesThatAreCalledAsSplitsAreClasses) {
  put_images({"d/bus/a.png", "d/train/b.png", "d/test/c.png"});
  EXPECT_EQ(split_of("d", Split::train), (Strings{"d/bus/a.png: bus", "d/test/c.png: test", "d/train/b.png: train"}));
  EXPECT_EQ(split_of("d", Split::validation), (Strings{"none"})) << "undivided classes are those of training";
  EXPECT_EQ(split_of("d", Split::test), (Strings{"none"}));
}

TEST_F(SomeImages, AreHeldOutWhereTheirFolderHasNoValidation) {
  put_images({"d/train/cat/a.png", "d/train/cat/b.png", "d/train/dog/a.png", "d/train/dog/b.png"});
  options_ = {.dataset_dir = path("d"), .text_column = data::kImageColumn, .validation_split = 0.5};
  const TrainingData rows = data::training_rows(options_, 1, {}, ImageTables(options_, {}));
  EXPECT_EQ(rows.train.rows.size(), 2);
  EXPECT_EQ(rows.validation.rows.size(), 2);
  put_images({"d/valid/dog/c.png"});
  const TrainingData own = data::training_rows(options_, 1, {}, ImageTables(options_, {}));
  EXPECT_EQ(own.train.rows.size(), 4);
  EXPECT_EQ(own.validation.rows.size(), 1);
  options_ = {.train_file = path("d/train"),
              .validation_file = path("d/valid"),
              .text_column = data::kImageColumn,
              .validation_split = 0.5};
  EXPECT_EQ(data::training_rows(options_, 1, {}, ImageTables(options_, {})).train.rows.size(), 4);
}

// ---- binary files ----

std::string cifar(const Strings& labels, size_t records = 1) {
  std::string bytes;
  for (size_t i = 0; i < records; ++i) {
    for (const std::string& label : labels) {
      bytes += label;
      for (int place = 0; place < 3072; ++place) bytes += static_cast<char>((place / 1024) * 50 + place % 7);
    }
  }
  return bytes;
}

std::string idx(int kind, const std::vector<int>& sizes, const std::string& values) {
  std::string bytes = std::string("\0\0\x08", 3) + static_cast<char>(kind);
  for (const int size : sizes) bytes += std::string("\0\0", 2) + static_cast<char>(size >> 8) + static_cast<char>(size);
  return bytes + values;
}

TEST_F(SomeImages, OfCifarAreRecordsWithTheNamesOfTheirClasses) {
  write("data_batch_1.bin", cifar({std::string(1, '\3'), std::string(1, '\0')}));
  write("data_batch_2.bin", cifar({"\x9"}));
  write("test_batch.bin", cifar({"\1"}));
  EXPECT_EQ(split_of("", Split::train),
            (Strings{"data_batch_1.bin#0: cat", "data_batch_1.bin#1: airplane", "data_batch_2.bin#0: truck"}));
  EXPECT_EQ(split_of("", Split::test), (Strings{"test_batch.bin#0: automobile"}));
  EXPECT_EQ(split_of("", Split::validation), (Strings{"none"}));
  EXPECT_EQ(named(path("data_batch_*.bin")).size(), 3);
  const Table table = ImageTables(options_, {}).read_named(path("data_batch_*.bin"), Split::train);
  EXPECT_NE(table.where(table.rows[2]).find("data_batch_2.bin, record 1"), std::string::npos);

  const Image image = ImageFiles().read(path("data_batch_1.bin#1"));
  ASSERT_EQ(image.height * 100 + image.width, 3232);
  EXPECT_EQ(image.pixels[3 * 33 + 0], 33 % 7) << "planes of red, green and blue";
  EXPECT_EQ(image.pixels[3 * 33 + 1], 50 + (1024 + 33) % 7);
  EXPECT_EQ(image.pixels[3 * 33 + 2], 100 + (2048 + 33) % 7);
  expect_error([&] { ImageFiles().read(path("data_batch_1.bin#2")); }, "format.image-set", {"no record 2"});
  write("bad.bin", cifar({"\xA"}));
  expect_error([&] { named(path("bad.bin")); }, "format.image-set", {"label 10", "10 classes"});
  write("short.bin", cifar({"\1"}).substr(1));
  expect_error([&] { named(path("short.bin")); }, "format.image-set", {"3,073 or 3,074"});
  write("empty.bin", "");
  expect_error([&] { named(path("empty.bin")); }, "format.image-set", {});
}

TEST_F(SomeImages, OfCifar100HaveTheirFineLabel) {
  write("train.bin", cifar({std::string("\x4\x1", 2)}));
  EXPECT_EQ(named(path("train.bin")), (Strings{"train.bin#0: 1"}));
  write("fine_label_names.txt", "apple\naquarium_fish\n\n");
  EXPECT_EQ(split_of("", Split::train), (Strings{"train.bin#0: aquarium_fish"}));
  EXPECT_EQ(ImageFiles().read(path("train.bin#0")).pixels[1], 50 + 1024 % 7);
}

TEST_F(SomeImages, OfMnistAreGreyAndMayBePacked) {
  const std::string images = idx(3, {2, 2, 3}, "abcdefABCDEF"), labels = idx(1, {2}, std::string("\7\0", 2));
  write("train-images-idx3-ubyte", images);
  write("train-labels-idx1-ubyte", labels);
  const Strings expected{"train-images-idx3-ubyte#0: 7", "train-images-idx3-ubyte#1: 0"};
  EXPECT_EQ(named(path("train-images-idx3-ubyte")), expected);
  EXPECT_EQ(split_of("", Split::train), expected);
  const Image image = ImageFiles().read(path("train-images-idx3-ubyte#1"));
  EXPECT_EQ(image.height * 10 + image.width, 23);
  EXPECT_EQ(std::string(image.pixels.begin(), image.pixels.end()), "AAABBBCCCDDDEEEFFF");

  write("t10k-images.idx3-ubyte.gz", test::gzipped(images));
  write("t10k-labels.idx1-ubyte.gz", test::gzipped(labels));
  EXPECT_EQ(split_of("", Split::test), (Strings{"t10k-images.idx3-ubyte.gz#0: 7", "t10k-images.idx3-ubyte.gz#1: 0"}));
  EXPECT_EQ(ImageFiles().read(path("t10k-images.idx3-ubyte.gz#1")).pixels, image.pixels);
}

TEST_F(SomeImages, OfMnistAreRefusedWhereTheirFilesDoNotAgree) {
  const std::string images = idx(3, {2, 2, 3}, "abcdefABCDEF");
  const std::string file = path("a-images-idx3-ubyte");
  write("a-images-idx3-ubyte", images);
  expect_error([&] { named(file); }, "io.not-found", {"a-labels-idx1-ubyte"});
  for (const std::string& labels : {idx(1, {2}, "a"), idx(1, {3}, "ab"), idx(3, {2}, "ab"), std::string()}) {
    write("a-labels-idx1-ubyte", labels);
    expect_error([&] { named(file); }, "format.image-set", {"a label for each of the 2 images"});
  }
  for (const std::string& bad : {images + "x", idx(1, {2, 2, 3}, "abcdefABCDEF"), images.substr(0, 12), std::string(),
                                 idx(3, {2, 0, 3}, ""), idx(3, {0, 2, 3}, "")}) {
    write("a-images-idx3-ubyte", bad);
    expect_error([&] { named(file); }, "format.image-set", {"a-images-idx3-ubyte"});
  }
  write("a-images-idx3-ubyte.gz", test::gzipped(images).substr(0, 30));
  expect_error([&] { named(file + ".gz"); }, "format.compressed", {});
}

// ---- files of rows ----

TEST_F(SomeImages, OfRowsLieFromTheFolderOfTheirFileOn) {
  put_images({"d/pictures/a.png", "d/b.png", "elsewhere/c.png"});
  write("d/rows.csv", "label,file_name\ncat,pictures/a.png\ndog,b.png\nfox," + path("elsewhere/c.png") + "\n");
  const Strings expected{"d/pictures/a.png: cat", "d/b.png: dog", "elsewhere/c.png: fox"};
  EXPECT_EQ(named(path("d/rows.csv")), expected);
  write("d/rows.tsv", "image\tlabel\npictures/a.png\tcat\nb.png\tdog\n");
  EXPECT_EQ(named(path("d/rows.tsv")), (Strings{expected[0], expected[1]}));
  write("d/rows.jsonl",
        "{\"label\": \"cat\", \"image\": \"pictures/a.png\"}\n{\"image\": \"b.png\", \"label\": \"dog\"}\n");
  EXPECT_EQ(named(path("d/rows.jsonl")), (Strings{expected[0], expected[1]}));
  EXPECT_EQ(named(Strings{path("d/rows.jsonl"), path("d/rows.tsv")}).size(), 4);
}

TEST_F(SomeImages, OfRowsAreInTheColumnThatIsAskedFor) {
  put_images({"d/a.png", "d/b.png"});
  write("d/rows.csv", "image,label,shot\nnone,cat,a.png\nnone,dog,b.png\n");
  const auto read = [&](const std::string& column) {
    return rows(ImageTables(options_, {.image_column = column}).read_named(path("d/rows.csv"), Split::train));
  };
  options_ = {.train_file = path("d/rows.csv"), .text_column = data::kImageColumn};
  const TrainingData data = data::training_rows(options_, 1, {}, ImageTables(options_, {.image_column = "shot"}));
  EXPECT_EQ(data.train.rows[1].text, path("d/b.png")) << "and not the column that is called image";
  expect_error([&] { read("shots"); }, "config.missing-column", {"'shots'", "label, shot"});
  write("d/rows.csv", "picture,label\na.png,cat\n");
  expect_error([&] { read(""); }, "config.missing-column", {"file_name", "--image_column"});
}

TEST_F(SomeImages, ThatARowNamesAndThatAreNotThereAreNamedWithTheRow) {
  put_images({"d/a.png"});
  write("d/rows.csv", "image,label\na.png,cat\nmissing.png,dog\n");
  expect_error([&] { named(path("d/rows.csv")); }, "io.not-found",
               {"d/missing.png", "rows.csv, line 3", "column 'image'"});
  write("d/rows.csv", "image,label\na.png,cat\n,dog\n");
  expect_error([&] { named(path("d/rows.csv")); }, "io.not-found", {"no image is named", "rows.csv, line 3"});
  write("d/rows.csv", "image,label\na.png,cat\n../d,dog\n");
  expect_error([&] { named(path("d/rows.csv")); }, "io.not-found", {"a folder", "rows.csv, line 3"});
  write("d/rows.jsonl", "{\"image\": \"a.png\", \"label\": 1}\n{\"label\": 2}\n");
  expect_error([&] { named(path("d/rows.jsonl")); }, "data.not-text", {"rows.jsonl, line 2", "'image' is missing"});
  write("d/rows.jsonl", "{\"image\": {\"bytes\": \"\"}, \"label\": 1}\n");
  expect_error([&] { named(path("d/rows.jsonl")); }, "data.not-text", {"an object"});
  expect_error([&] { named(Strings{path("d/rows.csv"), path("d/a.png")}); }, "config.conflict", {"files of one kind"});
}

TEST_F(SomeImages, ThatAreDamagedAreRefusedByName) {
  const std::string png = read_file(fixture("golden/colours/red/0.png"));
  write("good.png", png);
  EXPECT_EQ(ImageFiles().read(path("good.png")).width, 16);
  EXPECT_EQ(ImageFiles().read((folder_ / "good.png").string()).height, 12);
  write("cut.png", png.substr(0, png.size() / 2));
  expect_error([&] { ImageFiles().read(path("cut.png")); }, "format.image", {"cut.png", "damaged"});
  write("odd#1.png", png);
  EXPECT_EQ(ImageFiles().read(path("odd#1.png")).width, 16) << "a name with a sign that stands for a record";
}

}  // namespace
}  // namespace deltaw
