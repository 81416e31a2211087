// Two checkpoints as one model of images and texts.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/json.h"
#include "deltaw/convert.h"
#include "deltaw/error.h"
#include "io/checkpoint.h"
#include "models/two_towers.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr double kLogitScale = 2.6592;  // as transformers begins it: the logarithm of 1 / 0.07

/// A tower as a checkpoint has it.
struct Source {
  io::Checkpoint checkpoint;
  std::string scope;  // of its modules in the pair: "vision_model"
  Json config;
  bool is_part = false;                 // of a pair, where its tensors stand below the scope already
  std::vector<std::string> heads = {};  // modules that are left behind

  Source(const fs::path& folder, std::string own_scope, const char* key)
      : checkpoint(folder), scope(std::move(own_scope)), config(checkpoint.config()) {
    const auto part = config.find(key);
    is_part = part != config.end() && part->is_object();
    if (is_part) config = Json(*part);
    const Json type = config.value("model_type", Json());
    const FamilySpec* family = type.is_string() ? find_tower_family(type.get<std::string>()) : nullptr;
    if (!family) {
      throw Error({.id = "config.unsupported",
                   .what = fmt::format("model_type {} is no encoder that deltaw has", type.dump()),
                   .where = (folder / "config.json").string(),
                   .fix = fmt::format("give another {}_name_or_path", scope)});
    }
    for (const HeadSpec& head : family->heads) {
      if (!head.module.empty()) heads.push_back(head.module + ".");
    }
  }

  /// The name of a tensor in the pair; empty: it is no part of the tower.
  std::string renamed(const std::string& name) const {
    const auto begins = [&](const std::string& start) { return name.starts_with(start); };
    if (is_part) return begins(scope + ".") ? name : "";
    return std::any_of(heads.begin(), heads.end(), begins) ? "" : scope + "." + name;
  }
};

}  // namespace

std::unique_ptr<Model> join_towers(const fs::path& vision, const fs::path& text, int64_t projection_dim) {
  const Source image(vision, "vision_model", "vision_config"), words(text, "text_model", "text_config");
  const auto part = [](const Source& source) {
    return io::Checkpoint::Part{&source.checkpoint,
                                [&source](const std::string& name) { return source.renamed(name); }};
  };
  static const float scale = static_cast<float>(kLogitScale);
  const io::TensorBytes logit_scale{
      .name = "logit_scale", .dtype = io::Dtype::f32, .shape = {}, .data = reinterpret_cast<const std::byte*>(&scale)};
  const Json config = pair_config(image.config, words.config, projection_dim, kLogitScale);
  FamilyInput input;
  input.checkpoint = std::make_shared<const io::Checkpoint>(text, config, std::vector{part(image), part(words)},
                                                            std::vector{logit_scale});
  input.family = find_family(config.at("model_type").get<std::string>());
  input.head = input.family->heads.at(0);
  return input.family->load(input);
}

}  // namespace deltaw
