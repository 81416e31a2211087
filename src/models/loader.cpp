#include "models/loader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>

#include "core/log.h"
#include "core/patterns.h"
#include "deltaw/error.h"
#include "io/decode.h"
#include "models/gguf.h"
#include "models/legacy_names.h"
#include "ops/gguf_weight.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

void check_form(const std::string& name, const Conv2dForm& form) {
  const auto refuse = [&](const std::string& what) {
    throw Error({.id = "config.unsupported",
                 .what = "a Conv2d with " + what,
                 .where = name,
                 .fix = "deltaw has convolutions of one group, padded with zeros"});
  };
  if (form.groups != 1) refuse(fmt::format("groups = {}", form.groups));
  if (form.padding_mode != "zeros") refuse(fmt::format("padding_mode = \"{}\"", form.padding_mode));
  for (size_t i = 0; i < 2; ++i) {
    if (form.kernel[i] < 1 || form.stride[i] < 1 || form.dilation[i] < 1 || form.padding[i] < 0) {
      refuse(fmt::format("kernel {}, stride {}, dilation {} and padding {}", form.kernel[i], form.stride[i],
                         form.dilation[i], form.padding[i]));
    }
  }
}

/// Whether nobody has written the weights: a configuration stands in their place (new_model).
bool is_new(const io::Checkpoint& checkpoint) {
  return checkpoint.files().front().path().filename() == "config.json";
}

/// As torch draws a Linear or a Conv2d.
void draw(Parameter& weight, Parameter& bias, at::Generator& generator) {
  const double bound = 1 / std::sqrt(static_cast<double>(weight.value.numel() / weight.value.size(0)));
  weight.value.uniform_(-bound, bound, generator);
  if (bias.exists()) bias.value.uniform_(-bound, bound, generator);
}

std::string without(const std::string& prefix, const std::string& name) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

// [1, width], summed in float64, a few rows at a time.
Tensor mean_row(const Tensor& table) {
  Tensor sum = at::zeros({1, table.size(1)}, at::kDouble);
  for (const Tensor& rows : table.split(4096)) sum += rows.to(at::kDouble).sum(0, /*keepdim=*/true);
  return (sum / table.size(0)).to(table.scalar_type());
}

}  // namespace

at::ScalarType scalar_type(io::Dtype dtype) {
  if (io::is_block_type(dtype)) return at::kFloat;  // what it is decoded to
  switch (dtype) {
    case io::Dtype::f64:
      return at::kDouble;
    case io::Dtype::f32:
      return at::kFloat;
    case io::Dtype::f16:
      return at::kHalf;
    case io::Dtype::bf16:
      return at::kBFloat16;
    case io::Dtype::i64:
      return at::kLong;
    case io::Dtype::i32:
      return at::kInt;
    case io::Dtype::i16:
      return at::kShort;
    case io::Dtype::i8:
      return at::kChar;
    case io::Dtype::u8:
      return at::kByte;
    case io::Dtype::boolean:
      return at::kBool;
    default:
      break;
  }
  throw Error({.id = "internal.dtype", .what = "unknown dtype", .where = "scalar_type", .fix = "please report this"});
}

io::Dtype io_dtype(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return io::Dtype::f64;
    case at::kFloat:
      return io::Dtype::f32;
    case at::kHalf:
      return io::Dtype::f16;
    case at::kBFloat16:
      return io::Dtype::bf16;
    case at::kLong:
      return io::Dtype::i64;
    case at::kInt:
      return io::Dtype::i32;
    case at::kShort:
      return io::Dtype::i16;
    case at::kChar:
      return io::Dtype::i8;
    case at::kByte:
      return io::Dtype::u8;
    case at::kBool:
      return io::Dtype::boolean;
    default:
      break;
  }
  throw Error({.id = "internal.dtype",
               .what = fmt::format("tensors of type {} cannot be stored", at::toString(type)),
               .where = "io_dtype",
               .fix = "please report this"});
}

