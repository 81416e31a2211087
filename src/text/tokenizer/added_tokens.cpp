#include "text/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace deltaw::text {
namespace {

size_t blanks_before(std::string_view text, size_t end, size_t limit) {
  while (end > limit) {
    const size_t last = last_start(text.substr(0, end));
    if (!is_space(decode(text, last).value)) break;
    end = last;
  }
  return std::max(end, limit);
}

size_t blanks_after(std::string_view text, size_t at) {
  while (at < text.size() && is_space(decode(text, at).value)) at += width(text[at]);
  return at;
}

bool touches_word(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 && is_word(decode(text, last_start(text.substr(0, begin))).value)) ||
         (end < text.size() && is_word(decode(text, end).value));
}

/// A section of a text, which is left empty where that is all of it.
Aligned take(Aligned& whole, const Piece& section) {
  if (section.begin == 0 && section.end == whole.text.size()) return std::move(whole);
  Aligned part;
  part.append(whole, section.begin, section.end);
  return part;
}

}  // namespace

void AddedTokens::Trie::insert(std::string_view text, int64_t id) {
  if (text.empty()) return;
  starts_[static_cast<unsigned char>(text.front())] = true;
  int32_t node = 0;
  for (const char c : text) {
    const auto [found, is_new] = nodes_[static_cast<size_t>(node)].next.emplace(c, static_cast<int32_t>(nodes_.size()));
    node = found->second;
    if (is_new) nodes_.emplace_back();
  }
  nodes_[static_cast<size_t>(node)].id = id;
}

size_t AddedTokens::Trie::match(std::string_view text, size_t at, int64_t& id) const {
  size_t longest = 0;
  const Node* node = nodes_.data();
  for (size_t end = at; end < text.size();) {
    const auto next = node->next.find(text[end++]);
    if (next == node->next.end()) break;
    node = &nodes_[static_cast<size_t>(next->second)];
    if (node->id < 0) continue;
    longest = end - at;
    id = node->id;
  }
  return longest;
}

AddedTokens::AddedTokens(const TokenizerValue& part, const Vocabulary& vocabulary, const Normalizer* normalizer) {
  int64_t next = vocabulary.size();
  for (const TokenizerValue& item : part.items()) {
    AddedToken token{.content = item.text("content"),
                     .single_word = item.flag("single_word"),
                     .lstrip = item.flag("lstrip"),
                     .rstrip = item.flag("rstrip"),
                     .normalized = item.flag("normalized"),
                     .special = item.flag("special")};
    if (token.content.empty()) continue;
    int64_t assigned = id(token.content).value_or(vocabulary.id(token.content));
    if (assigned < 0) assigned = next++;
    if (assigned != item.count("id") || (vocabulary.has(assigned) && vocabulary.piece(assigned) != token.content)) {
      throw Error{{.id = "format.vocabulary",
                   .what = fmt::format("the added token \"{}\" has the id {}, but its place in the vocabulary is {}",
                                       token.content, item.count("id"), assigned),
                   .where = item.where(),
                   .fix = "ids must be dense: number added tokens on from the model's vocabulary, in order"}};
    }
    set(std::move(token), assigned, normalizer);
  }
  build_tries();
}

void AddedTokens::add(const AddedToken& token, int64_t id, const Normalizer* normalizer) {
  set(token, id, normalizer);
  build_tries();
}

void AddedTokens::set(AddedToken token, int64_t id, const Normalizer* normalizer) {
  normalized_.erase(id);
  if (token.normalized && normalizer != nullptr) {
    Aligned form = aligned(token.content);
    normalizer->normalize(form);
    if (form.text != token.content) normalized_[id] = form.text;
  }
  ids_[token.content] = id;
  tokens_[id] = std::move(token);
}

void AddedTokens::build_tries() {
  raw_ = {};
  normal_ = {};
  for (const auto& [id, token] : tokens_) {
    (token.normalized ? normal_ : raw_).insert(token.normalized ? decoding_form(id) : token.content, id);
  }
}

void AddedTokens::cut(const Aligned& text, const Trie& trie, std::vector<Piece>& out) const {
  const std::string_view view = text.text;
  const auto push = [&](size_t begin, size_t end, int64_t id) {
    if (begin < end)
      out.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), static_cast<int32_t>(id)});
  };
  size_t done = 0;
  for (size_t at = 0; at < view.size() && !trie.empty();) {
    int64_t id = -1;
    const size_t length = trie.may_start(view[at]) ? trie.match(view, at, id) : 0;
    if (length == 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_.at(id);
    size_t begin = at;
    size_t end = at + length;
    at = end;
    if (token.single_word && touches_word(view, begin, end)) continue;
    if (token.lstrip) begin = blanks_before(view, begin, std::min(done, begin));
    if (token.rstrip) end = blanks_after(view, end);
    push(done, begin, -1);
    push(begin, end, id);
    done = end;
  }
  push(done, view.size(), -1);
}

Pieces AddedTokens::extract(std::string text, const Normalizer* normalizer) const {
  Aligned whole = aligned(std::move(text));
  std::vector<Piece> sections;
  cut(whole, raw_, sections);
  Pieces result;
  for (const Piece& section : sections) {
    Aligned part = take(whole, section);
    const auto base = static_cast<uint32_t>(result.buffer.text.size());
    std::vector<Piece> pieces;
    if (section.added >= 0) {
      pieces.push_back({0, section.end - section.begin, section.added});
    } else {
      if (normalizer != nullptr) normalizer->normalize(part);
      cut(part, normal_, pieces);
    }
    for (const Piece& piece : pieces) result.list.push_back({base + piece.begin, base + piece.end, piece.added});
    if (base == 0) {
      result.buffer = std::move(part);
    } else {
      result.buffer.append(part, 0, part.text.size());
    }
  }
  return result;
}

std::optional<int64_t> AddedTokens::id(std::string_view content) const {
  const auto found = ids_.find(std::string(content));
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

const AddedToken* AddedTokens::find(int64_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? nullptr : &found->second;
}

const std::string& AddedTokens::decoding_form(int64_t id) const {
  const auto found = normalized_.find(id);
  return found == normalized_.end() ? tokens_.at(id).content : found->second;
}

bool AddedTokens::is_special(std::string_view content) const {
  const auto found = id(content);
  return found && tokens_.at(*found).special;
}

}  // namespace deltaw::text
