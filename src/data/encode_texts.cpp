#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "core/ascii.h"
#include "data/bad_rows.h"
#include "deltaw/error.h"
#include "deltaw/text_data.h"

namespace deltaw {
namespace {

/// The same ranges counted in code points, which is what a tokenizer's offsets count.
ByteRanges in_code_points(const ByteRanges& ranges, const std::string& text) {
  ByteRanges result;
  size_t at = 0;
  size_t points = 0;
  const auto points_before = [&](size_t byte) {
    for (; at < byte; ++at) points += (static_cast<unsigned char>(text[at]) & 0xC0) != 0x80;
    return points;
  };
  for (const auto& [begin, end] : ranges) {
    const size_t first = points_before(begin);
    result.emplace_back(first, points_before(end));
  }
  return result;
}

/// Whether the character before `end` lies in a range. Ends of tokens mostly ascend, but offsets promise nothing.
bool holds(const ByteRanges& ranges, int64_t end) {
  if (end < 1) return false;
  const auto last = static_cast<size_t>(end - 1);
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), last,
                                      [](size_t value, const auto& range) { return value < range.first; });
  return after != ranges.begin() && last < std::prev(after)->second;
}

/// What ends the turns of an assistant, as the rows show it: of the added tokens that end every answer, the first that
/// is special, or the first where none is.
class TurnEnds {
 public:
  explicit TurnEnds(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void add(const EncodedRow& row) {
    const std::vector<int64_t>& labels = row.token_labels;
    for (size_t begin = 0; begin < labels.size();) {
      size_t end = begin;
      while (end < labels.size() && labels[end] != kNoLabel) ++end;
      const bool is_whole = row.truncated == 0 || end < labels.size();
      if (end > begin && is_whole) keep_common(marks_before(row.ids, begin, end));
      begin = end + 1;
    }
  }

  std::vector<int64_t> found() const {
    if (!common_ || common_->empty()) return {};
    const auto special =
        std::find_if(common_->begin(), common_->end(), [&](int64_t id) { return tokenizer_.is_special(id); });
    return {special == common_->end() ? common_->front() : *special};
  }

 private:
  /// The added tokens that the answer ends with, whatever blanks stand between them.
  std::vector<int64_t> marks_before(const std::vector<int64_t>& ids, size_t begin, size_t end) const {
    std::vector<int64_t> marks;
    for (; end > begin; --end) {
      const int64_t id = ids[end - 1];
      if (tokenizer_.is_added(id)) {
        marks.insert(marks.begin(), id);
      } else if (!is_blank(tokenizer_.decode({id}, false))) {
        break;
      }
    }
    return marks;
  }

  void keep_common(const std::vector<int64_t>& marks) {
    if (!common_) common_ = marks;
    std::erase_if(*common_, [&](int64_t id) { return std::find(marks.begin(), marks.end(), id) == marks.end(); });
  }

  const Tokenizer& tokenizer_;
  std::optional<std::vector<int64_t>> common_;
};

class Encoder {
 public:
  Encoder(const TextDataset& dataset, const Tokenizer& tokenizer, int64_t max_length, std::optional<int64_t> end_id,
          Untrained untrained)
      : dataset_(dataset),
        tokenizer_(tokenizer),
        max_length_(static_cast<size_t>(max_length)),
        end_id_(end_id),
        untrained_(untrained),
        turn_ends_(tokenizer) {}

  EncodedTexts run() {
    result_.facts.left_out = dataset_.left_out;
    result_.facts.reasons = dataset_.reasons;
    for (const TextExample& example : dataset_.rows) {
      if (dataset_.continuous) {
        cut_into_blocks(labelled(example));
      } else {
        add(labelled(example), example);
      }
    }
    result_.facts.turn_ends = turn_ends_.found();
    if (!result_.rows.empty() || untrained_ == Untrained::kept) return std::move(result_);
    throw Error{{.id = "data.no-trained-tokens",
                 .what = fmt::format("none of {} rows has a token to train on within max_length {}",
                                     result_.facts.dropped, max_length_),
                 .where = dataset_.file.string(),
                 .fix = "Raise max_length, which counts the prompt too, or shorten the prompts."}};
  }

 private:
  EncodedRow labelled(const TextExample& example) const {
    const ByteRanges trained = in_code_points(example.trained, example.text);
    const ByteRanges ends = in_code_points(ends_of(example), example.text);
    EncodedRow row;
    size_t byte = 0, point = 0;
    for (size_t part = 0; part <= example.ends.size(); ++part) {
      const bool last = part == example.ends.size();
      const size_t end = last ? example.text.size() : example.ends[part];
      add_tokens(row, example.text.substr(byte, end - byte), example.add_special_tokens && part == 0, trained, point);
      if (!last || example.end) add_end(row, example);
      byte = end;
      if (!last) point = ends[part].first;
    }
    if (!row.ids.empty()) row.token_labels[0] = kNoLabel;
    return row;
  }

  static ByteRanges ends_of(const TextExample& example) {
    ByteRanges ends;
    for (const size_t end : example.ends) ends.emplace_back(end, end);
    return ends;
  }

  /// Those of a text that begins at the code point `first` of the row's.
  void add_tokens(EncodedRow& row, const std::string& text, bool add_special_tokens, const ByteRanges& trained,
                  size_t first) const {
    const Encoding encoding = encode_row(tokenizer_, text, add_special_tokens);
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      const bool added = !encoding.special.empty() && encoding.special[i] != 0;
      const auto offset = static_cast<int64_t>(encoding.offsets[i].second);
      const bool is_trained = !added && offset > 0 && holds(trained, offset + static_cast<int64_t>(first));
      row.ids.push_back(encoding.ids[i]);
      row.token_labels.push_back(is_trained ? encoding.ids[i] : kNoLabel);
    }
  }

