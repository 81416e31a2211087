// A frozen base model read from a Hugging Face checkpoint.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/head.h"
#include "deltaw/method.h"
#include "deltaw/options.h"

namespace deltaw {

class ActiveUpdates;
class FixedUpdates;
class FormedWeights;
class Quantised;

/// One frozen tensor of the model. `slot` counts all of them, so that an adapter can stand in for it.
struct Parameter {
  std::string name;  // as in the checkpoint of the whole model: "bert.encoder.layer.0.output.dense.weight"
  /// Never written. Undefined where the module has no such tensor (a linear layer without bias) or it is quantised.
  Tensor value;
  int64_t slot = -1;
  at::ScalarType stored = at::kFloat;  // its type in the checkpoint
  std::string tied_to;                 // the parameter that it shares its tensor with (tied embeddings), or empty
  std::shared_ptr<const Quantised> quantised = nullptr;  // in place of `value`: W0 [d_out, d_in] in any layer

  bool exists() const { return value.defined() || quantised; }
  int64_t numel() const;
  int64_t nbytes() const;  // as it is held
};

/// W0 [d_out, d_in] of a weight as layers of this kind store it, and back.
Tensor matrix_of(LayerKind kind, const Tensor& stored);
Tensor as_stored(const LayerInfo& layer, const Tensor& matrix);

/// A layer that an adapter can change.
struct Layer {
  std::string name;
  LayerKind kind = LayerKind::linear;
  /// W0 [d_out, d_in]. A Conv1D and an embedding store its transpose, a Conv2d [d_out, channels, rows, columns].
  Parameter weight;
  Parameter bias;              // [d_out], or undefined
  int64_t index = -1;          // counts the model's layers
  bool ends_sublayer = false;  // its output, after dropout, is added to the residual sum
  bool feed_forward = false;   // its family names it in ia3_feedforward_modules
  std::unique_ptr<BaseView> view;

  /// W0. A quantised one is dequantised by every call: use the result once, and let no autograd graph keep it.
  Tensor matrix() const;
  BaseView view_with(const Observed* observed) const;
  LayerInfo info() const;
};

struct Linear : Layer {};  // or a Conv1D

/// A linear layer over the patches of an image (ops/conv2d.h); pairs are of rows and columns.
struct Conv2d : Linear {
  std::array<int64_t, 2> stride = {1, 1};
  std::array<int64_t, 2> padding = {0, 0};  // zeros on either side
  std::array<int64_t, 2> dilation = {1, 1};
};

struct Embedding : Layer {
  int64_t padding_idx = -1;  // as torch's: looking this row up gives it no gradient; -1: there is none
};

/// A LayerNorm or, without `centred`, an RMSNorm.
struct Norm {
  std::string name;
  Parameter weight;  // [width]
  Parameter bias;    // [width], or undefined
  double eps = 1e-12;
  bool centred = true;  // the mean is taken off
  double offset = 0;    // added to the weight (Gemma's 1)
};

/// How a layer with factors is computed.
enum class LinearPath {
  automatic,  // whichever of the others takes the fewest multiplications
  sequence,   // x W0^T + scale (x right^T) left^T
  folded,     // W is formed and x multiplied with it; the factors' gradients come from dW
  mixed,      // W is formed and x multiplied with it; the factors' gradients are computed as in sequence
};

/// Sees the input and the output of each linear layer, in a pass without an adapter.
class Observer {
 public:
  virtual ~Observer() = default;
  /// x [..., d_in] and y [..., d_out] of one layer. It may make y require a gradient.
  virtual void see(const Layer& layer, const Tensor& x, Tensor& y) = 0;
};

/// Keys and values of the tokens that a causal model has read, so that the next pass computes only new tokens. All rows
/// of a batch have one length; their padding is masked.
class KeyValueCache {
 public:
  /// Appends a layer's keys and values of the new tokens, [batch, kv_heads, new, width], and returns those of all
  /// tokens. Called for layer 0 first.
  std::pair<Tensor, Tensor> append(int64_t layer, const Tensor& keys, const Tensor& values);
  int64_t length() const { return length_; }  // tokens read, padding included
  /// Keeps these rows of the batch, in this order: [rows] int64.
  void select(const Tensor& rows);

