#include "output.h"
#include "preview.h"
#include "run/run_folder.h"
#include "run_keys.h"
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

void write_rows(const LoadedRun& run, const std::string& path) {
  const RunSettings& settings = run.settings;
  LineWriter output(path);
  const auto schedule = train::make_schedule(settings.train, run.train()->size());
  for (int64_t epoch = 0; epoch < schedule.epochs; ++epoch) {
    for (const std::vector<int64_t>& batch :
         plan_batches(costs_of(*run.train()), settings.train.per_device_train_batch_size,
                      train::data_seed(settings.train), epoch, settings.data.group_by_length)) {
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
  RunSettings settings;
  Invocation invocation;
  if (!read_settings(kUsageText, args, section_of<Keys>("Result"), invocation, settings)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  run::refuse_input("rows_file", keys.rows_file, run::inputs_of(settings));
  const LoadedRun run = load_run(std::move(settings), warning);
  Json facts = run_facts(run);
  facts["warnings"] = likely_mistakes(run);
  facts["settings"] = run.settings.to_json();
  if (!keys.rows_file.empty()) write_rows(run, keys.rows_file);
  if (keys.json) {
    print(to_text(facts));
    return kDone;
  }
  show(preview_text(facts, run.reader->facts_text(facts["data"])));
  for (const Json& sentence : facts["warnings"]) warning(sentence.get<std::string>());
  print("ready to train\n");
  return kDone;
}

}  // namespace deltaw::cli
