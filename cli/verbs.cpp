#include "verbs.h"

#include <fmt/format.h>

#include <string>

#include "deltaw/error.h"
#include "deltaw/options.h"
#include "deltaw/version.h"
#include "output.h"

namespace deltaw::cli {
namespace {

std::string overview() {
  std::string text =
      "deltaw fine-tunes Hugging Face checkpoints by training a small update dW.\n\n"
      "Usage: deltaw VERB [CONFIG.yaml] [--key value ...]\n\nVerbs:\n";
  for (const Verb& verb : verbs()) text += fmt::format("  {:<10} {}\n", verb.name, verb.summary);
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

[[noreturn]] void refuse_verb(const std::string& name) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) names.push_back(verb.name);
  throw Error({.id = "usage.unknown-verb",
               .what = fmt::format("'{}' is no verb of deltaw", name),
               .where = "command line",
               .fix = suggest_names(name, names)});
}

}  // namespace

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> table = {
      {"train", "fine-tunes a checkpoint; writes adapter, checkpoints, results", train},
      {"eval", "metrics of a model, with or without an adapter", eval},
      {"predict", "one JSON line per input row", predict},
      {"generate", "text from a language model; --chat talks to it", generate},
      {"merge", "base + adapter as one checkpoint, checked", merge},
      {"export", "any adapter as a plain LoRA, checked", export_adapter},
      {"tokenize", "one JSON line of tokens per input line", tokenize},
      {"info", "what is in a checkpoint, adapter or run folder", info},
      {"methods", "the table of methods, or the options of one", methods},
      {"validate", "everything train does before its first step", validate},
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
  for (const Verb& verb : verbs()) {
    if (name == verb.name) return verb.run(rest);
  }
  refuse_verb(name);
}

}  // namespace deltaw::cli
