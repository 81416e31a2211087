#include "load.h"
#include "output.h"
#include "preview.h"
#include "setup.h"

namespace deltaw::cli {
namespace {

struct Keys {
  bool json = false;

  void fields(FieldVisitor& f) { f.field("json", json, "One JSON object."); }
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
};

}  // namespace

int validate(const Args& args) {
  Setup setup;
  Invocation invocation;
  if (!read_setup(kUsageText, args, section_of<Keys>("Result"), invocation, setup)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  Run run = load_run(setup, invocation);
  Trainer trainer(*run.model, *run.adapter, setup.train);
  trainer.set_data(run.train_rows, run.validation_rows, run.pad_id, run.tokenizer->pads_left(),
                   setup.data.group_by_length);
  Json facts = preview(setup, run, trainer.total_steps());
  facts["warnings"] = doubts(setup, run);
  facts["settings"] = resolved(setup);
  if (keys.json) {
    print(to_text(facts));
    return kDone;
  }
  print(preview_text(facts));
  for (const Json& doubt : facts["warnings"]) warning(doubt.get<std::string>());
  print("ready to train\n");
  return kDone;
}

}  // namespace deltaw::cli
