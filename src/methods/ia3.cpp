// IA3: infused adapter by inhibiting and amplifying inner activations. Liu et al. 2022, arXiv:2205.05638, section 3.3.
//
//   y = l * (W0 x + b)      l [d_out, 1]
//   y = W0 (l * x) + b      l [1, d_in], in the layers that feedforward_modules names; on a Conv2d one number a channel
//
// l starts at one. Trained: d_out, or d_in (channels) in feed-forward layers. Tensors and options as HF PEFT's IA3;
// differs from it in nothing.
#include <algorithm>

#include "core/patterns.h"
#include "deltaw/method.h"

namespace deltaw {
namespace {

class Ia3 final : public Method {
 public:
  struct Options {
    Json feedforward_modules;
    bool init_ia3_weights = true;

    void fields(FieldVisitor& f) {
      f.field("feedforward_modules", feedforward_modules,
              "Layers whose input is scaled: endings of names, or a regular expression; null for the model's own.");
      f.field("init_ia3_weights", init_ia3_weights, "Start at one; false draws from N(0, 1), for tests.");
    }
  };
  explicit Ia3(Options options) : options_(std::move(options)) {
    const Json& modules = options_.feedforward_modules;
    const auto named = [](const Json& entry) { return entry.is_string(); };
    const bool list = modules.is_array() && std::all_of(modules.begin(), modules.end(), named);
    refuse_unless(modules.is_null() || modules.is_string() || list, "feedforward_modules", modules,
                  "a list of names or an expression");
  }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    const bool input = scales_input(layer);
    Tensor l = at::ones({input ? 1 : layer.d_out, input ? layer.channels() : 1}, at::kFloat);
    if (!options_.init_ia3_weights) l.normal_(0, 1, generator);
    return {{.name = "ia3_l", .file_name = "ia3_l", .value = l, .file_shape = layer.conv_shape({1, -1, 1, 1})}};
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    const Tensor l = p["ia3_l"].flatten();
    if (scales_input(layer)) return {.in_gain = l.repeat_interleave(layer.kernel_area())};
    return {.out_gain = l, .gain_on_bias = true};
  }

 private:
  bool scales_input(const LayerInfo& layer) const {
    const Json& modules = options_.feedforward_modules;
    if (modules.is_null()) return layer.feed_forward;
    if (modules.is_string()) return full_match(modules.get<std::string>(), layer.name);
    return std::any_of(modules.begin(), modules.end(),
                       [&](const Json& ending) { return layer.name.ends_with(ending.get<std::string>()); });
  }

  Options options_;
};

}  // namespace

const MethodSpec& method_ia3() {
  static const MethodSpec spec = make_spec<Ia3>({
      .id = "ia3",
      .title = "IA3",
      .paper = "arXiv:2205.05638",
      .peft_type = "IA3",
      .in_peft = PeftSupport{.kinds = {LayerKind::conv1d, LayerKind::conv2d},
                             .lacking_keys = {"trainable_token_indices", "layers_to_transform", "layers_pattern"}},
      .default_targets = &FamilySpec::ia3_target_modules,
      .parameter_count = "d_out, or d_in in feed-forward layers",
      .count = [](const LayerInfo& l, const Json&) { return l.feed_forward ? l.channels() : l.d_out; },
  });
  return spec;
}

}  // namespace deltaw
