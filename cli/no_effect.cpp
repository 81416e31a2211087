#include "no_effect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "data/formats.h"
#include "deltaw/evaluate.h"
#include "deltaw/text_data.h"
#include "setup.h"

namespace deltaw::cli {
namespace {

bool is_running_text(const KeyFacts& facts) {
  const DataFiles& files = facts.data.train_file;
  return facts.causal && facts.train && !files.empty() && data::named_format(files.names()[0]) == data::Format::text;
}
bool has_validation(const KeyFacts& facts) {
  const DataOptions& data = facts.data;
  return !data.validation_file.empty() || data.validation_split > 0 || !data.dataset_dir.empty();
}
bool chooses_best(const TrainOptions& train) {
  return train.load_best_model_at_end || train.early_stopping_patience > 0 || train.eval_strategy != "no";
}

/// Keys and when they do nothing. A key that another one replaces stands here too.
struct Rule {
  std::vector<const char*> keys;
  bool (*is_idle)(const KeyFacts&);
  const char* reason;
};

const std::vector<Rule>& rules_of_tasks() {
  static const std::vector<Rule> rules = {
      {{"packing", "completion_only_loss", "max_bad_rows", "chat_template", "protocol", "stride", "max_new_tokens"},
       [](const KeyFacts& f) { return !f.causal; },
       "the model is a classifier"},
      {{"text_pair_column", "label_names", "problem_type", "ignore_mismatched_sizes"},
       [](const KeyFacts& f) { return f.causal; },
       "the model is a causal language model and has no classes"},
      {{"text_column", "label_column", "completion_only_loss", "max_bad_rows", "chat_template"},
       is_running_text,
       "a .txt file is one running text"},
      {{"bnb_4bit_quant_type"}, [](const KeyFacts& f) { return !f.model.load_in_4bit; }, "load_in_4bit is not set"},
  };
  return rules;
}

const std::vector<Rule>& rules_of_training() {
  static const std::vector<Rule> rules = {
      {{"validation_split"},
       [](const KeyFacts& f) { return !f.data.validation_file.empty(); },
       "there is a validation_file"},
      {{"max_eval_samples", "per_device_eval_batch_size"},
       [](const KeyFacts& f) { return !has_validation(f); },
       "there are no validation rows"},
      {{"num_train_epochs"}, [](const KeyFacts& f) { return f.train->max_steps > 0; }, "max_steps wins"},
      {{"eval_steps"},
       [](const KeyFacts& f) { return f.train->eval_strategy != "steps"; },
       "eval_strategy is not steps"},
      {{"save_steps"},
       [](const KeyFacts& f) { return f.train->save_strategy != "steps"; },
       "save_strategy is not steps"},
      {{"save_total_limit"},
       [](const KeyFacts& f) { return f.train->save_strategy == "no" && !f.train->load_best_model_at_end; },
       "save_strategy is no"},
      {{"metric_for_best_model", "greater_is_better"},
       [](const KeyFacts& f) { return !chooses_best(*f.train); },
       "nothing is evaluated while it trains"},
      {{"early_stopping_threshold"},
       [](const KeyFacts& f) { return f.train->early_stopping_patience == 0; },
       "early_stopping_patience is not set"},
      {{"warmup_ratio", "warmup_steps"},
       [](const KeyFacts& f) { return f.train->lr_scheduler_type == "constant"; },
       "lr_scheduler_type constant has no warm-up; constant_with_warmup has one"},
      {{"warmup_ratio"}, [](const KeyFacts& f) { return f.train->warmup_steps > 0; }, "warmup_steps wins"},
  };
  return rules;
}

/// A flag counts always, a key of the file where it is not the default.
bool is_given(const Invocation& invocation, const FieldInfo& key) {
  if (invocation.flags.contains(key.name)) return true;
  const auto found = invocation.file.find(key.name);
  if (found == invocation.file.end() || found->is_null()) return false;
  return *found != key.default_value && !(found->is_string() && *found == key.default_value.dump());
}

std::vector<FieldInfo> known_keys() {
  std::vector<FieldInfo> keys;
  for (const Section& section : {section_of<ModelOptions>(""), section_of<DataOptions>(""), section_of<TextOptions>(""),
                                 section_of<TrainOptions>(""), section_of<EvaluationOptions>("")}) {
    keys.insert(keys.end(), section.keys.begin(), section.keys.end());
  }
  return keys;
}

}  // namespace

std::optional<std::string> keys_without_effect(const Invocation& invocation, const KeyFacts& facts) {
  std::vector<Rule> rules = rules_of_tasks();
  if (facts.train) rules.insert(rules.end(), rules_of_training().begin(), rules_of_training().end());
  const std::vector<FieldInfo> known = known_keys();
  std::vector<std::string> parts;
  std::vector<std::string> told;
  for (const Rule& rule : rules) {
    if (!rule.is_idle(facts)) continue;
    std::vector<std::string> idle;
    for (const FieldInfo& key : known) {
      const bool listed = std::find(rule.keys.begin(), rule.keys.end(), key.name) != rule.keys.end();
      const bool is_new = std::find(told.begin(), told.end(), key.name) == told.end();
      if (listed && is_new && is_given(invocation, key)) idle.push_back(key.name);
    }
    if (idle.empty()) continue;
    told.insert(told.end(), idle.begin(), idle.end());
    parts.push_back(fmt::format("{}, because {}", fmt::join(idle, ", "), rule.reason));
  }
  if (parts.empty()) return std::nullopt;
  return fmt::format("keys without effect here: {}", fmt::join(parts, "; "));
}

}  // namespace deltaw::cli
