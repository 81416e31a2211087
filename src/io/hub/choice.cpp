#include "io/hub/choice.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "core/ascii.h"
#include "core/printable.h"
#include "deltaw/error.h"
#include "deltaw/options.h"
#include "io/pipeline_parts.h"
#include "io/weights_names.h"

namespace deltaw::io::hub {
namespace {

// Read by deltaw where they are, at the top of a repository or in the folders of a pipeline.
constexpr const char* kBeside[] = {"config.json",
                                   "scheduler_config.json",
                                   "generation_config.json",
                                   "preprocessor_config.json",
                                   "processor_config.json",
                                   "adapter_config.json",
                                   "chat_template.jinja",
                                   "chat_template.json",
                                   "tokenizer.json",
                                   "tokenizer_config.json",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "vocab.json",
                                   "vocab.txt",
                                   "merges.txt",
                                   "tokenizer.model",
                                   "spiece.model",
                                   "spm.model",
                                   "sentencepiece.bpe.model"};

constexpr const char* kAdapter[] = {"adapter_model.safetensors", "adapter_model.bin"};

constexpr const char* kTables[] = {".csv", ".tsv", ".json", ".jsonl", ".txt", ".parquet", ".arrow"};
constexpr const char* kPacked[] = {"", ".gz", ".zst"};

// Nothing that somebody might run is downloaded.
constexpr const char* kCode[] = {".py",  ".pyc", ".pyd", ".ipynb", ".sh",  ".bash", ".zsh", ".bat",    ".cmd",
                                 ".ps1", ".exe", ".dll", ".so",    ".com", ".msi",  ".jar", ".js",     ".mjs",
                                 ".pl",  ".rb",  ".php", ".dylib", ".vbs", ".scr",  ".app", ".desktop"};

constexpr size_t kShown = 12;

std::string base_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

bool is_code(const std::string& path) {
  const std::string base = lower(base_of(path));
  return std::any_of(std::begin(kCode), std::end(kCode), [&](const char* ending) { return base.ends_with(ending); });
}

bool ends_with_word(const std::string& name, const std::string& word) {
  const size_t before = name.size() - word.size();
  return name.ends_with(word) && (before == 0 || std::string("-._").find(name[before - 1]) != std::string::npos);
}

/// Whether it lies in the folder itself, which is empty or ends in a slash.
bool is_in(const std::string& folder, const std::string& path) {
  return path.starts_with(folder) && path.find('/', folder.size()) == path.npos;
}

/// Whether the set that begins behind "[" at `at` holds `symbol`; `at` is moved behind "]". Nothing closes: false.
bool in_set(const std::string& pattern, size_t& at, char symbol, bool& closed) {
  size_t next = at;
  const bool inverse = next < pattern.size() && pattern[next] == '!';
  if (inverse) ++next;
  size_t end = next < pattern.size() ? pattern.find(']', next + 1) : pattern.npos;  // a first "]" is a member
  closed = end != pattern.npos;
  if (!closed) return false;
  bool found = false;
  for (size_t i = next; i < end; ++i) {
    if (i + 2 < end && pattern[i + 1] == '-') {
      found = found || (pattern[i] <= symbol && symbol <= pattern[i + 2]);
      i += 2;
    } else {
      found = found || pattern[i] == symbol;
    }
  }
  at = end + 1;
  return found != inverse;
}

/// Whether one symbol at `at` of the pattern takes `symbol`; `at` is moved behind it.
bool takes(const std::string& pattern, size_t& at, char symbol) {
  const char wanted = pattern[at++];
  if (wanted == '?') return true;
  if (wanted != '[') return wanted == symbol;
  bool closed = false;
  const bool found = in_set(pattern, at, symbol, closed);
  return closed ? found : symbol == '[';
}

bool any_matches(const std::vector<std::string>& patterns, const std::string& path) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return matches(pattern, path); });
}

class Chooser {
 public:
  Chooser(const Listing& listing, const RepoName& name, const Wishes& wishes)
      : listing_(listing), name_(name), wishes_(wishes) {}

