// Files that stand where those of a checkpoint should.
#pragma once

#include <string>
#include <string_view>

namespace deltaw {

/// What a file is that a hub or a repository gave in place of the file itself, where its first bytes tell; else empty.
std::string other_kind(std::string_view bytes);

inline constexpr const char* kFetch = "fetch the file itself: deltaw download NAME, or git lfs pull in the repository";

}  // namespace deltaw
