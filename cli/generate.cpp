#include "deltaw/generate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "core/text_file.h"
#include "counter.h"
#include "deltaw/chat.h"
#include "deltaw/error.h"
#include "deltaw/text_data.h"
#include "generate_images.h"
#include "generate_input.h"
#include "loaded_model.h"
#include "output.h"
#include "run/claim.h"
#include "signals.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/text_files.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

struct Keys {
  std::vector<std::string> prompt;
  std::string input_file;
  std::string output_file;
  std::string encoding = "utf-8";
  bool chat = false;
  std::string system;

  void fields(FieldVisitor& f) {
    f.field("prompt", prompt,
            "A text to go on from, as it is: no chat template. May be repeated; '-', or none at all, reads standard "
            "input. For a model of text to image: what a picture shows.");
    f.field(
        "input_file", input_file,
        "Prompts: one on each line of a text file, blank ones too, or a .jsonl, .json, .csv, .tsv, .parquet or .arrow "
        "file with rows of {\"prompt\": ...}, taken as it is, or {\"messages\": [...]}, put through the chat "
        "template.");
    f.field("output_file", output_file, "Where the JSON lines go; default: standard output.");
    f.field("encoding", encoding, kEncodingHelp);
    f.field("chat", chat,
            "A conversation through the chat template: each line of standard input is a turn, /reset forgets what was "
            "said, /exit ends. Ctrl-C ends an answer.");
    f.field("system", system, "A system message before conversations that have none.");
  }
};

struct BatchKey {
  int64_t per_device_eval_batch_size = GenerateOptions().batch_size;

  void fields(FieldVisitor& f) {
    f.field("per_device_eval_batch_size", per_device_eval_batch_size, "Prompts of one forward pass.", at_least(1));
  }
};

const Usage kUsageText = {
    .verb = "generate",
    .what =
        "Lets a causal language model go on from a text, or talks to it; or makes pictures with a denoiser, of prompts "
        "where it reads them. One prompt: the text as it comes. Several, "
        "or an output_file: one JSON line each, {\"row\": ..., \"prompt\": ..., \"text\": ..., \"tokens\": [ids], "
        "\"finish_reason\": \"stop\" or \"length\"}, and the row's \"id\" where it has one. How it samples follows the "
        "checkpoint's generation_config.json "
        "where no key says otherwise. Pictures are PNG files in output_dir, with all of them side by side in "
        "samples.png; "
        "a JSON line each says where, {\"row\": ..., \"file\": ..., \"class_label\" or \"prompt\": ...}.",
    .example =
        "  deltaw generate --model_name_or_path MODEL --prompt \"Once upon a time\"\n"
        "  deltaw generate --adapter_name_or_path out --chat\n"
        "  deltaw generate --adapter_name_or_path out --input_file questions.jsonl \\\n"
        "    --output_file answers.jsonl --temperature 0.7 --top_p 0.9\n"
        "  deltaw generate --model_name_or_path UNET --num_images 16 --scheduler ddim \\\n"
        "    --output_dir pictures\n"
        "  deltaw generate --adapter_name_or_path out --prompt \"a photo of sks dog\" \\\n"
        "    --negative_prompt blurry --num_images 4 --output_dir pictures",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
    .needs = {kNeedsModel},
};

std::vector<Section> text_sections() {
  Section texts = section_of<TextOptions>("");
  std::erase_if(texts.keys, [](const FieldInfo& key) { return key.name != "chat_template"; });
  Section own = section_of<Keys>("Input and output of texts");
  own.append(std::move(texts));
  return {std::move(own), section_of<GenerateOptions>("Texts"), section_of<BatchKey>("Batches of texts")};
}

std::vector<Section> sections() {
  Section model = section_of<BaseKeys>("Model");
  model.append(section_of<AdapterKeys>(""));
  model.append(section_of<ModelOptions>(""));
  std::erase_if(model.keys, [](const FieldInfo& key) { return key.name == "ignore_mismatched_sizes"; });  // of a head
  std::vector<Section> all = {std::move(model)};
  for (std::vector<Section>& some : std::vector{text_sections(), image_sections()}) {
    for (Section& section : some) all.push_back(std::move(section));
  }
  all.push_back(section_of<LogKeys>("Log"));
  return all;
}

