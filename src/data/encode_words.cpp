#include "data/encode_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "deltaw/error.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::data {
namespace {

constexpr std::string_view kVisibleBlank = "\xC4\xA0";  // how byte-level vocabularies write a blank

bool begins_with(const Encoding& encoding, std::string_view text) {
  return !encoding.tokens.empty() && encoding.tokens.front().starts_with(text);
}

/// The number of the stretch between blanks that each token is of.
std::vector<int64_t> stretches(const std::string& text, const std::vector<std::pair<int64_t, int64_t>>& offsets) {
  std::vector<int64_t> of_code_points;
  bool was_blank = true;
  int64_t count = -1;
  for (size_t at = 0; at < text.size();) {
    const text::CodePoint c = text::decode(text, at);
    const bool blank = text::is_space(c.value);
    if (!blank && was_blank) ++count;
    was_blank = blank;
    of_code_points.push_back(std::max<int64_t>(count, 0));
    at += c.bytes;
  }
  std::vector<int64_t> numbers;
  for (const auto& [begin, end] : offsets) {
    const auto last = std::min(static_cast<size_t>(std::max<int64_t>(end - 1, 0)), of_code_points.size() - 1);
    const int64_t number = of_code_points.empty() ? 0 : of_code_points[last];
    numbers.push_back(numbers.empty() ? number : std::max(number, numbers.back()));
  }
  return numbers;
}

/// Whether a token begins a word, or ends the row.
class Borders {
 public:
  explicit Borders(const std::vector<int64_t>& words) : words_(words) {}
  bool at(int64_t token) const {
    const auto i = static_cast<size_t>(token);
    return i == 0 || i >= words_.size() || words_[i] != words_[i - 1];
  }
  /// The last border in (low, high]; high where there is none.
  int64_t last_in(int64_t low, int64_t high) const {
    for (int64_t token = high; token > low; --token) {
      if (at(token)) return token;
    }
    return high;
  }
  /// The first border in [low, high]; high where there is none.
  int64_t first_in(int64_t low, int64_t high) const {
    while (low < high && !at(low)) ++low;
    return low;
  }

 private:
  const std::vector<int64_t>& words_;
};

int64_t context(const Window& window, int64_t begin, int64_t end, int64_t tokens) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  const int64_t left = window.begin == 0 ? kAll : begin - window.begin;
  const int64_t right = window.end == tokens ? kAll : window.end - end;
  return std::min(left, right);
}

/// Of the windows that hold tokens [begin, end), the first with the most context; -1 where none holds them all.
int64_t owner(const std::vector<Window>& windows, int64_t begin, int64_t end, int64_t tokens) {
  int64_t best = -1, most = -1;
  const auto reaches = [&](const Window& window) { return window.end < end; };
  for (auto window = std::partition_point(windows.begin(), windows.end(), reaches);
       window != windows.end() && window->begin <= begin; ++window) {
    const int64_t has = context(*window, begin, end, tokens);
    if (has <= most) continue;
    most = has;
    best = window - windows.begin();
  }
  return best;
}

void own(std::vector<Window>& windows, int64_t window, int64_t begin, int64_t end) {
  Window& chosen = windows[static_cast<size_t>(window)];
  if (chosen.own_end == chosen.own_begin) chosen.own_begin = begin;
  chosen.own_end = end;
}

void share_out(std::vector<Window>& windows, const Borders& borders, int64_t tokens) {
  for (int64_t begin = 0; begin < tokens;) {
    const int64_t end = borders.first_in(begin + 1, tokens);
    const int64_t whole = owner(windows, begin, end, tokens);
    if (whole >= 0) own(windows, whole, begin, end);
    for (int64_t token = begin; whole < 0 && token < end; ++token) {  // a word longer than a window
      own(windows, owner(windows, token, token + 1, tokens), token, token + 1);
    }
    begin = end;
  }
}

