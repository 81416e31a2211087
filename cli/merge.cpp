#include "converted.h"
#include "output.h"

namespace deltaw::cli {
namespace {

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

}  // namespace

int merge(const Args& args) {
  Served served;
  Invocation invocation;
  if (!read_serving(kUsageText, args, section_of<FolderKeys>("Output"), invocation, served)) return kDone;
  FolderKeys keys;
  read_into(keys, invocation);
  load_source(served, invocation, kUsageText, keys);
  const MergeReport report = merge_checkpoint(*served.adapter, keys.output_dir, probe_of(served));
  Json facts = Json::object();
  if (report.quantisation_difference) facts["quantisation_difference"] = *report.quantisation_difference;
  return finish(served, kUsageText, keys, report, facts);
}

}  // namespace deltaw::cli