/// Throws where the command line gives a key of models that make something else.
void refuse_keys_of(const std::vector<Section>& other, const std::vector<Section>& own, const Invocation& invocation,
                    const std::string& what) {
  const auto has = [](const std::vector<Section>& sections, const std::string& name) {
    return std::any_of(sections.begin(), sections.end(), [&](const Section& section) {
      return std::any_of(section.keys.begin(), section.keys.end(),
                         [&](const FieldInfo& key) { return key.name == name; });
    });
  };
  for (const auto& [key, value] : invocation.flags.items()) {
    if (!has(other, key) || has(own, key) || key == "seed" || key == "prompt") continue;  // which both have
    throw Error({.id = "config.conflict",
                 .what = "the model " + what + ", and '" + key + "' means nothing to it",
                 .where = "command line",
                 .fix = "leave --" + key + " out"});
  }
}

// A list of texts that a file gives as one text is that text, commas and all.
void keep_whole(Json& values, const char* key) {
  if (values.contains(key) && values[key].is_string()) values[key] = Json::array({values[key]});
}

[[noreturn]] void refuse_together(const std::string& what, const std::string& fix) {
  throw Error({.id = "config.conflict", .what = what, .where = "command line", .fix = fix});
}

void check_keys(const Keys& keys, const Invocation& invocation) {
  const int sources = !keys.prompt.empty() + !keys.input_file.empty() + keys.chat;
  if (sources > 1) {
    refuse_together("prompt, input_file and chat exclude each other", "give one of them");
  }
  if (keys.chat && !keys.output_file.empty()) {
    refuse_together("a chat writes its answers to standard output", "leave output_file out and redirect");
  }
  if (!keys.system.empty() && !keys.chat && keys.input_file.empty()) {
    refuse_together("a prompt is taken as it is and has no system message",
                    "give --chat, or an input_file with \"messages\"");
  }
  if (invocation.flags.contains("chat_template") && !keys.chat && keys.input_file.empty()) {
    refuse_together("a prompt is taken as it is: no chat_template", "give --chat, or an input_file with \"messages\"");
  }
  if (std::count(keys.prompt.begin(), keys.prompt.end(), "-") > 1) {
    refuse_together("standard input can be read once", "give --prompt - once");
  }
}

/// Everything that generates.
struct Session {
  Keys keys;
  TextOptions text;
  std::unique_ptr<Model> model;
  std::optional<Adapter> adapter;
  std::optional<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  fs::path tokenizer_folder;
  std::unique_ptr<TextGenerator> generator;

  // Answers, and those that were cut: at max_new_tokens, and before, where the model reads no further.
  int64_t answers = 0, cut = 0, cut_by_model = 0;
};

void count(Session& session, const Generation& said) {
  ++session.answers;
  if (said.finish_reason != "length") return;
  const bool all = static_cast<int64_t>(said.tokens.size()) >= session.generator->options().max_new_tokens;
  ++(all ? session.cut : session.cut_by_model);
}

// Read when it is asked for: a plain prompt needs none.
ChatTemplate& template_of(Session& session) {
  if (!session.chat_template) {
    session.chat_template =
        tasks::find_chat_template(session.text, {session.tokenizer_folder, session.model->folder()});
  }
  if (session.chat_template) return *session.chat_template;
  throw Error({.id = "config.no-chat-template",
               .what = "the model has no chat template: it was not trained on conversations",
               .where = session.model->folder().string(),
               .fix = "give a text with --prompt, or its template with --chat_template FILE"});
}

std::string rendered(Session& session, Json messages) {
  const bool has_system = !messages.empty() && messages[0].is_object() && messages[0].value("role", Json()) == "system";
  if (!session.keys.system.empty() && !has_system) {
    messages.insert(messages.begin(), Json{{"role", "system"}, {"content", session.keys.system}});
  }
  return template_of(session).render(messages, /*add_generation_prompt=*/true).text;
}

void check_output(const Session& session, const BaseKeys& base, const AdapterKeys& adapter,
                  const Invocation& invocation) {
  run::Inputs inputs = run::inputs_of(base.model_name_or_path, adapters_of(adapter), {},
                                      {{"chat_template", session.text.chat_template}}, invocation.file_name);
  inputs.push_back({run::Input::Kind::file, "input_file", session.keys.input_file});
  run::refuse_input("output_file", session.keys.output_file, inputs);
}