/// The class of a word's further tokens, by the class of the word.
std::vector<int64_t> continuations(const LabelSet& labels) {
  std::vector<int64_t> classes;
  for (size_t i = 0; i < labels.names.size(); ++i) {
    const std::string& name = labels.names[i];
    auto found = labels.names.end();
    if (name.starts_with("B-")) found = std::find(labels.names.begin(), labels.names.end(), "I-" + name.substr(2));
    classes.push_back(found == labels.names.end() ? static_cast<int64_t>(i) : found - labels.names.begin());
  }
  return classes;
}

void label_tokens(WordTokens& tokens, const std::vector<int64_t>& labels, const std::vector<int64_t>& continued) {
  for (size_t i = 0; i < tokens.words.size(); ++i) {
    const int64_t label = labels[static_cast<size_t>(tokens.words[i])];
    const bool first = i == 0 || tokens.words[i] != tokens.words[i - 1];
    tokens.labels.push_back(first ? label : continued.empty() ? kNoLabel : continued[static_cast<size_t>(label)]);
  }
}

int64_t words_with_tokens(const WordTokens& tokens) {
  int64_t count = 0;
  for (size_t i = 0; i < tokens.words.size(); ++i) count += i == 0 || tokens.words[i] != tokens.words[i - 1];
  return count;
}

int64_t checked_room(const WordEncoding& encoding, int64_t special) {
  const int64_t room = encoding.max_length - special;
  if (room < 1) {
    throw Error{{.id = "config.max-length",
                 .what = fmt::format("max_length is {}, and the tokenizer adds {} special tokens", encoding.max_length,
                                     special),
                 .where = "key 'max_length'",
                 .fix = fmt::format("set it to {} at least", special + 1)}};
  }
  if (encoding.stride >= room) {
    throw Error{{.id = "config.stride",
                 .what = fmt::format("stride is {}, and a window of max_length {} has {} tokens beside special ones",
                                     encoding.stride, encoding.max_length, room),
                 .where = "key 'stride'",
                 .fix = fmt::format("set it to less than {}; 0 is a quarter of a window", room)}};
  }
  return room;
}

}  // namespace

// ---- tokens ----

WordTokenizer::WordTokenizer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  const EncodeOptions plain{.add_special_tokens = false};
  lacks_blank_ = begins_with(tokenizer.encode(" a", plain), kVisibleBlank) &&
                 !begins_with(tokenizer.encode("a", plain), kVisibleBlank);
  const Encoding around = tokenizer.encode("a");
  bool seen = false;
  for (size_t i = 0; i < around.ids.size(); ++i) {
    if (around.special[i] == 0) {
      seen = true;
      type_ = around.type_ids[i];
      continue;
    }
    (seen ? after_ : before_).push_back(around.ids[i]);
    (seen ? types_after_ : types_before_).push_back(around.type_ids[i]);
  }
  if (!tokenizer.gives_type_ids()) type_ = 0;
}

/// Offsets are those of `text`, whether a blank was put before it or not.
Encoding WordTokenizer::encoded(const std::string& text) const {
  const EncodeOptions plain{.add_special_tokens = false};
  Encoding encoding = tokenizer_.encode(text, plain);
  // An added token stands for itself, with no blank before it.
  if (!lacks_blank_ || encoding.ids.empty() || text.starts_with(' ') || tokenizer_.is_added(encoding.ids.front())) {
    return encoding;
  }
  encoding = tokenizer_.encode(" " + text, plain);
  for (auto& [begin, end] : encoding.offsets) {
    begin = std::max<int64_t>(begin - 1, 0);
    end = std::max<int64_t>(end - 1, 0);
  }
  return encoding;
}

WordTokens WordTokenizer::of_words(const std::vector<std::string>& words) const {
  WordTokens tokens{.word_count = static_cast<int64_t>(words.size())};
  int64_t begin = 0;
  for (size_t word = 0; word < words.size(); ++word) {
    const std::string text = text::repaired(words[word]);
    if (word > 0) tokens.text += ' ';
    const Encoding encoding = encoded(text);
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      tokens.ids.push_back(encoding.ids[i]);
      tokens.offsets.emplace_back(begin + encoding.offsets[i].first, begin + encoding.offsets[i].second);
      tokens.words.push_back(static_cast<int64_t>(word));
    }
    tokens.text += text;
    begin += text::count_code_points(text) + 1;
  }
  return tokens;
}

