// Files of labelled text to padded batches.
//
//   file -> Dataset (rows of text with labels) -> EncodedRow (token ids) -> PaddedRows (padded, row-major)
//
// `load_training_data` reads the first arrow, `encode_rows` the second, `plan_batches` and `collate` the third.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltaw/options.h"
#include "deltaw/tokenizer.h"

namespace deltaw {

/// Files of rows, read one after the other: paths, patterns of them (*, ? and [...]), and folders of data sets.
class DataFiles {
 public:
  DataFiles() = default;
  // Implicit, since one file is the usual case. An empty name is none.
  DataFiles(std::string name);
  DataFiles(const char* name) : DataFiles(std::string(name)) {}
  DataFiles(const std::filesystem::path& path) : DataFiles(path.string()) {}
  DataFiles(std::vector<std::string> names) : names_(std::move(names)) {}

  const std::vector<std::string>& names() const { return names_; }
  std::vector<std::string>& names() { return names_; }
  bool empty() const { return names_.empty(); }
  std::string text() const;  // "a.jsonl", "a.jsonl and 2 more"
  bool operator==(const DataFiles&) const = default;

 private:
  std::vector<std::string> names_;
};

struct DataOptions {
  std::string task_name = {};
  std::string dataset_dir = {};
  DataFiles train_file = {};
  DataFiles validation_file = {};
  DataFiles test_file = {};
  std::string text_column = {};
  std::string text_pair_column = {};
  std::string label_column = {};
  std::vector<std::string> label_names = {};
  std::string problem_type = "auto";
  std::string encoding = "utf-8";  // of the files; a name that ICU knows
  double validation_split = 0;
  int64_t max_length = 128;  // what Hugging Face's classification scripts cut at
  int64_t max_train_samples = 0;
  int64_t max_eval_samples = 0;
  bool group_by_length = false;

  void fields(FieldVisitor& f);
};

// ---- tasks ----

/// A task known by name: how its official files are laid out, what its labels mean and how it is scored.
struct GlueTask {
  std::string name;
  std::string folder;  // below dataset_dir
  std::string text_column;
  std::string text_pair_column;  // empty: one sentence
  std::string label_column;
  std::vector<std::string> columns;  // of files without a header line; else empty
  std::vector<std::string> labels;   // in the order of the logits; empty: regression
  std::vector<std::string> metrics;  // the first one chooses the best checkpoint
};

const std::vector<GlueTask>& glue_tasks();

/// By name, whatever its case and hyphens: "SST-2" is "sst2". Throws config.unknown-task.
const GlueTask& find_glue_task(const std::string& name);

// ---- rows ----

/// What the labels of a run mean.
struct LabelSet {
  bool regression = false;
  bool multi_label = false;             // a row has any number of the classes
  std::vector<std::string> names = {};  // in the order of the logits; empty for regression
  /// The task's own names by class number, where `names` are these in another order or spelling: its files use them.
  std::vector<std::string> task_names = {};

  bool one_class() const { return !regression && !multi_label; }  // a row has
  int64_t outputs() const { return regression ? 1 : static_cast<int64_t>(names.size()); }
  /// As transformers names it: "single_label_classification".
  const char* problem_type() const;

