// What gzip and zstd packed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace deltaw {

enum class Packing { none, gzip, zstd };

/// By the first bytes, whatever the name says.
Packing packing_of(std::string_view bytes);

/// How much may come of `packed` bytes: more is a file made to fill the memory. 1 GiB, or 1000 times the bytes.
uint64_t most_unpacked(uint64_t packed);

/// All members or frames of a stream, one behind the other. The text grows as it comes: what the stream says of its
/// length is not believed. Throws format.compressed, naming `where`, for a stream that is damaged, cut short or
/// followed by other bytes, and for one of which more than `most` bytes come.
std::string unpack(std::string_view packed, Packing packing, uint64_t most, const std::string& where);

/// The bytes of a file, unpacked where they are packed.
std::string unpacked(std::string bytes, const std::string& where);

}  // namespace deltaw