io::TensorBytes to_bytes(const std::string& name, const at::Tensor& tensor) {
  return {.name = name,
          .dtype = io_dtype(tensor.scalar_type()),
          .shape = tensor.sizes().vec(),
          .data = static_cast<const std::byte*>(tensor.const_data_ptr())};
}

at::Tensor to_tensor(const io::TensorBytes& bytes, at::ScalarType dtype, std::shared_ptr<const void> keep) {
  const at::ScalarType stored = scalar_type(bytes.dtype);
  const auto address = reinterpret_cast<uintptr_t>(bytes.data);
  auto* data = const_cast<std::byte*>(bytes.data);
  if (bytes.count() == 0) return at::empty(bytes.shape, at::TensorOptions().dtype(dtype));
  if (!bytes.is_plain()) {
    at::Tensor numbers = at::empty(bytes.shape, at::kFloat);
    io::decode(bytes, {numbers.mutable_data_ptr<float>(), static_cast<size_t>(numbers.numel())});
    return numbers.to(dtype);
  }
  if (address % io::dtype_size(bytes.dtype) != 0) {
    at::Tensor copy = at::empty(bytes.shape, at::TensorOptions().dtype(stored));
    std::copy_n(bytes.data, bytes.size(), static_cast<std::byte*>(copy.mutable_data_ptr()));
    return copy.to(dtype);
  }
  // The pages are mapped read-only: a write into a frozen weight would be a fault, not a silent change.
  return at::from_blob(
             data, bytes.shape, [keep](void*) {}, at::TensorOptions().dtype(stored))
      .to(dtype);
}

ConfigValues config_of(const FamilyInput& input) {
  const Json& config = input.part ? input.part->config : input.checkpoint->config();
  const bool settled = input.family && input.family->settled;
  return {settled ? input.family->settled(config) : config,
          input.part ? input.part->where : config_file(input.checkpoint->folder()).string()};
}

Loader::Loader(Model& model, const FamilyInput& input, std::string base_prefix)
    : model_(input.part ? input.part->whole->model_ : model),
      family_(input.family ? *input.family : FamilySpec()),
      head_(input.head),
      checkpoint_(input.checkpoint),
      base_prefix_(std::move(base_prefix) + "."),
      new_head_(input.new_head),
      drawn_head_(input.drawn_head),
      vocab_size_(input.vocab_size),
      embeddings_(input.embeddings),
      quantisation_(input.quantisation),
      dequantize_(input.dequantize),
      generator_(at::make_generator<at::CPUGeneratorImpl>(input.seed)),
      taken_(input.part ? input.part->whole->taken_ : std::make_shared<Taken>()),
      scope_(input.part ? input.part->scope + "." : "") {
  model.folder_ = checkpoint_->folder();
  model.config_ = input.part ? input.part->config : checkpoint_->config();
  model.dtype_ = input.dtype;
  model.labels_ = input.labels;
  model.family_ = input.family;
  model.head_ = head_;
}

// The name that the model has for what is `name` where there is a head with tensors.
std::string Loader::own_name(const std::string& name) const {
  if (is_part()) return scope_ + without(base_prefix_, name);
  return head_.module.empty() ? without(base_prefix_, name) : name;
}

// What a checkpoint may call it.
std::vector<std::string> Loader::stored_names(const std::string& name) const {
  std::vector<std::string> names{name};
  if (const std::string legacy = legacy_name(name); !legacy.empty()) names.push_back(legacy);
  const size_t full = names.size();
  for (size_t i = 0; i < full; ++i) {
    if (names[i].starts_with(base_prefix_)) names.push_back(names[i].substr(base_prefix_.size()));
  }
  for (std::string& candidate : names) candidate.insert(0, scope_);
  return names;
}

const io::TensorBytes* Loader::find(const std::string& name) {
  for (const std::string& candidate : stored_names(name)) {
    if (const io::TensorBytes* bytes = checkpoint_->find(candidate)) {
      taken_->tensors.insert(candidate);
      return bytes;
    }
  }
  return nullptr;
}

