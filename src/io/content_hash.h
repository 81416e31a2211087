// Tells the weights of one checkpoint from those of another without reading them all.
#pragma once

#include <string>
#include <string_view>

#include "io/checkpoint.h"

namespace deltaw::io {

/// "sampled1:" and 32 hexadecimal digits, of the name, type, shape and a few stretches of the values of every tensor of
/// floating-point numbers. In which file a tensor lies, and in what order, makes no difference. Another way to take it
/// gets another prefix.
std::string content_hash(const Checkpoint& checkpoint);

/// Whether `text` is a hash as content_hash takes it; others can be compared with nothing.
bool is_content_hash(std::string_view text);

}  // namespace deltaw::io