  // Some tokenizers end every text by themselves, and some files spell the end of a text.
  void add_end(EncodedRow& row, const TextExample& example) const {
    if (!end_id_) {
      throw Error{{.id = "config.no-end-token",
                   .what = "the model names no end-of-text token, so it would never learn to stop",
                   .where = dataset_.where(example),
                   .fix = "Set eos_token in tokenizer_config.json, or eos_token_id in config.json."}};
    }
    if (row.ids.empty() || row.ids.back() != *end_id_) {
      row.ids.push_back(*end_id_);
      row.token_labels.push_back(kNoLabel);
    }
    row.token_labels.back() = *end_id_;
  }

  void add(EncodedRow row, const TextExample& example) {
    const bool cut = max_length_ > 0 && row.ids.size() > max_length_;
    if (cut) {
      row.ids.resize(max_length_);
      row.token_labels.resize(max_length_);
      row.truncated = 1;
    }
    if (untrained_ == Untrained::dropped && std::all_of(row.token_labels.begin(), row.token_labels.end(),
                                                        [](int64_t label) { return label == kNoLabel; })) {
      ++result_.facts.dropped;
      return;
    }
    result_.facts.cut += cut;
    result_.facts.without_end += !cut && example.answers && !ends_in_special(row.token_labels);
    result_.facts.turns_left_out += example.turns_left_out;
    if (!example.add_special_tokens) turn_ends_.add(row);  // a template's text
    keep(std::move(row));
  }

  void cut_into_blocks(const EncodedRow& text) {
    const size_t step = max_length_ > 0 ? max_length_ : text.ids.size();
    for (size_t begin = 0; begin + 1 < text.ids.size(); begin += step) {  // one token alone trains nothing
      if (dataset_.most_blocks > 0 && result_.facts.rows == dataset_.most_blocks) return;
      const auto first = static_cast<std::ptrdiff_t>(begin);
      const auto last = static_cast<std::ptrdiff_t>(std::min(begin + step, text.ids.size()));
      EncodedRow block;
      block.ids.assign(text.ids.begin() + first, text.ids.begin() + last);
      block.token_labels.assign(text.token_labels.begin() + first, text.token_labels.begin() + last);
      block.token_labels[0] = kNoLabel;
      keep(std::move(block));
    }
  }

  void keep(EncodedRow row) {
    row.index = result_.facts.rows++;
    result_.facts.tokens += static_cast<int64_t>(row.ids.size());
    result_.facts.trained += static_cast<int64_t>(row.token_labels.size()) -
                             std::count(row.token_labels.begin(), row.token_labels.end(), kNoLabel);
    result_.rows.push_back(std::move(row));
  }

  // Templates often end a turn with a line break after its end token.
  bool ends_in_special(const std::vector<int64_t>& labels) {
    for (size_t i = labels.size(); i-- > 0;) {
      if (labels[i] == kNoLabel) continue;
      if (labels[i] == end_id_ || is_special(labels[i])) return true;
      if (!is_blank(tokenizer_.decode({labels[i]}, false))) return false;
    }
    return false;
  }

  bool is_special(int64_t id) {
    const auto [known, is_new] = special_.try_emplace(id, false);
    if (is_new) known->second = tokenizer_.decode({id}, true).empty() && !tokenizer_.decode({id}, false).empty();
    return known->second;
  }

  const TextDataset& dataset_;
  const Tokenizer& tokenizer_;
  size_t max_length_;
  std::optional<int64_t> end_id_;
  Untrained untrained_;
  TurnEnds turn_ends_;
  EncodedTexts result_;
  std::unordered_map<int64_t, bool> special_;
};

}  // namespace

EncodedTexts encode_texts(const TextDataset& dataset, const Tokenizer& tokenizer, int64_t max_length,
                          std::optional<int64_t> end_id, Untrained untrained) {
  return Encoder(dataset, tokenizer, max_length, end_id, untrained).run();
}

std::vector<std::string> warnings(const TextFacts& facts, int64_t max_length, int64_t readable) {
  const int64_t all = facts.rows + facts.dropped;
  std::vector<std::string> result;
  if (facts.cut > 0) {
    result.push_back(truncation_warning(facts.cut, all, max_length, readable));
  }
  if (facts.dropped > 0) {
    result.push_back(fmt::format("{} of {} rows were dropped: nothing to train on is within max_length {}",
                                 facts.dropped, all, max_length));
  }
  if (facts.left_out > 0) {
    result.push_back(fmt::format("{} {} left out: {}", facts.left_out, facts.left_out == 1 ? "row is" : "rows are",
                                 data::reasons_text(facts.reasons, facts.left_out)));
  }
  if (facts.turns_left_out > 0) {
    result.push_back(
        fmt::format("{} answers are not trained on, because they do not stand word for word in what the chat template "
                    "writes",
                    facts.turns_left_out));
  }
  if (facts.without_end > 0) {
    result.push_back(
        fmt::format("{} of {} rows end their last answer without a special token, so the model does not "
                    "learn to stop; let the chat template write eos_token there",
                    facts.without_end, all));
  }
  return result;
}

}  // namespace deltaw