const io::TensorBytes& Loader::checked(const std::string& name, const std::vector<int64_t>& shape) {
  const io::TensorBytes* bytes = find(name);
  if (!bytes) {
    const std::string own = is_part() ? own_name(name) : name, near = suggest_names(own, checkpoint_->names());
    throw Error({.id = "format.missing-tensor",
                 .what = fmt::format("the checkpoint has no tensor '{}'{}", own, near.empty() ? "" : "; " + near),
                 .where = checkpoint_->folder().string(),
                 .fix = "use a checkpoint of the model_type that config.json names, or mend config.json"});
  }
  if (bytes->shape != shape) {
    throw Error({.id = "shape.mismatch",
                 .what = fmt::format("tensor '{}' is [{}], config.json makes it [{}]", bytes->name,
                                     fmt::join(bytes->shape, ", "), fmt::join(shape, ", ")),
                 .where = checkpoint_->file_of(bytes->name).string(),
                 .fix = "the weights and config.json are of different models: take both from one checkpoint"});
  }
  if (!at::isFloatingType(scalar_type(bytes->dtype))) {
    throw Error({.id = "format.unsupported",
                 .what = fmt::format("tensor '{}' is of type {}", bytes->name, io::dtype_name(bytes->dtype)),
                 .where = checkpoint_->file_of(bytes->name).string(),
                 .fix = "use an unquantised checkpoint (F32, F16 or BF16)"});
  }
  return *bytes;
}

Parameter Loader::parameter(const std::string& name, const std::vector<int64_t>& shape) {
  if (is_new(*checkpoint_)) return {.name = name, .value = at::zeros(shape, model_.dtype_), .stored = model_.dtype_};
  const io::TensorBytes& bytes = checked(name, shape);
  const at::ScalarType stored = scalar_type(bytes.dtype);
  Parameter result{.name = name, .value = to_tensor(bytes, model_.dtype_, checkpoint_), .stored = stored};
  if (stored != model_.dtype_) checkpoint_->release(bytes.name);
  return result;
}

Parameter Loader::quantised(const std::string& name, const std::vector<int64_t>& shape, LayerKind kind) {
  const io::TensorBytes& bytes = checked(name, shape);
  const at::ScalarType stored = scalar_type(bytes.dtype);
  const Tensor W0 = matrix_of(kind, to_tensor(bytes, stored, checkpoint_));  // one layer at a time leaves the file
  auto weight = std::make_shared<const BnbQuantised>(W0, *quantisation_, model_.dtype_);
  if (!std::isfinite(*weight->relative_error())) {
    throw Error(
        {.id = "numeric.non-finite",
         .what = fmt::format("tensor '{}' holds values that are not finite and cannot be quantised", bytes.name),
         .where = checkpoint_->file_of(bytes.name).string(),
         .fix = "the checkpoint is broken: take it from its source again"});
  }
  checkpoint_->release(bytes.name);
  return {.name = name, .stored = stored, .quantised = std::move(weight)};
}

Parameter Loader::in_blocks(const std::string& name, const std::vector<int64_t>& shape, LayerKind kind) {
  const io::TensorBytes& bytes = checked(name, shape);
  auto weight = std::make_shared<const GgufWeight>(bytes, kind, model_.dtype_, checkpoint_);
  return {.name = name, .stored = scalar_type(bytes.dtype), .quantised = std::move(weight)};
}

Parameter Loader::vocabulary(const std::string& name, const std::string& stored_name, int64_t rows, int64_t width) {
  Parameter result = parameter(stored_name, {rows, width});
  result.name = name;
  const int64_t more = vocab_size_ - rows;
  if (more <= 0) return result;
  AddedRows added{.stored = to_tensor(*find(stored_name), result.stored, checkpoint_)};
  const auto given = embeddings_.find(name);
  const bool fits = given != embeddings_.end() && given->second.dim() == 2 && given->second.size(1) == width &&
                    (given->second.size(0) == more || given->second.size(0) == vocab_size_);
  added.added = fits ? given->second.narrow(0, given->second.size(0) - more, more).to(result.stored).contiguous()
                     : mean_row(added.stored).expand({more, width}).contiguous();
  result.value = at::cat({result.value, added.added.to(model_.dtype_)});
  model_.config_["vocab_size"] = vocab_size_;
  model_.added_rows_[name] = std::move(added);
  return result;
}

