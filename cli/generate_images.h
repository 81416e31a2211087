// `generate` of a model that makes pictures.
#pragma once

#include <vector>

#include "converted.h"
#include "loaded_model.h"
#include "options.h"

namespace deltaw::cli {

/// Its keys, beside those of the model.
std::vector<Section> image_sections();

/// Whether the model that these keys name makes pictures. False where they name none.
bool makes_images(const Invocation& invocation);

/// Writes the pictures and prints a line for each. Returns the exit code.
int generate_images(const Usage& usage, const Invocation& invocation);

}  // namespace deltaw::cli
