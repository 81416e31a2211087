#include <ATen/ATen.h>

#include "core/files.h"
#include "deltaw/error.h"
#include "load.h"
#include "output.h"
#include "serve.h"

namespace deltaw::cli {
namespace {

struct Keys {
  std::string output_dir;
  bool overwrite_output_dir = false;

  void fields(FieldVisitor& f) {
    f.field("output_dir", output_dir, "Folder of the merged checkpoint.");
    f.field("overwrite_output_dir", overwrite_output_dir, "Replace the checkpoint that output_dir holds.");
  }
};

const Usage kUsageText = {
    .verb = "merge",
    .what =
        "Writes base and adapter as one checkpoint that transformers loads, reads it back and compares its logits "
        "with the adapter's. One JSON object on standard output.",
    .example =
        "  deltaw merge --adapter_name_or_path out --output_dir merged\n"
        "  deltaw merge --model_name_or_path MODEL --adapter_name_or_path out \\\n"
        "    --output_dir merged",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
    .exit_codes =
        "0 done; 1 failed; 2 usage or configuration, nothing was started; 3 the merged model's logits "
        "differ too much",
};

constexpr const char* kProbe[] = {
    "The committee met on Tuesday and put the decision off until spring.",
    "A cat sleeps on the warm stones beside the harbour wall.",
    "Who wrote the letter, and why was it never sent?",
    "Profits fell by 3.7 % in the second quarter, the company said.",
    "I have seldom laughed so much at a film that meant to be sad!",
    "Water boils at a lower temperature on high mountains.",
};

ModelInput text_probe(const Served& served) {
  std::vector<EncodedRow> rows;
  std::vector<int64_t> positions;
  for (const char* text : kProbe) {
    const Encoding encoding = served.tokenizer->encode(text, {.max_length = served.data.max_length});
    positions.push_back(static_cast<int64_t>(rows.size()));
    rows.push_back({.ids = encoding.ids, .type_ids = encoding.type_ids, .label = 0, .index = positions.back()});
  }
  Batch batch = collate(rows, positions, served.pad_id, served.tokenizer->pads_left());
  const auto tensor = [&](std::vector<int64_t>& values) {
    return at::from_blob(values.data(), {batch.rows, batch.length}, at::kLong).clone();
  };
  return {tensor(batch.input_ids), tensor(batch.attention_mask), tensor(batch.token_type_ids)};
}

/// Tokens spread over the vocabulary, where there is no tokenizer.
ModelInput plain_probe(const Model& model) {
  const int64_t vocabulary = model.config().value("vocab_size", int64_t{2});
  const int64_t length = std::min<int64_t>(model.max_positions() > 0 ? model.max_positions() : 16, 16);
  const Tensor ids = at::remainder(at::arange(4 * length, at::kLong) * 7919 + 5, vocabulary).view({4, length});
  return {ids, at::ones_like(ids), {}};
}

void claim(const std::filesystem::path& folder, bool overwrite) {
  if (!std::filesystem::exists(folder) || overwrite) return;
  if (std::filesystem::is_directory(folder) && std::filesystem::is_empty(folder)) return;
  throw Error({.id = "config.output-exists",
               .what = "output_dir exists and is not empty",
               .where = folder.string(),
               .fix = "choose another output_dir, or add --overwrite_output_dir"});
}

void refuse_same_folder(const std::filesystem::path& output, const std::filesystem::path& input) {
  if (input.empty() || !std::filesystem::exists(output) || !std::filesystem::equivalent(output, input)) return;
  throw Error({.id = "config.output-is-input",
               .what = "output_dir is a folder that is read from",
               .where = output.string(),
               .fix = "choose another output_dir"});
}

}  // namespace

int merge(const Args& args) {
  Served served;
  Invocation invocation;
  if (!read_serving(kUsageText, args, section_of<Keys>("Output"), invocation, served)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  require("adapter_name_or_path", served.keys.adapter_name_or_path, kUsageText, "out");
  require("output_dir", keys.output_dir, kUsageText, "merged");
  claim(keys.output_dir, keys.overwrite_output_dir);
  refuse_same_folder(keys.output_dir, served.keys.adapter_name_or_path);

  load_served(served, invocation, false);
  refuse_same_folder(keys.output_dir, served.model->folder());
  const ModelInput probe = served.tokenizer ? text_probe(served) : plain_probe(*served.model);
  const MergeReport report = merge_checkpoint(*served.adapter, keys.output_dir, probe);
  if (served.tokenizer) write_tokenizer(*served.tokenizer, keys.output_dir);
  print(to_text({{"output_dir", keys.output_dir},
                 {"model_name_or_path", served.base.model_name_or_path},
                 {"adapter_name_or_path", served.keys.adapter_name_or_path},
                 {"layers", report.layers},
                 {"max_difference", report.max_difference},
                 {"tolerance", report.tolerance},
                 {"passed", report.passed}}));
  if (report.passed) return kDone;
  note("error[numeric.merge]: the merged model's logits differ by " + std::to_string(report.max_difference) +
       ", more than the tolerance of " + std::to_string(report.tolerance) + "\n  where: " + keys.output_dir +
       "\n  fix:   compare with --dtype float32; the merged checkpoint is rounded to the base's own type\n");
  return kDifference;
}

}  // namespace deltaw::cli