void load(Session& session, const Invocation& invocation) {
  AdapterKeys adapter;
  read_into(adapter, invocation);
  BaseKeys base;
  ModelOptions options;
  GenerateOptions checked;  // before anything is loaded for long
  BatchKey batch;
  read_into(base, run::inherited(adapter.adapter_name_or_path));
  read_into(base, invocation);
  read_into(options, invocation);
  tell(run::inherit_quantisation(options, adapter.adapter_name_or_path, invocation));
  read_into(checked, invocation);
  read_into(batch, invocation);
  require_base(base, adapter.adapter_name_or_path, kUsageText);
  check_output(session, base, adapter, invocation);

  if (task_type_of(base.model_name_or_path, options.task_type) == "CAUSAL_LM") {
    for (const std::string& folder : adapters_of(adapter)) {
      options = with_adapter_vocabulary(std::move(options), folder);
    }
  }
  session.model = load_model(base.model_name_or_path, options);
  check_causal(*session.model);
  if (!adapter.adapter_name_or_path.empty()) session.adapter = load_adapters(*session.model, adapter);
  session.tokenizer_folder = tasks::tokenizer_folder(session.model->folder(), adapter.adapter_name_or_path);
  session.tokenizer = Tokenizer::from_folder(session.tokenizer_folder, session.model->folder());
  GenerateOptions generation = default_generation(*session.model, *session.tokenizer, taught_ends(adapter));
  read_into(generation, invocation);
  generation.batch_size = batch.per_device_eval_batch_size;
  session.generator = std::make_unique<TextGenerator>(*session.model, session.adapter ? &*session.adapter : nullptr,
                                                      *session.tokenizer, std::move(generation));
}

// Prints an answer as it comes, without the blanks before it; returns what was printed.
class Printer {
 public:
  explicit Printer(bool trims) : trims_(trims) {}
  void put(std::string_view text) {
    if (trims_) text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    if (text.empty()) return;
    trims_ = false;
    print(text);
    text_ += text;
  }
  std::string end_line() {
    if (!text_.ends_with('\n')) print("\n");
    return std::move(text_);
  }

 private:
  bool trims_;
  std::string text_;
};

void stream_one(Session& session, const std::string& prompt) {
  Printer printer(/*trims=*/false);
  const auto said =
      session.generator->run({prompt_ids(*session.tokenizer, prompt)}, [&](int64_t, std::string_view text) {
        printer.put(text);
        return true;
      });
  printer.end_line();
  count(session, said[0]);
}

void write_rows(Session& session, std::vector<Asked> asked) {
  std::vector<std::vector<int64_t>> prompts;
  for (Asked& row : asked) {
    const bool raw = row.messages.is_null();
    if (!raw) row.text = rendered(session, row.messages);
    prompts.push_back(prompt_ids(*session.tokenizer, row.text, /*add_special_tokens=*/raw));
  }
  Counter counter("texts");
  const std::vector<Generation> said = session.generator->run(prompts, {}, counter.progress());
  LineWriter output(session.keys.output_file);
  for (size_t i = 0; i < asked.size(); ++i) {
    Json line = row_line(static_cast<int64_t>(i) + 1, asked[i].id);
    line["prompt"] = asked[i].text;
    line["text"] = said[i].text;
    line["tokens"] = said[i].tokens;
    line["finish_reason"] = said[i].finish_reason;
    output.write(to_line(line));
    count(session, said[i]);
  }
  output.finish();
}

// Answers the last message and adds the answer. Returns the signal that ended it, or 0.
int answer(Session& session, Json& messages) {
  const std::string text = rendered(session, messages);
  const std::vector<int64_t> ids = prompt_ids(*session.tokenizer, text, /*add_special_tokens=*/false);
  const SignalGuard guard;
  Printer printer(/*trims=*/true);
  const auto said = session.generator->run({ids}, [&](int64_t, std::string_view piece) {
    printer.put(piece);
    return guard.caught() == 0;
  });
  count(session, said[0]);
  messages.push_back({{"role", "assistant"}, {"content", printer.end_line()}});
  return guard.caught();
}

