#include "converted.h"

#include <fmt/format.h>

#include "adapt/adapter_folder.h"
#include "deltaw/error.h"
#include "output.h"
#include "run/claim.h"
#include "text/tokenizer/tokenizer_files.h"

namespace deltaw::cli {
namespace {

void refuse_occupied(const std::filesystem::path& folder, bool overwrite) {
  if (!std::filesystem::exists(folder) || overwrite) return;
  if (std::filesystem::is_directory(folder) && std::filesystem::is_empty(folder)) return;
  throw Error(
      {.id = "config.output-exists",
       .what = "output_dir exists and is not empty",
       .where = folder.string(),
       .fix = "choose another output_dir, or add --overwrite_output_dir, which replaces what deltaw wrote there"});
}

run::Claim claim_of(const FolderKeys& keys) {
  const NameTest names = [](const std::string& name) {
    return is_read_as_model(name) || text::is_tokenizer_name(name);
  };
  return {.folder = keys.output_dir,
          .overwrite = keys.overwrite_output_dir,
          .adopts = keys.adopt_output_dir,
          .known = names,
          .in_the_way = names,
          .result = names};
}

}  // namespace

void FolderKeys::fields(FieldVisitor& f) {
  f.field("output_dir", output_dir, "Folder to write.");
  f.field("overwrite_output_dir", overwrite_output_dir,
          "Replace what deltaw wrote into output_dir; what it did not write stays.");
  f.field("adopt_output_dir", adopt_output_dir, run::kAdoptHelp);
}

void GgufKeys::fields(FieldVisitor& f) {
  f.field("to", to, "What to write: the folder of a Hugging Face checkpoint, or a GGUF file for llama.cpp and Ollama.",
          one_of({"hf", "gguf"}));
  own_fields(f);
}

void GgufKeys::own_fields(FieldVisitor& f) {
  f.field("pre_tokenizer", pre_tokenizer,
          "Of a GGUF file that is made from a folder: llama.cpp's name for how the tokenizer cuts words "
          "(tokenizer.ggml.pre), where it does not follow from the tokenizer.");
}

GgufOptions gguf_options(const LoadedModel& loaded, const GgufKeys& keys, const std::string& save_dtype,
                         Progress progress) {
  const std::string type = save_dtype == "auto"      ? "auto"
                           : save_dtype == "q8_0"    ? "Q8_0"
                           : save_dtype == "float32" ? "F32"
                           : save_dtype == "float16" ? "F16"
                                                     : "BF16";
  return {.type = type,
          .pre_tokenizer = keys.pre_tokenizer,
          .companions = companions_of(loaded),
          .progress = std::move(progress)};
}

void refuse_gguf_keys(const GgufKeys& keys, const std::string& save_dtype) {
  const auto refuse = [](const char* what, const char* key) {
    throw Error({.id = "config.conflict",
                 .what = what,
                 .where = fmt::format("key '{}'", key),
                 .fix = fmt::format("add --to gguf, or leave {} out", key)});
  };
  if (save_dtype == "q8_0") refuse("q8_0 is a type of GGUF files", "save_dtype");
  if (!keys.pre_tokenizer.empty()) refuse("only GGUF files name a pre-tokenizer", "pre_tokenizer");
}

void claim_output(const run::Inputs& inputs, const FolderKeys& keys) {
  refuse_occupied(keys.output_dir, keys.overwrite_output_dir);
  const run::Claim claim = claim_of(keys);
  run::check_claim(claim, inputs);
  run::adopt_known(claim);
}

void claim_output(const LoadedModel& loaded, const Invocation& invocation, const FolderKeys& keys) {
  claim_output(inputs_of(loaded, invocation), keys);
}

void load_source(LoadedModel& loaded, const Invocation& invocation, const FolderKeys& keys) {
  refuse_occupied(keys.output_dir, keys.overwrite_output_dir);
  const run::Claim claim = claim_of(keys);
  run::check_claim(claim, inputs_of(loaded, invocation));
  load_with_adapter(loaded, invocation, false);
  run::adopt_known(claim);
}

FillFolder companions_of(const LoadedModel& loaded) {
  return [&loaded](const std::filesystem::path& folder) { loaded.reader->write_companions(*loaded.model, folder); };
}

Probe probe_of(LoadedModel& loaded) {
  return deltaw::probe_of(*loaded.task, loaded.reader->probe(loaded.asked(), loaded.files()));
}

std::optional<at::ScalarType> stored_type(const std::string& save_dtype) {
  if (save_dtype == "auto") return std::nullopt;
  if (save_dtype == "float32") return at::kFloat;
  return save_dtype == "float16" ? at::kHalf : at::kBFloat16;
}

int finish(const std::string& problem, const Usage& usage, const FolderKeys& keys) {
  if (problem.empty()) return kDone;
  note(
      fmt::format("error[numeric.{}]: {}\n"
                  "  where: {}\n  fix:   do not use this folder: {} again, and report it if that fails too\n",
                  usage.verb, problem, keys.output_dir, usage.verb));
  return kDifference;
}

int finish(const LoadedModel& loaded, const Usage& usage, const FolderKeys& keys, const WriteReport& report,
           Json facts) {
  Json result{{"output_dir", keys.output_dir},
              {"model_name_or_path", loaded.base.model_name_or_path},
              {"adapter_name_or_path", loaded.keys.adapter_name_or_path},
              {"layers", report.layers}};
  result.update(facts);
  result.update({{"max_difference", report.max_difference}, {"passed", report.passed}});
  print(to_text(result));
  return finish(report.problem, usage, keys);
}

}  // namespace deltaw::cli