  Choice choose() {
    if (!wishes_.include.empty()) {
      take_if([&](const std::string& path) { return any_matches(wishes_.include, path); });
      if (taken_.empty()) fail("no file matches " + list(wishes_.include), some_of_all());
    } else if (!name_.quantisation.empty()) {
      take_quantised();
    } else if (name_.type == RepoType::dataset) {
      take_tables();
    } else {
      take_model();
    }
    return result();
  }

 private:
  [[noreturn]] void fail(const std::string& what, const std::string& fix) const {
    throw Error({.id = "config.hub-choice", .what = what, .where = "repository " + name_.id, .fix = fix});
  }

  static std::string list(const std::vector<std::string>& names) {
    std::string text;
    for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i ? ", " : "") + printable(names[i]);
    if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
    return text.empty() ? "nothing" : text;
  }

  std::string some_of_all() const {
    std::vector<std::string> names;
    for (const File& file : listing_.files) names.push_back(file.path);
    return "it holds " + list(names);
  }

  bool has(const std::string& path) const {
    return std::any_of(listing_.files.begin(), listing_.files.end(),
                       [&](const File& file) { return file.path == path; });
  }

  template <class Test>
  bool take_if(const Test& wanted) {
    const size_t before = taken_.size();
    for (const File& file : listing_.files) {
      if (wanted(file.path)) taken_.insert(file.path);
    }
    return taken_.size() > before;
  }

  bool take(const std::string& path) {
    return take_if([&](const std::string& other) { return other == path; });
  }

  /// One file, or an index and its shards, be they called otherwise: the first kind that is there.
  bool take_weights(const std::string& folder = "") {
    for (const WeightsName& name : weights_names()) {
      if (take(folder + name.file)) return true;
      if (!has(folder + name.index)) continue;
      const auto inside = [&](const std::string& pattern) {
        return [&folder, pattern](const std::string& path) { return is_in(folder, path) && matches(pattern, path); };
      };
      const std::string any = folder + "*" + name.file.substr(name.file.rfind('.'));
      if (!take_if(inside(folder + name.shards)) && !take_if(inside(any))) continue;
      return take(folder + name.index);
    }
    return false;
  }

  void take_beside(const std::string& folder = "") {
    for (const char* file : kBeside) take(folder + file);
  }

  void take_pipeline() {
    for (const std::string part : kPipelineParts) {
      const std::string folder = part + "/";
      if (!take_weights(folder) && part == kPipelineDenoiser) {
        fail("it holds a pipeline of diffusers, and no weights in a folder unet",
             "deltaw reads pipelines with a UNet; choose files yourself with --include PATTERN; " + some_of_all());
      }
      take_beside(folder);
    }
    take(kPipelineFile);
  }

  bool take_adapter() {
    return has("adapter_config.json") &&
           std::any_of(std::begin(kAdapter), std::end(kAdapter), [&](const char* file) { return take(file); });
  }

  void take_model() {
    const bool adapter = take_adapter(), model = take_weights();
    if (!adapter && !model && has(kPipelineFile)) return take_pipeline();
    if (!adapter && !model) return take_only_gguf();
    take_beside();
    // A model of diffusers may have its schedule beside it.
    take("scheduler/scheduler_config.json");
    take_if([](const std::string& path) { return matches("additional_chat_templates/*.jinja", path); });
  }

  void take_only_gguf() {
    const auto models = gguf_models();
    if (models.empty()) {
      fail("it holds no weights that deltaw reads (safetensors, pytorch_model.bin or GGUF)",
           "choose files yourself with --include PATTERN; " + some_of_all());
    }
    if (models.size() > 1) fail_quantisation("it holds several GGUF models", models);
    for (const std::string& part : models.begin()->second) take(part);
  }

  /// GGUF models by their name without ending and number of part, with the files of each.
  std::map<std::string, std::vector<std::string>> gguf_models() const {
    std::map<std::string, std::vector<std::string>> models;
    for (const File& file : listing_.files) {
      std::string stem = file.path;
      const std::string base = lower(base_of(stem));
      // Those of "mmproj" read images for another model; an importance matrix is no model either.
      if (!base.ends_with(".gguf") || base.find("mmproj") != base.npos || base.find("imatrix") != base.npos) continue;
      stem.resize(stem.size() - 5);
      if (matches("*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]", stem)) stem.resize(stem.size() - 15);
      models[stem].push_back(file.path);
    }
    return models;
  }

  void take_quantised() {
    const auto models = gguf_models();
    if (models.empty()) fail("it holds no GGUF file", "leave out ':" + name_.quantisation + "'; " + some_of_all());
    const std::string wanted = lower(name_.quantisation);
    std::map<std::string, std::vector<std::string>> found, below;
    for (const auto& [stem, files] : models) {
      const std::string base = lower(base_of(stem));
      if (ends_with_word(base, wanted) || base + ".gguf" == wanted) found[stem] = files;
      const std::string folder = base.size() < stem.size() ? stem.substr(0, stem.size() - base.size() - 1) : "";
      if (ends_with_word(lower(base_of(folder)), wanted)) below[stem] = files;
    }
    if (found.empty()) found = std::move(below);  // files of a folder of that name
    if (found.empty()) fail_quantisation("it holds no GGUF file of '" + name_.quantisation + "'", models);
    if (found.size() > 1) fail_quantisation("several of its GGUF files are of '" + name_.quantisation + "'", found);
    for (const std::string& part : found.begin()->second) take(part);
  }

  [[noreturn]] void fail_quantisation(const std::string& what,
                                      const std::map<std::string, std::vector<std::string>>& models) const {
    std::vector<std::string> names;
    for (const auto& [stem, files] : models) names.push_back(stem + ".gguf");
    fail(what, "name one, as in " + name_.id + ":Q4_K_M or with --include PATTERN; there are " + list(names));
  }

  void take_tables() {
    const bool some = take_if([](const std::string& path) {
      const std::string base = lower(base_of(path));
      // Facts of the repository, not rows.
      if (base == "dataset_infos.json" || base == "dataset_info.json" || base == "state.json") return false;
      return std::any_of(std::begin(kTables), std::end(kTables), [&](const std::string& table) {
        return std::any_of(std::begin(kPacked), std::end(kPacked),
                           [&](const char* packed) { return base.ends_with(table + packed); });
      });
    });
    if (!some) fail("it holds no tables or texts that deltaw reads", "use --include PATTERN; " + some_of_all());
  }

  Choice result() const {
    Choice choice;
    for (const File& file : listing_.files) {
      if (!taken_.contains(file.path) || any_matches(wishes_.exclude, file.path)) continue;
      if (is_code(file.path)) {
        choice.code.push_back(file.path);
      } else {
        choice.files.push_back(file);
      }
    }
    if (choice.files.empty()) {
      fail(choice.code.empty() ? "the patterns of exclude leave nothing"
                               : "what is asked for is code: " + list(choice.code),
           choice.code.empty() ? "loosen --exclude" : "programs are not downloaded");
    }
    return choice;
  }

  const Listing& listing_;
  const RepoName& name_;
  const Wishes& wishes_;
  std::set<std::string> taken_;
};

}  // namespace

bool matches(const std::string& given, const std::string& path) {
  const std::string pattern = given.ends_with('/') ? given + '*' : given;
  // The last star takes one symbol more whenever what follows it fails: linear stars, quadratic time at worst.
  size_t at = 0, star = pattern.npos, retry = 0;
  for (size_t i = 0; i < path.size();) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      retry = i;
      continue;
    }
    if (at < pattern.size() && takes(pattern, at, path[i])) {
      ++i;
      continue;
    }
    if (star == pattern.npos) return false;
    at = star + 1;
    i = ++retry;
  }
  while (at < pattern.size() && pattern[at] == '*') ++at;
  return at == pattern.size();
}

Choice choose(const Listing& listing, const RepoName& name, const Wishes& wishes) {
  return Chooser(listing, name, wishes).choose();
}

}  // namespace deltaw::io::hub
