// Training that goes on from a finished adapter.
#pragma once

#include <filesystem>
#include <string>

#include "deltaw/run.h"

namespace deltaw::run {

/// The method of the adapter in the folder, of the first where it is several. Throws what opening it throws, and
/// config.conflict where `asked` chooses another.
std::string continued_method(const std::filesystem::path& adapter, const Json& asked, const std::string& where);

/// The adapter, to go on with, and in settings.adapter what it is. Throws config.conflict for what was asked for and is
/// not what it is, by the name of the key; options that only training looks at may be others.
Adapter continued(const Model& model, RunSettings& settings);

}  // namespace deltaw::run
