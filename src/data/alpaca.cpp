#include "data/alpaca.h"

#include <fmt/format.h>

#include "core/json.h"
#include "data/row_formats.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

std::string preamble(bool with_input) {
  return with_input ? "Below is an instruction that describes a task, paired with an input that provides further "
                      "context. Write a response that appropriately completes the request.\n\n"
                    : "Below is an instruction that describes a task. Write a response that appropriately completes "
                      "the request.\n\n";
}

std::string turn(const std::string& instruction, const std::string& input) {
  if (input.empty()) return fmt::format("### Instruction:\n{}\n\n### Response:\n", instruction);
  return fmt::format("### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:\n", instruction, input);
}

[[noreturn]] void refuse_history(const std::string& where) {
  throw Error{{.id = "data.not-text",
               .what = "\"history\" is no list of pairs of texts",
               .where = where,
               .fix = R"(Write it as [["an instruction", "its answer"], ...].)"}};
}

}  // namespace

AlpacaContext alpaca_context(const Json& row, const std::string& where) {
  AlpacaContext context{.system = optional_text(row, "system", where), .history = {}};
  Json list = row.value("history", Json());
  if (list.is_string()) {
    const std::string text = optional_text(row, "history", where);
    list = text.empty() ? Json() : parse_json(text, where + ", history");
  }
  if (list.is_null()) return context;
  if (!list.is_array()) refuse_history(where);
  for (const Json& pair : list) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) refuse_history(where);
    context.history.emplace_back(pair[0].get<std::string>(), pair[1].get<std::string>());
  }
  return context;
}

TextExample alpaca_example(const AlpacaContext& context, const std::string& instruction, const std::string& input) {
  TextExample example{.text = context.system.empty() ? preamble(!input.empty()) : context.system + "\n\n"};
  for (const auto& [asked, said] : context.history) {
    example.text += turn(asked, "");
    example.trained.emplace_back(example.text.size(), example.text.size() + said.size());
    example.text += said;
    example.ends.push_back(example.text.size());
    example.text += "\n\n";
  }
  example.text += turn(instruction, input);
  return example;
}

Json alpaca_messages(const AlpacaContext& context, const std::string& instruction, const std::string& input) {
  Json messages = Json::array();
  const auto add = [&](const char* role, const std::string& text) {
    messages.push_back({{"role", role}, {"content", text}});
  };
  if (!context.system.empty()) add("system", context.system);
  for (const auto& [asked, said] : context.history) {
    add("user", asked);
    add("assistant", said);
  }
  add("user", input.empty() ? instruction : instruction + "\n" + input);
  return messages;
}

}  // namespace deltaw::data

namespace deltaw {

std::string alpaca_prompt(const std::string& instruction, const std::string& input) {
  return data::alpaca_example({}, instruction, input).text;
}

}  // namespace deltaw
