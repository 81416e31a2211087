// What the author of a method needs: the contract between a method and the engine.
//
// A method is a small, pure, differentiable function. From its own tensors on one layer and a view of the frozen layer
// it computes left, right and the gains of the layer's new weight
//
//   W = diag(out_gain) (W0 + scale left diag(middle) right) diag(in_gain)     left [d_out, k]   right [k, d_in]
//
// Some methods have no two thin factors: they return a dense update, or linear maps on activations. A few do not change
// weights at all: they map a layer's output (bottleneck adapters), put tokens before the input (prompt tuning), or
// train the base's own tensors (BitFit).
//
// The engine does everything else: the forward and backward pass in the cheapest order, dropout, dtypes, merging,
// saving, options, help and tests. One source file in methods/ defines one method and `method_<file name>()`; the build
// makes the table from the folder.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltaw/family.h"
#include "deltaw/options.h"

namespace deltaw {

using at::Tensor;

class Quantised;

/// Conv1D is GPT-2's linear layer, which stores its weight transposed.
enum class LayerKind { linear, conv1d, conv2d, embedding };

/// The layer that a method adapts. `name` is the Hugging Face module name. An embedding is a linear layer over one-hot
/// rows: d_in is its number of rows, d_out their width. A Conv2d is a linear layer over the patches of an image: d_in
/// counts the numbers of a patch, channel by channel.
struct LayerInfo {
  std::string name;
  int64_t d_out = 0;
  int64_t d_in = 0;
  LayerKind kind = LayerKind::linear;
  std::array<int64_t, 2> kernel = {1, 1};  // of a Conv2d: rows and columns
  bool feed_forward = false;               // its family names it in ia3_feedforward_modules

  int64_t kernel_area() const { return kernel[0] * kernel[1]; }
  /// The input's channels: d_in on every layer but a Conv2d.
  int64_t channels() const { return d_in / kernel_area(); }
  /// The file_shape of a Param: `shape` on a Conv2d, none on other layers.
  std::vector<int64_t> conv_shape(std::vector<int64_t> shape) const {
    return kind == LayerKind::conv2d ? std::move(shape) : std::vector<int64_t>();
  }
};

/// What a start from data asks for: nothing, the inputs of each layer, or the gradient of its weight. It is measured
/// while the base model runs over calibration rows.
enum class Observations { none, inputs, gradients };

/// What was measured on one linear layer, over its n inputs x [d_in] (one for each token or patch). Tensors are
/// float32, or float64 over a float64 model. `samples` and `rows` are always set; mean, second_moment and largest by
/// Observations::inputs alone, gradient by Observations::gradients alone. A tensor that is not set is undefined.
struct Observed {
  int64_t samples = 0;   // calibration rows
  int64_t rows = 0;      // n
  Tensor mean;           // [d_in]: sum x / n
  Tensor second_moment;  // [d_in, d_in]: sum x x^T / n
  double largest = 0;    // the greatest element of any x
  Tensor gradient;       // [d_out, d_in]: of the loss with respect to W0, mean over the batches
};

/// What a method may ask of the frozen weight W0 [d_out, d_in]. It never hands out W0 itself, so that a quantised
/// weight can stand behind it.
class BaseView {
 public:
  /// `observed`, where given, must outlive the view.
  explicit BaseView(Tensor weight, const Observed* observed = nullptr);
  explicit BaseView(std::shared_ptr<const Quantised> weight, const Observed* observed = nullptr);

  int64_t d_out() const { return d_out_; }
  int64_t d_in() const { return d_in_; }

  /// What the method's needs() asked for; null where an adapter is read from a file.
  const Observed* observed() const { return observed_; }

  /// Euclidean norm of every row of W0: [d_out], at least float32. Computed once.
  const Tensor& row_norms() const;
  /// The product W0 right, for right [d_in, n]: [d_out, n] in the wider of the two types.
  Tensor times(const Tensor& right) const;

  struct Svd {
    Tensor U;   // [d_out, r]
    Tensor S;   // [r], falling
    Tensor Vt;  // [r, d_in]
  };
  /// The r leading singular triplets of W0, float32. r must not exceed the smaller side.
  Svd svd(int64_t r) const;
  /// Nearly the same in a fraction of the time, by a randomised range finder with `iterations` subspace iterations
  /// (Halko et al. 2011, arXiv:0909.4061, algorithm 4.4).
  Svd svd_lowrank(int64_t r, int64_t iterations, at::Generator& generator) const;
  /// Q [d_out, r] and R [r, d_in]: the leading part of W0 = Q R.
  std::pair<Tensor, Tensor> qr(int64_t r) const;

