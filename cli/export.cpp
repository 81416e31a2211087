#include <fmt/format.h>

#include "converted.h"
#include "load.h"
#include "output.h"

namespace deltaw::cli {
namespace {

struct Keys {
  std::string to = "lora";
  int64_t rank = 0;
  std::string output_dir;
  bool overwrite_output_dir = false;

  void fields(FieldVisitor& f) {
    f.field("to", to, "What the adapter becomes.", one_of({"lora"}));
    f.field("rank", rank, "Rank to cut the update to by SVD; 0 where it has thin factors of its own.", at_least(0));
    f.field("output_dir", output_dir, "Folder of the exported adapter.");
    f.field("overwrite_output_dir", overwrite_output_dir, "Replace the adapter that output_dir holds.");
  }
};

const Usage kUsageText = {
    .verb = "export",
    .what =
        "Writes any adapter as a plain LoRA that every reader of PEFT's files loads: exactly where the method's update "
        "has thin factors, else cut to a rank by SVD with the error measured. One JSON object on standard output.",
    .example =
        "  deltaw export --adapter_name_or_path out --output_dir lora\n"
        "  deltaw export --adapter_name_or_path out --rank 16 --output_dir lora",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
    .exit_codes =
        "0 done; 1 failed; 2 usage or configuration, nothing was started; 3 an exact export's logits "
        "differ too much",
};

}  // namespace

int export_adapter(const Args& args) {
  Served served;
  Invocation invocation;
  if (!read_serving(kUsageText, args, section_of<Keys>("Output"), invocation, served)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  require("adapter_name_or_path", served.keys.adapter_name_or_path, kUsageText, "out");
  require("output_dir", keys.output_dir, kUsageText, "lora");
  claim_folder(keys.output_dir, keys.overwrite_output_dir);
  refuse_same_folder(keys.output_dir, served.keys.adapter_name_or_path);

  load_served(served, invocation, false);
  refuse_same_folder(keys.output_dir, served.model->folder());
  const ExportReport report = export_lora(*served.adapter, keys.output_dir, keys.rank, probe_of(served));
  if (served.tokenizer) write_tokenizer(*served.tokenizer, keys.output_dir);
  print(to_text({{"output_dir", keys.output_dir},
                 {"adapter_name_or_path", served.keys.adapter_name_or_path},
                 {"method", served.adapter->spec().id},
                 {"to", keys.to},
                 {"layers", report.layers},
                 {"rank", report.rank},
                 {"exact", report.exact},
                 {"largest_error", report.largest_error},
                 {"max_difference", report.max_difference},
                 {"passed", report.passed}}));
  if (report.passed) return kDone;
  note(
      fmt::format("error[numeric.export]: the exported adapter's logits differ by {}, more than the tolerance of {}\n"
                  "  where: {}\n  fix:   compare with --dtype float32\n",
                  report.max_difference, report.tolerance, keys.output_dir));
  return kDifference;
}

}  // namespace deltaw::cli
