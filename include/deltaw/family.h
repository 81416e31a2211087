// What the author of a model family says of it: which checkpoints it reads, and where an adapter finds its layers.
//
// One source file in families/ defines one family and `family_<file name>()`; the build makes the table from the
// folder. Nothing else lists families.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/head.h"
#include "deltaw/options.h"

namespace deltaw {

class Model;
struct FamilyInput;
struct GgufForm;

/// A model family. Lists of layers are written as target_modules is: the ends of module names, or one regular
/// expression; null: there is no such list. Those that PEFT has too are named as in its constants.py.
struct FamilySpec {
  std::string model_type;            // in config.json
  std::vector<HeadSpec> heads = {};  // that it may be loaded with; the first one where nobody says which
  std::string word_embeddings = {};  // their module

  Json lora_target_modules = {};     // the default of every method that asks for nothing else
  Json adalora_target_modules = {};  // null: LoRA's
  Json ia3_target_modules = {};
  Json ia3_feedforward_modules = {};  // those whose input IA3 scales
  Json sublayer_outputs = {};         // what is added to the residual sum, after the model's dropout
  Json feedforward_outputs = {};      // those of them that end a feed-forward sublayer

  std::function<std::unique_ptr<Model>(const FamilyInput&)> load = {};
  const GgufForm* gguf = nullptr;  // how its checkpoints stand in GGUF files (deltaw/gguf.h); null: they do not
  /// Of a family that another one loads, with other keys: makes of its config.json one that `load` reads. None:
  /// config.json is read as it is.
  std::function<Json(Json config)> settled = {};

  /// Parts of module names, and what transformers 5 has in their place in memory, replaced in this order. PEFT's
  /// adapters name modules so, while checkpoints keep the names that they had. "a|b" in the place of a name says that
  /// the layer is two there, so that no adapter of one of them is an adapter of the layer.
  std::vector<std::pair<std::string, std::string>> names_in_memory = {};

  bool is_decoder = false;  // a token sees none after it

  /// The head for a task_type, or null.
  const HeadSpec* head(const std::string& task_type) const;
};

/// All families, by model_type: the built-in ones and those registered from outside.
std::vector<const FamilySpec*> family_table();

/// The family of a model_type, or null.
const FamilySpec* find_family(const std::string& model_type);

/// Adds a family from outside the library; `family` must live as long as the program. Throws config.family-exists.
void register_family(const FamilySpec& family);

}  // namespace deltaw
