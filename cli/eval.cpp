#include "counter.h"
#include "loaded_model.h"
#include "output.h"

namespace deltaw::cli {
namespace {

const Usage& usage() {
  static const Usage text = {
      .verb = "eval",
      .what = "Scores a model on the validation rows, with an adapter or without: " +
              all_words(&TaskWords::evaluates, ", ") +
              ". What is left open comes from run.json beside the adapter. One JSON object on standard output.",
      .example =
          "  deltaw eval --adapter_name_or_path out --validation_file dev.csv\n"
          "  deltaw eval --model_name_or_path MODEL --task_name rte --dataset_dir glue",
      .positional = "CONFIG",
      .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
      .positional_is_config = true,
      .needs = {kNeedsModel},
  };
  return text;
}

void print_results(Json results, const LoadedModel& loaded) {
  results["model_name_or_path"] = loaded.base.model_name_or_path;
  if (loaded.adapter) results["adapter_name_or_path"] = loaded.keys.adapter_name_or_path;
  if (const auto error = loaded.model->quantisation_error()) results["quantisation"] = error->type;
  print(to_text(results));
}

}  // namespace

int eval(const Args& args) {
  LoadedModel loaded;
  Invocation invocation;
  if (!read_model_keys(usage(), args, evaluation_sections(), invocation, loaded)) return kDone;
  load_with_adapter(loaded, invocation, true);
  loaded.tasks.read(invocation, &TaskReader::evaluation_fields);
  Counter counter("rows");
  TaskFiles files = loaded.files();
  print_results(loaded.reader->evaluate(loaded.asked(counter.progress()), files), loaded);
  return kDone;
}

}  // namespace deltaw::cli
