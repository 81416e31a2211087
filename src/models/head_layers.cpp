#include "models/head_layers.h"

#include <memory>

#include "ops/activations.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

namespace deltaw {

HeadLayers& HeadLayers::dropout(double p) {
  steps_.emplace_back([p](const Tensor& x, Call& call) { return ops::dropout(x, p, call); });
  return *this;
}

HeadLayers& HeadLayers::linear(const Linear* layer) {
  steps_.emplace_back([layer](const Tensor& x, Call& call) { return ops::linear(x, *layer, call); });
  return *this;
}

HeadLayers& HeadLayers::tanh() {
  steps_.emplace_back([](const Tensor& x, Call& /*call*/) { return at::tanh(x); });
  return *this;
}

HeadLayers& HeadLayers::activation(const std::string& name, const char* key) {
  const auto act = std::make_shared<const ops::Activation>(name, key);
  steps_.emplace_back([act](const Tensor& x, Call& /*call*/) { return (*act)(x); });
  return *this;
}

HeadLayers& HeadLayers::norm(const Norm* norm) {
  steps_.emplace_back([norm](const Tensor& x, Call& call) { return ops::normalised(x, *norm, call); });
  return *this;
}

HeadLayers& HeadLayers::softcap(double cap) {
  steps_.emplace_back([cap](const Tensor& x, Call& /*call*/) { return at::tanh(x / cap) * cap; });
  return *this;
}

HeadLayers& HeadLayers::last(Loader& load, int64_t labels, int64_t d_in, double std, double p, double answers_p) {
  const HeadSpec& spec = load.head_spec();
  const int64_t rows = spec.has_labels() ? labels : spec.outputs;
  return dropout(spec.has_labels() ? p : answers_p).linear(load.head(spec.module, rows, d_in, std));
}

Tensor HeadLayers::operator()(Tensor x, Call& call) const {
  for (const auto& step : steps_) x = step(x, call);
  return x;
}

HeadLayers row_head(Loader& load, const RowHeadForm& form, int64_t labels, int64_t d, double std) {
  const std::string& weight = load.head_spec().weight;
  HeadLayers layers;
  layers.dropout(form.dense_dropout);
  if (!form.dense.empty()) layers.linear(load.head(form.dense, d, d, std));
  if (form.activation == "tanh") {
    layers.tanh();
  } else if (!form.activation.empty()) {
    layers.activation(form.activation, form.activation_key);
  }
  const int64_t rows = load.head_spec().has_labels() ? labels : load.head_spec().outputs;
  layers.dropout(form.dropout).linear(load.head(weight.substr(0, weight.rfind(".weight")), rows, d, std));
  return layers;
}

HeadLayers masked_lm_head(Loader& load, const MaskedLmForm& form, int64_t d, const Embedding& words) {
  const int64_t rows = words.weight.value.size(0), width = words.weight.value.size(1);
  const std::string& decoder = load.head_spec().module;
  HeadLayers layers;
  layers.linear(load.linear(form.dense, width, d))
      .activation(form.activation)
      .norm(load.layer_norm(form.norm, width, form.eps))
      .linear(form.tied ? load.tied_head(decoder, words, form.bias) : load.word_head(decoder, rows, width, form.bias));
  return layers;
}

}  // namespace deltaw
