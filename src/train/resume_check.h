// Whether a checkpoint belongs to the run that is to go on from it.
#pragma once

#include <filesystem>
#include <vector>

#include "core/json_fields.h"
#include "deltaw/train.h"

namespace deltaw::train {

/// What decides a run besides the options: fingerprints of the rows, the method with all its options, the base's dtype.
Json make_identity(const Adapter& adapter, const std::string& train_rows, const std::string& validation_rows,
                   bool group_by_length);

/// Equality that looks past the order of keys, which files do not keep.
bool is_same(const Json& a, const Json& b);

/// Compares the checkpoint's options (training_args.json) and identity with this run's. Throws config.resume for the
/// first key that differs and changes the run; how often to log or save does not.
void check_resumable(const std::filesystem::path& checkpoint, const TrainOptions& options, const Json& identity,
                     const JsonFields& stored_identity);

}  // namespace deltaw::train
