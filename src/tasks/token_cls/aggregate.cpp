#include "tasks/token_cls/aggregate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "tasks/common/shown.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::token_cls {
namespace {

constexpr const char* kOutside = "O";
constexpr std::string_view kContinues = "##";

/// The type behind "B-" or "I-", and whether the label begins an entity. Other labels are types and begin nothing.
std::pair<bool, std::string> split(const std::string& label) {
  if (label.starts_with("B-") || label.starts_with("I-")) return {label[0] == 'B', label.substr(2)};
  return {false, label};
}

/// [tokens, labels] probabilities.
std::vector<double> softmax(const float* logits, size_t rows, size_t columns) {
  std::vector<double> scores(rows * columns);
  for (size_t row = 0; row < rows; ++row) {
    const float* from = logits + row * columns;
    double* to = scores.data() + row * columns;
    const double most = *std::max_element(from, from + columns);
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) sum += to[i] = std::exp(from[i] - most);
    for (size_t i = 0; i < columns; ++i) to[i] /= sum;
  }
  return scores;
}

/// Whether the vocabulary is WordPiece's. Others hold a few runs of "#" at most.
bool has_continuing_pieces(const Tokenizer& tokenizer) {
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto token = tokenizer.id_to_token(id);
    if (token && token->starts_with(kContinues) && token->size() > 2 && (*token)[2] != '#') return true;
  }
  return false;
}

}  // namespace

const std::vector<std::string>& strategies() {
  static const std::vector<std::string> names = {"none", "simple", "first", "average", "max"};
  return names;
}

Aggregator::Aggregator(const Tokenizer& tokenizer, const std::vector<std::string>& labels, std::string strategy)
    : tokenizer_(tokenizer),
      labels_(labels),
      strategy_(std::move(strategy)),
      marks_pieces_(has_continuing_pieces(tokenizer)) {
  for (const char* name : {"[UNK]", "<unk>"}) {
    if (const auto id = tokenizer.token_to_id(name)) unknown_.push_back(*id);
  }
}

bool Aggregator::is_unknown(int64_t id) const {
  return std::find(unknown_.begin(), unknown_.end(), id) != unknown_.end();
}

/// Of a row of words by its words; of a text by the vocabulary where this tells, else by the blanks.
bool Aggregator::continues_word(const data::WordTokens& row, size_t token) const {
  if (token == 0) return false;
  if (row.word_count > 0) return row.words[token] == row.words[token - 1];
  if (is_unknown(row.ids[token])) return false;
  const auto [begin, end] = row.offsets[token];
  if (!marks_pieces_) return begin > 0 && tasks::slice(row.text, begin - 1, begin + 1).find(' ') == std::string::npos;
  const std::string piece = tokenizer_.id_to_token(row.ids[token]).value_or("");
  return text::count_code_points(piece) != text::count_code_points(tasks::slice(row.text, begin, end));
}

std::vector<Aggregator::Piece> Aggregator::tokens(const std::vector<double>& scores) const {
  std::vector<Piece> pieces;
  for (size_t token = 0; token * labels_.size() < scores.size(); ++token) {
    pieces.push_back(word(token, token + 1, scores));
  }
  return pieces;
}

/// Tokens [begin, end) as one, by the strategy.
Aggregator::Piece Aggregator::word(size_t begin, size_t end, const std::vector<double>& scores) const {
  const size_t columns = labels_.size();
  std::vector<double> chosen(scores.begin() + static_cast<std::ptrdiff_t>(begin * columns),
                             scores.begin() + static_cast<std::ptrdiff_t>((begin + 1) * columns));
  for (size_t token = begin + 1; token < end; ++token) {
    const double* own = scores.data() + token * columns;
    if (strategy_ == "max" && *std::max_element(own, own + columns) > *std::max_element(chosen.begin(), chosen.end())) {
      chosen.assign(own, own + columns);
    }
    for (size_t i = 0; strategy_ == "average" && i < columns; ++i) chosen[i] += own[i];
  }
  const auto best = std::max_element(chosen.begin(), chosen.end());
  const double score = strategy_ == "average" ? *best / static_cast<double>(end - begin) : *best;
  return {labels_[static_cast<size_t>(best - chosen.begin())], score, begin, end};
}