 private:
  Tensor weight() const;  // W0 for one use

  Tensor weight_;  // or quantised:
  std::shared_ptr<const Quantised> quantised_;
  int64_t d_out_, d_in_;
  const Observed* observed_ = nullptr;
  mutable std::once_flag norms_once_;
  mutable Tensor norms_;
};

/// One tensor of a method. `file_name` follows the module's name in adapter_model.safetensors.
struct Param {
  std::string name;
  std::string file_name;
  Tensor value;
  bool trained = true;
  bool saved = true;  // false: it follows from the base and the options, and is made again on loading
  double rate = 1;    // its learning rate is so many times the run's
  /// The tensor's shape in the file where it is another one there. One size may be -1: it follows from the others.
  std::vector<int64_t> file_shape = {};
  bool may_lack = false;        // a file may be without it: then there is a warning, and the declared value stays
  bool turned = false;          // value is the transpose of what the name says: the other factor of a tied layer
  std::string other_name = {};  // a file may have this name in place of file_name
};

/// The tensors of a method on one layer (or shared by all), in the order of their declaration.
class Params {
 public:
  Params() = default;
  explicit Params(std::vector<Param> params) : params_(std::move(params)) {}

  /// The tensor called `name`, which must exist.
  const Tensor& operator[](std::string_view name) const;
  /// The same; its transpose where it is `turned`.
  Tensor matrix(std::string_view name) const;
  const std::vector<Param>& all() const { return params_; }
  std::vector<Param>& all() { return params_; }
  bool empty() const { return params_.empty(); }
  /// The values of those that train, in the same order.
  std::vector<Tensor> trained() const;

 private:
  std::vector<Param> params_;
};

/// A linear map on activations, [rows, from] -> [rows, to], in the activations' type.
using Operator = std::function<Tensor(const Tensor&)>;

/// What a method returns for one layer. An undefined tensor means that the method has none: no factors, gains of one.
struct Update {
  Tensor left;    // [d_out, k]
  Tensor middle;  // [k]; apart, since multiplying it into a frozen factor would cost more products
  Tensor right;   // [k, d_in]
  double scale = 1;
  Tensor dense;               // [d_out, d_in], added to left right
  Tensor out_gain;            // [d_out]
  Tensor bias;                // [d_out], added to the layer's bias, times scale
  Tensor in_gain;             // [d_in]
  bool gain_on_bias = false;  // out_gain multiplies the layer's bias too

  // Only from a method whose acts_on_inputs() is true: y = W0 before(x) + scale beside(x) + bias.
  Operator before;  // d_in -> d_in
  Operator beside;  // d_in -> d_out

  /// The same update with the middle gain multiplied into the right factor.
  Update in_two_factors() const;
};

/// A tensor with an entry, or several, for each rank component.
struct Scored {
  std::string param;
  int64_t axis = 0;  // the axis that counts the rank components
};

/// A method with a rank budget says this: the engine scores, prunes and regrows the components of all layers together.
struct RankBudget {
  Scored gate;                 // zero here switches a component off
  std::vector<Scored> scored;  // every tensor with a rank axis, the gate included
  int64_t init_rank = 0;       // components per layer at the start
  int64_t target_rank = 0;     // mean components per layer at the end
  int64_t tinit = 0;           // steps before the first pruning
  int64_t tfinal = 0;          // steps after the last
  int64_t delta_t = 1;         // steps between prunings
  double beta1 = 0.85;
  double beta2 = 0.85;
  int64_t total_step = 0;                // 0: the trainer's
  std::string pattern = "rank_pattern";  // the option that records what was kept
  std::string compact = {};              // the option that says that the file holds what compact() made
  /// False: nothing is pruned, since gates fall to zero by themselves. Dead components are left out of the file.
  bool allocated = true;
};

/// The shape of a Transformer, for methods that put tokens before its input.
struct ModelShape {
  int64_t layers = 0, hidden = 0, heads = 0;
  int64_t prefix_heads = 0, prefix_width = 0;  // heads of a layer's keys, and their numbers together
  Tensor word_embeddings;                      // [vocabulary, hidden], to start from
  /// The token ids of a text, with special tokens, by the tokenizer of a folder or hub name; by the model's own where
  /// that is empty. Empty where an adapter is read from a file.
  std::function<std::vector<int64_t>(const std::string& text, const std::string& tokenizer)> token_ids = {};
};

/// Trained vectors that stand before the tokens of every row. One of the two is defined.
struct VirtualTokens {
  Tensor embeddings;  // [n, hidden]: before the word embeddings; they go through every layer
  Tensor prefix;      // [n, layers, 2, prefix_width]: keys and values, before those of each layer's attention
  int64_t count() const { return embeddings.defined() ? embeddings.size(0) : prefix.defined() ? prefix.size(0) : 0; }
};

/// What a start from data asks for, and from how many rows.
struct CalibrationNeeds {
  Observations what = Observations::none;
  int64_t samples = 0;
};

/// What a method decides for all layers together, from what was observed on each.
struct Allotment {
  Json options = Json::object();      // they replace the adapter's: {"rank_pattern": {...}}
  std::vector<std::string> left_out;  // names of layers that get nothing
};

class Method {
 public:
  virtual ~Method() = default;

