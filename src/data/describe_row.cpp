#include "deltaw/text_data.h"

namespace deltaw {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD: a character whose last bytes are still to come

}  // namespace

// A token is decoded with a few before it, because its text depends on them: sentencepiece drops the first space, and a
// character may be spread over several tokens, of which the last one shows it.
std::vector<SampleToken> describe_row(const EncodedRow& row, const Tokenizer& tokenizer) {
  std::vector<SampleToken> tokens;
  tokens.reserve(row.ids.size());
  const auto decode = [&](size_t begin, size_t end) {
    const auto first = row.ids.begin();
    return tokenizer.decode({first + static_cast<std::ptrdiff_t>(begin), first + static_cast<std::ptrdiff_t>(end)},
                            false);
  };
  size_t window = 0;
  size_t shown = 0;
  for (size_t i = 0; i < row.ids.size(); ++i) {
    SampleToken token;
    token.trained = i < row.token_labels.size() && row.token_labels[i] != kNoLabel;
    const std::string before = decode(window, shown);
    const std::string text = decode(window, i + 1);
    if (text.size() > before.size() && (!text.ends_with(kReplacement) || i + 1 == row.ids.size())) {
      token.text = text.substr(before.size());
      window = shown;
      shown = i + 1;
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace deltaw
