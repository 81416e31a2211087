#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/foreign/table.h"
#include "core/foreign/tools.h"

namespace deltaw::foreign {
namespace {

/// The keys of the file that no file of deltaw's could hold.
std::vector<std::string> marks_in(const Json& values, const Tool& tool, const Here& here) {
  std::vector<std::string> marks;
  for (const std::string& mark : tool.marks) {
    if (values.contains(mark) && !here.keys.contains(mark)) marks.push_back(mark);
  }
  if (tool.marked_by) {
    for (const std::string& mark : tool.marked_by(values)) {
      if (std::find(marks.begin(), marks.end(), mark) == marks.end()) marks.push_back(mark);
    }
  }
  return marks;
}

/// "a, b, c and more"
std::string some(const std::vector<std::string>& marks) {
  constexpr size_t kMost = 3;
  const std::vector<std::string> first(marks.begin(),
                                       marks.begin() + static_cast<std::ptrdiff_t>(std::min(marks.size(), kMost)));
  return fmt::format("{}{}", fmt::join(first, ", "), marks.size() > kMost ? " and more" : "");
}

size_t known_in(const Json& values, const Tool& tool) {
  size_t count = 0;
  for (const auto& [name, value] : values.items()) count += find_key(tool, name) != nullptr ? 1 : 0;
  return count;
}

}  // namespace

const std::vector<Tool>& tools() {
  static const std::vector<Tool> table = {llama_factory(), axolotl(),          trl(),        mlx_lm(),
                                          peft(),          llama_factory_v1(), accelerate(), deepspeed()};
  return table;
}

std::optional<Translation> translate(const Json& values, const Here& here, const std::string& where) {
  const Tool* best = nullptr;
  Translation result;
  size_t most = 0;
  for (const Tool& tool : tools()) {
    std::vector<std::string> marks = marks_in(values, tool, here);
    if (marks.empty()) continue;
    const size_t known = known_in(values, tool) + marks.size();
    if (known <= most) continue;
    best = &tool;
    most = known;
    result.marks = std::move(marks);
  }
  if (!best) return std::nullopt;
  result.tool = best->name;
  if (best->refusal.empty()) {
    Reading(values, here, *best, where, result).take_all();
    return result;
  }
  const size_t bar = best->refusal.find('|');
  result.problems.push_back(Error({.id = "config.not-implemented",
                                   .what = fmt::format("this is a configuration of {} ({}): {}", best->name,
                                                       some(result.marks), best->refusal.substr(0, bar)),
                                   .where = where,
                                   .fix = best->refusal.substr(bar + 1)}));
  return result;
}

std::string Translation::report(const std::string& where) const {
  std::string text = fmt::format("{} is a configuration of {}, known by {}\n", where, tool, some(marks));
  if (!own.empty()) text += fmt::format("  keys of deltaw in it, as they are: {}\n", fmt::join(own, ", "));
  if (!became.empty()) text += fmt::format("  what became of it: {}\n", fmt::join(became, "; "));
  if (!passed_over.empty()) text += fmt::format("  passed over: {}\n", fmt::join(passed_over, ", "));
  return text;
}

}  // namespace deltaw::foreign