  /// The tensors of one layer with their initial values, float32, drawn from `generator`.
  virtual std::vector<Param> declare(const LayerInfo& layer, const BaseView& base, at::Generator& generator) const = 0;

  /// The update of one layer. It must be differentiable in the trained tensors of `params`, and is called again in the
  /// backward pass.
  virtual Update update(const LayerInfo& layer, const Params& params, const BaseView& base) const = 0;

  /// Probability that an element of the adapter's input is zeroed in training.
  virtual double dropout() const { return 0; }

  // Hooks. A method that needs none writes none.

  /// Throws for options with which nothing would train, or something else than they say. Called before training only:
  /// an adapter that is read may have them.
  virtual void check_training(const std::vector<LayerInfo>& /*layers*/) const {}

  /// What is to be observed before an adapter is created, so that declare() finds it in its view.
  virtual CalibrationNeeds needs() const { return {}; }
  /// Called after observing and before declare(); observed[i] belongs to layers[i].
  virtual Allotment allot(const std::vector<LayerInfo>& /*layers*/, const std::vector<Observed>& /*observed*/) const {
    return {};
  }

  /// Frozen tensors that all layers share and that the file holds once. `layers` are all the adapted ones.
  virtual std::vector<Param> declare_shared(const std::vector<LayerInfo>& /*layers*/) const { return {}; }
  /// Called with the shared tensors, drawn or read from a file, before any update().
  virtual void use_shared(const Params& /*shared*/) {}
  /// False: the file does not hold the shared tensors. They are drawn again on loading and compared by hash.
  virtual bool saves_shared() const { return true; }

  /// A scalar that is added to the loss, differentiable in the trained tensors of all layers; undefined for none.
  virtual Tensor penalty(const std::vector<const Params*>& /*layers*/) const { return {}; }

  virtual std::optional<RankBudget> rank_budget() const { return std::nullopt; }
  /// For the file: the same update in fewer numbers. Asked of layers that have lost components; `params` is without
  /// these already.
  virtual Params compact(const LayerInfo& /*layer*/, Params params) const { return params; }

  /// True: update() returns operators.
  virtual bool acts_on_inputs() const { return false; }
  /// Of a method that acts on sublayer outputs: maps the layer's output [..., d_out], after the model's dropout and
  /// before the residual sum. It need not be linear. `params` may be of a wider type than `output`.
  virtual Tensor map_output(const LayerInfo& /*layer*/, const Params& /*params*/, const Tensor& output) const {
    return output;
  }

  /// Of a method with virtual tokens: the trained tensors of the whole model. No module's name stands before their
  /// file names.
  virtual std::vector<Param> declare_whole(const ModelShape& /*model*/, at::Generator& /*generator*/) const {
    return {};
  }
  virtual VirtualTokens virtual_tokens(const ModelShape& /*model*/, const Params& /*whole*/) const { return {}; }

  /// Changes the gradients of one layer before the optimiser's step (LoRA-FA). They are clipped already.
  virtual void before_step(const LayerInfo& /*layer*/, Params& /*params*/) const {}
  /// Changes the tensors of one layer after the step (SoRA's proximal step).
  virtual void after_step(const LayerInfo& /*layer*/, Params& /*params*/) const {}
  /// False: before_step() and after_step() treat each layer by itself, so that layers cannot share a tensor.
  virtual bool may_share() const { return true; }

