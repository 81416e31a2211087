// Takes a model's tensors out of a checkpoint, one module at a time, strictly.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "deltaw/model.h"
#include "io/checkpoint.h"
#include "models/config_values.h"
#include "models/family_input.h"

namespace deltaw {

/// config.json of the checkpoint or of the part, as the family reads it.
ConfigValues config_of(const FamilyInput& input);

/// What a linear layer is besides its shape.
struct LinearForm {
  bool bias = true;
  LayerKind kind = LayerKind::linear;  // or conv1d, stored [d_in, d_out]
  bool head = false;                   // never quantised
};

/// What a convolution is besides its channels, as torch's Conv2d names it; pairs are of rows and columns.
struct Conv2dForm {
  std::array<int64_t, 2> kernel = {1, 1};
  std::array<int64_t, 2> stride = {1, 1};
  std::array<int64_t, 2> padding = {0, 0};
  std::array<int64_t, 2> dilation = {1, 1};
  int64_t groups = 1;
  std::string padding_mode = "zeros";
  bool bias = true;
};

class Loader {
 public:
  /// `base_prefix` ("bert") is what a checkpoint of the bare base model leaves out of its names. With a head without
  /// tensors the model is that base, so its modules and parameters have names without the prefix, as in transformers.
  /// Where `input` asks for a part, the whole model gets its modules, with the part's scope in place of base_prefix;
  /// checkpoints may have them below both.
  Loader(Model& model, const FamilyInput& input, std::string base_prefix);

  /// What the family says of itself; nothing where there is none.
  const FamilySpec& family() const { return family_; }
  /// The head that is to be loaded.
  const HeadSpec& head_spec() const { return head_; }
  /// Whether a part of another model is loaded: with a pooler, without a head.
  bool is_part() const { return !scope_.empty(); }

  // Each takes the full name, registers the module and returns it; the model owns it.
  const Linear* linear(const std::string& name, int64_t d_out, int64_t d_in, const LinearForm& form = {});
  /// Never quantised. Throws config.unsupported for more than one group and for padding with anything but zeros.
  const Conv2d* conv2d(const std::string& name, int64_t c_out, int64_t c_in, const Conv2dForm& form = {});
  /// A convolution along the tokens, none of the model's layers(): weight [c_out, c_in / groups, kernel]. Never
  /// quantised.
  const Layer* conv1d(const std::string& name, int64_t c_out, int64_t c_in, int64_t kernel, int64_t groups);
  const Embedding* embedding(const std::string& name, int64_t rows, int64_t width, int64_t padding_idx = -1);
  const Norm* layer_norm(const std::string& name, int64_t width, double eps, bool bias = true);
  const Norm* rms_norm(const std::string& name, int64_t width, double eps, double offset = 0);
  /// One that belongs to no layer.
  const Parameter* tensor(const std::string& name, const std::vector<int64_t>& shape);
  // Of a vocabulary: they may get more rows than the checkpoint has.
  const Embedding* word_embedding(const std::string& name, int64_t rows, int64_t width, int64_t padding_idx = -1);
  const Linear* word_head(const std::string& name, int64_t rows, int64_t width, const std::string& bias = {});
  /// The word embeddings of a model whose head may be the same tensor: a checkpoint may have it under either name.
  const Embedding* tied_embedding(const std::string& name, const std::string& head, int64_t rows, int64_t width,
                                  int64_t padding_idx = -1);
  /// The head that shares the tensor of `table`; one of its own where the checkpoint has another tensor for it.
  /// `bias`: the name of its bias, or empty for none.
  const Linear* tied_head(const std::string& name, const Embedding& table, const std::string& bias = {});

  /// A linear layer of the task's head, never quantised: where the checkpoint lacks it, drawn from N(0, std^2) with
  /// zero bias.
  const Linear* head(const std::string& name, int64_t d_out, int64_t d_in, double std, bool bias = true);
  /// What a part of another model ends with, [width, width], with a bias: drawn where the checkpoint lacks it, as by
  /// head(). Many checkpoints are of a head that does not read it.
  const Linear* pooler(const std::string& name, int64_t width, double std);
  /// A LayerNorm of the task's head: where the checkpoint lacks it, ones and zeros, which nobody has to save.
  const Norm* head_norm(const std::string& name, int64_t width, double eps, bool bias = true);

  /// Ends the loading. Tensors of the checkpoint that nothing took are an error, save those of the family's other heads
  /// and those whose names begin with one of `others` or end with one of `buffers`. Of a part both are kept for the
  /// end of the whole.
  void finish(const std::vector<std::string>& others, const std::vector<std::string>& buffers = {});

 private:
  // What the parts of a model share.
  struct Taken {
    std::set<std::string> tensors, modules;
    std::vector<std::string> others, buffers;
  };

  std::string own_name(const std::string& name) const;
  std::vector<std::string> stored_names(const std::string& name) const;
  bool is_known(const std::string& name, const std::vector<std::string>& others) const;
  Parameter parameter(const std::string& name, const std::vector<int64_t>& shape);
  Parameter quantised(const std::string& name, const std::vector<int64_t>& shape, LayerKind kind);
  Parameter in_blocks(const std::string& name, const std::vector<int64_t>& shape, LayerKind kind);
  const io::TensorBytes& checked(const std::string& name, const std::vector<int64_t>& shape);
  Parameter head_bias(const std::string& name, const std::string& bias, int64_t rows);
  Parameter vocabulary(const std::string& name, const std::string& stored_name, int64_t rows, int64_t width);
  const io::TensorBytes* find(const std::string& name);
  const Linear* add_linear(const std::string& name, Parameter weight, Parameter bias, const LinearForm& form = {});
  const Embedding* add_embedding(const std::string& name, Parameter weight, int64_t padding_idx);
  void add_layer(Layer& layer);
  void add_parameter(Parameter& parameter);
  const Norm* add_norm(Norm norm);
  void add_module(const std::string& name);

  Model& model_;
  FamilySpec family_;
  HeadSpec head_;
  std::shared_ptr<const io::Checkpoint> checkpoint_;
  std::string base_prefix_;
  bool new_head_;
  std::string drawn_head_;
  int64_t vocab_size_;
  std::map<std::string, Tensor> embeddings_;
  std::optional<Quantisation> quantisation_;
  bool dequantize_;
  at::Generator generator_;
  std::shared_ptr<Taken> taken_;
  std::string scope_;  // of a part, with a dot
};

/// A tensor over the mapped file where type and alignment allow, else a copy in `dtype`. `keep` keeps the file mapped.
at::Tensor to_tensor(const io::TensorBytes& bytes, at::ScalarType dtype, std::shared_ptr<const void> keep);

at::ScalarType scalar_type(io::Dtype dtype);
io::Dtype io_dtype(at::ScalarType type);

/// `tensor` must be contiguous and outlive the result.
io::TensorBytes to_bytes(const std::string& name, const at::Tensor& tensor);

}  // namespace deltaw
