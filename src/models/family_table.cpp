#include <fmt/format.h>

#include <map>
#include <mutex>

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

std::string classifier_of(std::string architecture) {
  for (const std::string ending : {"ForCausalLM", "LMHeadModel"}) {
    if (architecture.ends_with(ending)) architecture.erase(architecture.size() - ending.size());
  }
  return architecture + "ForSequenceClassification";
}

}  // namespace

const FamilySpec& as_classifier(const FamilySpec& decoder) {
  static std::mutex mutex;
  static std::map<const FamilySpec*, FamilySpec> made;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = made.try_emplace(&decoder, decoder);
  FamilySpec& spec = entry->second;
  if (is_new) {
    spec.head = "score";
    spec.head_weight = "score.weight";
    spec.architecture = classifier_of(decoder.architecture);
  }
  return spec;
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