void Loader::add_module(const std::string& name) {
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    if (taken_->modules.insert(name.substr(0, dot)).second) model_.modules_.push_back(name.substr(0, dot));
  }
  if (taken_->modules.insert(name).second) model_.modules_.push_back(name);
}

const Linear* Loader::add_linear(const std::string& name, Parameter weight, Parameter bias, const LinearForm& form) {
  Linear& linear = model_.linears_.emplace_back();
  linear.name = name;
  linear.kind = form.kind;
  linear.weight = std::move(weight);
  linear.bias = std::move(bias);
  linear.ends_sublayer = names_module(family_.sublayer_outputs, name);
  linear.feed_forward = names_module(family_.ia3_feedforward_modules, name);
  add_layer(linear);
  return &linear;
}

const Embedding* Loader::add_embedding(const std::string& name, Parameter weight, int64_t padding_idx) {
  Embedding& table = model_.embeddings_.emplace_back();
  table.name = name;
  table.kind = LayerKind::embedding;
  table.weight = std::move(weight);
  table.padding_idx = padding_idx;
  add_layer(table);
  return &table;
}

void Loader::add_layer(Layer& layer) {
  layer.name = own_name(layer.name);
  add_module(layer.name);
  layer.index = static_cast<int64_t>(model_.layers_.size());
  layer.view.reset(new BaseView(layer.view_with(nullptr)));  // made in place: a view does not move
  model_.layers_.push_back(&layer);
  add_parameter(layer.weight);
  add_parameter(layer.bias);
}

void Loader::add_parameter(Parameter& parameter) {
  parameter.name = own_name(parameter.name);
  parameter.slot = static_cast<int64_t>(model_.parameters_.size());
  model_.parameters_.push_back(&parameter);
}

const Linear* Loader::linear(const std::string& name, int64_t d_out, int64_t d_in, const LinearForm& form) {
  const bool turned = form.kind == LayerKind::conv1d;
  const std::vector<int64_t> shape = turned ? std::vector{d_in, d_out} : std::vector{d_out, d_in};
  const std::string own = name + ".weight";
  const io::TensorBytes* stored = find(own);
  const bool blocks = !dequantize_ && stored && io::is_block_type(stored->dtype);
  Parameter weight = form.head       ? parameter(own, shape)
                     : quantisation_ ? quantised(own, shape, form.kind)
                     : blocks        ? in_blocks(own, shape, form.kind)
                                     : parameter(own, shape);
  Parameter bias = form.bias ? parameter(name + ".bias", {d_out}) : Parameter{.name = name + ".bias"};
  if (is_new(*checkpoint_)) draw(weight, bias, generator_);
  return add_linear(name, std::move(weight), std::move(bias), form);
}

const Conv2d* Loader::conv2d(const std::string& name, int64_t c_out, int64_t c_in, const Conv2dForm& form) {
  check_form(name, form);
  Conv2d& layer = model_.convolutions_.emplace_back();
  layer.name = name;
  layer.kind = LayerKind::conv2d;
  layer.weight = parameter(name + ".weight", {c_out, c_in, form.kernel[0], form.kernel[1]});
  layer.bias = form.bias ? parameter(name + ".bias", {c_out}) : Parameter{.name = name + ".bias"};
  if (is_new(*checkpoint_)) draw(layer.weight, layer.bias, generator_);
  layer.stride = form.stride;
  layer.padding = form.padding;
  layer.dilation = form.dilation;
  add_layer(layer);
  return &layer;
}

const Layer* Loader::conv1d(const std::string& name, int64_t c_out, int64_t c_in, int64_t kernel, int64_t groups) {
  Layer& layer = model_.linears_.emplace_back();
  layer.name = own_name(name);
  layer.weight = parameter(name + ".weight", {c_out, c_in / groups, kernel});
  layer.bias = parameter(name + ".bias", {c_out});
  add_module(layer.name);
  add_parameter(layer.weight);
  add_parameter(layer.bias);
  return &layer;
}

