#include "converted.h"
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

}  // namespace

int merge(const Args& args) {
  Served served;
  Invocation invocation;
  if (!read_serving(kUsageText, args, section_of<Keys>("Output"), invocation, served)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  require("adapter_name_or_path", served.keys.adapter_name_or_path, kUsageText, "out");
  require("output_dir", keys.output_dir, kUsageText, "merged");
  claim_folder(keys.output_dir, keys.overwrite_output_dir);
  refuse_same_folder(keys.output_dir, served.keys.adapter_name_or_path);

  load_served(served, invocation, false);
  refuse_same_folder(keys.output_dir, served.model->folder());
  const MergeReport report = merge_checkpoint(*served.adapter, keys.output_dir, probe_of(served));
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
