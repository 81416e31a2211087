// Contents that are lists of parts: [{"type": "text", "text": "..."}].
#pragma once

#include <string>

#include "deltaw/text_data.h"

namespace deltaw::data {

/// Puts the texts of such lists together where the template knows texts alone: it would write the list as Python shows
/// it, or refuse it. Throws data.messages naming `where` if there is a part that is no text, such as an image.
void settle_parts(Json& messages, const Json& variables, const ChatRenderer& render, const std::string& where);

}  // namespace deltaw::data
