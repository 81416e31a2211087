// What a file of data is, by its first bytes and its name.
#pragma once

#include <filesystem>
#include <string>

namespace deltaw::data {

enum class Format { tsv, csv, json, text, tagged, parquet, arrow, unknown };  // tagged: a word a line, as of CoNLL

/// The ending of a file's name in small letters, without that of its packing: ".jsonl" of rows.jsonl.gz.
std::string ending_of(const std::filesystem::path& file);

/// By the name alone.
Format named_format(const std::filesystem::path& file);

/// By the first bytes where they are those of Parquet or Arrow, else by the name. Throws config.not-found,
/// config.file-format for a folder, format.lfs-pointer, io.*.
Format format_of(const std::filesystem::path& file);

bool is_of_columns(Format format);  // Parquet and Arrow
/// Whether a file holds rows with names for what is in them, and not lines of text.
bool holds_rows(const std::filesystem::path& file);

/// Throws config.file-format for a file whose name says nothing that is read. `fix` says what is.
[[noreturn]] void refuse_format(const std::filesystem::path& file, const std::string& fix);

}  // namespace deltaw::data
