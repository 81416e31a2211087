// Files of images with captions.
#include "tasks/contrastive_image_text/captions.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "data/image_tables.h"
#include "deltaw/error.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::contrastive {
namespace {

using test::error_of;
using test::put;
using Strings = std::vector<std::string>;

class CaptionFiles : public testing::Test {
 protected:
  /// Empty files, which nobody decodes here.
  void images(const Strings& names) const {
    for (const std::string& name : names) put(folder / name, "");
  }
  CaptionedImages read(const std::string& file, const CaptionKeys& keys = {.sentence = "a photo of {}."},
                       Captions use = Captions::needed) const {
    const data::ImageTables tables(options, {});
    return captions_of(tables.read_named(DataFiles((folder / file).string()), Split::train), keys, options, use);
  }
  CaptionedImages split(Split part, uint64_t seed = 1) const {
    return read_split(data::ImageTables(options, {}), {.sentence = "a photo of {}."}, options, part, seed);
  }

  test::TemporaryFolder folder;
  DataOptions options;
};

TEST_F(CaptionFiles, AreACellOrAListOfSeveral) {
  images({"a.png", "b.png"});
  put(folder / "rows.jsonl", R"({"image": "a.png", "caption": ["one", "two"], "id": 7}
{"image": "b.png", "caption": "three"}
)");
  const CaptionedImages found = read("rows.jsonl");
  ASSERT_EQ(found.rows.size(), 2u);
  EXPECT_EQ(found.rows[0].captions, (Strings{"one", "two"}));
  EXPECT_EQ(found.rows[0].id, 7);
  EXPECT_EQ(found.rows[1].captions, Strings{"three"});
  EXPECT_EQ(found.rows[1].line, 2);
  put(folder / "empty.jsonl", R"({"image": "a.png", "caption": []})");
  EXPECT_EQ(error_of([&] { read("empty.jsonl"); }).id(), "data.no-caption");
}

TEST_F(CaptionFiles, StandInTheColumnThatIsNamedOrInAUsualOne) {
  images({"a.png"});
  put(folder / "rows.csv", "image,text,title,label\na.png,first,second,cat\n");
  EXPECT_EQ(read("rows.csv").rows[0].captions, Strings{"first"});
  EXPECT_EQ(read("rows.csv", {.caption_column = "title", .sentence = "{}"}).rows[0].captions, Strings{"second"});
  EXPECT_EQ(error_of([&] { read("rows.csv", {.caption_column = "nothing", .sentence = "{}"}); }).id(),
            "config.missing-column");
  options.label_column = "label";
  EXPECT_EQ(read("rows.csv").rows[0].captions, Strings{"a photo of cat."});
}

TEST_F(CaptionFiles, OfClassesAreSentencesWithTheirNames) {
  images({"train/cat/1.png", "train/dog/2.png"});
  options.dataset_dir = folder.path().string();
  const CaptionedImages found = split(Split::train);
  ASSERT_EQ(found.rows.size(), 2u);
  EXPECT_EQ(found.rows[0].captions, Strings{"a photo of cat."});
  EXPECT_EQ(found.rows[1].captions, Strings{"a photo of dog."});
}

TEST_F(CaptionFiles, OfNumberedClassesTakeTheirNames) {
  images({"a.png", "b.png"});
  put(folder / "rows.csv", "image,label\na.png,1\nb.png,0\n");
  options.label_names = {"zero", "one"};
  EXPECT_EQ(read("rows.csv").rows[0].captions, Strings{"a photo of one."});
  put(folder / "rows.csv", "image,label\na.png,2\n");
  EXPECT_EQ(error_of([&] { read("rows.csv"); }).id(), "data.unknown-label");
}

TEST_F(CaptionFiles, MayBeMissingWhereNothingNeedsThem) {
  images({"a.png"});
  put(folder / "rows.csv", "image,other\na.png,x\n");
  EXPECT_EQ(error_of([&] { read("rows.csv"); }).id(), "config.caption-column");
  EXPECT_TRUE(read("rows.csv", {.sentence = "{}"}, Captions::wanted).rows[0].captions.empty());
  put(folder / "rows.csv", "image,caption\na.png,x\n");
  EXPECT_TRUE(read("rows.csv", {.sentence = "{}"}, Captions::ignored).rows[0].captions.empty());
}

TEST_F(CaptionFiles, OfOneImageStayTogetherWhereRowsAreHeldOut) {
  std::string rows = "image,caption\n";
  for (int i = 0; i < 40; ++i) {
    const std::string name = std::to_string(i % 10) + ".png";
    images({name});
    rows += name + ",caption " + std::to_string(i) + "\n";
  }
  options.train_file = put(folder / "rows.csv", rows).string();
  options.validation_split = 0.3;
  EXPECT_TRUE(has_validation(data::ImageTables(options, {}), options));
  const CaptionedImages kept = split(Split::train), held = split(Split::validation);
  EXPECT_EQ(kept.rows.size(), 7u);
  EXPECT_EQ(held.rows.size(), 3u);
  for (const Captioned& row : held.rows) {
    EXPECT_EQ(row.captions.size(), 4u);
    EXPECT_TRUE(std::none_of(kept.rows.begin(), kept.rows.end(),
                             [&](const Captioned& other) { return other.image == row.image; }));
  }
  options.max_train_samples = 2;
  EXPECT_EQ(split(Split::train).rows.size(), 2u);
}

}  // namespace
}  // namespace deltaw::contrastive