std::vector<Aggregator::Piece> Aggregator::words(const data::WordTokens& row, const std::vector<double>& scores) const {
  std::vector<Piece> pieces;
  for (size_t begin = 0; begin < row.ids.size();) {
    size_t end = begin + 1;
    while (end < row.ids.size() && continues_word(row, end)) ++end;
    pieces.push_back(word(begin, end, scores));
    begin = end;
  }
  return pieces;
}

/// What the tokens say together; an unknown one says what stands in the row.
std::string Aggregator::text(const data::WordTokens& row, size_t begin, size_t end) const {
  std::vector<std::string> parts;
  std::vector<int64_t> known;
  const auto flush = [&] {
    if (!known.empty()) parts.push_back(tokenizer_.decode(known, /*skip_special_tokens=*/false));
    known.clear();
  };
  for (size_t token = begin; token < end; ++token) {
    if (!is_unknown(row.ids[token])) {
      known.push_back(row.ids[token]);
      continue;
    }
    flush();
    const auto [first, last] = row.offsets[token];
    parts.push_back(tasks::slice(row.text, first, last));
  }
  flush();
  return fmt::format("{}", fmt::join(parts, " "));
}

Json Aggregator::described(const data::WordTokens& row, const std::vector<Piece>& group) const {
  const Piece& first = group.front();
  const Piece& last = group.back();
  double score = 0;
  for (const Piece& piece : group) score += piece.score / static_cast<double>(group.size());
  const size_t dash = first.label.find('-');
  Json entity = {{"entity_group", dash == std::string::npos ? first.label : first.label.substr(dash + 1)},
                 {"score", score},
                 {"word", text(row, first.begin, last.end)},
                 {"start", row.offsets[first.begin].first},
                 {"end", row.offsets[last.end - 1].second}};
  if (row.word_count > 0) {
    entity["first_word"] = row.words[first.begin];
    entity["last_word"] = row.words[last.end - 1];
  }
  return entity;
}

Json Aggregator::entities(const data::WordTokens& row, const float* logits, int64_t before) const {
  const std::vector<double> scores = softmax(logits, row.ids.size(), labels_.size());
  const bool by_token = strategy_ == "none" || strategy_ == "simple";
  const std::vector<Piece> pieces = by_token ? tokens(scores) : words(row, scores);
  Json entities = Json::array();
  if (strategy_ == "none") {
    for (const Piece& piece : pieces) {
      if (piece.label == kOutside) continue;
      const int64_t id = row.ids[piece.begin];
      const auto [begin, end] = row.offsets[piece.begin];
      entities.push_back(
          {{"entity", piece.label},
           {"score", piece.score},
           {"index", before + static_cast<int64_t>(piece.begin)},
           {"word", is_unknown(id) ? tasks::slice(row.text, begin, end) : tokenizer_.id_to_token(id).value_or("")},
           {"start", begin},
           {"end", end}});
      if (row.word_count > 0) entities.back()["first_word"] = entities.back()["last_word"] = row.words[piece.begin];
    }
    return entities;
  }
  std::vector<Piece> group;
  const auto flush = [&] {
    if (!group.empty() && split(group.front().label).second != kOutside) entities.push_back(described(row, group));
    group.clear();
  };
  for (const Piece& piece : pieces) {
    const auto [begins, type] = split(piece.label);
    if (!group.empty() && (begins || type != split(group.back().label).second)) flush();
    group.push_back(piece);
  }
  flush();
  return entities;
}

}  // namespace deltaw::token_cls
