#include <algorithm>

#include "text/tokenizer/tokenizer_impl.h"

namespace deltaw {

namespace {

// Tokens without any text, such as a lone blank at the start, are kept until there is some; more than these never are.
constexpr size_t kMostKept = 16;

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {}

std::string TextStream::put(int64_t id) {
  const Tokenizer::Impl& impl = *tokenizer_->impl_;
  const std::string* token = impl.shown(id, skip_special_tokens_);
  if (token == nullptr) return {};
  tokens_.push_back(*token);
  if (impl.decoder && !impl.decoder->settled(tokens_)) return {};
  return take();
}

std::string TextStream::end() {
  std::string rest = take();
  tokens_.clear();
  done_ = 0;
  return rest;
}

/// A decoder treats the first token of a text in its own way, so the last token with text stays as the next one's
/// first.
std::string TextStream::take() {
  const Tokenizer::Impl& impl = *tokenizer_->impl_;
  const auto last = [&](size_t count) {
    return std::vector<std::string>(tokens_.end() - static_cast<std::ptrdiff_t>(count), tokens_.end());
  };
  const size_t before = impl.join({tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(done_)}).size();
  const std::string whole = impl.join(tokens_);
  size_t keep = std::min<size_t>(1, tokens_.size());
  while (keep < std::min(tokens_.size(), kMostKept) && impl.join(last(keep)).empty()) ++keep;
  tokens_ = last(keep);
  done_ = keep;
  return whole.substr(std::min(before, whole.size()));
}

}  // namespace deltaw
