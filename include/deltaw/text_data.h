// Files of text, instructions or conversations to the token rows that a causal language model trains on.
//
//   file -> TextDataset (texts, and which bytes of them are trained on) -> EncodedRow (ids and token labels) ->
//   PaddedRows
//
// `load_text_data` reads the first arrow, `encode_texts` the second; `pack_rows` puts several rows into one.
// docs/data.md describes the files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/chat.h"
#include "deltaw/data.h"
#include "deltaw/options.h"
#include "deltaw/tokenizer.h"

namespace deltaw {

struct TextOptions {
  bool packing = false;
  bool completion_only_loss = true;
  bool as_conversation = false;    // prompts and answers are turns, worded by the chat template
  double max_bad_rows = 0.1;       // a share of the file's rows
  std::string chat_template = {};  // a file; empty: that of the model's folder

  void fields(FieldVisitor& f);
};

// ---- texts ----

/// Turns messages into text: ChatTemplate::render, or a stand-in. Empty where the model has no template.
using ChatRenderer =
    std::function<ChatTemplate::Rendered(const Json& messages, bool add_generation_prompt, const Json& variables)>;

using ByteRanges = std::vector<std::pair<size_t, size_t>>;  // [begin, end) each, ascending, apart

struct TextExample {
  std::string text = {};           // well-formed UTF-8
  ByteRanges trained = {};         // what is trained on
  bool add_special_tokens = true;  // those of the tokenizer; a chat template spells them itself
  std::vector<size_t> ends = {};   // bytes that an end-of-text token stands before, ascending; it is trained on
  bool end = false;                // such a token follows the text
  bool answers = false;            // only answers are trained on, so the last one should hold an end of its turn
  int64_t turns_left_out = 0;      // of the assistant, which do not stand word for word in the text
  int64_t line = 0;                // in its file, from 1; of a JSON array, the item; of columns, the row
  int64_t record = 0;              // its number among the files' rows, from 1
};

/// A file of a dataset, and its first row's number among all rows, from 1.
struct TextSource {
  std::filesystem::path file;
  std::string unit = "line";
  int64_t first = 1;
};

struct TextDataset {
  std::filesystem::path file = {};        // or what the messages call several
  std::string unit = "line";              // what TextExample::line counts in the first of them: "line", "item" or "row"
  bool continuous = false;                // one running text, to be cut into blocks of max_length tokens
  int64_t most_blocks = 0;                // of a running text; 0 is all
  int64_t left_out = 0;                   // rows of the file that nothing can be learned from
  std::vector<std::string> reasons = {};  // of the first of them: "line 7: \"output\" is empty"
  std::vector<TextExample> rows = {};
  std::vector<Json> ids = {};  // of each of the files' rows, left out or not: its key kIdColumn, else null
  std::vector<TextSource> sources = {};

