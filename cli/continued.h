// Training that goes on from a finished adapter.
#pragma once

#include <filesystem>
#include <string>

#include "deltaw/adapter.h"
#include "setup.h"

namespace deltaw::cli {

/// The method of the adapter in the folder, of the first where it is several. Throws what opening it throws, and
/// config.conflict where `asked` chooses another.
std::string continued_method(const std::filesystem::path& adapter, const Json& asked, const std::string& where);

/// Takes labels and problem type from the adapter's head where they were not asked for. Throws config.conflict where
/// others were.
void inherit_head(Setup& setup);
/// Throws config.conflict where the head has not one output for each label of the data.
void check_head_size(const Setup& setup, int64_t outputs);

/// The adapter, to go on with, and in setup.adapter what it is. Throws config.conflict for what was asked for and is
/// not what it is, by the name of the key; options that only training looks at may be others.
Adapter continued(const Model& model, Setup& setup);

}  // namespace deltaw::cli
