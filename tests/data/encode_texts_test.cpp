// Which tokens are trained on, where rows are cut, and how they are packed.
#include <algorithm>
#include <map>
#include <random>

#include "data/bytes.h"
#include "data/files.h"

namespace deltaw {
namespace {

using test::expect_error;
using test::kEnd;
using test::kTurnEnd;
using test::trained_text;
using Numbers = std::vector<int64_t>;

class EncodeTexts : public test::Files {
 protected:
  void SetUp() override {
    Files::SetUp();
    tokenizer_.emplace(test::byte_tokenizer(folder_));
  }

  EncodedTexts encode(std::string_view rows, int64_t max_length = 0, const ChatRenderer& render = test::render_turns,
                      const std::string& name = "rows.jsonl") const {
    return encode_texts(load_texts(write(name, rows), {}, {}, render), *tokenizer_, max_length, kEnd);
  }

  std::optional<Tokenizer> tokenizer_;
};

TEST_F(EncodeTexts, TrainsTheAnswerAndTheEndToken) {
  const EncodedTexts texts = encode("{\"prompt\": \"\xC3\xA4?\", \"completion\": \"\xC3\xB6!\"}");
  ASSERT_EQ(texts.rows.size(), 1u);
  EXPECT_EQ(texts.rows[0].ids, (Numbers{0xC3, 0xA4, '?', 0xC3, 0xB6, '!', kEnd}));
  EXPECT_EQ(texts.rows[0].token_labels, (Numbers{-100, -100, -100, 0xC3, 0xB6, '!', kEnd}));
  EXPECT_EQ(texts.facts.rows, 1);
  EXPECT_EQ(texts.facts.tokens, 7);
  EXPECT_EQ(texts.facts.trained, 4);
  EXPECT_EQ(texts.facts.without_end, 0);
  EXPECT_TRUE(warnings(texts.facts, 0).empty());
}

TEST_F(EncodeTexts, DoesNotDoubleAnEndTokenThatTheFileSpells) {
  EXPECT_EQ(encode(R"({"prompt": "a", "completion": "b<end>"})").rows[0].ids, (Numbers{'a', 'b', kEnd}));
}

TEST_F(EncodeTexts, TheFirstTokenOfARowIsNeverPredicted) {
  EXPECT_EQ(encode(R"({"text": "ab"})").rows[0].token_labels, (Numbers{-100, 'b', kEnd}));
}

TEST_F(EncodeTexts, TrainsTheAssistantsTurns) {
  const EncodedTexts texts =
      encode(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )"
             R"({"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})");
  EXPECT_EQ(trained_text(texts.rows[0], *tokenizer_), "b<turn>\n|d<turn>\n");
  EXPECT_EQ(std::count(texts.rows[0].ids.begin(), texts.rows[0].ids.end(), kTurnEnd), 4);
  EXPECT_EQ(texts.facts.without_end, 0);
}

TEST_F(EncodeTexts, CountsAnswersWithoutAnEnd) {
  const auto endless = [](const Json& messages, bool prompt, const Json&) {
    std::string text;
    for (const Json& message : messages) text += "\n" + message["role"].get<std::string>() + ":" + test::said(message);
    return ChatTemplate::Rendered{text + (prompt ? "\nassistant:" : ""), {}};
  };
  const EncodedTexts texts =
      encode(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})", 0, endless);
  EXPECT_EQ(trained_text(texts.rows[0], *tokenizer_), "b");
  EXPECT_EQ(texts.facts.without_end, 1);
  ASSERT_EQ(warnings(texts.facts, 0).size(), 1u);
  EXPECT_NE(warnings(texts.facts, 0)[0].find("eos_token"), std::string::npos);
}

TEST_F(EncodeTexts, EveryAnswerOfAHistoryEnds) {
  const EncodedTexts texts = encode(
      "{\"instruction\": \"c\", \"output\": \"d\", \"history\": [[\"\xC3\xA4\", \"\xC3\xB6\"], [\"a\", \"b\"]]}");
  const EncodedRow& row = texts.rows.at(0);
  EXPECT_EQ(trained_text(row, *tokenizer_), "\xC3\xB6<end>|b<end>|d<end>");
  EXPECT_EQ(std::count(row.ids.begin(), row.ids.end(), test::kEnd), 3);
  EXPECT_EQ(texts.facts.without_end, 0);
}

TEST_F(EncodeTexts, RowsThatAreLeftOutAreToldWithTheirReasons) {
  const EncodedTexts texts = encode("{\"text\": \"ab\"}\n{\"text\": \"\"}\n");
  EXPECT_EQ(texts.facts.left_out, 1);
  EXPECT_EQ(warnings(texts.facts, 0), (std::vector<std::string>{"1 row is left out: line 2: \"text\" is empty"}));
}

