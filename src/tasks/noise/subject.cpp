#include "tasks/noise/subject.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/log.h"
#include "core/output_folder.h"
#include "data/image_sets.h"
#include "deltaw/error.h"

namespace deltaw::noise {
namespace {

namespace fs = std::filesystem;

std::string class_file(int64_t place) {
  return fmt::format("class-{:05}.png", place);
}

}  // namespace

void SubjectKeys::fields(FieldVisitor& f) {
  f.field("instance_prompt", instance_prompt,
          "The caption of images that have none: \"a photo of sks dog\". Of a model that reads captions.");
}

void SubjectKeys::training_fields(FieldVisitor& f) {
  f.field("instance_data_dir", instance_data_dir,
          "Folder of images of one subject, in place of train_file (DreamBooth); instance_prompt is their caption.");
  f.field("with_prior_preservation", with_prior_preservation,
          "Beside each image train on one of its class, so that the model goes on making those.");
  f.field(
      "class_data_dir", class_data_dir,
      "Folder of the images of the class. Where it has fewer than num_class_images, the base makes the others before "
      "the first step.");
  f.field("class_prompt", class_prompt, "Their caption, and what they are made of: \"a photo of a dog\".");
  f.field("prior_loss_weight", prior_loss_weight, "Weight of the error at images of the class.", at_least(0));
  f.field("num_class_images", num_class_images, "Images of the class that are read.", at_least(1));
}

void SubjectKeys::check(bool reads_text, const DataOptions& data) const {
  const auto refuse = [](const char* id, const std::string& what, const char* key, const std::string& fix) {
    throw Error({.id = id, .what = what, .where = fmt::format("key '{}'", key), .fix = fix});
  };
  const char* given = !instance_data_dir.empty() ? "instance_data_dir"
                      : !instance_prompt.empty() ? "instance_prompt"
                      : with_prior_preservation  ? "with_prior_preservation"
                                                 : nullptr;
  if (given && !reads_text) {
    refuse("config.conflict", fmt::format("the model reads no captions, and '{}' means nothing to it", given), given,
           "leave it out, or train a model of text to image");
  }
  if (!instance_data_dir.empty() && instance_prompt.empty()) {
    refuse("config.missing-key", "nobody says what the images of instance_data_dir show", "instance_prompt",
           "say it, with a rare word for the subject: --instance_prompt \"a photo of sks dog\"");
  }
  if (!instance_data_dir.empty() && !data.train_file.empty()) {
    refuse("config.conflict", "instance_data_dir and train_file both name the images to train on", "train_file",
           "keep one of them");
  }
  if (!with_prior_preservation) return;
  if (class_data_dir.empty()) {
    refuse("config.missing-key", "with_prior_preservation needs a folder for images of the class", "class_data_dir",
           "name it, be it empty: --class_data_dir class_images");
  }
  if (class_prompt.empty()) {
    refuse("config.missing-key", "nobody says what the images of the class show", "class_prompt",
           "say it: --class_prompt \"a photo of a dog\"");
  }
}

std::vector<std::pair<std::string, std::string>> SubjectKeys::named() const {
  std::vector<std::pair<std::string, std::string>> folders;
  if (!instance_data_dir.empty()) folders.emplace_back("instance_data_dir", instance_data_dir);
  if (with_prior_preservation && !class_data_dir.empty()) folders.emplace_back("class_data_dir", class_data_dir);
  return folders;
}

ClassPictures class_pictures(const SubjectKeys& keys) {
  const fs::path folder = keys.class_data_dir;
  std::set<std::string> names;
  std::error_code code;
  if (fs::exists(folder, code)) {
    for (const data::Row& row : data::read_image_sets({folder}).rows) names.insert(row.cells.front().text);
  }
  ClassPictures pictures{.rows = {.file = folder}, .missing = {}};
  const auto wanted = static_cast<size_t>(keys.num_class_images);
  for (int64_t place = 0; names.size() < wanted; ++place) {
    if (names.insert((folder / class_file(place)).string()).second) pictures.missing.push_back(place);
  }
  for (const std::string& name : names) {
    if (pictures.rows.rows.size() == wanted) break;
    const auto line = static_cast<int64_t>(pictures.rows.rows.size()) + 1;
    pictures.rows.rows.push_back({.text = name, .line = line});
  }
  return pictures;
}

void make_class_pictures(const SubjectKeys& keys, const ClassPictures& pictures, const ImageSource& base,
                         int64_t seed) {
  if (pictures.missing.empty()) return;
  ImageOptions options;
  options.prompts = {keys.class_prompt};
  options.seed = seed;
  const ImageGenerator generator(base, options);
  const fs::path folder = keys.class_data_dir;
  fs::create_directories(folder);
  log().info("the base makes {} pictures of '{}' in {}", pictures.missing.size(), keys.class_prompt, folder.string());
  for (const int64_t place : pictures.missing) {
    const Image image = generator.picture(place);
    add_to_folder(folder, [&](const fs::path& inside) { write_png(inside / class_file(place), image); });
  }
}

}  // namespace deltaw::noise
