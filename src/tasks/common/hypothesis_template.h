// The sentence that a class stands in where it is to be a text: "This is a photo of {}."
#pragma once

#include <string>

#include "deltaw/options.h"

namespace deltaw::tasks {

/// The key hypothesis_template; empty: that of transformers' pipeline.
void hypothesis_field(FieldVisitor& f, std::string& text);

/// The sentence that the key means. Throws config.template for one without {}.
std::string hypothesis_of(const std::string& text);

/// Throws config.template, with `where`, for a text without {}.
void check_template(const std::string& text, const std::string& where);

/// The text with a name in each place of {}.
std::string filled(std::string text, const std::string& name);

}  // namespace deltaw::tasks