TEST_F(EncodeTexts, FindsWhatTheTemplatePutsBehindEveryAnswer) {
  const std::string two = R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )"
                          R"({"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";
  const auto ends = [&](const ChatRenderer& render, int64_t max_length = 0) {
    return encode(two + "\n" + two, max_length, render).facts.turn_ends;
  };
  EXPECT_EQ(ends(test::render_turns), Numbers{kTurnEnd});
  EXPECT_EQ(ends(test::render_marked), Numbers{kTurnEnd});
  EXPECT_EQ(ends(test::render_closed), Numbers{kTurnEnd});  // not the end of the text behind the last one
  // The end of the first answer is learned, that of the second is cut off.
  const size_t cut = test::render_turns(Json::parse(two)["messages"], false, {}).text.size() - 4 * 5 - 2;
  EXPECT_EQ(ends(test::render_turns, static_cast<int64_t>(cut)), Numbers{kTurnEnd});

  // Answers that end otherwise each time, or in plain text, teach none.
  const auto behind = [](const std::string& first, const std::string& later) {
    return [=](const Json& messages, bool prompt, const Json&) {
      std::string text;
      for (size_t i = 0; i < messages.size(); ++i) {
        text += messages[i]["role"].get<std::string>() + ":" + test::said(messages[i]) + (i < 2 ? first : later) + "\n";
      }
      return ChatTemplate::Rendered{text + (prompt ? "assistant:" : ""), {}};
    };
  };
  EXPECT_EQ(ends(behind("<turn>", "<end>")), Numbers{});
  EXPECT_EQ(ends(behind("<turn>", "</turn>")), Numbers{});
  EXPECT_EQ(ends(behind("</turn>", "</turn>")), Numbers{});
  EXPECT_EQ(ends(behind("<end>", "<end>")), Numbers{kEnd});
  EXPECT_EQ(ends(behind("<turn><end>", "<turn><end>")), Numbers{kTurnEnd});

  // A special token goes before one that is not, wherever they stand; without any, an added one will do.
  tokenizer_->add_tokens({"</call>"}, false);
  EXPECT_EQ(ends(behind("</call><turn>", "</call><turn>")), Numbers{kTurnEnd});
  EXPECT_EQ(ends(behind("</call>", "</call>")), Numbers{*tokenizer_->token_to_id("</call>")});
}

TEST_F(EncodeTexts, TeachesNoEndOfATurnByOtherRows) {
  EXPECT_EQ(encode(R"({"prompt": "a", "completion": "b<turn>"})").facts.turn_ends, Numbers{});
  EXPECT_EQ(encode(R"({"text": "a<turn>"})").facts.turn_ends, Numbers{});
}

TEST_F(EncodeTexts, DoesNotDoubleABeginTokenThatTheRowSpells) {
  const std::filesystem::path file = folder_ / "tokenizer.json";
  Json json = Json::parse(std::ifstream(file));
  json["post_processor"] = Json::parse(
      R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<turn>", "type_id": 0}},
          {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},
          {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {"<turn>": {"id": "<turn>", "ids": [257],
          "tokens": ["<turn>"]}}})");
  std::ofstream(file) << json.dump();
  write("tokenizer_config.json", R"({"bos_token": "<turn>", "eos_token": "<end>"})");
  tokenizer_.emplace(Tokenizer::from_folder(folder_));
  for (const char* text : {"ab", "<turn>ab", "ab<end>", "<turn>ab<end>"}) {
    SCOPED_TRACE(text);
    const EncodedRow row = encode(Json{{"text", text}}.dump()).rows[0];
    EXPECT_EQ(row.ids, (Numbers{kTurnEnd, 'a', 'b', kEnd}));
    EXPECT_EQ(row.token_labels, (Numbers{-100, 'a', 'b', kEnd}));
  }
  const EncodedRow asked = encode(R"({"prompt": "<turn>a", "completion": "b"})").rows[0];
  EXPECT_EQ(asked.ids, (Numbers{kTurnEnd, 'a', 'b', kEnd}));
  EXPECT_EQ(encode("<turn>ab", 0, {}, "a.txt").rows[0].ids, (Numbers{kTurnEnd, 'a', 'b'}));
}

