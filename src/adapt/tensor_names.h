// What is wrong with the tensors of an adapter's file: their names, and values that are no numbers.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "deltaw/model.h"

namespace deltaw {

/// What a file has in place of the names that are missed, for a message.
struct NamesInstead {
  std::string what;  // "; it has 'a', 'b' instead: ...", or empty
  std::string fix;   // how to fix it, the beginning of a sentence
};

/// `missing` are the names that the config asks for, `unexpected` those that it does not, in full.
NamesInstead names_instead(const std::vector<std::string>& missing, const std::vector<std::string>& unexpected,
                           const Model& model);

/// Throws numeric.non-finite.
void refuse_non_finite(const std::string& name, const Tensor& value, const std::filesystem::path& file);

}  // namespace deltaw
