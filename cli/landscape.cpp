#include "deltaw/landscape.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "core/files.h"
#include "core/progress.h"
#include "counter.h"
#include "deltaw/error.h"
#include "loaded_model.h"
#include "output.h"
#include "run/one_origin.h"
#include "signals.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

struct AdapterList {
  std::vector<std::string> adapters;

  void fields(FieldVisitor& f) {
    f.field("adapters", adapters,
            "Folders of three adapters of one base, of any methods, for the plane through them; of two for the line.");
  }
};

struct Keys : LandscapeOptions {
  std::string output_file;

  void fields(FieldVisitor& f) {
    LandscapeOptions::fields(f);
    f.field("output_file", output_file,
            "JSON file to write; the picture stands beside it, with the ending .svg in place of .json.");
  }
};

const Usage kUsageText = {
    .verb = "landscape",
    .what =
        "Scores the validation rows on the plane through three adapters of one base, or on the line through two, and "
        "draws a map. Interpolated are updates dW = W - W0 (and heads and biases, as values), never the factors of an "
        "update. Every point is a merged model, without dropout, in float32 unless dtype says otherwise. What is left "
        "open comes from run.json beside the first adapter, as in `deltaw eval`; max_eval_samples takes the first so "
        "many rows. Called again after an end it goes on.",
    .example =
        "  deltaw landscape --adapters lora,full,randlora --max_eval_samples 64 \\\n"
        "    --output_file landscape.json\n"
        "  deltaw landscape --adapters lora,full --points 41 --metric accuracy \\\n"
        "    --validation_file dev.csv --output_file line.json",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
    .exit_codes =
        "0 done; 1 failed; 2 usage or configuration, nothing was started; 128+n stopped by signal n: the same command "
        "goes on",
    .needs = {{.name = "adapters", .any_of = {"adapters"}, .fix = "add --adapters A,B,C with the folders of three"},
              {.name = "output_file", .any_of = {"output_file"}, .fix = "add --output_file landscape.json"}},
};

struct Outputs {
  std::string json, svg, partial;

  explicit Outputs(const std::string& file)
      : json(file), svg(fs::path(file).replace_extension(".svg").string()), partial(file + ".partial") {
    if (fs::path(file).extension() != ".json") svg = file + ".svg";
  }
};

/// The names that tell the folders apart: their own, or the whole paths.
std::vector<std::string> names_of(const std::vector<std::string>& folders) {
  std::vector<std::string> names;
  for (const std::string& folder : folders) {
    const fs::path path = fs::path(folder).lexically_normal();
    const std::string name = (path.has_filename() ? path : path.parent_path()).filename().string();
    if (name.empty() || std::find(names.begin(), names.end(), name) != names.end()) return folders;
    names.push_back(name);
  }
  return names;
}

/// Which rows are scored, in words.
Json rows_of(const LoadedModel& loaded, const RowSource& rows) {
  const DataOptions& data = loaded.data;
  const bool held_out = data.validation_file.empty() && data.validation_split > 0;
  std::string file = data.validation_file.text(), chosen;
  if (held_out) {
    file = data.train_file.text();
    chosen = fmt::format("of the share {} held out by seed {}", data.validation_split, loaded.batch.seed);
  }
  if (file.empty()) file = data.task_name + (data.task_name.empty() ? "" : " in ") + data.dataset_dir;
  const bool first = data.max_eval_samples > 0;
  const std::string count = first ? fmt::format("the first {}", data.max_eval_samples) : "all";
  return {{"file", file},
          {"number", rows.size()},
          {"chosen", chosen.empty() ? count : count + " " + chosen},
          {"fingerprint", rows.fingerprint()}};
}

/// What an earlier call has left.
Json begun(const std::string& file) {
  try {
    return fs::exists(file) ? read_json(file) : Json::object();
  } catch (const Error&) {  // not ours, or cut
    return Json::object();
  }
}

std::vector<std::string> metrics_of(const LoadedModel& loaded, const std::string& metric) {
  std::vector<std::string> metrics = loaded.reader->metrics(loaded.data);
  if (metric != "loss") loaded.reader->check_metric(metric);
  if (std::find(metrics.begin(), metrics.end(), metric) == metrics.end()) metrics.push_back(metric);
  return metrics;
}