 private:
  struct Entry {
    Tensor keys, values;  // [batch, kv_heads, capacity, width]
  };
  std::vector<Entry> layers_;
  int64_t begin_ = 0, length_ = 0;  // where the current pass's tokens begin and end
};

/// What one forward pass needs besides its input. Which adapter acts is said only here, so that one model can serve
/// several callers at once. Dropout masks follow from seed, step, micro_step and the order of the calls.
struct Call {
  const ActiveUpdates* adapter = nullptr;  // null: the base model
  bool training = false;                   // dropouts act
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t micro_step = 0;
  bool recompute =
      false;  // blocks keep what enters them and run again in the backward pass (ops/gradient_checkpointing.h)
  LinearPath path = LinearPath::automatic;
  Observer* observer = nullptr;     // or none
  KeyValueCache* cache = nullptr;   // or none; of a causal model
  FixedUpdates* fixed = nullptr;    // or none; the adapter's, kept from pass to pass (ops/fixed_updates.h)
  FormedWeights* formed = nullptr;  // or none; of the micro-batches of one step (ops/formed_weights.h)

  int64_t draws = 0;    // dropout masks drawn so far in this pass
  uint64_t next_key();  // of the next mask
};

/// One padded batch on the model's device.
struct ModelInput {
  Tensor input_ids;  // [batch, seq] int64
  /// [batch, seq] int64, on the host: 0 for padding, 1 for tokens. Where a row holds several documents, a token has the
  /// number of its document, from 1: attention stays within a document, and positions start again in each. With a cache
  /// of n tokens it is [batch, n + seq], and a row is one document.
  Tensor attention_mask;
  Tensor token_type_ids;  // [batch, seq] int64, or undefined for zeros
};

/// Rows that were added to the checkpoint's word embeddings, or to a head that is not tied to them.
struct AddedRows {
  Tensor stored;  // [rows, width] as the checkpoint has it
  Tensor added;   // [k, width] in the same type
  Tensor whole() const { return at::cat({stored, added}); }
};

struct ModelOptions {
  /// One that the family has a head for; empty: the head of labels that config.json names, else the family's first.
  std::string task_type = {};
  /// auto (bf16 where the machine computes it natively, else float32), float32, bf16 or float64.
  std::string dtype = "auto";
  int64_t num_labels = 0;                // 0: what config.json says
  std::string problem_type;              // as transformers names it; empty: by config.json, else by num_labels
  std::vector<std::string> label_names;  // empty: what config.json says
  bool ignore_mismatched_sizes = false;  // draw a new head where the checkpoint's has another number of labels
  bool new_head = false;                 // draw one whatever the checkpoint has
  // The frozen linear layers, but for heads, are held in 4 or 8 bits; names as transformers' BitsAndBytesConfig.
  bool load_in_4bit = false;
  bool load_in_8bit = false;
  std::string bnb_4bit_quant_type = "nf4";  // or fp4
  bool bnb_4bit_use_double_quant = false;   // the scales of the 4-bit blocks are quantised too
  /// What products with these layers are computed in: auto (dtype), or int8, for which they are held in 8 bits and what
  /// is multiplied with them is quantised by rows (SwitchBack, arXiv:2304.13013).
  std::string base_compute_dtype = "auto";
  /// Weights that a file holds in blocks of a few bits (GGUF) become numbers of `dtype`; false: linear layers, but for
  /// heads, stay as they are in the mapped file, and every use dequantises them anew.
  bool dequantize = true;
  uint64_t seed = 42;  // of a head that is drawn
  /// The number of rows that a causal model's embeddings and head get where the checkpoint has fewer. Where
  /// `embeddings` has a tensor by the parameter's name, its last rows are the added ones; else each added row is the
  /// mean of the checkpoint's rows.
  int64_t vocab_size = 0;
  std::map<std::string, Tensor> embeddings;

  void fields(FieldVisitor& f);  // task_type, dtype, ignore_mismatched_sizes, those of quantisation, dequantize
};

/// What quantising a model's layers changed: || W - W0 || / || W0 || of a layer, Frobenius norms.
struct QuantisationError {
  std::string type;    // "nf4", "nf4, double quantisation", "int8", "int8, multiplied in int8"
  int64_t layers = 0;  // that are quantised
  double mean = 0, worst = 0;
  std::string worst_layer;
};

class Model {
 public:
  virtual ~Model() = default;

  /// What the head reads: [batch, hidden] where it reads a row, [batch, seq, hidden] where it reads every token.
  virtual Tensor features(const ModelInput& input, Call& call) const = 0;
  /// Logits of features [..., hidden]: [..., labels] or [..., vocabulary].
  virtual Tensor logits(const Tensor& features, Call& call) const = 0;
  /// Whether attention keeps its scores as matrices [heads, queries, keys] for the backward pass.
  virtual bool keeps_scores() const { return false; }
  /// logits() of features(): [batch, labels] of rows, [batch, seq, labels or vocabulary] of tokens.
  Tensor forward(const ModelInput& input, Call& call) const { return logits(features(input, call), call); }

