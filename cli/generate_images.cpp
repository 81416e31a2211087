#include "generate_images.h"

#include <fmt/format.h>

#include <filesystem>

#include "core/files.h"
#include "counter.h"
#include "deltaw/error.h"
#include "deltaw/generate_images.h"
#include "output.h"
#include "run/claim.h"
#include "run/inherited.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

struct SizeKey {
  int64_t resolution = 0;

  void fields(FieldVisitor& f) {
    f.field(
        "resolution", resolution,
        "Pixels of a side; 0: those that the adapter was trained on, else the model's sample_size, in pixels of its "
        "autoencoder where it has one.",
        at_least(0));
  }
};

struct Seed {
  int64_t seed = ImageOptions().seed;

  void fields(FieldVisitor& f) { f.field("seed", seed, "Seed of the noise that pictures begin as.", at_least(0)); }
};

struct Prompts {
  std::vector<std::string> prompt;

  void fields(FieldVisitor& f) { f.field("prompt", prompt, "What pictures show."); }
};

bool is_picture(const std::string& name) {
  return name == kContactSheet ||
         (name.size() >= 9 && name.ends_with(".png") && name.find_first_not_of("0123456789") >= 5 &&
          name.find_first_not_of("0123456789") == name.size() - 4);
}

run::Claim claim_of(const FolderKeys& keys) {
  return {.folder = keys.output_dir,
          .overwrite = keys.overwrite_output_dir,
          .adopts = keys.adopt_output_dir,
          .known = is_picture,
          .in_the_way = is_picture,
          .result = is_picture};
}

BaseKeys base_of(const Invocation& invocation) {
  AdapterKeys adapter;
  read_into(adapter, invocation);
  BaseKeys base;
  read_into(base, run::inherited(adapter.adapter_name_or_path));
  read_into(base, invocation);
  return base;
}

}  // namespace

std::vector<Section> image_sections() {
  Section own = section_of<ImageOptions>("Pictures");
  own.append(section_of<SizeKey>(""));
  own.append(section_of<FolderKeys>(""));
  return {std::move(own)};
}

bool makes_images(const Invocation& invocation) {
  const BaseKeys base = base_of(invocation);
  if (base.model_name_or_path.empty()) return false;
  ModelOptions options;
  read_into(options, invocation);
  const TaskSpec& task = task_for(base.model_name_or_path, options.task_type);
  if (!task.reader) return false;
  return dynamic_cast<const MakesImages*>(task.reader().get()) != nullptr;
}

int generate_images(const Usage& usage, const Invocation& invocation) {
  LoadedModel loaded;
  FolderKeys folder;
  ImageOptions options;
  Seed seed;
  Prompts prompts;
  read_into(folder, invocation);
  read_into(options, invocation);
  read_into(seed, invocation);
  read_into(prompts, invocation);
  options.seed = seed.seed;
  options.prompts = prompts.prompt;
  if (folder.output_dir.empty()) refuse_missing(usage, kNeedsOutput);
  read_into(loaded.keys, invocation);
  settle_model_keys(usage, invocation, loaded);
  const run::Claim claim = claim_of(folder);
  run::check_claim(claim, inputs_of(loaded, invocation));
  load_with_adapter(loaded, invocation, /*reads_rows=*/false);
  run::adopt_known(claim);

  auto& maker = dynamic_cast<MakesImages&>(*loaded.reader);
  const ImageGenerator generator(maker.image_source(loaded.asked()), options);
  Counter counter("steps");
  const std::vector<Image> images = generator.run(counter.progress());
  write_folder(
      folder.output_dir, [&](const fs::path& inside) { write_images(images, inside); }, is_picture);
  for (int64_t i = 0; i < generator.pictures(); ++i) {
    Json line = row_line(i + 1, nullptr);
    line["file"] = (fs::path(folder.output_dir) / image_name(i)).string();
    if (generator.class_of(i) >= 0) line["class_label"] = generator.class_of(i);
    if (generator.prompt_of(i)) line["prompt"] = *generator.prompt_of(i);
    print(to_line(line));
  }
  note(fmt::format("{} pictures in {}, all of them in {}\n", images.size(), folder.output_dir, kContactSheet));
  return kDone;
}

}  // namespace deltaw::cli