void settle_keys(LoadedModel& loaded, const Invocation& invocation) {
  AdapterList list;
  read_into(list, invocation);
  if (list.adapters.size() < 2 || list.adapters.size() > 3) {
    throw Error({.id = "config.bad-value",
                 .what = fmt::format("{} adapters span neither a line nor a plane", list.adapters.size()),
                 .where = "key 'adapters'",
                 .fix = "name three for a plane, or two for a line: --adapters lora,full,randlora"});
  }
  loaded.keys.adapter_name_or_path = list.adapters.front();
  loaded.keys.with_adapters.assign(list.adapters.begin() + 1, list.adapters.end());
  run::require_one_origin({list.adapters.begin(), list.adapters.end()}, invocation.has("model_name_or_path"));
  settle_model_keys(kUsageText, invocation, loaded);
  // A 16-bit W would lose much of a small dW.
  if (!invocation.has("dtype")) loaded.model_options.dtype = "float32";
}

void check_outputs(const LoadedModel& loaded, const Outputs& outputs, const Invocation& invocation) {
  const run::Inputs inputs = inputs_of(loaded, invocation);
  for (const std::string& file : {outputs.json, outputs.svg, outputs.partial}) {
    run::refuse_input("output_file", file, inputs);
  }
}

UpdateSpan span_of(LoadedModel& loaded, const Invocation& invocation) {
  const std::vector<Adapter> adapters = load_with_adapters(loaded, invocation);
  const std::vector<std::string> names = names_of(adapters_of(loaded.keys));
  std::vector<NamedAdapter> named;
  for (size_t i = 0; i < adapters.size(); ++i) named.push_back({names[i], adapters[i]});
  return {*loaded.model, named};
}

/// The result with what is known here in front of what is long.
Json with_facts(const Json& found, const Json& facts, const std::vector<std::string>& folders) {
  Json result = {{"kind", found["kind"]}, {"metric", found["metric"]}};
  result.update(facts);
  for (const auto& [key, value] : found.items()) result[key] = value;
  for (size_t i = 0; i < folders.size(); ++i) result["adapters"][i]["adapter_name_or_path"] = folders[i];
  return result;
}

void print_summary(Json result, const Outputs& outputs) {
  for (const char* key : {"x", "y", "scores"}) result.erase(key);
  result["output_file"] = outputs.json;
  result["picture"] = outputs.svg;
  print(to_text(result));
}

int stopped(int signal, const Outputs& outputs) {
  note(fmt::format("stopped by {}\n  saved:  {}\n  go on:  the same command\n", ::strsignal(signal), outputs.partial));
  return 128 + signal;
}

}  // namespace

int landscape(const Args& args) {
  Invocation invocation;
  std::vector<Section> own;
  own.push_back(section_of<Keys>("Landscape"));
  if (!parse_model_keys(kUsageText, model_sections(std::move(own), section_of<AdapterList>("")), args, invocation)) {
    return kDone;
  }
  LoadedModel loaded;
  Keys keys;
  read_into(keys, invocation);
  settle_keys(loaded, invocation);
  if (keys.metric.starts_with("eval_")) keys.metric.erase(0, 5);
  const Outputs outputs(keys.output_file);
  check_outputs(loaded, outputs, invocation);

  const UpdateSpan span = span_of(loaded, invocation);
  TaskFiles files = loaded.files();
  const std::shared_ptr<const RowSource> rows = loaded.reader->rows_to_score(loaded.asked(), files);
  const std::vector<std::string> metrics = metrics_of(loaded, keys.metric);
  const Json facts = {{"model_name_or_path", loaded.base.model_name_or_path},
                      {"task", loaded.model->task_type()},
                      {"dtype", loaded.model_options.dtype},
                      {"rows", rows_of(loaded, *rows)}};
  Counter counter("points");
  const SignalGuard guard;
  const double begin = process_seconds();
  const Json found = deltaw::landscape(
      span, keys, score_point(*loaded.task, *loaded.model, rows, loaded.batch.per_device_eval_batch_size, metrics),
      {.progress = counter.progress(),
       .stop = [&] { return guard.caught() != 0; },
       .keep = [&](const Json& so_far) { write_file(outputs.partial, to_line(so_far)); },
       .begun = begun(outputs.partial),
       .fingerprint = to_line(facts) + to_line(metrics)});
  if (found.is_null()) return stopped(guard.caught(), outputs);
  Json result = with_facts(found, facts, adapters_of(loaded.keys));
  result["seconds"] = process_seconds() - begin;
  write_file(outputs.json, to_line(result));
  write_file(outputs.svg, landscape_svg(result));
  fs::remove(outputs.partial);
  print_summary(std::move(result), outputs);
  return kDone;
}

}  // namespace deltaw::cli
