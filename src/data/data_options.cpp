#include "deltaw/data.h"

#include "core/text_file.h"

namespace deltaw {

void DataOptions::fields(FieldVisitor& f) {
  f.field("task_name", task_name,
          "A GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, mnli_mismatched, qnli, rte, wnli, or ax to predict. Sets "
          "columns, labels and metrics.");
  f.field(
      "dataset_dir", dataset_dir,
      "Folder with the task's official files, or the folder above it. Without task_name, the folder of a data set from "
      "the Hugging Face hub or of save_to_disk.");
  f.field("train_file", train_file.names(),
          "Rows to train on: .parquet, .arrow, .jsonl, .json, .csv or .tsv, the last four also as .gz or .zst. Several "
          "files, a pattern in quotes, or the folder of a data set.",
          paths());
  f.field("validation_file", validation_file.names(), "Rows to evaluate on.", paths());
  f.field("test_file", test_file.names(), "Rows to predict; labels are not needed.", paths());
  f.field("text_column", text_column, "Column of the text. Default: the task's, else sentence1, sentence, text.");
  f.field("text_pair_column", text_pair_column, "Column of the second text. Default: the task's, else sentence2.");
  f.field("label_column", label_column, "Column of the label. Default: the task's, else label.");
  f.field("label_names", label_names,
          "The labels in the order of the logits. Default: those of the checkpoint's head where it names all of the "
          "training file's; else these, sorted.");
  f.field("problem_type", problem_type,
          "Whether labels are classes or scores. auto: scores when all are numbers and one "
          "has a decimal point.",
          one_of({"auto", "single_label_classification", "multi_label_classification", "regression"}));
  f.field("encoding", encoding, kEncodingHelp);
  f.field("validation_split", validation_split,
          "Share of the training rows held out where there is no validation file, below 1; a whole number above 1 is "
          "how many rows.",
          at_least(0));
  f.field("max_length", max_length,
          "Tokens per row, special ones included; longer rows are cut, and counted. Without it an adapter of others "
          "and a model alone read as much as they can.",
          at_least(1));
  f.field("max_train_samples", max_train_samples, "Train on the first so many rows; 0 is all.", at_least(0));
  f.field("max_eval_samples", max_eval_samples, "Evaluate on the first so many rows; 0 is all.", at_least(0));
  f.field("group_by_length", group_by_length,
          "Fill batches with rows of similar length. Saves attention over padding; a batch then leans to the labels "
          "that go with its length.");
}

}  // namespace deltaw
