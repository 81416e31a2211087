#include "run/no_effect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

#include "run/task_keys.h"

namespace deltaw::run {
namespace {

bool has_validation(const KeyFacts& facts) {
  const DataOptions& data = facts.data;
  return !data.validation_file.empty() || data.validation_split > 0 || !data.dataset_dir.empty();
}
bool chooses_best(const TrainOptions& train) {
  return train.load_best_model_at_end || train.early_stopping_patience > 0 || train.eval_strategy != "no";
}

/// Keys of training and when they do nothing. A key that another one replaces stands here too.
struct Rule {
  std::vector<std::string> keys;
  bool (*is_idle)(const KeyFacts&);
  const char* reason;
};

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

bool differs(const Json& given, const FieldInfo& key) {
  const auto found = given.find(key.name);
  if (found == given.end() || found->is_null()) return false;
  return *found != key.default_value && !(found->is_string() && *found == key.default_value.dump());
}

template <class Options>
std::vector<FieldInfo> keys_of() {
  Options options;
  return describe_fields(deltaw::fields_of(options));
}

std::vector<FieldInfo> known_keys() {
  std::vector<FieldInfo> known;
  for (std::vector<FieldInfo>& keys : std::vector{
           keys_of<ModelOptions>(), keys_of<DataOptions>(), task_fields(&TaskReader::fields), keys_of<TrainOptions>(),
           task_fields(&TaskReader::evaluation_fields), task_fields(&TaskReader::prediction_fields)}) {
    std::move(keys.begin(), keys.end(), std::back_inserter(known));
  }
  return known;
}

/// Of all tasks but this one, less what this one has too.
std::vector<std::string> keys_of_others(const TaskSpec& task) {
  const std::vector<std::string> own = own_keys(task);
  std::vector<std::string> others;
  for (const TaskSpec* other : listed_tasks()) {
    for (std::string& key : own_keys(*other)) {
      if (std::find(own.begin(), own.end(), key) == own.end()) others.push_back(std::move(key));
    }
  }
  return others;
}

/// What does nothing, in the order in which it is told.
std::vector<IdleKeys> idle_keys(const KeyFacts& facts) {
  std::vector<IdleKeys> idle = {{keys_of_others(facts.task), fmt::format("the model is a {}", facts.task.words.model)}};
  for (IdleKeys& keys : facts.reader.idle_keys(facts.data, facts.train.has_value())) idle.push_back(std::move(keys));
  if (!facts.model.load_in_4bit) idle.push_back({{"bnb_4bit_quant_type"}, "load_in_4bit is not set"});
  if (!facts.train) return idle;
  for (const Rule& rule : rules_of_training()) {
    if (rule.is_idle(facts)) idle.push_back({rule.keys, rule.reason});
  }
  return idle;
}

}  // namespace

std::optional<std::string> keys_without_effect(const Json& given, const std::vector<std::string>& for_this_run,
                                               const KeyFacts& facts) {
  const std::vector<FieldInfo> known = known_keys();
  const auto has = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  std::vector<std::string> parts, told;
  for (const IdleKeys& idle : idle_keys(facts)) {
    std::vector<std::string> without;
    for (const FieldInfo& key : known) {
      // Several tasks may have one key.
      const bool is_new = has(idle.keys, key.name) && !has(told, key.name) && !has(without, key.name);
      if (is_new && (has(for_this_run, key.name) || differs(given, key))) without.push_back(key.name);
    }
    if (without.empty()) continue;
    told.insert(told.end(), without.begin(), without.end());
    parts.push_back(fmt::format("{}, because {}", fmt::join(without, ", "), idle.reason));
  }
  if (parts.empty()) return std::nullopt;
  return fmt::format("keys without effect here: {}", fmt::join(parts, "; "));
}

}  // namespace deltaw::run
