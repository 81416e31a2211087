#include <fmt/format.h>

#include "core/registry.h"
#include "deltaw/error.h"
#include "deltaw/family.h"

namespace deltaw {

// Written by the build from the files in families/.
const std::vector<const FamilySpec*>& built_in_families();

namespace {

Registry<FamilySpec>& families() {
  static Registry<FamilySpec> registry(built_in_families(), &FamilySpec::model_type);
  return registry;
}

}  // namespace

const HeadSpec* FamilySpec::head(const std::string& task_type) const {
  for (const HeadSpec& own : heads) {
    if (own.task_type == task_type) return &own;
  }
  return nullptr;
}

std::vector<HeadSpec> decoder_heads(const std::string& name) {
  return {{.task_type = "CAUSAL_LM", .architecture = name + "ForCausalLM", .module = "lm_head"},
          {.task_type = "SEQ_CLS",
           .architecture = name + "ForSequenceClassification",
           .module = "score",
           .weight = "score.weight",
           .problem_type = true},
          {.task_type = "TOKEN_CLS",
           .architecture = name + "ForTokenClassification",
           .module = "score",
           .weight = "score.weight"}};
}

std::vector<const FamilySpec*> family_table() {
  return families().all();
}

const FamilySpec* find_family(const std::string& model_type) {
  return families().find(model_type);
}

void register_family(const FamilySpec& family) {
  if (families().add(family)) return;
  throw Error({.id = "config.family-exists",
               .what = fmt::format("a family '{}' is registered already", family.model_type),
               .where = "register_family",
               .fix = "give the new family another model_type"});
}

}  // namespace deltaw
