#include "io/write_weights.h"

#include <fmt/format.h>

#include "core/files.h"
#include "deltaw/options.h"

namespace deltaw::io {

void write_weights(const std::filesystem::path& folder, const std::vector<TensorBytes>& tensors, int64_t most,
                   const std::string& name) {
  std::vector<std::vector<TensorBytes>> shards(1);
  int64_t total = 0, held = 0;
  for (const TensorBytes& tensor : tensors) {
    const auto size = static_cast<int64_t>(tensor.size());
    if (held > 0 && held + size > most) {
      shards.emplace_back();
      held = 0;
    }
    shards.back().push_back(tensor);
    held += size;
    total += size;
  }
  if (shards.size() == 1) {
    write_safetensors(folder / (name + ".safetensors"), tensors);
    return;
  }
  Json weight_map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string shard = fmt::format("{}-{:05}-of-{:05}.safetensors", name, i + 1, shards.size());
    write_safetensors(folder / shard, shards[i]);
    for (const TensorBytes& tensor : shards[i]) weight_map[tensor.name] = shard;
  }
  write_json(folder / (name + ".safetensors.index.json"),
             {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}});
}

}  // namespace deltaw::io
