#include "verbs.h"

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "core/foreign/configuration.h"
#include "core/text_file.h"
#include "deltaw/error.h"
#include "deltaw/options.h"
#include "deltaw/version.h"
#include "output.h"
#include "overview.h"

namespace deltaw::cli {
namespace {

std::string overview() {
  std::string text =
      "deltaw fine-tunes Hugging Face checkpoints by training a small update dW.\n\n"
      "Usage: deltaw VERB [CONFIG.yaml] [--key value ...]\n\nVerbs:\n";
  for (const Verb& verb : verbs()) text += fmt::format("  {:<10} {}\n", verb.name, verb.summary);
  text += "\nModel families, by model_type in config.json:\n";
  text += families_by_task();
  text +=
      "\nExample:\n"
      "  deltaw train --model_name_or_path MODEL --train_file train.csv \\\n"
      "    --validation_file dev.csv --output_dir out\n\n"
      "`deltaw VERB --help` lists the keys of a verb. Results go to standard output,\n"
      "everything else to standard error.\n"
      "Exit codes: 0 done; 1 failed; 2 usage or configuration, nothing was started;\n"
      "3 a check found a difference; 128+n stopped by signal n, checkpoint written.\n";
  return text;
}

/// What other programs call a verb.
struct OtherVerb {
  const char* name;
  const char* here;
};
constexpr OtherVerb kOtherVerbs[] = {
    {"chat", "generate --chat"}, {"sft", "train"},     {"finetune", "train"},  {"fine-tune", "train"},
    {"lora", "train"},           {"fit", "train"},     {"test", "eval"},       {"evaluate", "eval"},
    {"infer", "generate"},       {"fuse", "merge"},    {"benchmark", "bench"}, {"env", "--version"},
    {"version", "--version"},    {"pull", "download"},
};

[[noreturn]] void refuse_verb(const std::string& name) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) names.push_back(verb.name);
  std::string fix = suggest_names(name, names);
  for (const OtherVerb& other : kOtherVerbs) {
    if (name == other.name) fix = fmt::format("`deltaw {}`", other.here);
  }
  throw Error({.id = "usage.unknown-verb",
               .what = fmt::format("'{}' is no verb of deltaw", name),
               .where = "command line",
               .fix = fix});
}

/// Values are text in what is written and shown; the name of a file that is there may be any bytes.
void check_words(const Args& words) {
  for (size_t i = 0; i < words.size(); ++i) {
    const size_t equals = words[i].starts_with("--") ? words[i].find('=') : std::string::npos;
    const std::string value = equals == std::string::npos ? words[i] : words[i].substr(equals + 1);
    std::error_code ignored;
    if (is_utf8(words[i]) || std::filesystem::exists(value, ignored)) continue;
    throw Error({.id = "usage.encoding",
                 .what = fmt::format("'{}' is no UTF-8", value),
                 .where = i > 0 && words[i - 1].starts_with("--") ? "command line, " + words[i - 1] : "command line",
                 .fix = "give it in UTF-8, or write it into a file of keys"});
  }
}

}  // namespace

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> table = {
      {"train", "fine-tunes a checkpoint; writes adapter, checkpoints, results", train},
      {"eval", "metrics of a model, with or without an adapter", eval},
      {"predict", "one JSON line per input row", predict},
      {"generate", "text from a language model (--chat talks), or pictures", generate},
      {"merge", "base + adapter as one checkpoint, checked", merge},
      {"export", "any adapter as a plain LoRA, checked", export_adapter},
      {"convert", "a model, of a GGUF file for one, as a checkpoint folder", convert},
      {"init", "a model to train from scratch, of its config.json", init},
      {"tokenize", "one JSON line of tokens per input line", tokenize},
      {"download", "a model, adapter or data set of the Hugging Face hub", download},
      {"info", "what is in a checkpoint, adapter or run folder", info},
      {"methods", "the table of methods, or the options of one", methods},
      {"validate", "everything train does before its first step", validate},
      {"compare", "settings x seeds, trained in turn, as a table", compare},
      {"landscape", "the loss between three adapters or two, as a map", landscape},
      {"bench", "training steps of a model, timed, method against method", bench},
      {"help", "this overview; --markdown prints the help of every verb", help},
  };
  return table;
}

int help(const Args& args) {
  if (!args.empty() && args[0] != "--markdown" && args[0] != "--help") return dispatch({args[0], "--help"});
  if (args.empty() || args[0] != "--markdown") {
    print(overview());
    return kDone;
  }
  if (args.size() > 1 && args[1] == "configurations") {
    print(foreign::markdown());
    return kDone;
  }
  print("# Commands\n\nWritten by `deltaw help --markdown`.\n\n```text\n" + overview() + "```\n");
  for (const Verb& verb : verbs()) {
    if (verb.run == help) continue;
    print(fmt::format("\n## {}\n\n```text\n", verb.name));
    verb.run({"--help"});
    print("```\n");
  }
  return kDone;
}

int dispatch(const Args& args) {
  if (args.empty()) {
    note(overview());
    return kUsage;
  }
  const std::string& name = args[0];
  if (name == "--version" || name == "version") {
    print(std::string("deltaw ") + DELTAW_VERSION + "\n");
    return kDone;
  }
  const Args rest(args.begin() + 1, args.end());
  if (name == "--help" || name == "-h") return help({});
  check_words(rest);
  for (const Verb& verb : verbs()) {
    if (name == verb.name) return verb.run(rest);
  }
  refuse_verb(name);
}

}  // namespace deltaw::cli
