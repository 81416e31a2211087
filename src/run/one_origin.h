// Whether adapters belong together, by what their folders say of how they were trained.
#pragma once

#include <filesystem>
#include <vector>

namespace deltaw::run {

/// Throws config.conflict, naming both folders, where two adapters were not trained on one base (base_hash of run.json;
/// where one has none, the names, unless `base_is_given`: then the caller says which base is meant), for one task and
/// for the same labels in one order. Throws config.no-adapter.
void require_one_origin(const std::vector<std::filesystem::path>& folders, bool base_is_given);

}  // namespace deltaw::run
