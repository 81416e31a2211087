#include "converted.h"
#include "output.h"

namespace deltaw::cli {
namespace {

struct Keys : FolderKeys {
  std::string to = "lora";
  int64_t rank = 0;

  void fields(FieldVisitor& f) {
    f.field("to", to, "What the adapter becomes.", one_of({"lora"}));
    f.field("rank", rank, "Rank to cut the update to by SVD; 0 where it has thin factors of its own.", at_least(0));
    FolderKeys::fields(f);
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
  load_source(served, invocation, kUsageText, keys);
  const ExportReport report = export_lora(*served.adapter, keys.output_dir, keys.rank, probe_of(served));
  return finish(served, kUsageText, keys, report,
                {{"method", served.adapter->spec().id},
                 {"to", keys.to},
                 {"rank", report.rank},
                 {"exact", report.exact},
                 {"largest_error", report.largest_error}});
}

}  // namespace deltaw::cli
