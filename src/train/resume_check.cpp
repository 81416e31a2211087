#include "train/resume_check.h"

#include <fmt/format.h>

#include <set>

#include "core/json.h"
#include "deltaw/error.h"
#include "train/run_state.h"

namespace deltaw::train {
namespace {

/// Keys that leave the trained tensors as they are.
std::set<std::string> free_keys(const TrainOptions& options) {
  std::set<std::string> keys = {
      "eval_on_start", "output_dir", "resume_from_checkpoint", "per_device_eval_batch_size", "logging_steps",
      "save_strategy", "save_steps", "save_total_limit",       "gradient_checkpointing"};
  if (!options.load_best_model_at_end && options.early_stopping_patience == 0) {
    keys.insert({"eval_strategy", "eval_steps", "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
                 "early_stopping_patience", "early_stopping_threshold"});
  }
  return keys;
}

std::set<std::string> keys_of(const Json& ours, const Json& stored) {
  std::set<std::string> keys;
  for (const auto& [key, value] : ours.items()) keys.insert(key);
  for (const auto& [key, value] : stored.items()) keys.insert(key);
  return keys;
}

// The first pattern that matches a layer counts, so their order is a part of them.
bool equal(const std::string& key, const Json& a, const Json& b) {
  return key.ends_with("_pattern") ? a == b : is_same(a, b);
}

void compare(const std::string& where, const Json& ours, const Json& stored, const std::set<std::string>& free) {
  for (const std::string& key : keys_of(ours, stored)) {
    if (free.contains(key)) continue;
    const Json here = ours.value(key, Json()), before = stored.value(key, Json());
    if (equal(key, here, before)) continue;
    if (here.is_object() && before.is_object() && !is_same(here, before)) compare(where, here, before, {});
    throw Error({.id = "config.resume",
                 .what = fmt::format("'{}' is {} here and {} in the checkpoint", key, shown(here), shown(before)),
                 .where = where,
                 .fix = fmt::format("resume with the checkpoint's {}, or start a new run", key)});
  }
}

Json identity_of(const Adapter& adapter) {
  Json identity = {{"method", adapter.spec().id},
                   {"options", adapter.spec().normalized(adapter.config().options, "the adapter's options")}};
  for (size_t i = 0; i < adapter.parts().size(); ++i) {
    identity["parts"][std::to_string(i)] = identity_of(adapter.parts()[i]);
  }
  return identity;
}

}  // namespace

bool is_same(const Json& a, const Json& b) {
  return nlohmann::json(a) == nlohmann::json(b);
}

Json make_identity(const Adapter& adapter, const std::string& train_rows, const std::string& validation_rows,
                   bool group_by_length) {
  Json own = identity_of(adapter);
  own["dtype"] = c10::toString(adapter.model().dtype());
  if (const auto error = adapter.model().quantisation_error()) own["quantisation"] = error->type;
  return {{"data",
           {{"train_rows", train_rows}, {"validation_rows", validation_rows}, {"group_by_length", group_by_length}}},
          {"adapter", std::move(own)}};
}

void check_resumable(const std::filesystem::path& checkpoint, const TrainOptions& options, const Json& identity,
                     const JsonFields& stored_identity) {
  TrainOptions ours = options;
  const std::set<std::string> free = free_keys(options);
  compare((checkpoint / "training_args.json").string(), write_fields(fields_of(ours)),
          read_checkpoint_file(checkpoint / "training_args.json").json(), free);
  const std::string where = (checkpoint / "run_state.json").string();
  std::set<std::string> free_data;
  if (free.contains("eval_steps")) free_data.insert("validation_rows");
  compare(where, identity.at("data"), stored_identity.object("data").json(), free_data);
  compare(where, identity.at("adapter"), stored_identity.object("adapter").json(), {});
}

}  // namespace deltaw::train
