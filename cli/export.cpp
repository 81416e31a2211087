#include <algorithm>

#include "converted.h"
#include "deltaw/export.h"
#include "output.h"

namespace deltaw::cli {
namespace {

struct Keys : FolderKeys {
  std::string to = "lora";
  std::string combination_type = "cat";
  int64_t rank = 0;

  void fields(FieldVisitor& f) {
    f.field(
        "to", to,
        "What the adapter becomes: PEFT's files; adapter.gguf for llama.cpp, with a Modelfile for Ollama; the folder "
        "of MLX; or, of image models, pytorch_lora_weights.safetensors for diffusers or lora.safetensors for A1111 "
        "and ComfyUI, by the names of kohya's scripts.",
        one_of(export_format_names()));
    f.field(
        "combination_type", combination_type,
        "How several adapters become one, in PEFT's words: cat, the sum of their updates; svd, the same cut to rank, "
        "or to the highest of theirs; linear, sums of their factors A and of their factors B, which is not the sum "
        "of the updates. PEFT's ties, dare_* and magnitude_prune are not supported.",
        one_of({"cat", "svd", "linear"}));
    f.field("rank", rank, "Rank to cut the update to by SVD; 0 where it has thin factors of its own.", at_least(0));
    FolderKeys::fields(f);
  }
};

const Usage kUsageText = {
    .verb = "export",
    .what =
        "Writes any adapter as a plain LoRA for PEFT, llama.cpp, MLX, diffusers or kohya's scripts: exactly where the "
        "method's update has thin factors, else cut to a rank by SVD with the error measured, layer by layer. Reads it "
        "back: passed says that the file holds just that. One JSON object on standard output.",
    .example =
        "  deltaw export --adapter_name_or_path out --output_dir lora\n"
        "  deltaw export --adapter_name_or_path out --rank 16 --output_dir lora\n"
        "  deltaw export --adapter_name_or_path out --to gguf --output_dir gguf\n"
        "  deltaw export --adapter_name_or_path out --to kohya --output_dir webui\n"
        "  deltaw export --adapter_name_or_path a --with_adapters b --combination_type linear --output_dir lora",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
    .exit_codes =
        "0 done; 1 failed; 2 usage or configuration, nothing was started; 3 the LoRA that was written is "
        "not what it was to be",
    .needs = {kNeedsAdapter, kNeedsOutput},
};

/// The highest rank that an option r of the adapter or its parts names, 0 for none.
int64_t highest_rank(const Adapter& adapter) {
  int64_t highest = adapter.config().options.value("r", int64_t{0});
  const Json pattern = adapter.config().options.value("rank_pattern", Json());
  for (const Json& rank : pattern) {
    if (rank.is_number_integer()) highest = std::max(highest, rank.get<int64_t>());
  }
  for (const Adapter& part : adapter.parts()) highest = std::max(highest, highest_rank(part));
  return highest;
}

}  // namespace

int export_adapter(const Args& args) {
  LoadedModel loaded;
  Invocation invocation;
  if (!read_model_keys(kUsageText, args, {section_of<Keys>("Output")}, invocation, loaded)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  load_source(loaded, invocation, keys);
  if (keys.combination_type == "svd" && keys.rank == 0) keys.rank = highest_rank(*loaded.adapter);
  const ExportReport report =
      export_adapter(*loaded.adapter, keys.output_dir, export_format_named(keys.to), keys.rank, probe_of(loaded),
                     companions_of(loaded), keys.combination_type == "linear" ? Combination::linear : Combination::sum);
  const bool linear = keys.combination_type == "linear";
  Json facts = {{"method", loaded.adapter->spec().id},
                {"to", keys.to},
                {"rank", report.rank},
                {"kind", report.exact ? "exact"
                         : linear     ? "linear"
                                      : "cut"},
                {"exact", report.exact},
                {"largest_error", report.largest_error},
                {"worst_layer", report.worst_layer}};
  if (!report.exact) facts["kept_share"] = report.kept_share;
  return finish(loaded, kUsageText, keys, report, facts);
}

}  // namespace deltaw::cli
