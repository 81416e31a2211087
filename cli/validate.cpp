#include "claim.h"
#include "load.h"
#include "output.h"
#include "preview.h"
#include "setup.h"
#include "train/schedule.h"
#include "train/train_options.h"

namespace deltaw::cli {
namespace {

struct Keys {
  bool json = false;
  std::string rows_file;

  void fields(FieldVisitor& f) {
    f.field("json", json, "One JSON object.");
    f.field(
        "rows_file", rows_file,
        "Also write the rows to this file as they would be trained, in that order, and those of the validation set: "
        "JSON lines of {\"split\", \"epoch\", \"ids\", \"token_labels\" or \"label\"}.");
  }
};

const Usage kUsageText = {
    .verb = "validate",
    .what =
        "Does everything that `deltaw train` does before its first step: reads the configuration, the rows and "
        "the model, wraps the targets, and shows what would be trained.",
    .example =
        "  deltaw validate run.yaml\n"
        "  deltaw validate --model_name_or_path MODEL --train_file train.csv --json",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys; flags win over it.",
    .positional_is_config = true,
    .exit_codes = "0 the run could start; 1 a file cannot be used; 2 usage or configuration",
    .needs = {kNeedsModel, kNeedsRows},
};

Json row_line(const char* split, int64_t epoch, const Json& row) {
  Json line = {{"split", split}, {"epoch", epoch}};
  line.update(row);
  return line;
}

void write_rows(const Setup& setup, const Run& run, const std::string& path) {
  LineWriter output(path);
  const auto schedule = train::make_schedule(setup.train, run.train()->size());
  for (int64_t epoch = 0; epoch < schedule.epochs; ++epoch) {
    for (const std::vector<int64_t>& batch :
         plan_batches(costs_of(*run.train()), setup.train.per_device_train_batch_size, train::data_seed(setup.train),
                      epoch, setup.data.group_by_length)) {
      for (const int64_t row : batch) {
        output.write(to_line(row_line("train", epoch, run.reader->row(Split::train, row))));
      }
    }
  }
  for (int64_t row = 0; row < run.validation()->size(); ++row) {
    output.write(to_line(row_line("validation", 0, run.reader->row(Split::validation, row))));
  }
  output.finish();
}

}  // namespace

int validate(const Args& args) {
  Setup setup;
  Invocation invocation;
  if (!read_setup(kUsageText, args, section_of<Keys>("Result"), invocation, setup)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  refuse_input("rows_file", keys.rows_file, inputs_of(setup, invocation));
  Run run = load_run(setup, invocation);
  Trainer trainer(*run.model, *run.adapter, *run.task, setup.train);
  trainer.set_data(run.train(), run.validation(), setup.data.group_by_length);
  Json facts = preview(setup, run, trainer.total_steps());
  facts["warnings"] = doubts(setup, run);
  facts["settings"] = resolved(setup);
  if (!keys.rows_file.empty()) write_rows(setup, run, keys.rows_file);
  if (keys.json) {
    print(to_text(facts));
    return kDone;
  }
  show(preview_text(facts, run.reader->facts_text(facts["data"])));
  for (const Json& doubt : facts["warnings"]) warning(doubt.get<std::string>());
  print("ready to train\n");
  return kDone;
}

}  // namespace deltaw::cli
