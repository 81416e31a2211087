#include "adapt/adapter_file.h"

#include <ATen/ATen.h>

#include "core/fnv.h"
#include "ops/host_read.h"

namespace deltaw {

std::string hash_of(const Params& shared) {
  Fnv hash;
  for (const Param& param : shared.all()) {
    const Tensor value = ops::host_copy(param.value);
    hash.add(value.const_data_ptr(), value.nbytes());
  }
  return hash.text();
}

Tensor in_file(const Param& param) {
  const Tensor value = param.turned ? param.value.t() : param.value;
  return param.file_shape.empty() ? value : value.reshape(param.file_shape);
}

std::string override_name(const Adapter& adapter, const Parameter& parameter) {
  for (const AdaptedLayer* layer : adapter.layers()) {
    if (layer->base->bias.slot == parameter.slot) return layer->info.name + ".base_layer.bias";
  }
  return parameter.name;
}

std::string tokens_name(const Parameter& parameter) {
  return parameter.name.substr(0, parameter.name.rfind('.')) + ".token_adapter.trainable_tokens_delta";
}

}  // namespace deltaw