const Parameter* Loader::tensor(const std::string& name, const std::vector<int64_t>& shape) {
  Parameter& tensor = model_.tensors_.emplace_back(parameter(name, shape));
  const std::string own = own_name(name);
  add_module(own.substr(0, own.rfind('.')));
  add_parameter(tensor);
  return &tensor;
}

const Linear* Loader::head(const std::string& name, int64_t d_out, int64_t d_in, double std, bool bias) {
  const io::TensorBytes* stored = find(name + ".weight");
  const bool drawn = name + ".weight" == drawn_head_;
  const bool fits = stored && stored->shape == std::vector<int64_t>{d_out, d_in};
  if (!drawn && (fits || (stored && !new_head_))) return linear(name, d_out, d_in, {.bias = bias, .head = true});
  if (bias) find(name + ".bias");
  model_.new_modules_.push_back(own_name(name));
  const auto options = at::TensorOptions().dtype(at::kFloat);
  const Tensor weight = at::empty({d_out, d_in}, options).normal_(0, std, generator_).to(model_.dtype_);
  const Tensor zeros = bias ? at::zeros({d_out}, options).to(model_.dtype_) : Tensor();
  return add_linear(name, {.name = name + ".weight", .value = weight}, {.name = name + ".bias", .value = zeros});
}

const Linear* Loader::pooler(const std::string& name, int64_t width, double std) {
  return find(name + ".weight") ? linear(name, width, width) : head(name, width, width, std);
}

const Embedding* Loader::embedding(const std::string& name, int64_t rows, int64_t width, int64_t padding_idx) {
  Parameter weight = parameter(name + ".weight", {rows, width});
  if (is_new(*checkpoint_)) weight.value.normal_(0, 1, generator_);
  return add_embedding(name, std::move(weight), padding_idx);
}

const Embedding* Loader::word_embedding(const std::string& name, int64_t rows, int64_t width, int64_t padding_idx) {
  return add_embedding(name, vocabulary(name + ".weight", name + ".weight", rows, width), padding_idx);
}

const Linear* Loader::word_head(const std::string& name, int64_t rows, int64_t width, const std::string& bias) {
  return add_linear(name, vocabulary(name + ".weight", name + ".weight", rows, width), head_bias(name, bias, rows));
}

Parameter Loader::head_bias(const std::string& name, const std::string& bias, int64_t rows) {
  const std::string own = name + ".bias";
  if (bias.empty()) return {.name = own};
  if (!find(own)) return parameter(bias, {rows});
  // Under both names it is one tensor twice, or the decoder's own is what transformers computes with.
  Parameter decoders = parameter(own, {rows});
  if (!find(bias)) return decoders;
  Parameter shared = parameter(bias, {rows});
  return ops::host_equal(shared.value, decoders.value) ? shared : decoders;
}

const Embedding* Loader::tied_embedding(const std::string& name, const std::string& head, int64_t rows, int64_t width,
                                        int64_t padding_idx) {
  const bool under_head = !find(name + ".weight") && find(head + ".weight");
  return add_embedding(name, vocabulary(name + ".weight", (under_head ? head : name) + ".weight", rows, width),
                       padding_idx);
}

const Linear* Loader::tied_head(const std::string& name, const Embedding& table, const std::string& bias) {
  const Tensor& shared = table.weight.value;
  if (find(name + ".weight")) {
    const auto resized = model_.added_rows_.find(table.weight.name);
    const int64_t rows = resized == model_.added_rows_.end() ? shared.size(0) : resized->second.stored.size(0);
    if (!ops::host_equal(parameter(name + ".weight", {rows, shared.size(1)}).value, shared.narrow(0, 0, rows))) {
      log().warn("{}.weight differs from {}, which config.json ties it to: both stay as they are", name,
                 table.weight.name);
      return word_head(name, rows, shared.size(1), bias);
    }
  }
  Parameter weight = table.weight;
  weight.name = name + ".weight";
  weight.tied_to = table.weight.name;
  return add_linear(name, std::move(weight), head_bias(name, bias, shared.size(0)));
}

