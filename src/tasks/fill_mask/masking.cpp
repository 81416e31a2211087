#include "tasks/fill_mask/masking.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "data/shuffle.h"
#include "deltaw/error.h"

namespace deltaw::fill_mask {
namespace {

/// In [0, 1), the same on every machine.
double draw_fraction(std::mt19937_64& engine) {
  return static_cast<double>(engine() >> 11) * 0x1p-53;
}

std::vector<bool> chosen_units(int64_t count, double probability, std::mt19937_64& engine) {
  std::vector<bool> chosen(static_cast<size_t>(count));
  bool any = false;
  for (size_t unit = 0; unit < chosen.size(); ++unit) {
    chosen[unit] = draw_fraction(engine) < probability;
    any = any || chosen[unit];
  }
  if (!any && count > 0) chosen[data::draw_below(engine, static_cast<uint64_t>(count))] = true;
  return chosen;
}

}  // namespace

void MaskingOptions::fields(FieldVisitor& f) {
  Rule probability = between(0, 1);
  probability.low_open = true;
  f.field("mlm_probability", mlm_probability, "The share of a text's tokens that a masked language model predicts.",
          probability);
  f.field("mask_replace_prob", mask_replace_prob, "The share of these that the mask token stands for.", between(0, 1));
  f.field("random_replace_prob", random_replace_prob,
          "The share of these that a random token stands for; what is left of them stays as it is.", between(0, 1));
  f.field("whole_word_mask", whole_word_mask, "Choose words, as the tokenizer cuts them, with all of their tokens.");
}

void MaskingOptions::check(const std::string& where) const {
  if (mask_replace_prob + random_replace_prob <= 1 + 1e-9) return;
  throw Error({.id = "config.out-of-range",
               .what = fmt::format("mask_replace_prob {:g} and random_replace_prob {:g} are more than 1 together",
                                   mask_replace_prob, random_replace_prob),
               .where = where,
               .fix = "lower one of them"});
}

Units units_of(const Encoding& encoding, const Tokenizer& tokenizer, bool whole_words) {
  Units units;
  int64_t next = 0;
  bool goes_on = false;  // the token before is of the same text
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    const bool special = encoding.special[i] != 0 || tokenizer.is_special(encoding.ids[i]);
    if (special) {
      units.push_back(-1);
    } else {
      const bool same = whole_words && goes_on && encoding.words[i] == encoding.words[i - 1];
      units.push_back(same ? next - 1 : next++);
    }
    goes_on = !special;
  }
  return units;
}

int64_t count_units(const Units& units) {
  return units.empty() ? 0 : *std::max_element(units.begin(), units.end()) + 1;
}

std::vector<Replacement> draw_masks(const std::vector<int64_t>& ids, const Units& units, const Masking& masking,
                                    uint64_t key) {
  std::mt19937_64 engine(key);
  const MaskingOptions& options = masking.options;
  const std::vector<bool> chosen = chosen_units(count_units(units), options.mlm_probability, engine);
  std::vector<Replacement> replaced;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (units[i] < 0 || !chosen[static_cast<size_t>(units[i])]) continue;
    const double share = draw_fraction(engine);
    int64_t id = ids[i];
    if (share < options.mask_replace_prob) {
      id = masking.mask_id;
    } else if (share < options.mask_replace_prob + options.random_replace_prob) {
      id = static_cast<int64_t>(data::draw_below(engine, static_cast<uint64_t>(masking.vocabulary)));
    }
    replaced.push_back({static_cast<int64_t>(i), id});
  }
  return replaced;
}

}  // namespace deltaw::fill_mask
