#include "data/files.h"
#include "deltaw/data.h"

namespace deltaw {
namespace {

using Numbers = std::vector<int64_t>;
class EncodeRows : public test::Files {};

TEST_F(EncodeRows, KeepsLabelsAndOrderAndCutsToTheLength) {
  write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder_);
  Dataset dataset{.file = "t.tsv", .labelled = true};
  dataset.rows.push_back({.text = "a b", .label = 1});
  dataset.rows.push_back({.text = "a b c", .text_pair = "c", .has_pair = true, .label = 2.5});
  const auto rows = encode_rows(dataset, tokenizer, 6);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].ids, (Numbers{2, 5, 6, 3}));
  EXPECT_EQ(rows[0].type_ids, (Numbers{0, 0, 0, 0}));
  EXPECT_EQ(rows[0].label, 1);
  EXPECT_EQ(rows[1].ids, (Numbers{2, 5, 6, 3, 7, 3}));  // the longer text lost a token
  EXPECT_EQ(rows[1].type_ids, (Numbers{0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(rows[1].label, 2.5);
  EXPECT_EQ(rows[1].index, 1);
  EXPECT_EQ(encode_rows(dataset, tokenizer, 0)[1].ids.size(), 7u);
  EXPECT_EQ(rows[0].truncated, 0);
  EXPECT_EQ(rows[1].truncated, 1);
  EXPECT_EQ(truncated_rows(rows), 1);
  EXPECT_EQ(truncated_rows(encode_rows(dataset, tokenizer, 7)), 0);
}

TEST(TruncationWarning, NamesTheWayOut) {
  EXPECT_EQ(truncation_warning(2, 9, 128, 512),
            "2 of 9 rows were longer than max_length 128 and lost their end; max_length may be 512 with this model");
  EXPECT_NE(truncation_warning(2, 9, 512, 512).find("reads no more"), std::string::npos);
  EXPECT_NE(truncation_warning(2, 9, 128).find("a greater max_length"), std::string::npos);
}

}  // namespace
}  // namespace deltaw
