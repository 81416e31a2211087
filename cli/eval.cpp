#include <cmath>

#include "deltaw/error.h"
#include "eval/metrics.h"
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
};

Json score(const Served& served, const Dataset& dataset) {
  const std::vector<EncodedRow> rows = encoded(served, dataset);
  const Tensor logits = logits_of(served, rows);
  std::vector<double> labels;
  for (const Example& row : dataset.rows) labels.push_back(row.label);
  const Tensor wide = logits.to(at::kDouble).contiguous();
  const eval::Values values(wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel());
  Tensor targets = at::empty({static_cast<int64_t>(labels.size())}, at::kDouble);
  std::copy(labels.begin(), labels.end(), targets.data_ptr<double>());
  if (!served.labels.regression) targets = targets.to(at::kLong);

  Json results = {{"eval_loss", model_loss(*served.model, logits, targets).item<double>()}};
  const Json metrics = eval::compute_metrics(metric_names(served.data, served.labels), values,
                                             served.model->num_labels(), served.labels.regression, labels);
  for (const auto& [name, value] : metrics.items()) results["eval_" + name] = value;
  results["eval_samples"] = dataset.rows.size();
  results["truncated_rows"] = truncated_rows(rows);
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
  print_results(score(served, dataset), served);
  return kDone;
}

}  // namespace deltaw::cli
