// What lies in an adapter's folder, looked at before any of it is believed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/options.h"
#include "io/tensor_file.h"

namespace deltaw {

class Model;

/// One adapter of several that act together, as adapter_config.json lists it.
struct PartEntry {
  std::filesystem::path folder;
  double weight = 1;
  bool frozen = false;
};

struct AdapterFolder {
  std::filesystem::path path;
  Json config;                   // adapter_config.json, an object, less what acts in PEFT's training only
  std::vector<PartEntry> parts;  // of several that act together; empty for a single adapter
  /// Of a LoRA of an image model (adapt/lora_file.h), which has no config and may stand in any folder; else empty.
  std::filesystem::path lora_file = {};

  std::filesystem::path config_file() const { return lora_file.empty() ? path / "adapter_config.json" : lora_file; }
};

/// Opens a folder, or the LoRA file of an image model. Throws config.no-adapter for what is no adapter, naming what it
/// is instead, and format.bad-adapter for a config that is no object, or whose parts are not folders of single adapters
/// inside this one.
AdapterFolder open_adapter_folder(const std::filesystem::path& folder);

/// Whether Adapter::save writes a file of this name, or a folder as of a part: of other kinds of adapter likewise.
bool is_adapter_name(const std::string& name);
/// Whether a reader of models or adapters takes such a file for weights or a configuration: a folder that gets new ones
/// may hold no others.
bool is_read_as_model(const std::string& name);

/// The tensors of a single adapter, by the names of its file.
io::TensorFile open_adapter_tensors(const AdapterFolder& folder);

/// The config and the tensors of a single adapter as PEFT has them, those of a LoRA file by the names of `model`.
struct AdapterContents {
  Json config;
  io::TensorFile tensors;
};
AdapterContents open_adapter_contents(const AdapterFolder& folder, const Model& model);

/// n of the name checkpoint-<n>; nothing for another name.
std::optional<int64_t> checkpoint_step(const std::string& name);

}  // namespace deltaw