TEST_F(EncodeTexts, CutsTheEndAndDropsWhatHasNoAnswerLeft) {
  const EncodedTexts texts = encode(
      "{\"prompt\": \"ab\", \"completion\": \"cdef\"}\n"
      "{\"prompt\": \"abcdef\", \"completion\": \"g\"}\n"
      "{\"prompt\": \"a\", \"completion\": \"bc\"}\n",
      4);
  ASSERT_EQ(texts.rows.size(), 2u);
  EXPECT_EQ(trained_text(texts.rows[0], *tokenizer_), "cd");
  EXPECT_EQ(trained_text(texts.rows[1], *tokenizer_), "bc<end>");
  EXPECT_EQ(texts.rows[1].index, 1);
  EXPECT_EQ(texts.facts.cut, 1);
  EXPECT_EQ(truncated_rows(texts.rows), 1);
  EXPECT_EQ(truncated_rows(pack_rows(texts.rows, 8)), 1);
  EXPECT_EQ(texts.facts.dropped, 1);
  EXPECT_EQ(texts.facts.rows, 2);
  EXPECT_EQ(texts.facts.tokens, 8);
  EXPECT_EQ(texts.facts.trained, 5);
  const std::vector<std::string> told = warnings(texts.facts, 4);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_NE(told[0].find("1 of 3 rows"), std::string::npos);
  EXPECT_NE(told[1].find("1 of 3 rows"), std::string::npos);
}

TEST_F(EncodeTexts, RefusesWhenNothingIsLeftAndWhenThereIsNoEndToken) {
  expect_error([&] { encode(R"({"prompt": "abcdef", "completion": "g"})", 4); }, "data.no-trained-tokens",
               {"rows.jsonl", "max_length 4"});
  const TextDataset dataset = load_texts(write("a.jsonl", R"({"text": "a"})"), {}, {}, {});
  expect_error([&] { encode_texts(dataset, *tokenizer_, 0, std::nullopt); }, "config.no-end-token",
               {"a.jsonl, line 1", "eos_token"});
}

TEST_F(EncodeTexts, KeepsRowsInStepWhereTheyAreAskedFor) {
  const auto file = write("a.jsonl", "{\"text\": \"\"}\n{\"text\": \"a\"}\n{\"text\": \"bc\"}\n");
  TextDataset dataset = load_texts(file, {}, {}, {}, Blank::kept);
  for (TextExample& row : dataset.rows) row.end = false;
  const EncodedTexts kept = encode_texts(dataset, *tokenizer_, 0, kEnd, Untrained::kept);
  ASSERT_EQ(kept.rows.size(), 3u);
  EXPECT_TRUE(kept.rows[0].ids.empty());
  EXPECT_EQ(kept.rows[2].index, 2);
  EXPECT_EQ(kept.facts.dropped, 0);
  dataset.rows.resize(2);
  EXPECT_EQ(encode_texts(dataset, *tokenizer_, 0, kEnd, Untrained::kept).rows.size(), 2u);
  expect_error([&] { encode_texts(dataset, *tokenizer_, 0, kEnd); }, "data.no-trained-tokens", {"none of 2 rows"});
}

TEST_F(EncodeTexts, CutsARunningTextIntoBlocksAndLosesNothing) {
  const std::string text = "abcdefghijk";
  const EncodedTexts texts = encode(text, 4, {}, "a.txt");
  ASSERT_EQ(texts.rows.size(), 3u);
  EXPECT_EQ(texts.rows[0].token_labels, (Numbers{-100, 'b', 'c', 'd'}));
  EXPECT_EQ(texts.rows[2].ids, (Numbers{'i', 'j', 'k'}));
  EXPECT_EQ(texts.rows[2].index, 2);
  EXPECT_EQ(texts.facts.trained, 8);
  EXPECT_EQ(texts.facts.cut, 0);
  EXPECT_EQ(encode("abcde", 4, {}, "a.txt").rows.size(), 1u);  // a block of one token trains nothing
  EXPECT_EQ(encode(text, 0, {}, "a.txt").rows.size(), 1u);
  DataOptions options{.train_file = write("a.txt", text).string(), .max_train_samples = 2};
  EXPECT_EQ(encode_texts(load_text_data(options, {}, {}, 1).train, *tokenizer_, 4, kEnd).rows.size(), 2u);
}

TEST_F(EncodeTexts, DescribesARowTokenByToken) {
  const EncodedRow row = encode("{\"prompt\": \"\xC3\xA4?\", \"completion\": \"b\"}").rows[0];
  const std::vector<SampleToken> tokens = describe_row(row, *tokenizer_);
  ASSERT_EQ(tokens.size(), 5u);
  EXPECT_EQ(tokens[0].text, "");  // the first half of a character
  EXPECT_EQ(tokens[1].text, "\xC3\xA4");
  EXPECT_EQ(tokens[2].text, "?");
  EXPECT_FALSE(tokens[2].trained);
  EXPECT_EQ(tokens[3].text, "b");
  EXPECT_TRUE(tokens[3].trained);
  EXPECT_EQ(tokens[4].text, "<end>");
  EXPECT_TRUE(tokens[4].trained);
}

