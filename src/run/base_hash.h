// Whether a base is the one that an adapter was trained on, by what run.json says of its weights.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/model.h"

namespace deltaw::run {

/// The hash (io/content_hash.h) of the checkpoint that `model` was loaded from, and of each part of it that stands in a
/// folder of its own: "sampled1:0123... text_encoder=sampled1:4567...".
std::string base_hash(const Model& model);

struct RecordedBase {
  std::string hash;
  std::string where;  // it stands
};

/// The one that run.json in each of these folders names; those that name none could have any.
std::vector<RecordedBase> recorded_bases(const std::vector<std::filesystem::path>& folders);

/// Whether what both hashes are of has the same weights.
bool agree(const std::string& base_hash, const std::string& other);

/// A sentence where `model`, whose hash is `own`, or a part of it has other weights than one of them.
std::optional<std::string> other_base_warning(const Model& model, const std::string& own,
                                              const std::vector<RecordedBase>& recorded);

}  // namespace deltaw::run
