// docs/configurations.md, from the tables.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "core/foreign/table.h"

namespace deltaw::foreign {
namespace {

constexpr const char* kIntroduction = R"(# Configurations of other tools

Written by `deltaw help --markdown configurations`.

`deltaw train FILE`, and every other verb that reads a file of keys, takes a configuration of the tools below. The tool is
recognised by keys that a file of deltaw's cannot hold, whatever the file is called, and standard error says so: what it
was taken for, which values became others, and which keys were passed over.

- What the tool does where a key is missing is done here, where that decides what is trained: rank, alpha, layers, length,
  batch, rate and schedule. Checkpoints, evaluation and logs are deltaw's unless keys ask for them.
- A key that is not known, and one whose wish cannot be fulfilled, is an error. All of them are told at once, each with what
  to do. Exit code 2; nothing was started.
- Keys on the command line win over the file, and settle its errors: `--train_file rows.jsonl` in place of a data set of a
  hub.
- Keys of deltaw in such a file are taken as they are and win over the translated ones: `method: randlora` in a
  configuration that says `finetuning_type: lora`.
- Paths are read from the folder that the program runs in. A data set of the hub is fetched before: `deltaw download NAME
  --repo_type dataset`.
- `run.json` in the output folder holds the run in deltaw's keys, and is a file of keys itself.
)";

std::string quoted(const std::vector<std::string>& names) {
  return fmt::format("`{}`", fmt::join(names, "`, `"));
}

/// `a, b` as `a`, `b`.
std::string quoted_list(const std::string& names) {
  std::string text = "`";
  for (const char c : names) text += c == ',' ? std::string("`,") : c == ' ' ? std::string(" `") : std::string(1, c);
  return text + "`";
}

std::string sentence(std::string text) {
  if (text.empty()) return text;
  if (text[0] >= 'a' && text[0] <= 'z' && (text[1] < 'A' || text[1] > 'Z') && text.find('_') > text.find(' ')) {
    text[0] = static_cast<char>(text[0] - 'a' + 'A');
  }
  if (text.back() != '.') text += ".";
  return text;
}

std::string taken(const Tool& tool) {
  std::string text = "\n| its key | here | |\n|---|---|---|\n";
  std::vector<std::string> unchanged;
  for (const Key& key : tool.keys) {
    if (key.fate != Fate::taken && key.fate != Fate::computed) continue;
    const std::vector<std::string>& names = key.names;
    if (key.fate == Fate::taken && key.here.empty() && key.note.empty()) {
      unchanged.insert(unchanged.end(), names.begin(), names.end());
      continue;
    }
    const std::string here = !key.here.empty() ? quoted_list(key.here) : key.fate == Fate::taken ? quoted(names) : "";
    text += fmt::format("| {} | {} | {} |\n", quoted(names), here, key.note);
  }
  if (!unchanged.empty()) text += fmt::format("\nUnder the same name: {}.\n", quoted(unchanged));
  return text;
}

std::string not_taken(const Tool& tool) {
  std::string text;
  for (const Key& key : tool.keys) {
    if (key.fate != Fate::refused) continue;
    const size_t bar = key.note.find('|');
    const std::string fix = bar == std::string::npos ? "remove it" : key.note.substr(bar + 1);
    text += fmt::format("| {} | {} | {} |\n", quoted(key.names), sentence(key.note.substr(0, bar)), sentence(fix));
  }
  if (!text.empty()) text = "\nRefused, unless off:\n\n| its key | why | instead |\n|---|---|---|\n" + text;
  std::vector<std::pair<std::string, std::vector<std::string>>> reasons;
  for (const Key& key : tool.keys) {
    if (key.fate != Fate::passed_over) continue;
    const auto same = [&](const auto& reason) { return reason.first == key.note; };
    auto found = std::find_if(reasons.begin(), reasons.end(), same);
    if (found == reasons.end()) found = reasons.insert(reasons.end(), {key.note, {}});
    found->second.insert(found->second.end(), key.names.begin(), key.names.end());
  }
  std::string idle;
  for (const auto& [reason, names] : reasons) idle += fmt::format("- {}: {}\n", reason, quoted(names));
  if (!idle.empty()) text += "\nPassed over, whatever they say:\n\n" + idle;
  return text;
}

}  // namespace

std::string markdown() {
  std::string text = kIntroduction;
  std::string refused;
  for (const Tool& tool : tools()) {
    if (!tool.refusal.empty()) {
      const size_t bar = tool.refusal.find('|');
      refused += fmt::format("- {} ({}): {}; {}. Known by {}.\n", tool.name, tool.file, tool.refusal.substr(0, bar),
                             tool.refusal.substr(bar + 1), quoted(tool.marks));
      continue;
    }
    text += fmt::format("\n## {}\n\n{}; keys as of {}. Known by {}{}.\n", tool.name, sentence(tool.file), tool.version,
                        quoted(tool.marks), tool.marked_by ? ", and by data sets that are no files" : "");
    text.erase(text.find(".; keys", text.rfind("\n## ")), 1);
    if (tool.take_other) {
      text +=
          "\nIts keys are deltaw's. One that deltaw's method does not have is passed over where it asks for nothing, "
          "and refused else.\n";
    }
    text += taken(tool) + not_taken(tool);
  }
  return text + "\n## Recognised, and refused as a whole\n\n" + refused;
}

}  // namespace deltaw::foreign
