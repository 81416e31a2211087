#include "converted.h"

#include <fmt/format.h>

#include <ATen/ATen.h>

#include "adapt/adapter_folder.h"
#include "claim.h"
#include "deltaw/error.h"
#include "deltaw/generate.h"
#include "load.h"
#include "output.h"
#include "tasks/common/check_rows.h"
#include "text/tokenizer_files.h"
#include "texts.h"

namespace deltaw::cli {
namespace {

constexpr const char* kProbe[] = {
    "The committee met on Tuesday and put the decision off until spring.",
    "A cat sleeps on the warm stones beside the harbour wall.",
    "Who wrote the letter, and why was it never sent?",
    "Profits fell by 3.7 % in the second quarter, the company said.",
    "I have seldom laughed so much at a film that meant to be sad!",
    "Water boils at a lower temperature on high mountains.",
};

Batch text_probe(const Served& served) {
  std::vector<EncodedRow> rows;
  std::vector<int64_t> positions;
  for (const char* text : kProbe) {
    const Encoding encoding = served.tokenizer->encode(text, {.max_length = served.data.max_length});
    positions.push_back(static_cast<int64_t>(rows.size()));
    rows.push_back({.ids = encoding.ids, .label = 0, .index = positions.back()});
  }
  tasks::check_rows(*served.model, served.acting(), rows, &*served.tokenizer);
  return TextRows(std::move(rows), served.pad_id, served.tokenizer->pads_left()).collate(positions, {});
}

/// Tokens spread over the vocabulary, where there is no tokenizer.
Batch plain_probe(const Model& model) {
  const int64_t vocabulary = model.vocab_size();
  const int64_t length = std::min<int64_t>(model.max_positions() > 0 ? model.max_positions() : 16, 16);
  const Tensor ids = at::remainder(at::arange(4 * length, at::kLong) * 7919 + 5, vocabulary).view({4, length});
  return {.rows = 4, .tensors = {{"input_ids", ids}, {"attention_mask", at::ones_like(ids)}}};
}

void refuse_occupied(const std::filesystem::path& folder, bool overwrite) {
  if (!std::filesystem::exists(folder) || overwrite) return;
  if (std::filesystem::is_directory(folder) && std::filesystem::is_empty(folder)) return;
  throw Error(
      {.id = "config.output-exists",
       .what = "output_dir exists and is not empty",
       .where = folder.string(),
       .fix = "choose another output_dir, or add --overwrite_output_dir, which replaces what deltaw wrote there"});
}

Claim claim_of(const FolderKeys& keys) {
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
  f.field("adopt_output_dir", adopt_output_dir, kAdoptHelp);
}

void load_source(Served& served, const Invocation& invocation, const FolderKeys& keys) {
  refuse_occupied(keys.output_dir, keys.overwrite_output_dir);
  const Claim claim = claim_of(keys);
  check_claim(claim, inputs_of(served, invocation));
  load_served(served, invocation, false);
  adopt_known(claim);
}

FillFolder companions_of(const Served& served) {
  return [&served](const std::filesystem::path& folder) {
    if (served.tokenizer) {
      write_tokenizer(*served.tokenizer, folder);
      if (served.model->is_causal()) {
        write_generation_config(*served.model, *served.tokenizer, taught_ends(served.keys), folder);
      }
    }
    write_chat_template(served.text, {served.keys.adapter_name_or_path, served.model->folder()}, folder);
  };
}

Probe probe_of(const Served& served) {
  return deltaw::probe_of(*served.task, served.tokenizer ? text_probe(served) : plain_probe(*served.model));
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

int finish(const Served& served, const Usage& usage, const FolderKeys& keys, const WriteReport& report, Json facts) {
  Json result{{"output_dir", keys.output_dir},
              {"model_name_or_path", served.base.model_name_or_path},
              {"adapter_name_or_path", served.keys.adapter_name_or_path},
              {"layers", report.layers}};
  result.update(facts);
  result.update({{"max_difference", report.max_difference}, {"passed", report.passed}});
  print(to_text(result));
  return finish(report.problem, usage, keys);
}

}  // namespace deltaw::cli