  const std::filesystem::path& folder() const { return folder_; }
  const Json& config() const { return config_; }  // config.json with labels and problem_type filled in
  const std::string& architecture() const { return head_.architecture; }  // transformers' class name
  at::ScalarType dtype() const { return dtype_; }
  at::Device device() const { return at::kCPU; }

  /// The family that loaded it; null where none did.
  const FamilySpec* family() const { return family_; }
  /// The head that it was loaded with.
  const HeadSpec& head_spec() const { return head_; }
  /// PEFT's name for what the model is for; empty where it has none.
  virtual std::string task_type() const { return head_.task_type; }
  bool is_causal() const { return head_.task_type == "CAUSAL_LM"; }
  int64_t vocab_size() const { return vocab_size_; }  // rows of the word embeddings
  /// Rows of the embeddings of token_type_ids; 0 where there are none. With one row, token_type_ids is not read.
  int64_t type_vocab_size() const { return type_vocab_size_; }
  /// By the parameter's name; empty where the vocabulary is the checkpoint's.
  const std::map<std::string, AddedRows>& added_rows() const { return added_rows_; }

  int64_t num_labels() const { return static_cast<int64_t>(labels_.size()); }
  const std::vector<std::string>& label_names() const { return labels_; }
  bool is_regression() const { return regression_; }
  bool is_multi_label() const { return multi_label_; }      // any number of the labels belong to a row
  int64_t max_positions() const { return max_positions_; }  // tokens in the longest input
  /// Whether positions are rows of a table, so that no input can go beyond them.
  bool has_position_table() const { return position_table_; }

  /// What an adapter can change, in the model's order.
  const std::vector<const Layer*>& layers() const { return layers_; }
  const std::deque<Norm>& norms() const { return norms_; }
  const std::vector<const Parameter*>& parameters() const { return parameters_; }
  /// None where no layer is quantised.
  std::optional<QuantisationError> quantisation_error() const;
  /// The names of all modules in order, containers included. target_modules is matched against them.
  const std::vector<std::string>& module_names() const { return modules_; }
  /// Modules of the head that the checkpoint lacks. They are drawn at random, and must be trained and saved.
  const std::vector<std::string>& new_modules() const { return new_modules_; }
  /// The head's module name. One with a weight of its own ("classifier") is saved with every adapter and never
  /// targeted; the vocabulary's ("lm_head") is targeted only where target_modules names it.
  const std::string& head() const { return head_.module; }
  /// That module where it is one layer, else null.
  const Layer* head_layer() const;

  /// What methods with virtual tokens ask for; layers is 0 where the model has no place for them.
  const ModelShape& shape() const { return shape_; }

  /// Writes the labels into config(), and the problem type where the head has one. Called once by load_model.
  void settle_labels(std::string problem_type);

 protected:
  friend class Loader;

  const FamilySpec* family_ = nullptr;
  std::filesystem::path folder_;
  Json config_;
  at::ScalarType dtype_ = at::kFloat;
  std::vector<std::string> labels_;
  bool regression_ = false;
  bool multi_label_ = false;
  int64_t vocab_size_ = 0;
  int64_t type_vocab_size_ = 0;
  std::map<std::string, AddedRows> added_rows_;
  int64_t max_positions_ = 0;
  bool position_table_ = false;
  HeadSpec head_{.task_type = "SEQ_CLS"};
  ModelShape shape_;
  std::deque<Linear> linears_;
  std::deque<Conv2d> convolutions_;
  std::deque<Embedding> embeddings_;
  std::deque<Norm> norms_;
  std::deque<Parameter> tensors_;  // that belong to no layer
  std::vector<const Layer*> layers_;
  std::vector<const Parameter*> parameters_;
  std::vector<std::string> modules_;
  std::vector<std::string> new_modules_;
};

/// Loads a model from a checkpoint folder or a hub name in the local cache, with the head for ModelOptions::task_type.
/// A missing or unexpected tensor is a format.* error, one of a wrong shape a shape.* error. A head that the checkpoint
/// lacks is drawn and listed in new_modules().
std::unique_ptr<Model> load_model(const std::string& model_name_or_path, const ModelOptions& options = {});

/// The task_type of the head that load_model gives a checkpoint, by its config.json and ModelOptions::task_type alone.
/// Throws what load_model throws for a model_type or task_type that is not implemented.
std::string task_type_of(const std::string& model_name_or_path, const std::string& asked = {});

/// The labels of a head.
struct StoredLabels {
  std::vector<std::string> names;  // by config.json, else LABEL_0, LABEL_1 ...
  bool stored = false;             // the checkpoint has weights for them
};

/// What a checkpoint says of the labels of its head for a task, before it is loaded. Throws what load_model throws for
/// its files.
StoredLabels stored_labels(const std::string& model_name_or_path, const std::string& task_type = "SEQ_CLS");

}  // namespace deltaw
