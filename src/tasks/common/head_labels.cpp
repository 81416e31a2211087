#include "tasks/common/head_labels.h"

#include <fmt/format.h>

#include <algorithm>

#include "deltaw/error.h"

namespace deltaw::tasks {
namespace {

[[noreturn]] void refuse(const std::string& key, const Json& asked, const Json& own, const std::string& where) {
  throw Error({.id = "config.conflict",
               .what = fmt::format("{} is {} here and {} in the adapter that training goes on from", key, asked.dump(),
                                   own.dump()),
               .where = where + ", beside 'adapter_name_or_path'",
               .fix = fmt::format("leave {} out, or train a new adapter", key)});
}

}  // namespace

bool has_names(const HeadLabels& head) {
  return std::none_of(head.names.begin(), head.names.end(),
                      [](const std::string& name) { return name.starts_with("LABEL_"); });
}

HeadLabels head_of(const std::filesystem::path& folder, const ModelOptions& options, const std::string& task_type) {
  StoredLabels stored = stored_labels(folder.string(), task_type);
  return {.names = std::move(stored.names), .stored = stored.stored, .replaceable = options.ignore_mismatched_sizes};
}

void inherit_head(TaskFiles& files) {
  files.model = with_adapter_head(files.model, files.adapters.front());
  const ModelOptions& own = files.model;
  DataOptions& data = files.data;
  const std::string& where = files.asked_where;
  if (!own.problem_type.empty()) {
    if (data.problem_type == "auto") data.problem_type = own.problem_type;
    if (data.problem_type != own.problem_type) refuse("problem_type", data.problem_type, own.problem_type, where);
  }
  const bool unnamed = own.label_names.empty() || own.label_names.front().starts_with("LABEL_");
  if (unnamed || data.problem_type == "regression") return;
  if (data.label_names.empty()) data.label_names = own.label_names;
  if (data.label_names != own.label_names) refuse("label_names", Json(data.label_names), Json(own.label_names), where);
}

void check_head_size(const std::filesystem::path& adapter, int64_t outputs) {
  const int64_t own = with_adapter_head({}, adapter).num_labels;
  if (own == 0 || own == outputs) return;
  throw Error({.id = "config.conflict",
               .what = fmt::format("the data has {} labels, and the head of the adapter has {} outputs", outputs, own),
               .where = adapter.string() + ", key 'adapter_name_or_path'",
               .fix = "go on with rows of the same labels, or train a new adapter"});
}

}  // namespace deltaw::tasks
