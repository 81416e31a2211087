#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "core/printable.h"
#include "core/progress.h"
#include "deltaw/error.h"
#include "io/hub/download.h"
#include "options.h"
#include "output.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;
namespace hub = io::hub;

struct Keys {
  std::string repo_type = "model";
  std::string revision = "main";
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  std::string local_dir;
  bool dry_run = false;

  void fields(FieldVisitor& f) {
    f.field("repo_type", repo_type, "What the repository holds.", one_of({"model", "dataset"}));
    f.field("revision", revision, "Branch, tag or commit.");
    f.field("include", include,
            "Patterns of the files to download, such as *Q4_K_M.gguf, in place of what deltaw reads: configuration, "
            "tokenizer, chat templates and weights, safetensors first; of a pipeline of diffusers those of unet, vae, "
            "text_encoder, tokenizer and scheduler. Programs are never downloaded.");
    f.field("exclude", exclude, "Patterns of files to leave out.");
    f.field("local_dir", local_dir, "Folder for the files themselves; default: the cache that transformers uses.");
    f.field("dry_run", dry_run, "Prints what would be downloaded, and downloads nothing.");
  }
};

const Usage kUsageText = {
    .verb = "download",
    .what =
        "Downloads a model, an adapter or a data set from the Hugging Face hub into the cache that transformers uses; "
        "what is cut off goes on with the same command. Its folder, or its file for one GGUF model, stands on standard "
        "output. HF_TOKEN gives a token, HF_ENDPOINT names a mirror.",
    .example =
        "  deltaw download HuggingFaceTB/SmolLM2-135M\n"
        "  deltaw download bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M",
    .positional = "NAME",
    .positional_help = "As the hub writes it, organisation/name; with :Q4_K_M behind it for one of several GGUF files.",
};

/// What goes on, on the last line of a terminal, or a line for each file elsewhere.
class Display {
 public:
  explicit Display(const hub::Plan& plan) : plan_(plan) {
    for (const hub::Plan::Step& step : plan.steps) left_ += step.is_here ? 0 : 1;
    files_ = left_;
  }

  void show(const hub::Plan::Step& step, int64_t done) {
    const bool is_new = current_ != &step;
    if (is_new) begin(step, done);
    came_ += done > last_ ? done - last_ : 0;
    last_ = done;
    line_.show(status(step, done));
    if (done == step.file.size) end(step);
  }

  void tell(const std::string& text) {
    line_.clear();
    note(text + "\n");
  }

 private:
  static double number(int64_t count) { return static_cast<double>(count); }

  void begin(const hub::Plan::Step& step, int64_t done) {
    current_ = &step;
    last_ = done < step.file.size ? done : step.begun;  // the first call may come after the first bytes
  }

  std::string status(const hub::Plan::Step& step, int64_t done) const {
    const double seconds = seconds_since(start_), rate = seconds > 0 ? number(came_) / seconds : 0;
    std::string text = fmt::format("{} of {}  {}  {} of {}", files_ - left_ + 1, files_, step.file.path,
                                   format_bytes(number(done)), format_bytes(number(step.file.size)));
    const int64_t rest = plan_.bytes_to_fetch() - came_;
    if (rate > 0 && seconds > 1) {
      text += fmt::format("  {}/s  {} left", format_bytes(rate), format_duration(number(rest > 0 ? rest : 0) / rate));
    }
    return text;
  }

  void end(const hub::Plan::Step& step) {
    --left_;
    tell(fmt::format("{}  {}", step.file.path, format_bytes(number(step.file.size))));
  }

  const hub::Plan& plan_;
  StatusLine line_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const hub::Plan::Step* current_ = nullptr;
  int64_t files_ = 0, left_ = 0, came_ = 0, last_ = 0;
};

hub::RepoName name_of(const Invocation& invocation, const Keys& keys) {
  if (invocation.positional.empty()) {
    throw Error({.id = "usage.missing-name",
                 .what = "`deltaw download` needs a name",
                 .where = "command line",
                 .fix = "name a repository of the hub: deltaw download organisation/name"});
  }
  hub::RepoName name = hub::parse_repo_name(invocation.positional);
  if (keys.repo_type == "dataset") name.type = hub::RepoType::dataset;
  if (invocation.has("revision")) name.revision = keys.revision;
  if (!name.quantisation.empty() && !keys.include.empty()) {
    throw Error({.id = "config.conflict",
                 .what = "':" + name.quantisation + "' and include both say which files are meant",
                 .where = "command line",
                 .fix = "leave one of them out"});
  }
  return name;
}

std::string plan_text(const hub::Plan& plan) {
  std::vector<std::vector<std::string>> rows = {{"FILE", "SIZE", "STATE"}};
  for (const hub::Plan::Step& step : plan.steps) {
    const std::string begun = step.begun > 0 ? format_bytes(static_cast<double>(step.begun)) + " are here" : "to fetch";
    rows.push_back({step.file.path, format_bytes(static_cast<double>(step.file.size)), step.is_here ? "here" : begun});
  }
  return fmt::format("{} at {}: {} in {} files, {} to fetch, into {}\n\n{}", plan.name.id, plan.commit,
                     format_bytes(static_cast<double>(plan.bytes())), plan.steps.size(),
                     format_bytes(static_cast<double>(plan.bytes_to_fetch())), plan.store.folder().string(),
                     table(rows));
}

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + printable(name);
  return text;
}

/// One GGUF model is named itself: that is what --model_name_or_path takes.
fs::path result_of(const hub::Plan& plan, const fs::path& folder) {
  const std::string& only = plan.steps[0].file.path;
  return plan.steps.size() == 1 && only.ends_with(".gguf") ? folder / only : folder;
}

}  // namespace

int download(const Args& args) {
  const std::vector<Section> sections = {section_of<Keys>("Keys"), section_of<LogKeys>("Log")};
  const Invocation invocation = parse_args(kUsageText, sections, args);
  if (invocation.help) {
    print_help(kUsageText, sections);
    return kDone;
  }
  Keys keys;
  read_into(keys, invocation);
  const hub::RepoName name = name_of(invocation, keys);
  Display* display = nullptr;
  hub::Client client(hub::settings_of_environment(),
                     [&display](const std::string& line) { display ? display->tell(line) : note(line + "\n"); });
  const fs::path local = keys.local_dir.empty() ? fs::path() : fs::absolute(hub::expanded(keys.local_dir));
  const hub::Plan plan = hub::plan_download(client, name, {.include = keys.include, .exclude = keys.exclude}, local);
  if (!plan.unusable.empty()) warning("left out, for no file should have such a name: " + list(plan.unusable));
  if (!plan.code.empty()) warning("left out, for programs are not downloaded: " + list(plan.code));
  if (keys.dry_run) {
    show(plan_text(plan));
    return kDone;
  }
  Display shown(plan);
  display = &shown;
  const fs::path folder =
      hub::carry_out(plan, client, [&shown](const hub::Plan::Step& step, int64_t done) { shown.show(step, done); });
  print(result_of(plan, folder).string() + "\n");
  return kDone;
}

}  // namespace deltaw::cli
