#include "models/attention_pooling.h"

#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

namespace deltaw {

AttentionPooling::AttentionPooling(Loader& load, const std::string& name, const Form& form) : form_(form) {
  const int64_t d = form.width;
  probe_ = load.tensor(name + ".probe", {1, 1, d});
  in_weight_ = load.tensor(name + ".attention.in_proj_weight", {3 * d, d});
  in_bias_ = load.tensor(name + ".attention.in_proj_bias", {3 * d});
  out_ = load.linear(name + ".attention.out_proj", d, d);
  norm_ = load.layer_norm(name + ".layernorm", d, form.eps);
  feed_forward_ = {.inner = {load.linear(name + ".mlp.fc1", form.inner, d)},
                   .activation = ops::Activation(form.activation),
                   .output = {.layer = load.linear(name + ".mlp.fc2", d, form.inner)}};
}

Tensor AttentionPooling::operator()(const Tensor& tokens, Call& call) const {
  const int64_t d = form_.width, width = d / form_.heads;
  const auto value = [&](const Parameter& parameter) { return ops::value_of(parameter, call, tokens.scalar_type()); };
  const Tensor weight = value(*in_weight_), bias = value(*in_bias_);
  const auto heads = [&](const Tensor& x) { return x.unflatten(-1, {-1, width}).transpose(1, 2); };
  const Tensor query = at::linear(value(*probe_), weight.narrow(0, 0, d), bias.narrow(0, 0, d));
  const auto both = at::linear(tokens, weight.narrow(0, d, 2 * d), bias.narrow(0, d, 2 * d)).chunk(2, -1);
  const Tensor mixed =
      ops::attention(heads(query.expand({tokens.size(0), -1, -1})), heads(both[0]), heads(both[1]), {}, {}, call);
  const Tensor x = ops::linear(mixed.transpose(1, 2).flatten(2).squeeze(1), *out_, call);
  return x + feed_forward_(ops::normalised(x, *norm_, call), call);
}

}  // namespace deltaw