std::vector<EncodedRow> rows_of(const Numbers& lengths) {
  std::vector<EncodedRow> rows;
  int64_t id = 0;
  for (const int64_t length : lengths) {
    EncodedRow& row = rows.emplace_back();
    row.index = static_cast<int64_t>(rows.size()) - 1;
    for (int64_t i = 0; i < length; ++i) row.ids.push_back(id++);
    row.token_labels = row.ids;
  }
  return rows;
}

TEST(PackRows, FillsTheFullestRowThatHasRoom) {
  const std::vector<EncodedRow> packed = pack_rows(rows_of({3, 6, 4, 7}), 10);
  ASSERT_EQ(packed.size(), 2u);
  EXPECT_EQ(packed[0].ids, (Numbers{0, 1, 2, 13, 14, 15, 16, 17, 18, 19}));  // rows 0 and 3
  EXPECT_EQ(packed[0].documents, (Numbers{1, 1, 1, 2, 2, 2, 2, 2, 2, 2}));
  EXPECT_EQ(packed[0].token_labels, (Numbers{-100, 1, 2, -100, 14, 15, 16, 17, 18, 19}));
  EXPECT_EQ(packed[1].ids.size(), 10u);  // rows 1 and 2
  EXPECT_EQ(packed[1].index, 1);
}

TEST(PackRows, LosesNothingAndSplitsNothing) {
  std::mt19937 engine(1);
  Numbers lengths;
  for (int i = 0; i < 500; ++i) lengths.push_back(1 + static_cast<int64_t>(engine() % 70));
  lengths[7] = 200;  // longer than a packed row
  const std::vector<EncodedRow> rows = rows_of(lengths);
  const std::vector<EncodedRow> packed = pack_rows(rows, 128);
  std::map<int64_t, size_t> row_beginning_with;
  for (size_t i = 0; i < rows.size(); ++i) row_beginning_with[rows[i].ids[0]] = i;
  size_t found = 0;
  size_t places = 0;
  for (size_t p = 0; p < packed.size(); ++p) {
    const EncodedRow& row = packed[p];
    ASSERT_EQ(row.documents.size(), row.ids.size());
    ASSERT_EQ(row.token_labels.size(), row.ids.size());
    EXPECT_EQ(row.index, static_cast<int64_t>(p));
    places += row.ids.size();
    int64_t document = 0;
    for (size_t at = 0; at < row.ids.size();) {
      const EncodedRow& part = rows.at(row_beginning_with.at(row.ids[at]));
      ++found;
      ++document;
      ASSERT_LE(at + part.ids.size(), row.ids.size());
      EXPECT_EQ(row.token_labels[at], kNoLabel);
      for (size_t i = 0; i < part.ids.size(); ++i, ++at) {
        EXPECT_EQ(row.ids[at], part.ids[i]);
        EXPECT_EQ(row.documents[at], document);
        EXPECT_EQ(row.token_labels[at], i > 0 ? part.ids[i] : kNoLabel);
      }
    }
    EXPECT_TRUE(document == 1 || row.ids.size() <= 128u);
  }
  EXPECT_EQ(found, rows.size());
  const size_t tokens = [&] {
    size_t sum = 0;
    for (const int64_t length : lengths) sum += static_cast<size_t>(length);
    return sum;
  }();
  EXPECT_EQ(places, tokens);
  EXPECT_LE(packed.size(), (tokens + 127) / 128 + 3);  // next to the least number of rows there can be
  const std::vector<EncodedRow> again = pack_rows(rows, 128);
  ASSERT_EQ(again.size(), packed.size());
  for (size_t i = 0; i < packed.size(); ++i) EXPECT_EQ(again[i].ids, packed[i].ids);
}

TEST(PackRows, KeepsTypeIdsInPlaceAndNeedsALength) {
  std::vector<EncodedRow> rows = rows_of({3, 2});
  rows[1].type_ids = {1, 1};
  EXPECT_EQ(pack_rows(rows, 8).at(0).type_ids, (Numbers{0, 0, 0, 1, 1}));
  expect_error([&] { pack_rows(rows, 0); }, "config.packing", {"max_length"});
}

TEST(PackRows, ABatchNumbersTheDocuments) {
  const PaddedRows batch = pad_rows(pack_rows(rows_of({3, 2, 4}), 5), {0, 1}, 0, false);
  EXPECT_EQ(batch.length, 5);
  EXPECT_EQ(batch.attention_mask, (Numbers{1, 1, 1, 2, 2, 1, 1, 1, 1, 0}));
  EXPECT_EQ(batch.token_labels, (Numbers{-100, 1, 2, -100, 4, -100, 6, 7, 8, -100}));
}

}  // namespace
}  // namespace deltaw
