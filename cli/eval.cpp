#include "counter.h"
#include "output.h"
#include "serve.h"

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

void print_results(Json results, const Served& served) {
  results["model_name_or_path"] = served.base.model_name_or_path;
  if (served.adapter) results["adapter_name_or_path"] = served.keys.adapter_name_or_path;
  if (const auto error = served.model->quantisation_error()) results["quantisation"] = error->type;
  print(to_text(results));
}

}  // namespace

int eval(const Args& args) {
  Served served;
  Invocation invocation;
  if (!read_serving(usage(), args, evaluation_sections(), invocation, served)) return kDone;
  load_served(served, invocation, true);
  served.tasks.read_evaluation(invocation);
  Counter counter("rows");
  TaskFiles files = served.files();
  print_results(served.reader->evaluate(served.asked(counter.progress()), files), served);
  return kDone;
}

}  // namespace deltaw::cli