  std::string where(const TextExample& example) const;  // "train.jsonl, line 12"
};

struct TextData {
  TextDataset train;
  TextDataset validation;  // no rows where there is neither a validation file nor a validation_split
};

/// Reads the training and validation texts that the options name: .txt is one running text; .jsonl and .json hold rows
/// whose keys say what they are (the first row's of each file, whose rows must all be of that kind):
///
///   messages | conversations                 a conversation, OpenAI's or sharegpt's names; `tools` beside it
///   prompt, completion                       two strings, or two lists of messages
///   instruction, [input], output             alpaca; perhaps `system` and `history` beside it
///   question, answer                         GSM8K
///   text                                     a document
///
/// text_column names another column than `text`, and label_column, with text_column, another pair than prompt and
/// completion. validation_split holds out rows as `hold_out` does, and of a running text its end.
///
/// A row that nothing can be learned from (a text is empty, null or of another type, a message is none, the assistant
/// says nothing, the template refuses it) is left out and counted, with its reason. Where more than max_bad_rows of a
/// file, rounded up to whole rows, or all of them are such, the first one's error is thrown; with 0 at once.
///
/// Throws config.no-data, config.unknown-task, config.dataset-dir, config.file-format, config.text-format (no known
/// keys), config.no-chat-template, config.missing-column, config.encoding; format.* as load_training_data;
/// data.empty-file, data.mixed-rows, data.not-text, data.empty-text, data.messages (a message that is none),
/// data.chat-template (a template that rewrites earlier turns), data.too-few-rows; io.not-found; and what the renderer
/// throws.
TextData load_text_data(const DataOptions& options, const TextOptions& text, const ChatRenderer& render, uint64_t seed);

enum class Blank {
  refused,  // a row without a text or an answer is data.empty-text, and left out
  kept,     // it is a row like others, with nothing to predict perhaps; no row is left out
};

/// These files, with the columns of the options; neither held out nor cut to max_*_samples.
TextDataset load_texts(const DataFiles& files, const DataOptions& options, const TextOptions& text,
                       const ChatRenderer& render, Blank blank = Blank::refused);

/// split_file() that knows the tasks of text by name, too.
std::optional<DataFiles> text_split_file(const DataOptions& options, Split split);

/// The prompt of an instruction in the words of Stanford Alpaca, which LLM-Adapters kept, up to where the answer
/// begins.
std::string alpaca_prompt(const std::string& instruction, const std::string& input = {});

// ---- tokens ----

struct TextFacts {
  int64_t rows = 0;      // encoded; of a running text, blocks
  int64_t cut = 0;       // rows that lost tokens to max_length
  int64_t dropped = 0;   // rows that had no trained token left within max_length; not among `rows`
  int64_t tokens = 0;    // of the rows kept
  int64_t trained = 0;   // tokens that a loss is computed for
  int64_t left_out = 0;  // TextDataset::left_out
  std::vector<std::string> reasons = {};
  int64_t turns_left_out = 0;
  int64_t without_end = 0;  // uncut rows of answers whose last answer has no special token at its end
  /// The token that a chat template puts after every answer, where it is one of the tokenizer's added tokens.
  std::vector<int64_t> turn_ends = {};
};

struct EncodedTexts {
  std::vector<EncodedRow> rows;
  TextFacts facts;
};

/// What becomes of a row without a trained token: it is dropped and counted, or kept, so that rows stay in step with
/// the dataset's.
enum class Untrained { dropped, kept };

/// Tokens and labels of every row. A token is trained on when its last character lies in a trained range; the first
/// token of a row never is, because nothing comes before it. Rows longer than max_length (0: no limit) lose their end.
/// A running text is cut into blocks of max_length tokens, the last one shorter.
///
/// `end_id` is the end-of-text token. Throws config.no-end-token where a row needs it and there is none, and
/// data.no-trained-tokens where no row has a trained token left and such rows are dropped.
EncodedTexts encode_texts(const TextDataset& dataset, const Tokenizer& tokenizer, int64_t max_length,
                          std::optional<int64_t> end_id, Untrained untrained = Untrained::dropped);

/// What a user should know before training starts ("12 of 300 rows were cut at max_length 512"): one sentence each.
/// `readable` is what the model reads at most, 0 where that is not known.
std::vector<std::string> warnings(const TextFacts& facts, int64_t max_length, int64_t readable = 0);

/// Puts rows together so that few places stay empty: longest first, each into the fullest row that has room (best-fit
/// decreasing). No row is split, none exceeds max_length unless it was longer itself. `documents` numbers the rows
/// within each packed row from 1, in the order of the dataset; the first label of each is kNoLabel. The same rows give
/// the same result on any machine.
std::vector<EncodedRow> pack_rows(const std::vector<EncodedRow>& rows, int64_t max_length);

struct SampleToken {
  std::string text;  // the bytes that this token adds to the decoded row
  bool trained = false;
};

/// One row as the model sees it, to be shown before training.
std::vector<SampleToken> describe_row(const EncodedRow& row, const Tokenizer& tokenizer);

// ---- tasks ----

enum class AnswerKind {
  word,    // one of TextTask::answers, the first that appears in what the model wrote
  letter,  // A to E, the first that appears
  number,  // the last number that appears, within 0.001
};

/// A task of text known by name: where its files lie and how its answers are told. The names are Hugging Face's, the
/// files those of LLM-Adapters (one folder a set) and of GSM8K.
struct TextTask {
  std::string name;
  std::string folder;              // below dataset_dir
  std::vector<std::string> train;  // file names, the first that exists; empty: it has no training set of its own
  std::vector<std::string> test;
  AnswerKind kind = AnswerKind::number;
  std::vector<std::string> answers;  // of AnswerKind::word, in the order of the choices
};

const std::vector<TextTask>& text_task_table();

/// By name, whatever its case, hyphens and underscores; nullptr where there is none.
const TextTask* find_text_task(const std::string& name);

/// A choice is a continuation of a context; multiple choice compares their likelihoods.
struct Choice {
  std::string context;
  std::string continuation;  // begins with a space
};

struct ChoiceExample {
  std::vector<Choice> choices;
  int64_t answer = 0;  // position in `choices`
  int64_t line = 0;
};

/// The rows of a set whose answers are words, taken apart into question and choices, and worded as
/// lm-evaluation-harness words that task. The context is the same for all choices but in winogrande, where the choices
/// fill the blank and the rest of the sentence is the continuation. BoolQ's passages are not in these files.
/// Throws config.task-kind for a task of another kind, data.choices for a row that cannot be taken apart, and what
/// load_texts throws for the file.
std::vector<ChoiceExample> load_choices(const TextTask& task, const DataFiles& files,
                                        const std::string& encoding = "utf-8");

struct AnswerExample {
  std::string prompt;  // up to where the answer begins
  std::string answer;  // a word, a letter, or a number without commas
  int64_t line = 0;
};

/// The rows of any of the sets for generating and matching, with the prompts that training uses: alpaca's, or
/// "Question: ...\nAnswer:" for GSM8K's own files. Throws data.answer for a row without an answer of the task's kind,
/// and what load_texts throws for the file.
std::vector<AnswerExample> load_answers(const TextTask& task, const DataFiles& files,
                                        const std::string& encoding = "utf-8");

}  // namespace deltaw