  /// The class of that name. Names match as values: 1, 1.0 and "1" are one label, and 007 is another.
  std::optional<int64_t> find_name(std::string_view label) const;
  /// The class of a label as a file spells it: find_name or, where no name is a number, the class of that number.
  std::optional<int64_t> find(std::string_view label) const;
};

/// The labels of a checkpoint's head.
struct HeadLabels {
  std::vector<std::string> names = {};  // in the order of its logits; LABEL_0, LABEL_1 ... where nobody named them
  bool stored = false;                  // its weights are in the checkpoint
  bool replaceable = false;             // and a new one may be drawn in their place
};

struct Example {
  std::string text = {};
  std::string text_pair = {};
  bool has_pair = false;
  double label = 0;                 // class number or score; 0 where the set is not labelled
  std::vector<double> labels = {};  // of a row of several classes: 1 for those it has, else 0, by class number
  int64_t line = 0;                 // in its file, from 1; of a JSON array, the item; of columns, the row
  Json id = nullptr;                // of the column kIdColumn, where the file has it
};

/// The column, or the key of a row, that names the row in results.
inline constexpr const char* kIdColumn = "id";

struct Dataset {
  std::filesystem::path file = {};  // or what the messages call several
  bool labelled = false;
  std::vector<Example> rows = {};
  std::vector<std::string> warnings = {};  // one sentence each
};

enum class Split { train, validation, test };
enum class Labels {
  needed,   // every row has one that is in the set
  ignored,  // the label column is not looked at and may be missing
};

struct TrainingData {
  LabelSet labels;
  Dataset train;
  Dataset validation;  // no rows where there is neither a validation file nor a validation_split
  std::string text_column, text_pair_column, label_column;  // that were read; no second text: an empty one
  bool new_head = false;                                    // the stored head does not know these labels
  std::vector<std::string> warnings = {};                   // of labels and columns, one sentence each
};

/// Reads the training and validation rows that the options name, by the files' endings: .tsv (GLUE style: tabs, no
/// quoting), .csv (RFC 4180), .jsonl or .json (one object a line, or an array of objects), any of them packed by gzip
/// or zstd; .parquet and .arrow by their first bytes, too. docs/data.md describes folders and several files.
///
/// Labels are those of label_names or of the task; else those of `head` where they hold every label of the training
/// file, or where this has the numbers of all its classes; else the sorted values of the training file, by number where
/// all are numbers. A task's labels take the order of a head that names the same. As in Hugging Face's run_glue, they
/// are scores when each is a number and at least one is written with a point or an exponent: 1, 2, 3 are three classes
/// and 1.0, 2.0, 3.0 are scores. problem_type overrides that. A row whose label is a JSON list has several classes, or
/// none; in a delimited file these stand with commas between them, where problem_type says so.
///
/// A stored head that names some of the labels and not the others is an error, unless it may be replaced.
///
/// Throws config.no-data, config.no-files, config.head-labels, config.label-names, config.unknown-task,
/// config.dataset-dir, config.file-format, config.missing-column, config.text-column, config.encoding; format.csv,
/// format.json-line, format.encoding, format.compressed, format.parquet, format.arrow, format.separator,
/// format.zero-byte, format.duplicate-column; data.empty-file, data.field-count, data.unknown-label,
/// data.missing-label, data.several-labels, data.not-a-number, data.not-text, data.one-label; io.not-found. `seed`
/// decides which rows validation_split holds out.
TrainingData load_training_data(const DataOptions& options, uint64_t seed, const HeadLabels& head = {});

/// A warning where a stored head of as many classes has one of them at another place than `names`; else nothing.
std::optional<std::string> order_warning(const std::vector<std::string>& names, const HeadLabels& head);

/// The set of these names; where they are the task's in another order, with what its files call them.
LabelSet label_set(const DataOptions& options, std::vector<std::string> names);

/// One split for a model whose labels are known. Without a validation file, Split::validation is what
/// load_training_data holds out with the same options and seed. Throws what load_training_data throws.
Dataset load_split(const DataOptions& options, Split split, const LabelSet& labels, Labels use, uint64_t seed);

/// Any other files, with the columns of the options; max_*_samples are not applied.
Dataset load_file(const DataFiles& files, const DataOptions& options, const LabelSet& labels, Labels use);

/// The files of a split, by its own option, the task's folder or that of a data set; nothing where none names one.
/// Folders and patterns are resolved, in order. Throws config.no-files, config.dataset-dir.
std::optional<DataFiles> split_file(const DataOptions& options, Split split);

/// The metrics of a run: the task's, else those that docs/evaluation.md lists for such labels. The first one chooses
/// the best checkpoint.
std::vector<std::string> metric_names(const DataOptions& options, const LabelSet& labels);

/// Splits off round(fraction * rows) rows, at least one on either side, by a permutation that depends on seed and
/// number of rows alone. Both parts keep the file's order: {kept, held out}. Throws data.too-few-rows below two rows.
std::pair<Dataset, Dataset> hold_out(Dataset dataset, double fraction, uint64_t seed);

// ---- tokens and batches ----

/// A token that no loss is computed for.
inline constexpr int64_t kNoLabel = -100;

struct EncodedRow {
  std::vector<int64_t> ids;
  std::vector<int64_t> type_ids;        // empty: zeros
  std::vector<int64_t> token_labels;    // for a causal model: the row's own ids, kNoLabel where they are not trained on
  std::vector<int64_t> documents = {};  // of a packed row: the number of each token's document, from 1; empty: one
  double label = 0;
  std::vector<double> labels = {};  // as Example's
  int64_t index = 0;                // of the row in its dataset
  int64_t truncated = 0;            // texts of it that lost tokens to max_length; a packed row holds several texts
};

/// How many texts of these rows lost tokens to max_length.
int64_t truncated_rows(const std::vector<EncodedRow>& rows);

/// The sentence that says so. `readable` is what the model reads at most, 0 where that is not known.
std::string truncation_warning(int64_t truncated, int64_t rows, int64_t max_length, int64_t readable = 0);

/// One entry per row; at most max_length tokens each, 0 is no limit.
std::vector<EncodedRow> encode_rows(const Dataset& dataset, const Tokenizer& tokenizer, int64_t max_length);

/// Tokens of each row.
std::vector<int64_t> row_lengths(const std::vector<EncodedRow>& rows);

/// Rows padded to the longest of them. The three token vectors are [rows, length], row-major.
struct PaddedRows {
  int64_t rows = 0;
  int64_t length = 0;
  std::vector<int64_t> input_ids;
  std::vector<int64_t> attention_mask;  // the number of the token's document, from 1; 0 for padding
  std::vector<int64_t> token_type_ids;  // 0 on padding
  std::vector<int64_t> token_labels;    // kNoLabel on padding; empty where the rows have none
  std::vector<double> labels;           // [rows], or [rows, classes] where rows have several
};

/// The rows at `positions`, in that order.
PaddedRows pad_rows(const std::vector<EncodedRow>& rows, const std::vector<int64_t>& positions, int64_t pad_id,
                    bool pads_left);

/// Which rows make each batch of one epoch: every row once, batch_size to a batch, only the last batch smaller. Depends
/// on the arguments alone, on any machine, so a resumed run skips the batches it has seen. With group_by_length a batch
/// holds rows of similar length: a random permutation is cut into runs of up to 50 batches, each run is sorted by
/// length and cut into batches, and the batches are shuffled.
std::vector<std::vector<int64_t>> plan_batches(const std::vector<int64_t>& lengths, int64_t batch_size, uint64_t seed,
                                               int64_t epoch, bool group_by_length);

/// Batches for evaluation: every row once, longest rows first, so that the largest batch comes first.
std::vector<std::vector<int64_t>> plan_evaluation(const std::vector<int64_t>& lengths, int64_t batch_size);

}  // namespace deltaw
