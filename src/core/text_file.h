// Files of text, in whatever encoding, as UTF-8. Every file of text that a user writes is read here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace deltaw {

/// Help of a key of that name.
inline constexpr const char* kEncodingHelp =
    "How the files of rows and texts are encoded: utf-8, utf-16, latin-1, windows-1252, shift_jis or another name that "
    "ICU knows.";

/// The text of a file of data, without a byte-order mark; what gzip or zstd packed is unpacked, whatever its name.
/// `encoding` is a name that ICU knows; a mark of UTF-8 goes before it. Throws config.encoding for an unknown name;
/// format.encoding, with line, column in characters and byte, for bytes that are none of the encoding's, and for a file
/// that is UTF-16, UTF-32 or no text and is not said to be.
std::string read_text(const std::filesystem::path& file, const std::string& encoding = "utf-8");

/// The same of a file of options or a template, which is UTF-8: no key says otherwise. A mark of UTF-16 or UTF-32 is
/// followed.
std::string read_utf8(const std::filesystem::path& file);

/// What read_text does with the bytes of a file; `where` names them, and their first line has the number `first_line`.
std::string to_utf8(std::string bytes, const std::string& encoding, const std::string& where, int64_t first_line = 1);

bool is_utf8(std::string_view text);

/// Calls `take` with every line of a text and its number, from 1. Lines end in \n or \r\n, and in a text without any
/// \n in \r. An end at the end of the text begins no further line.
void each_line(std::string_view text, const std::function<void(std::string_view line, int64_t number)>& take);

}  // namespace deltaw
