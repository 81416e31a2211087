#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>

#include "core/memory.h"
#include "deltaw/family.h"
#include "deltaw/run.h"
#include "ops/attention/attention_kernel.h"
#include "ops/quantised.h"
#include "train/trainer_inputs.h"

namespace deltaw {
namespace {

// What a run of a tiny model takes, measured: 76 MiB of code that is run, 56 of libtorch's and the tokenizer's small
// objects, the rest for buffers of the linear algebra.
constexpr double kProgram = 150.0 * (1 << 20);
// A row's numbers stand in int64, with the text that they came from.
constexpr double kBytesOfToken = 24;

/// The first whole number among the parts of a name: "bert.encoder.layer.3.output" -> 3; -1 where there is none.
int64_t block_of(const std::string& name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    if (!part.empty() && part.size() < 9 &&
        std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; })) {
      return std::stoll(part);
    }
    begin = end + 1;
  }
  return -1;
}

bool is_in_attention(const std::string& name) {
  return name.find("attn") != std::string::npos || name.find("attention") != std::string::npos;
}

/// The layers of a block that read one input.
struct Group {
  double d_in = 0;
  double d_out = 0;   // of all of them
  double beside = 0;  // numbers a token that the method itself keeps
  int64_t layers = 0;
  bool trains = false;  // by a method or as it is: the input is kept
  bool whole = false;   // as it is

  void add(const Layer& layer, const Adapter& adapter) {
    d_in = static_cast<double>(layer.view->d_in());
    d_out += static_cast<double>(layer.view->d_out());
    ++layers;
    const AdaptedLayer* adapted = adapter.layer(layer);
    whole |= adapter.overrides(layer.weight);
    trains |= adapted || whole;
    if (adapted) beside += kept_by(*adapted);
  }

 private:
  static double kept_by(const AdaptedLayer& layer) {
    if (layer.method->acts_on_inputs()) return 2 * static_cast<double>(layer.base->view->d_in());
    const Update update = layer.update();
    return update.out_gain.defined() ? static_cast<double>(layer.base->view->d_out()) : 0;  // the output before it
  }
};

/// Numbers a token that the blocks keep for the backward pass, and those that a block works with as it goes back.
struct Kept {
  double block = 0, last_block = 0, working = 0;
};

Kept kept_of(const Model& model, const Adapter& adapter, double longest) {
  Group qkv, out, up, down;
  for (const Layer* layer : model.layers()) {
    if (layer->kind == LayerKind::embedding || block_of(layer->name) != 0) continue;
    const bool attention = is_in_attention(layer->name);
    (layer->ends_sublayer ? (attention ? out : down) : (attention ? qkv : up)).add(*layer, adapter);
  }
  const auto hidden = static_cast<double>(model.shape().hidden);
  const double queries = out.d_in, keys = (qkv.d_out - queries) / 2;
  const bool rotates = model.config().contains("rope_theta") || model.config().contains("rope_parameters");

  Kept kept;
  // A norm keeps what it reads: the residual sum in most places.
  for (const Norm& norm : model.norms()) {
    if (block_of(norm.name) != 0) continue;
    const auto width = static_cast<double>(norm.weight.numel());
    const bool of_keys = norm.name.find("k_norm") != std::string::npos;
    kept.block += width == hidden ? hidden : of_keys ? keys : queries;
  }
  // Attention keeps q, k, v and two float32 a query; turned ones are not those that a fused layer gave.
  const double normalisers =
      2.0 * static_cast<double>(model.shape().heads) * 4 / static_cast<double>(at::elementSize(model.dtype()));
  kept.block += qkv.d_out + normalisers + (rotates && qkv.layers == 1 ? queries + keys : 0);
  // Layers that train keep their input, the last one excepted: the activation keeps its own input, and no value. Over
  // long rows attention keeps its output, which is the same tensor.
  const bool keeps_output = out.trains || longest > static_cast<double>(ops::kKeysAtOnce);
  kept.block += (qkv.trains ? qkv.d_in : 0) + (keeps_output ? out.d_in : 0) + (up.trains ? up.d_in : 0) + up.d_out +
                (down.whole ? down.d_in : 0);
  kept.block += qkv.beside + out.beside + up.beside + down.beside;
  // An encoder's last block goes on with the rows' first tokens.
  kept.last_block = model.family() && model.family()->is_decoder ? kept.block : (qkv.trains ? qkv.d_in : 0) + 2 * keys;
  // The activation's value, the gradients of that and of what it reads, and of the residual sum.
  kept.working = (down.trains ? 2 : 1) * down.d_in + up.d_out + 3 * hidden;
  return kept;
}

