#include "no_effect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "setup.h"
#include "task_keys.h"

namespace deltaw::cli {
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

/// A flag counts always, a key of the file where it is not the default.
bool is_given(const Invocation& invocation, const FieldInfo& key) {
  if (invocation.flags.contains(key.name)) return true;
  const auto found = invocation.file.find(key.name);
  if (found == invocation.file.end() || found->is_null()) return false;
  return *found != key.default_value && !(found->is_string() && *found == key.default_value.dump());
}

std::vector<FieldInfo> keys_of(const std::vector<Section>& sections) {
  std::vector<FieldInfo> keys;
  for (const Section& section : sections) keys.insert(keys.end(), section.keys.begin(), section.keys.end());
  return keys;
}

std::vector<FieldInfo> known_keys() {
  std::vector<Section> sections = {section_of<ModelOptions>(""), section_of<DataOptions>("")};
  for (Section& section : task_sections(/*trains=*/false)) sections.push_back(std::move(section));
  sections.push_back(section_of<TrainOptions>(""));
  for (Section& section : evaluation_sections()) sections.push_back(std::move(section));
  for (Section& section : prediction_sections()) sections.push_back(std::move(section));
  return keys_of(sections);
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

std::optional<std::string> keys_without_effect(const Invocation& invocation, const KeyFacts& facts) {
  const std::vector<FieldInfo> known = known_keys();
  std::vector<std::string> parts, told;
  for (const IdleKeys& idle : idle_keys(facts)) {
    std::vector<std::string> given;
    for (const FieldInfo& key : known) {
      const bool listed = std::find(idle.keys.begin(), idle.keys.end(), key.name) != idle.keys.end();
      const bool is_new = std::find(told.begin(), told.end(), key.name) == told.end();
      if (listed && is_new && is_given(invocation, key)) given.push_back(key.name);
    }
    if (given.empty()) continue;
    told.insert(told.end(), given.begin(), given.end());
    parts.push_back(fmt::format("{}, because {}", fmt::join(given, ", "), idle.reason));
  }
  if (parts.empty()) return std::nullopt;
  return fmt::format("keys without effect here: {}", fmt::join(parts, "; "));
}

}  // namespace deltaw::cli
