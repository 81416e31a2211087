// Text from files and from the caller, made fit for a terminal.
#pragma once

#include <string>
#include <string_view>

namespace deltaw {

/// `text` with every byte that is no UTF-8 and every character that steers a terminal written out: \x1b, \r, \u202e.
/// Text without them comes back as it is, so that a second pass changes nothing. Line feeds stay in text of several
/// `lines`; elsewhere they are \n.
std::string printable(std::string_view text, bool lines = false);

}  // namespace deltaw
