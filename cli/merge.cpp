#include <fmt/format.h>

#include "converted.h"
#include "counter.h"
#include "deltaw/convert.h"
#include "output.h"

namespace deltaw::cli {
namespace {

constexpr double kLargeShare = 0.1;  // of what the adapter changes

struct Keys : FolderKeys {
  GgufKeys gguf;
  std::string save_dtype = "auto";

  void fields(FieldVisitor& f) {
    gguf.fields(f);
    f.field(
        "save_dtype", save_dtype,
        "Type to write: auto is the checkpoint's own, tensor by tensor. float32 keeps what rounding to 16 bits takes "
        "from a small update. In a GGUF file the type of its matrices, q8_0 too; over a GGUF base auto leaves what "
        "does not change in its blocks and makes q8_0 of other blocks.",
        one_of({"auto", "float32", "bf16", "bfloat16", "float16", "q8_0"}));
    FolderKeys::fields(f);
  }
};

const Usage kUsageText = {
    .verb = "merge",
    .what =
        "Writes base and adapter as one checkpoint that transformers loads, or as one GGUF file for llama.cpp, reads "
        "it back and checks it: every tensor must be base plus update, rounded once to the type it is stored in. What "
        "that rounding costs is no fault; rounding_share says how much of the logits' change by the adapter it is. One "
        "JSON object on standard output.",
    .example =
        "  deltaw merge --adapter_name_or_path out --output_dir merged\n"
        "  deltaw merge --model_name_or_path MODEL --adapter_name_or_path out \\\n"
        "    --output_dir merged\n"
        "  deltaw merge --adapter_name_or_path out --to gguf --save_dtype q8_0 \\\n"
        "    --output_dir merged",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
    .exit_codes =
        "0 done; 1 failed; 2 usage or configuration, nothing was started; 3 the merged checkpoint is not "
        "base and adapter",
    .needs = {kNeedsAdapter, kNeedsOutput},
};

MergeReport written(LoadedModel& loaded, const Keys& keys) {
  Counter counter("tensors");
  if (keys.gguf.wanted()) {
    return merge_gguf(*loaded.adapter, keys.output_dir, probe_of(loaded),
                      gguf_options(loaded, keys.gguf, keys.save_dtype, counter.progress()));
  }
  return merge_checkpoint(*loaded.adapter, keys.output_dir, probe_of(loaded), companions_of(loaded),
                          stored_type(keys.save_dtype), counter.progress());
}

}  // namespace

int merge(const Args& args) {
  LoadedModel loaded;
  Invocation invocation;
  if (!read_model_keys(kUsageText, args, {section_of<Keys>("Output")}, invocation, loaded)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  if (!keys.gguf.wanted()) refuse_gguf_keys(keys.gguf, keys.save_dtype);
  load_source(loaded, invocation, keys);
  const MergeReport report = written(loaded, keys);
  Json facts = {{"tensors", report.tensors}, {"dtype", report.dtype}, {"rounding_share", report.rounding_share}};
  if (report.quantisation_difference) facts["quantisation_difference"] = *report.quantisation_difference;
  if (report.passed && report.rounding_share > kLargeShare) {
    warning(
        fmt::format("rounding to {} costs {:.0f} % of what the adapter changes in the logits; --save_dtype float32 "
                    "keeps it",
                    report.dtype, 100 * report.rounding_share));
  }
  return finish(loaded, kUsageText, keys, report, facts);
}

}  // namespace deltaw::cli