int chat(Session& session) {
  template_of(session);  // a model without one is refused before the first turn
  const bool terminal = ::isatty(STDIN_FILENO) == 1;
  if (terminal) note("/reset forgets the conversation, /exit ends it.\n");
  Json messages = Json::array();
  std::string line;
  for (int64_t number = 1;; ++number) {
    if (terminal) note("> ");
    if (!std::getline(std::cin, line)) break;
    line = to_utf8(std::move(line), session.keys.encoding, "standard input", number);
    if (line.ends_with('\r')) line.pop_back();
    if (line == "/exit") break;
    if (line == "/reset") messages = Json::array();
    if (line == "/reset" || line.find_first_not_of(" \t") == std::string::npos) continue;
    messages.push_back({{"role", "user"}, {"content", line}});
    try {
      const int signal = answer(session, messages);
      if (signal != 0 && (signal != SIGINT || !terminal)) return 128 + signal;
    } catch (const Error& error) {
      if (!terminal || error.id() != "data.long-prompt") throw;
      messages.erase(messages.size() - 1);
      note("The conversation has become too long for the model: /reset begins a new one.\n");
    }
  }
  return kDone;
}

void note_speed(const GenerationSpeed& speed) {
  const auto rate = [](int64_t tokens, double seconds) { return seconds > 0 ? tokens / seconds : 0.0; };
  note(fmt::format("read {} tokens, {:.1f} a second; said {}, {:.1f} a second\n", speed.prompt_tokens,
                   rate(speed.prompt_tokens, speed.prompt_seconds), speed.new_tokens,
                   rate(speed.new_tokens - speed.rows, speed.new_seconds)));
}

/// Prompts are never cut, but refused.
void note_cut(const Session& session) {
  if (session.cut > 0) {
    note(fmt::format("{} of {} texts were cut at max_new_tokens {}\n", session.cut, session.answers,
                     session.generator->options().max_new_tokens));
  }
  if (session.cut_by_model > 0) {
    warning(fmt::format("{} of {} texts were cut before max_new_tokens {}: the model reads {} tokens in all",
                        session.cut_by_model, session.answers, session.generator->options().max_new_tokens,
                        tasks::longest_input(*session.model, session.adapter ? &*session.adapter : nullptr)));
  }
}

std::vector<Asked> asked_of(const Keys& keys) {
  if (!keys.input_file.empty()) return read_asked(keys.input_file, keys.encoding);
  std::vector<Asked> asked;
  for (const std::string& prompt : keys.prompt) {
    asked.push_back(
        {.text = prompt == "-" ? read_standard_input(keys.encoding) : prompt, .messages = nullptr, .where = "prompt"});
  }
  if (asked.empty() && ::isatty(STDIN_FILENO) == 0) {
    asked.push_back({.text = read_standard_input(keys.encoding), .messages = nullptr, .where = "standard input"});
  }
  if (asked.empty()) {
    refuse_missing(kUsageText, {.name = "prompt, input_file or chat",
                                .any_of = {},
                                .fix = "add --prompt \"Once upon a time\", --input_file FILE or --chat"});
  }
  return asked;
}

}  // namespace

int generate(const Args& args) {
  Args rest = args;
  Json repeated = Json::object();
  for (const char* key : {"prompt", "stop"}) {
    const std::vector<std::string> values = take_repeated(rest, key);
    if (!values.empty()) repeated[key] = values;
  }
  Invocation invocation = parse_args(kUsageText, sections(), rest, run_keys());
  if (invocation.help) {
    print_help(kUsageText, sections());
    return kDone;
  }
  keep_whole(invocation.file, "prompt");
  keep_whole(invocation.file, "stop");
  invocation.flags.update(repeated);

  if (makes_images(invocation)) {
    refuse_keys_of(text_sections(), image_sections(), invocation, "makes pictures");
    return generate_images(kUsageText, invocation);
  }
  refuse_keys_of(image_sections(), text_sections(), invocation, "makes texts");
  Session session;
  read_into(session.keys, invocation);
  read_into(session.text, invocation);
  check_keys(session.keys, invocation);
  const bool streams = session.keys.input_file.empty() && session.keys.output_file.empty();
  std::vector<Asked> asked;
  if (!session.keys.chat) asked = asked_of(session.keys);
  load(session, invocation);
  int code = kDone;
  if (session.keys.chat) {
    code = chat(session);
  } else if (streams && asked.size() == 1) {
    stream_one(session, asked[0].text);
  } else {
    write_rows(session, std::move(asked));
  }
  note_cut(session);
  note_speed(session.generator->speed());
  return code;
}

}  // namespace deltaw::cli