  /// The learning rate of the base's vectors that train too (biases, also the head's): so many times the run's.
  virtual double vector_rate() const { return 1; }
  /// The learning rate of the method's tensors on embeddings; 0: the run's.
  virtual double embedding_rate() const { return 0; }
};

/// A short name for a method with options set: "pissa" is lora with init_lora_weights "pissa".
struct Preset {
  std::string id;
  std::string title;
  std::string paper;
  Json options;
};

/// What a method acts on.
enum class ActsOn {
  layers,            // it returns an Update for each
  sublayer_outputs,  // it has a map_output(): only layers that end a sublayer can have it
  virtual_tokens,    // it has tensors of the whole model, and puts virtual tokens before the input
  // Tensors of the base, which train as they are:
  biases,
  norms,
  every_tensor,
};

/// What PEFT's implementation of a method can and cannot do, so that a run can say what PEFT would not read.
struct PeftSupport {
  std::vector<LayerKind> kinds = {};           // of layers that it adapts, beside linear ones
  std::vector<std::string> lacking_keys = {};  // AdapterConfig's keys about layers that its configuration lacks
  std::vector<std::string> unused_keys = {};   // keys that it writes for the method and does not use
  /// What else PEFT refuses or reads differently, in sentences, for these options on these layers.
  std::function<std::vector<std::string>(const Json& options, const std::vector<LayerInfo>& layers)> differences = {};
};

/// A method as the table lists it.
struct MethodSpec {
  std::string id;
  std::string title;
  std::string paper;
  std::string peft_type;                           // in adapter_config.json
  Json peft_settings = Json::object();             // what tells it from others of that peft_type: {"use_dora": true}
  std::vector<std::string> other_peft_types = {};  // files with one of these and with peft_settings hold it too
  std::optional<PeftSupport> in_peft = {};         // none: PEFT has no such method
  /// target_modules where none is given, by what the family says; null: there is no default.
  std::function<Json(const FamilySpec&)> default_targets = &FamilySpec::lora_target_modules;
  std::vector<Preset> presets = {};           // short names of it
  std::vector<std::string> own_options = {};  // unknown to PEFT: in the file only where they are not the default
  bool identity_at_init = true;               // the first forward pass equals the base model's
  std::vector<ActsOn> acts_on = {ActsOn::layers};
  bool ties_factors = false;  // its lora_A and lora_B on a tied head can be the embedding's lora_B and lora_A
  /// Options that say how the method trains and nothing of what its tensors mean; see trains_only().
  std::vector<std::string> training_options = {};
  /// What follows the module's name in its tensors' names in the file, where these end in .weight or .bias: "lora_".
  std::string tensor_prefix = {};
  std::string parameter_count = {};  // per layer, as a formula for the documentation
  std::function<int64_t(const LayerInfo&, const Json& options)> count = {};  // the same, checked by the tests
  /// What is likely to go wrong with these options at this learning rate, one sentence each.
  std::function<std::vector<std::string>(const Json& options, double learning_rate)> likely_mistakes = {};

  std::function<std::vector<FieldInfo>()> options = {};
  std::function<std::unique_ptr<Method>(const Json& options, const std::string& where)> make = {};
  /// Every option, with defaults filled in.
  std::function<Json(const Json& options, const std::string& where)> normalized = {};

  bool on(ActsOn what) const;
  /// Whether layers get tensors of the method.
  bool on_layers() const { return on(ActsOn::layers) || on(ActsOn::sublayer_outputs); }
  bool on_base() const { return on(ActsOn::biases) || on(ActsOn::norms) || on(ActsOn::every_tensor); }
  /// Whether what it trains is a change of weights.
  bool mergeable() const { return !on(ActsOn::sublayer_outputs) && !on(ActsOn::virtual_tokens); }
};

/// Fills in the functions of a spec for a method class that is constructed from its `Options`.
template <class M>
MethodSpec make_spec(MethodSpec spec) {
  using Options = typename M::Options;
  spec.options = [] {
    Options options;
    return describe_fields(fields_of(options));
  };
  spec.make = [](const Json& values, const std::string& where) -> std::unique_ptr<Method> {
    Options options;
    read_fields(fields_of(options), values, where);
    return std::make_unique<M>(options);
  };
  spec.normalized = [](const Json& values, const std::string& where) {
    Options options;
    read_fields(fields_of(options), values, where);
    return write_fields(fields_of(options));
  };
  return spec;
}

/// All methods, by id: the built-in ones and those registered from outside.
std::vector<const MethodSpec*> method_table();

/// By id ("randlora"), preset ("pissa") or PEFT type ("RANDLORA"), in any case. Throws config.unknown-method with the
/// nearest names.
const MethodSpec& find_method(const std::string& name);
/// The preset of that name in any case, or null.
const Preset* find_preset(const std::string& name);

/// Whether an option may change where the training of a finished adapter goes on: dropouts, and what the method lists
/// in training_options.
bool trains_only(const MethodSpec& spec, const std::string& option);

/// Adds a method from outside the library; `spec` must live as long as the program. Throws config.method-exists.
void register_method(const MethodSpec& spec);

}  // namespace deltaw
