// SentencePiece's normalization table: a double-array trie from short texts to what they become.
#include <memory>

#include <fmt/format.h>
#include <unicode/brkiter.h>
#include <unicode/utext.h>

#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

/// Longer grapheme clusters are looked up by character.
constexpr size_t kLongestCluster = 5;

std::string from_base64(const TokenizerValue& part) {
  const std::string text = part.text();
  std::string result;
  uint32_t bits = 0;
  int count = 0;
  size_t end = text.size();
  while (end > 0 && end + 2 > text.size() && text[end - 1] == '=') --end;
  for (const char c : std::string_view(text).substr(0, end)) {
    static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) part.fail("the table is not in base 64");
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    result.push_back(static_cast<char>(bits >> count & 0xFF));
  }
  return result;
}

uint32_t little_endian(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[i])) << 8 * i;
  return value;
}

/// The ends of the grapheme clusters of `text`.
std::vector<size_t> cluster_ends(std::string_view text) {
  std::vector<size_t> ends;
  UErrorCode status = U_ZERO_ERROR;
  thread_local const std::unique_ptr<icu::BreakIterator> clusters(
      icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), status));
  UText input = UTEXT_INITIALIZER;
  utext_openUTF8(&input, text.data(), static_cast<int64_t>(text.size()), &status);
  if (clusters != nullptr) clusters->setText(&input, status);
  if (clusters == nullptr || U_FAILURE(status)) {
    utext_close(&input);
    throw Error{{.id = "data.unicode",
                 .what = fmt::format("ICU cannot find grapheme clusters: {}", u_errorName(status)),
                 .where = fmt::format("a text of {} bytes", text.size()),
                 .fix = "install ICU with its data (libicu)"}};
  }
  for (int32_t end = clusters->next(); end != icu::BreakIterator::DONE; end = clusters->next()) {
    ends.push_back(static_cast<size_t>(end));
  }
  utext_close(&input);
  return ends;
}

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(const TokenizerValue& part) : longest_(part.flag(kLongestEntries, false)) {
    const TokenizerValue table = part.at("precompiled_charsmap");
    const std::string blob = from_base64(table);
    const size_t bytes = blob.size() < 4 ? 0 : little_endian(blob);
    if (bytes < 4 || bytes % 4 != 0 || bytes > blob.size() - 4) {
      table.fail(fmt::format("a table of {} bytes whose trie has {}", blob.size(), bytes));
    }
    for (size_t at = 4; at < 4 + bytes; at += 4) units_.push_back(little_endian(std::string_view(blob).substr(at)));
    texts_ = blob.substr(4 + bytes);
    if (repaired(texts_) != texts_) table.fail("the texts of the table are not UTF-8");
  }

  void normalize(Aligned& text) const override {
    std::vector<Change> changes;
    changes.reserve(text.text.size());
    if (longest_) return normalize_longest(text, changes);
    bool changed = false;
    const std::string_view whole = text.text;
    const auto cluster = [&](size_t begin, size_t end) {
      if (end - begin <= kLongestCluster) {
        if (const auto to = find(whole.substr(begin, end - begin))) {
          changed = true;
          return replace(whole.substr(begin, end - begin), to->becomes, changes);
        }
      }
      for (size_t at = begin; at < end;) {
        const CodePoint c = decode(whole, at);
        if (const auto to = find(whole.substr(at, c.bytes))) {
          changed = true;
          replace(whole.substr(at, c.bytes), to->becomes, changes);
        } else {
          changes.push_back({c.value, 0});
        }
        at += c.bytes;
      }
    };
    size_t begin = 0;
    if (all_below(whole, 0x80) && whole.find('\r') == std::string_view::npos) {
      for (; begin < whole.size(); ++begin) cluster(begin, begin + 1);
    } else {
      for (const size_t end : cluster_ends(whole)) {
        cluster(begin, end);
        begin = end;
      }
    }
    if (changed) transform(text, changes);
  }

 private:
  struct Entry {
    std::string_view becomes;
    size_t bytes;  // of the text
  };

  void normalize_longest(Aligned& text, std::vector<Change>& changes) const {
    const std::string_view whole = text.text;
    bool changed = false;
    for (size_t at = 0; at < whole.size();) {
      if (const auto entry = find(whole.substr(at))) {
        changed = true;
        replace(whole.substr(at, entry->bytes), entry->becomes, changes);
        at += entry->bytes;
      } else {
        const CodePoint c = decode(whole, at);
        changes.push_back({c.value, 0});
        at += c.bytes;
      }
    }
    if (changed) transform(text, changes);
  }

  static void replace(std::string_view from, std::string_view to, std::vector<Change>& changes) {
    for (size_t at = 0; at < to.size(); at += width(to[at])) changes.push_back({decode(to, at).value, 0});
    const int64_t more = count_code_points(to) - count_code_points(from);
    for (int64_t i = 0; i < more; ++i) changes[changes.size() - 1 - static_cast<size_t>(i)].change = 1;
    if (more < 0 && !changes.empty()) changes.back().change += static_cast<int32_t>(more);
  }

  /// The shortest entry that `text` begins with, or the longest.
  std::optional<Entry> find(std::string_view text) const {
    size_t node = offset(units_[0]);
    std::optional<Entry> found;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      node ^= byte;
      if (byte == 0 || node >= units_.size()) return found;
      const uint32_t unit = units_[node];
      if ((unit & 0x800000FFu) != byte) return found;
      node ^= offset(unit);
      if ((unit >> 8 & 1) == 0) continue;
      if (node >= units_.size()) return found;
      const size_t at = units_[node] & 0x7FFFFFFFu;
      if (at >= texts_.size()) return found;
      if (at > 0 && texts_[at - 1] != '\0') return found;  // inside an entry: the table is broken
      found = Entry{std::string_view(texts_).substr(at, texts_.find('\0', at) - at), i + 1};
      if (!longest_) return found;
    }
    return found;
  }

  static size_t offset(uint32_t unit) { return size_t{unit >> 10} << ((unit & 0x200u) >> 6); }

  bool longest_;
  std::vector<uint32_t> units_;
  std::string texts_;  // each ends with a zero
};

}  // namespace

std::unique_ptr<Normalizer> make_precompiled(const TokenizerValue& part) {
  return std::make_unique<Precompiled>(part);
}

}  // namespace deltaw::text