WordTokens WordTokenizer::of_text(const std::string& text) const {
  Encoding encoding = encoded(text);
  WordTokens tokens{
      .text = text::repaired(text), .ids = std::move(encoding.ids), .offsets = std::move(encoding.offsets)};
  tokens.words = stretches(tokens.text, tokens.offsets);
  return tokens;
}

EncodedRow WordTokenizer::window(const std::vector<int64_t>& ids, int64_t begin, int64_t end) const {
  EncodedRow row{.ids = before_};
  row.ids.insert(row.ids.end(), ids.begin() + begin, ids.begin() + end);
  row.ids.insert(row.ids.end(), after_.begin(), after_.end());
  if (!tokenizer_.gives_type_ids()) return row;
  row.type_ids = types_before_;
  row.type_ids.insert(row.type_ids.end(), static_cast<size_t>(end - begin), type_);
  row.type_ids.insert(row.type_ids.end(), types_after_.begin(), types_after_.end());
  return row;
}

// ---- windows ----

std::vector<Window> windows_of(const WordTokens& row, int64_t room, int64_t stride) {
  const auto tokens = static_cast<int64_t>(row.ids.size());
  const Borders borders(row.words);
  std::vector<Window> windows;
  for (int64_t begin = 0;;) {
    int64_t end = std::min(begin + room, tokens);
    if (end < tokens) end = borders.last_in(begin, end);
    windows.push_back({.begin = begin, .end = end});
    if (end == tokens) break;
    int64_t next = borders.first_in(std::max(begin + 1, end - stride), end);
    // What follows must be new: a long word may need room that the overlap would take.
    while (next < end && next + room < tokens && !borders.at(borders.last_in(end, next + room))) {
      next = borders.first_in(next + 1, end);
    }
    begin = next;
  }
  share_out(windows, borders, tokens);
  std::erase_if(windows, [&](const Window& window) { return tokens > 0 && window.own_begin == window.own_end; });
  return windows;
}

EncodedWords encode_words(const WordDataset& dataset, const Tokenizer& tokenizer, const LabelSet& labels,
                          const WordEncoding& encoding) {
  const WordTokenizer split(tokenizer);
  const int64_t room = checked_room(encoding, split.special());
  const int64_t stride = encoding.stride > 0 ? encoding.stride : room / 4;
  const std::vector<int64_t> continued = encoding.label_all_tokens ? continuations(labels) : std::vector<int64_t>();
  EncodedWords result;
  result.before = split.before();
  for (const WordRow& row : dataset.rows) {
    const auto index = static_cast<int64_t>(result.rows.size());
    WordTokens tokens = row.is_text ? split.of_text(row.text) : split.of_words(row.words);
    if (row.labels.empty()) {
      tokens.labels.assign(tokens.ids.size(), 0);  // of no meaning, as the label of any row that has none
    } else {
      label_tokens(tokens, row.labels, continued);
    }
    result.without_tokens += tokens.word_count - (row.is_text ? 0 : words_with_tokens(tokens));
    int64_t count = 0;
    for (Window& window : windows_of(tokens, room, stride)) {
      window.row = index;
      EncodedRow input = split.window(tokens.ids, window.begin, window.end);
      input.index = index;
      input.token_labels.assign(input.ids.size(), kNoLabel);
      bool any = false;
      for (int64_t token = window.own_begin; token < window.own_end; ++token) {
        const int64_t label = tokens.labels[static_cast<size_t>(token)];
        any = any || label != kNoLabel;
        input.token_labels[static_cast<size_t>(result.before + token - window.begin)] = label;
      }
      ++count;
      if (encoding.learned && !any) continue;
      result.windows.push_back(std::move(input));
      result.places.push_back(window);
    }
    result.long_rows += count > 1;
    result.rows.push_back(std::move(tokens));
  }
  return result;
}

}  // namespace deltaw::data