/// Bytes of capped scores, which attention keeps and works with as matrices [heads, queries, keys] of each row.
struct Scores {
  double block = 0, working = 0;
  double masks = 0;  // of all blocks: with a window and without
};

Scores scores_of(const Model& model, double rows, double longest) {
  if (!model.keeps_scores()) return {};
  const auto element = static_cast<double>(at::elementSize(model.dtype()));
  const double numbers = rows * static_cast<double>(model.shape().heads) * longest * longest;
  // tanh's value, the softmax in float32, and where the model is narrower the probabilities; the gradients of three.
  const double kept = element + 4 + (element < 4 ? element : 0);
  return {.block = numbers * kept, .working = numbers * 3 * 4, .masks = 2 * rows * longest * longest * element};
}

/// Once each, by what they stand in.
double bytes_of(const Adapter& adapter) {
  std::set<const void*> seen;
  double bytes = 0;
  const auto add = [&](const Params& params) {
    for (const Param& param : params.all()) {
      if (param.value.defined() && !param.trained && seen.insert(param.value.storage().data()).second) {
        bytes += static_cast<double>(param.value.nbytes());
      }
    }
  };
  for (const AdaptedLayer* layer : adapter.layers()) add(layer->params);
  add(adapter.shared());
  return bytes + static_cast<double>(adapter.trained_count()) * 3 * 4;  // value and two moments in float32
}

}  // namespace

Json memory_estimate(const LoadedRun& run) {
  const at::NoGradGuard no_grad;
  const Model& model = *run.model;
  const auto element = static_cast<double>(at::elementSize(model.dtype()));
  double base = 0, at_hand = 0;  // of the largest layer that is dequantised, or put in another order, for its turn
  for (const Parameter* parameter : model.parameters()) {
    if (!parameter->tied_to.empty()) continue;
    base += static_cast<double>(parameter->nbytes());
    if (parameter->quantised) at_hand = std::max(at_hand, static_cast<double>(parameter->quantised->bytes_at_hand()));
  }

  const std::vector<int64_t> lengths = costs_of(*run.train());
  const auto longest = static_cast<double>(*std::max_element(lengths.begin(), lengths.end()));
  const double rows = std::min(static_cast<double>(run.settings.train.per_device_train_batch_size),
                               static_cast<double>(lengths.size()));
  const double tokens = rows * longest;
  double stored = 0;
  for (const int64_t length : lengths) stored += static_cast<double>(length) * kBytesOfToken;

  const auto hidden = static_cast<double>(model.shape().hidden), layers = static_cast<double>(model.shape().layers);
  const Kept kept = kept_of(model, *run.adapter, longest);
  const bool again = run.settings.train.gradient_checkpointing;  // blocks keep their input, and one at a time the rest
  const double blocks = again ? layers * hidden : (layers - 1) * kept.block + kept.last_block;
  const Scores scores = scores_of(model, rows, longest);
  const double all_scores = again ? 0 : layers * scores.block;
  double most = blocks + kept.working + (again ? kept.block + hidden : 0);
  double activations = most * tokens * element + all_scores + (again ? scores.block : 0) + scores.working;
  if (const double loss = run.task->loss_bytes(model, tokens); loss > 0) {
    // Before any block has gone back; features and their gradient with them.
    activations = std::max(activations, (blocks + 3 * hidden) * tokens * element + all_scores + loss);
  }
  // Gradients come as blocks go.
  activations = std::max(activations, (kept.block + kept.working) * tokens * element +
                                          static_cast<double>(run.adapter->trained_count()) * 4);
  activations += scores.masks;
  const double adapter = bytes_of(*run.adapter), program = kProgram + stored;
  const int64_t wanted = train::formed_bytes(*run.adapter, run.settings.train, lengths);
  const int64_t formed = train::keeps_formed(wanted, memory_bytes()) ? wanted : 0;
  Json facts = {{"base_bytes", static_cast<int64_t>(base)},
                {"adapter_bytes", static_cast<int64_t>(adapter)},
                {"activation_bytes", static_cast<int64_t>(activations)},
                {"program_bytes", static_cast<int64_t>(program)},
                {"total_bytes", static_cast<int64_t>(base + adapter + activations + program + at_hand) + formed}};
  if (at_hand > 0) facts["dequantised_bytes"] = static_cast<int64_t>(at_hand);
  if (formed > 0) facts["formed_bytes"] = formed;
  return facts;
}

}  // namespace deltaw
