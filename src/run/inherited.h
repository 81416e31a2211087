// What the folder of an adapter says of how it was trained, for what is done with it next.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/given_keys.h"
#include "deltaw/model.h"

namespace deltaw::run {

/// What the folder of the adapter says, below what file and flags say: the base, the data, the lengths. Empty without
/// an adapter. Throws config.no-adapter.
GivenKeys inherited(const std::filesystem::path& adapter);

/// Forgets the task_type that the folder of an adapter gave, and `given` did not, where it can say nothing of the base:
/// PEFT has none for models of images, and people name one of the others.
void forget_task_of_texts(ModelOptions& options, const std::string& model_name_or_path, const GivenKeys& given);

/// A sentence for whoever asked.
struct Remark {
  bool warns = false;
  std::string sentence;
};

/// How the base was held and multiplied when the adapter was trained (load_in_4bit, load_in_8bit, base_compute_dtype),
/// where `given` does not say how it is to be now. Says so, and where the adapter runs on another base than it was
/// trained on.
std::optional<Remark> inherit_quantisation(ModelOptions& options, const std::filesystem::path& adapter,
                                           const GivenKeys& given);

}  // namespace deltaw::run
