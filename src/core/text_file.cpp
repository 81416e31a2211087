#include "core/text_file.h"

#include <fmt/format.h>
#include <unicode/ucnv.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <optional>
#include <vector>

#include "core/files.h"
#include "core/log.h"
#include "core/unpack.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

/// What is read, as messages name it, and whether the caller can say what encoding it has.
struct Source {
  std::string where;
  bool has_key = true;
  int64_t first_line = 1;
};

std::string plain(const std::string& encoding) {
  std::string name;
  for (const char c : encoding) {
    if (c != '-' && c != '_' && c != ' ') name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return name;
}

bool is_wide(const std::string& encoding) {
  const std::string name = plain(encoding);
  return name.starts_with("utf16") || name.starts_with("utf32") || name.starts_with("ucs");
}

/// "line 3, column 7" after the text that was read so far, columns in characters.
std::string place_after(std::string_view text, int64_t first_line) {
  const char end = text.find('\n') == std::string_view::npos ? '\r' : '\n';
  const auto line = first_line + std::count(text.begin(), text.end(), end);
  const size_t last = text.rfind(end);
  const std::string_view begun = text.substr(last == std::string_view::npos ? 0 : last + 1);
  const auto column = 1 + std::count_if(begun.begin(), begun.end(),
                                        [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
  return fmt::format("line {}, column {}", line, column);
}

// ---- what a file looks like that is not what it is said to be ----

struct Mark {
  std::string_view bytes;
  const char* name;
};

/// Of UTF-32 first: its mark begins as that of UTF-16.
constexpr Mark kWideMarks[] = {{std::string_view("\xFF\xFE\0\0", 4), "utf-32"},
                               {std::string_view("\0\0\xFE\xFF", 4), "utf-32"},
                               {"\xFF\xFE", "utf-16"},
                               {"\xFE\xFF", "utf-16"}};
constexpr Mark kOtherFormats[] = {{"\x1F\x8B", "a file compressed by gzip"},
                                  {"PK\x03\x04", "a zip archive, which .xlsx is too"},
                                  {"BZh", "a file compressed by bzip2"},
                                  {"\xFD"
                                   "7zXZ",
                                   "a file compressed by xz"},
                                  {"\x28\xB5\x2F\xFD", "a file compressed by zstd"},
                                  {"PAR1", "a Parquet file"},
                                  {"ARROW1", "an Arrow file"}};

template <size_t count>
const char* marked(std::string_view bytes, const Mark (&marks)[count]) {
  for (const Mark& mark : marks) {
    if (bytes.starts_with(mark.bytes)) return mark.name;
  }
  return nullptr;
}

bool well_formed_utf16(std::string_view bytes, bool little) {
  const auto unit = [&](size_t i) {
    const auto low = static_cast<unsigned char>(bytes[little ? i : i + 1]);
    const auto high = static_cast<unsigned char>(bytes[little ? i + 1 : i]);
    return static_cast<uint32_t>(high << 8 | low);
  };
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
    if (!U16_IS_SURROGATE(unit(i))) continue;
    if (!U16_IS_LEAD(unit(i)) || i + 3 >= bytes.size() || !U16_IS_TRAIL(unit(i + 2))) return false;
    i += 2;
  }
  return true;
}

/// The encoding of a text of two bytes a character that has no mark: zero bytes stand on one side, and they are many,
/// or the text is no UTF-8 and good UTF-16.
const char* unmarked_utf16(std::string_view bytes) {
  size_t zeros[2] = {0, 0};
  for (size_t i = 0; i < bytes.size(); ++i) zeros[i % 2] += bytes[i] == '\0';
  const bool little = zeros[1] > zeros[0];
  const size_t most = zeros[little], least = zeros[!little];
  if (most < 2 || 8 * least > most) return nullptr;
  const bool many = 4 * most >= bytes.size();
  if (!many && (is_utf8(bytes) || !well_formed_utf16(bytes, little))) return nullptr;
  return little ? "utf-16le" : "utf-16be";
}

[[noreturn]] void refuse(const Source& source, const std::string& what, const std::string& name,
                         const std::string& converted_from) {
  const std::string convert = fmt::format("convert the file: iconv -f {} -t UTF-8 OLD > NEW", converted_from);
  throw Error({.id = "format.encoding",
               .what = what,
               .where = source.where,
               .fix = source.has_key ? fmt::format("say how the text is encoded (--encoding {}), or {}", name, convert)
                                     : convert});
}

void refuse_other_formats(std::string_view bytes, const Source& source) {
  const char* format = marked(bytes, kOtherFormats);
  if (!format) return;
  throw Error({.id = "format.encoding",
               .what = fmt::format("this is {}, and no text", format),
               .where = source.where,
               .fix = "unpack it, or write its rows as text: .jsonl, .csv or .tsv"});
}

std::string byte_list(std::string_view bytes) {
  std::string list;
  for (const char byte : bytes) {
    list += (list.empty() ? "" : " ") + fmt::format("0x{:02X}", static_cast<unsigned char>(byte));
  }
  return list;
}

// ---- UTF-8 ----

/// Where the first byte stands that is no UTF-8; the length of the text where all is.
size_t valid_part(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t at = 0;
  while (at < text.size()) {
    const size_t begin = at;
    UChar32 c = bytes[at];
    if (c < 0x80) {
      ++at;
      continue;
    }
    U8_NEXT(bytes, at, text.size(), c);
    if (c < 0) return begin;
  }
  return at;
}

struct Census {
  size_t letters = 0;    // good characters beyond ASCII
  size_t wrong = 0;      // bytes that are no UTF-8
  bool windows = false;  // one of them is from 0x80 to 0x9F, where Latin-1 has no letters and Windows has
};

Census census_of(std::string_view bytes) {
  Census census;
  for (size_t at = 0; at < bytes.size();) {
    const std::string_view good = bytes.substr(at, valid_part(bytes.substr(at)));
    census.letters += static_cast<size_t>(
        std::count_if(good.begin(), good.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0xC0; }));
    at += good.size();
    if (at == bytes.size()) break;
    const auto byte = static_cast<unsigned char>(bytes[at++]);
    ++census.wrong;
    census.windows = census.windows || (byte >= 0x80 && byte < 0xA0);
  }
  return census;
}

void check_utf8(std::string_view bytes, const Source& source) {
  const size_t valid = valid_part(bytes);
  if (valid == bytes.size() && bytes.find('\0') == std::string_view::npos) return;
  if (const char* name = unmarked_utf16(bytes)) {
    refuse(source, fmt::format("the file looks like UTF-16 without a byte-order mark ({})", name), name, name);
  }
  if (valid == bytes.size()) return;  // zero bytes are UTF-8
  refuse_other_formats(bytes, source);
  const std::string what = fmt::format("the byte {} at {} is no UTF-8", byte_list(bytes.substr(valid, 1)),
                                       place_after(bytes.substr(0, valid), source.first_line));
  const Census census = census_of(bytes);
  if (census.letters > census.wrong) {
    throw Error({.id = "format.encoding",
                 .what = what,
                 .where = source.where,
                 .fix = "mend the text there; the letters around it are UTF-8"});
  }
  const char* guess = census.windows ? "windows-1252" : "latin-1";
  refuse(source, what, fmt::format("{}, for example", guess), census.windows ? "WINDOWS-1252" : "LATIN1");
}

// ---- every other encoding ----

struct CloseConverter {
  void operator()(UConverter* converter) const { ucnv_close(converter); }
};
using Converter = std::unique_ptr<UConverter, CloseConverter>;

Converter open_converter(const std::string& encoding) {
  // ICU would take a name with slashes for a file.
  const bool is_name = !encoding.empty() && std::all_of(encoding.begin(), encoding.end(), [](unsigned char c) {
    return std::isalnum(c) || std::string_view("-_.:+ ").find(static_cast<char>(c)) != std::string_view::npos;
  });
  UErrorCode code = U_ZERO_ERROR;
  Converter converter(is_name ? ucnv_open(encoding.c_str(), &code) : nullptr);
  if (converter && U_SUCCESS(code)) {
    ucnv_setToUCallBack(converter.get(), UCNV_TO_U_CALLBACK_STOP, nullptr, nullptr, nullptr, &code);
    return converter;
  }
  throw Error({.id = "config.encoding",
               .what = fmt::format("there is no encoding '{}'", encoding),
               .where = "key 'encoding'",
               .fix = "use a name such as utf-8, utf-16, latin-1, windows-1252, shift_jis, gb18030, big5, euc-kr or "
                      "koi8-r"});
}

void append_utf8(std::string& text, const UChar* units, size_t count) {
  for (size_t i = 0; i < count;) {
    UChar32 c = 0;
    U16_NEXT(units, i, count, c);
    uint8_t room[U8_MAX_LENGTH];
    size_t bytes = 0;
    U8_APPEND_UNSAFE(room, bytes, c);
    text.append(reinterpret_cast<const char*>(room), bytes);
  }
}

[[noreturn]] void refuse_bytes(UConverter* converter, const std::string& text, const std::string& encoding,
                               const Source& source) {
  char wrong[32];
  int8_t count = sizeof wrong;
  UErrorCode code = U_ZERO_ERROR;
  ucnv_getInvalidChars(converter, wrong, &count, &code);
  const std::string_view bytes(wrong, U_SUCCESS(code) ? static_cast<size_t>(count) : 0);
  throw Error(
      {.id = "format.encoding",
       .what = fmt::format("the {} {} at {} {} no {}", bytes.size() == 1 ? "byte" : "bytes", byte_list(bytes),
                           place_after(text, source.first_line), bytes.size() == 1 ? "is" : "are", encoding),
       .where = source.where,
       .fix = fmt::format("set encoding to that of the file, which is not {}, or mend the text there", encoding)});
}

std::string converted(std::string_view bytes, const std::string& encoding, const Source& source) {
  const Converter converter = open_converter(encoding);
  std::string text;
  text.reserve(bytes.size());
  std::vector<UChar> room(1 << 14);
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  UErrorCode code = U_BUFFER_OVERFLOW_ERROR;
  size_t left = 0;  // a surrogate whose partner is still to come
  while (code == U_BUFFER_OVERFLOW_ERROR) {
    code = U_ZERO_ERROR;
    UChar* out = room.data() + left;
    ucnv_toUnicode(converter.get(), &out, room.data() + room.size(), &at, end, nullptr, /*flush=*/true, &code);
    auto count = static_cast<size_t>(out - room.data());
    left = count > 0 && code == U_BUFFER_OVERFLOW_ERROR && U16_IS_LEAD(room[count - 1]) ? 1 : 0;
    append_utf8(text, room.data(), count - left);
    if (left > 0) room[0] = room[count - 1];
  }
  if (U_FAILURE(code)) refuse_bytes(converter.get(), text, encoding, source);
  return text;
}

std::string decoded(std::string bytes, const std::string& encoding, const Source& source) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  const bool begins = source.first_line == 1;  // elsewhere a mark is a character
  if (begins && std::string_view(bytes).starts_with(kMark)) {
    bytes.erase(0, kMark.size());
    check_utf8(bytes, source);
    return bytes;
  }
  const char* wide = begins ? marked(bytes, kWideMarks) : nullptr;
  if (wide && !source.has_key) return decoded(converted(bytes, wide, source), "utf-8", source);
  if (wide && !is_wide(encoding)) {
    const std::string name = wide == std::string_view("utf-32") ? "UTF-32" : "UTF-16";
    refuse(source, fmt::format("the file is {}", name), wide, name);
  }
  if (plain(encoding) == "utf8") {
    check_utf8(bytes, source);
    return bytes;
  }
  // ICU takes UTF-16 without a mark for big-endian.
  const char* order = plain(encoding) == "utf16" && !wide ? unmarked_utf16(bytes) : nullptr;
  std::string text = converted(bytes, order ? order : encoding, source);
  if (text.starts_with(kMark)) text.erase(0, kMark.size());
  const bool ascii = std::none_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<signed char>(c) < 0; });
  if (!ascii && is_utf8(bytes)) {
    log().warn("{} is read as {} and would be good UTF-8 too: check the letters beyond ASCII, or leave encoding out",
               source.where, encoding);
  }
  return text;
}

}  // namespace

bool is_utf8(std::string_view text) {
  return valid_part(text) == text.size();
}

std::string to_utf8(std::string bytes, const std::string& encoding, const std::string& where, int64_t first_line) {
  return decoded(std::move(bytes), encoding, {.where = where, .first_line = first_line});
}

std::string read_text(const std::filesystem::path& file, const std::string& encoding) {
  return to_utf8(unpacked(read_file(file), file.string()), encoding, file.string());
}

std::string read_utf8(const std::filesystem::path& file) {
  return decoded(read_file(file), "utf-8", {.where = file.string(), .has_key = false});
}

void each_line(std::string_view text, const std::function<void(std::string_view line, int64_t number)>& take) {
  const char end = text.find('\n') == std::string_view::npos ? '\r' : '\n';
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t length = std::min(text.find(end), text.size());
    std::string_view line = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (end == '\n' && line.ends_with('\r')) line.remove_suffix(1);
    take(line, number);
  }
}

}  // namespace deltaw
