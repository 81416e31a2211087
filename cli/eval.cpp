#include "counter.h"
#include "deltaw/error.h"
#include "eval_text.h"
#include "output.h"
#include "serve.h"
#include "texts.h"

namespace deltaw::cli {
namespace {

const Usage kUsageText = {
    .verb = "eval",
    .what =
        "Scores a model on the validation rows, with an adapter or without: a classifier by the task's metrics, a "
        "causal language model by perplexity, by the likelihood of choices, or by the answers it writes. What is left "
        "open "
        "comes from run.json beside the adapter. One JSON object on standard output.",
    .example =
        "  deltaw eval --adapter_name_or_path out --validation_file dev.csv\n"
        "  deltaw eval --model_name_or_path MODEL --task_name rte --dataset_dir glue",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
    .needs = {kNeedsModel},
};

Json score_rows(const Served& served, const Dataset& dataset) {
  const TextRows rows(encoded(served, dataset), served.pad_id, served.tokenizer->pads_left());
  const auto scorer =
      served.task->scorer(*served.model, served.acting(), rows, metric_names(served.data, served.labels));
  Counter counter("rows");
  score(*served.task, *served.model, served.acting(), rows, served.batch.per_device_eval_batch_size, *scorer,
        counter.progress());
  const Json scores = scorer->metrics();
  Json results = Json::object();
  for (const auto& [name, value] : scores.items()) results["eval_" + name] = value;
  results["eval_samples"] = dataset.rows.size();
  results["truncated_rows"] = truncated_rows(rows.rows());
  return results;
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
  Section own = section_of<EvaluationOptions>("Language models");
  if (!read_serving(kUsageText, args, std::move(own), invocation, served)) return kDone;
  load_served(served, invocation, true);
  if (served.model->is_causal()) {
    EvaluationOptions options;
    read_into(options, invocation);
    print_results(score_text(served, options, renderer_of(served.chat_template)), served);
    return kDone;
  }
  const Dataset dataset = load_split(served.data, Split::validation, served.labels, Labels::needed,
                                     static_cast<uint64_t>(served.batch.seed));
  if (dataset.rows.empty()) {
    throw Error({.id = "config.no-data",
                 .what = "there are no rows to evaluate on",
                 .where = dataset.file.string(),
                 .fix = "name another validation_file"});
  }
  print_results(score_rows(served, dataset), served);
  return kDone;
}

}  // namespace deltaw::cli
