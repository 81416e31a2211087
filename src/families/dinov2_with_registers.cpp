// DINOv2 with registers (Darcet et al. 2023, arXiv:2309.16588): tokens that belong to no patch, behind the first one.
#include "models/dinov2.h"

namespace deltaw {
namespace {

std::unique_ptr<Model> load_with_registers(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  const int64_t count = values.has("num_register_tokens") && values.get<int64_t>("num_register_tokens") == 0
                            ? 0
                            : values.size_or("num_register_tokens", 4);
  return load_dinov2(input, {.base = "dinov2_with_registers", .registers = "register_tokens", .register_count = count},
                     /*patch_size=*/16, /*antialiased_positions=*/true);
}

}  // namespace

const FamilySpec& family_dinov2_with_registers() {
  static const FamilySpec spec = dinov2_family({.model_type = "dinov2_with_registers",
                                                .heads = {image_classifier("Dinov2WithRegisters")},
                                                .load = load_with_registers});
  return spec;
}

}  // namespace deltaw
