#include "models/dinov2.h"

namespace deltaw {

std::unique_ptr<Model> load_dinov2(const FamilyInput& input, VisionNames names, int64_t patch_size,
                                   bool antialiased_positions) {
  const ConfigValues values = config_of(input);
  VisionConfig config = VisionConfig::from_json(values, patch_size);
  config.layer_norm_eps = values.not_negative_or("layer_norm_eps", 1e-6);
  config.drops_sublayers = false;
  config.drop_path_rate = values.dropout_or("drop_path_rate", 0);
  config.gated = values.get_or("use_swiglu_ffn", false);
  config.antialiased_positions = antialiased_positions;
  const double inner = static_cast<double>(config.hidden_size) * values.positive_or("mlp_ratio", 4);
  if (inner < 1 || inner > 1e9) values.refuse("mlp_ratio", "a number near 4");
  // Two thirds, a multiple of 8: as many numbers as without the gate.
  config.intermediate_size = static_cast<int64_t>(inner);
  if (config.gated) {
    config.intermediate_size =
        (static_cast<int64_t>(static_cast<double>(config.intermediate_size) * 2 / 3) + 7) / 8 * 8;
  }
  names.norm_before = "norm1";
  names.norm_after = "norm2";
  names.intermediate = config.gated ? "mlp.weights_in" : "mlp.fc1";
  names.output = config.gated ? "mlp.weights_out" : "mlp.fc2";
  names.scale_attention = "layer_scale1.lambda1";
  names.scale_output = "layer_scale2.lambda1";
  names.pooler.clear();
  const std::vector<std::string> others = {"embeddings.mask_token"};
  return std::make_unique<VisionFamilyModel>(input, config, names, ImageReads::first_and_mean, others);
}

FamilySpec dinov2_family(FamilySpec own) {
  // Expressions: a model has one of fc2 and weights_out, and each name of a list has to be there.
  const Json outputs = ".*\\.(fc2|weights_out)";
  own.ia3_target_modules = ".*\\.(key|value|fc2|weights_out)";
  own.ia3_feedforward_modules = outputs;
  own.sublayer_outputs = ".*\\.(attention\\.output\\.dense|fc2|weights_out)";
  own.feedforward_outputs = outputs;
  own.names_in_memory = {
      {"attention.attention.query", "attention.q_proj"}, {"attention.attention.key", "attention.k_proj"},
      {"attention.attention.value", "attention.v_proj"}, {"attention.output.dense", "attention.o_proj"},
      {"mlp.weights_in", "mlp.gate_proj|mlp.up_proj"},   {"mlp.weights_out", "mlp.down_proj"}};
  return vision_family(std::move(own));
}

}  // namespace deltaw
