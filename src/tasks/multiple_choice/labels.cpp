#include "tasks/multiple_choice/labels.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "core/ascii.h"
#include "core/json_fields.h"
#include "data/table.h"

namespace deltaw::multiple_choice {
namespace {

using Answer = std::optional<size_t>;

/// A label as text, numbers without a point; empty where there is none.
std::string spelled(const Json& label) {
  if (label.is_string()) return std::string(trimmed(label.get_ref<const std::string&>()));
  const std::optional<int64_t> number = json_as<int64_t>(label);
  return number ? std::to_string(*number) : std::string();
}

/// The one of the texts that is this one; nothing where there are several.
Answer only(const std::vector<std::string>& texts, const std::string& text) {
  const auto found = std::find(texts.begin(), texts.end(), text);
  if (found == texts.end() || std::find(found + 1, texts.end(), text) != texts.end()) return std::nullopt;
  return static_cast<size_t>(found - texts.begin());
}

Answer by_name(const ChoiceQuestion& question, const std::string& label) {
  return only(question.names, label);
}

template <size_t first>
Answer by_number(const ChoiceQuestion& question, const std::string& label) {
  size_t number = 0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), number);
  const bool is_number = error == std::errc() && end == label.data() + label.size();
  return is_number && number >= first && number - first < question.choices.size() ? Answer(number - first)
                                                                                  : std::nullopt;
}

Answer by_letter(const ChoiceQuestion& question, const std::string& label) {
  if (label.size() != 1) return std::nullopt;
  const char first = label[0] >= 'a' ? 'a' : 'A';
  if (label[0] < first) return std::nullopt;
  const auto number = static_cast<size_t>(label[0] - first);
  return number < question.choices.size() ? Answer(number) : std::nullopt;
}

Answer by_text(const ChoiceQuestion& question, const std::string& label) {
  return only(question.choices, label);
}

struct Way {
  Answer (*answer)(const ChoiceQuestion& question, const std::string& label);
  const char* name;
};
constexpr std::array kWays = {Way{by_name, "the name of a choice"}, Way{by_number<0>, "the number of a choice, from 0"},
                              Way{by_letter, "the letter of a choice, from A"}, Way{by_text, "the text of a choice"},
                              Way{by_number<1>, "the number of a choice, from 1"}};

int64_t fitting(const ChoiceSet& set, const Way& way) {
  return std::count_if(set.rows.begin(), set.rows.end(), [&](const ChoiceQuestion& question) {
    return way.answer(question, spelled(question.label)).has_value();
  });
}

/// The first of the ways that fit the most rows.
const Way& chosen_way(const ChoiceSet& set) {
  const Way* best = kWays.data();
  int64_t most = -1;
  for (const Way& way : kWays) {
    const int64_t count = fitting(set, way);
    if (count > most) best = &way;
    most = std::max(most, count);
  }
  return *best;
}

/// Warns where numbers count from 1, and where another way fits as many rows and means other choices.
void warn_of_others(ChoiceSet& set, const Way& chosen) {
  if (chosen.answer == by_number<1>) {
    set.warnings.push_back(fmt::format("the labels are taken for {}, since that fits more rows than from 0 ({})",
                                       chosen.name, set.file.string()));
  }
  for (const Way& way : kWays) {
    const bool settled = chosen.answer == by_name && way.answer == by_number<1>;  // few files count so beside names
    if (way.answer == chosen.answer || settled || fitting(set, way) < fitting(set, chosen)) continue;
    const auto differs = std::find_if(set.rows.begin(), set.rows.end(), [&](const ChoiceQuestion& question) {
      const std::string label = spelled(question.label);
      const Answer answer = way.answer(question, label);
      return answer && answer != chosen.answer(question, label);
    });
    if (differs == set.rows.end()) continue;
    set.warnings.push_back(fmt::format("the labels could be {} too: '{}' is taken for {} ({})", way.name,
                                       data::clipped(spelled(differs->label)), chosen.name, set.file.string()));
  }
}

Error refused(const ChoiceQuestion& question, const Way& way, const std::string& where) {
  const std::string label = spelled(question.label);
  if (label.empty()) {
    const bool empty = question.label.is_null() || question.label.is_string();
    return Error({.id = "data.missing-label",
                  .what = empty ? std::string("the row does not say which choice is right")
                                : fmt::format("the label is of type {}", question.label.type_name()),
                  .where = where,
                  .fix = "give the name, the number from 0, the letter or the text of a choice"});
  }
  const std::string names = question.names.empty() ? "" : fmt::format(" ({})", fmt::join(question.names, ", "));
  return Error({.id = "data.unknown-label",
                .what = fmt::format("the label '{}' is none of the row's {} choices{}", data::clipped(label),
                                    question.choices.size(), names),
                .where = where,
                .fix = fmt::format("give {}, as most rows have it", way.name)});
}

}  // namespace

void settle_answers(ChoiceSet& set, const std::vector<std::string>& where, data::BadRows& bad) {
  const Way& way = chosen_way(set);
  warn_of_others(set, way);
  size_t kept = 0;
  for (size_t i = 0; i < set.rows.size(); ++i) {
    const Answer answer = way.answer(set.rows[i], spelled(set.rows[i].label));
    if (!answer) {
      bad.add(refused(set.rows[i], way, where[i]), where[i]);
      continue;
    }
    set.rows[i].answer = static_cast<int64_t>(*answer);
    if (kept != i) set.rows[kept] = std::move(set.rows[i]);
    ++kept;
  }
  set.rows.resize(kept);
}

}  // namespace deltaw::multiple_choice
