#include <fmt/format.h>

#include <filesystem>

#include "converted.h"
#include "core/files.h"
#include "core/output_folder.h"
#include "deltaw/error.h"
#include "deltaw/new_model.h"
#include "deltaw/noise_scheduler.h"
#include "output.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

struct Keys : FolderKeys {
  int64_t seed = 42;

  void fields(FieldVisitor& f) {
    f.field("seed", seed, "Seed of the weights.", at_least(0));
    FolderKeys::fields(f);
  }
};

const Usage kUsageText = {
    .verb = "init",
    .what =
        "Writes a model that nobody has trained: of the config.json of diffusers' UNet2DModel, with weights drawn as "
        "torch draws them. `train --method full` trains it. A scheduler_config.json beside the config.json goes along. "
        "One JSON object on standard output.",
    .example = "  deltaw init examples/diffusion/unet --output_dir unet --seed 1",
    .positional = "FOLDER",
    .positional_help = "A folder with a config.json.",
    .needs = {kNeedsOutput},
};

}  // namespace

int init(const Args& args) {
  const std::vector<Section> sections = {section_of<Keys>("Output"), section_of<LogKeys>("Log")};
  const Invocation invocation = parse_args(kUsageText, sections, args);
  if (invocation.help) {
    print_help(kUsageText, sections);
    return kDone;
  }
  Keys keys;
  read_into(keys, invocation);
  if (invocation.positional.empty()) {
    refuse_missing(
        kUsageText,
        {.name = "a folder", .any_of = {}, .fix = "name the one of config.json: deltaw init FOLDER --output_dir OUT"});
  }
  LoadedModel source;
  source.base.model_name_or_path = invocation.positional;
  const fs::path folder = invocation.positional;
  const auto model = new_model(folder, static_cast<uint64_t>(keys.seed));
  claim_output(source, invocation, keys);
  int64_t parameters = 0;
  for (const Parameter* parameter : model->parameters()) parameters += parameter->numel();
  write_folder(keys.output_dir, [&](const fs::path& inside) {
    write_new_model(*model, inside);
    if (const auto file = NoiseScheduler::file_for(folder)) {
      write_file(inside / NoiseScheduler::kFile, read_file(*file));
    }
  });
  print(to_text(Json{{"output_dir", keys.output_dir}, {"parameters", parameters}, {"seed", keys.seed}}));
  return kDone;
}

}  // namespace deltaw::cli