const Norm* Loader::add_norm(Norm norm) {
  norm.name = own_name(norm.name);
  add_module(norm.name);
  Norm& own = model_.norms_.emplace_back(std::move(norm));
  add_parameter(own.weight);
  add_parameter(own.bias);
  return &own;
}

const Norm* Loader::layer_norm(const std::string& name, int64_t width, double eps, bool bias) {
  const std::string shift = name + ".bias";
  Parameter weight = parameter(name + ".weight", {width});
  if (is_new(*checkpoint_)) weight.value.fill_(1);
  return add_norm({.name = name,
                   .weight = std::move(weight),
                   .bias = bias ? parameter(shift, {width}) : Parameter{.name = shift},
                   .eps = eps});
}

const Norm* Loader::head_norm(const std::string& name, int64_t width, double eps, bool bias) {
  if (find(name + ".weight")) return layer_norm(name, width, eps, bias);
  const auto options = at::TensorOptions().dtype(model_.dtype_);
  return add_norm({.name = name,
                   .weight = {.name = name + ".weight", .value = at::ones({width}, options)},
                   .bias = {.name = name + ".bias", .value = bias ? at::zeros({width}, options) : Tensor()},
                   .eps = eps});
}

const Norm* Loader::rms_norm(const std::string& name, int64_t width, double eps, double offset) {
  return add_norm({.name = name,
                   .weight = parameter(name + ".weight", {width}),
                   .bias = {.name = name + ".bias"},
                   .eps = eps,
                   .centred = false,
                   .offset = offset});
}

// Whether a tensor that nothing took may stand there: it is one of `others`, a part's, or another head's.
bool Loader::is_known(const std::string& name, const std::vector<std::string>& others) const {
  const std::string bare = without(base_prefix_, name);
  const auto begins = [&](const std::string& other) { return name.starts_with(other); };
  return std::any_of(others.begin(), others.end(),
                     [&](const std::string& other) { return begins(other) || bare.starts_with(other); }) ||
         std::any_of(taken_->others.begin(), taken_->others.end(), begins) ||
         std::any_of(family_.heads.begin(), family_.heads.end(), [&](const HeadSpec& head) {
           return head.module != head_.module && !head.module.empty() && begins(head.module + ".");
         });
}

void Loader::finish(const std::vector<std::string>& others, const std::vector<std::string>& buffers) {
  taken_->buffers.insert(taken_->buffers.end(), buffers.begin(), buffers.end());
  if (is_part()) {
    for (const std::string& other : others) {
      for (const std::string& name : stored_names(other)) taken_->others.push_back(name);
      if (!other.starts_with(base_prefix_)) taken_->others.push_back(scope_ + base_prefix_ + other);
    }
    return;
  }
  std::vector<std::string> unexpected;
  for (const std::string& name : checkpoint_->names()) {
    const bool buffer = std::any_of(taken_->buffers.begin(), taken_->buffers.end(),
                                    [&](const std::string& ending) { return ("." + name).ends_with(ending); });
    if (!taken_->tensors.contains(name) && !buffer && !is_known(name, others)) unexpected.push_back(name);
  }
  if (unexpected.empty()) return checkpoint_->check_lengths();
  const size_t shown = std::min<size_t>(unexpected.size(), 5);
  throw Error(
      {.id = "format.unexpected-tensor",
       .what = fmt::format("{} tensors belong to no module of the model: {}{}", unexpected.size(),
                           fmt::join(unexpected.begin(), unexpected.begin() + static_cast<int64_t>(shown), ", "),
                           unexpected.size() > shown ? ", ..." : ""),
       .where = checkpoint_->folder().string(),
       .fix = "check model_type and num_hidden_layers in config.json against the checkpoint"});
}

}  // namespace deltaw
