#include "adapt/gguf_plan.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/log.h"
#include "core/scratch_folder.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "models/gguf.h"
#include "models/gguf_header.h"
#include "models/loader.h"
#include "ops/host_read.h"
#include "text/tokenizer/tokenizer_files.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// From the layout of a checkpoint to that of a file.
Tensor in_file_order(const Tensor& value, GgufLayout layout, const Model& model) {
  if (layout == GgufLayout::transposed && value.dim() == 2) return value.t().contiguous();
  if (layout == GgufLayout::plus_one) return value + 1;
  return gguf_rows(value, layout, model).contiguous();
}

/// llama.cpp's number for what most tensors of a file are.
int64_t file_type(io::Dtype type) {
  return type == io::Dtype::f32 ? 0 : type == io::Dtype::f16 ? 1 : type == io::Dtype::bf16 ? 32 : 7;
}

bool is_matrix(const std::vector<int64_t>& shape, const GgufPlace& place) {
  return shape.size() == 2 && !place.wide;
}

io::Dtype fitting(io::Dtype type, const std::vector<int64_t>& shape) {
  return io::fits(type, shape) ? type : io::Dtype::f16;
}

std::pair<std::string, std::string> module_and_ending(const std::string& parameter) {
  const size_t dot = std::min(parameter.rfind('.'), parameter.size());  // what a module lacks has no name
  return {parameter.substr(0, dot), parameter.substr(dot)};
}

const Parameter* parameter_named(const Model& model, const std::string& name) {
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->name == name) return parameter;
  }
  return nullptr;
}

[[noreturn]] void refuse(const Model& model, const std::string& what) {
  throw Error({.id = "config.unsupported",
               .what = "the model cannot become a GGUF file: " + what,
               .where = model.folder().string(),
               .fix = "write a folder (--to hf)"});
}

/// Whether the head is to stand in the file: not where it is the tensor of the word embeddings still.
bool is_own_head(const Model& model, const std::map<std::string, Tensor>& numbers, const std::string& parameter) {
  const std::string head = model.head() + ".weight", words = model.family()->word_embeddings + ".weight";
  if (parameter != head) return true;
  const Parameter* own = parameter_named(model, head);
  const bool parted = !ops::host_equal(numbers.at(head), numbers.at(words));
  if (parted && !model.family()->gguf->own_head) {
    refuse(model, fmt::format("{} is not the word embeddings, and llama.cpp takes these for the head", head));
  }
  return parted || (own->tied_to.empty() && model.family()->gguf->own_head);
}

/// Values and tensors of the file that is the base, with what changes in place of its own.
class FromFile {
 public:
  FromFile(const Model& model, const std::map<std::string, Tensor>& numbers, const std::string& type)
      : model_(model), numbers_(numbers), type_(type), base_(std::make_shared<const io::GgufFile>(model.folder())) {}

  GgufPlan plan() {
    if (!model_.added_rows().empty()) {
      throw Error({.id = "config.unsupported",
                   .what = "the adapter has new tokens, and the vocabulary of the base's file stays as it is",
                   .where = "key \"to\"",
                   .fix = "merge into a folder, and make a GGUF file of that: deltaw convert FOLDER --to gguf"});
    }
    plan_ = {.values = values(), .base = base_};
    std::map<std::string, const Parameter*> parameters;  // by their names in the file
    for (const Parameter* parameter : model_.parameters()) {
      const auto [module, ending] = module_and_ending(parameter->name);
      if (const auto place = gguf_place(model_, module)) parameters[place->name + ending] = parameter;
    }
    for (const io::TensorBytes& tensor : base_->tensors()) {
      const auto found = parameters.find(tensor.name);
      if (found == parameters.end()) {
        plan_.tensors.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .kept = &tensor});
      } else {
        add(tensor, tensor.name, *found->second);
      }
    }
    add_parted_head();
    return std::move(plan_);
  }

 private:
  std::vector<io::GgufValue> values() const {
    std::vector<io::GgufValue> values = io::gguf_values(*base_);
    if (type_ == "auto") return values;
    for (io::GgufValue& value : values) {
      if (value.key == "general.file_type") value.value = file_type(*io::dtype_named(type_));
    }
    return values;
  }

  io::Dtype type_of(const io::TensorBytes& own, const GgufPlace& place, bool changed) const {
    io::Dtype type = own.dtype;
    if (type_ != "auto" && is_matrix(own.shape, place)) {
      type = *io::dtype_named(type_);
    } else if (changed && io::is_block_type(own.dtype)) {
      type = io::Dtype::q8_0;
    }
    return fitting(type, own.shape);
  }

  void add(const io::TensorBytes& own, const std::string& name, const Parameter& parameter) {
    const GgufPlace place = *gguf_place(model_, module_and_ending(parameter.name).first);
    const Tensor& value = numbers_.at(parameter.name);
    const bool changed = !ops::host_equal(value, parameter.value);
    GgufTensorPlan tensor{.name = name, .dtype = type_of(own, place, changed), .shape = own.shape, .changed = changed};
    if (!changed && tensor.dtype == own.dtype) {
      tensor.kept = &own;
    } else {
      tensor.numbers = in_file_order(value, place.layout, model_);
    }
    plan_.tensors.push_back(std::move(tensor));
  }

  /// A head that was the tensor of the word embeddings, and is another one now.
  void add_parted_head() {
    for (const Parameter* parameter : model_.parameters()) {
      if (parameter->tied_to.empty() || !is_own_head(model_, numbers_, parameter->name)) continue;
      const auto [module, ending] = module_and_ending(parameter->name);
      const std::string name = gguf_place(model_, module)->name + ending;
      const std::string words = gguf_place(model_, module_and_ending(parameter->tied_to).first)->name + ".weight";
      if (!base_->find(name)) add(*base_->find(words), name, *parameter);
    }
  }

  const Model& model_;
  const std::map<std::string, Tensor>& numbers_;
  std::string type_;
  std::shared_ptr<const io::GgufFile> base_;
  GgufPlan plan_;
};

/// The same from a checkpoint folder: all of it is written anew.
class FromFolder {
 public:
  FromFolder(const Model& model, const std::map<std::string, Tensor>& numbers, const GgufOptions& options)
      : model_(model), numbers_(numbers), options_(options) {}

  GgufPlan plan() {
    GgufHeader header = gguf_header(model_);
    if (!header.lost.empty()) {
      log().warn("llama.cpp passes over {}: longer texts come out otherwise there", fmt::join(header.lost, " and "));
    }
    plan_.values = std::move(header.values);
    for (const auto& [name, factors] : header.vectors) {
      plan_.tensors.push_back(
          {.name = name, .shape = {static_cast<int64_t>(factors.size())}, .numbers = at::tensor(factors, at::kFloat)});
    }
    for (const Parameter* parameter : model_.parameters()) add(*parameter);
    plan_.values.push_back({.key = "general.file_type", .type = io::GgufType::u32, .value = file_type(usual_type())});
    plan_.tokenizer = tokenizer();
    plan_.values.insert(plan_.values.end(), plan_.tokenizer->values.begin(), plan_.tokenizer->values.end());
    return std::move(plan_);
  }

 private:
  void add(const Parameter& parameter) {
    const auto found = numbers_.find(parameter.name);
    if (found == numbers_.end() || !is_own_head(model_, numbers_, parameter.name)) return;
    const auto [module, ending] = module_and_ending(parameter.name);
    const auto place = gguf_place(model_, module);
    if (!place) refuse(model_, "llama.cpp has no place for " + parameter.name);
    GgufTensorPlan tensor{.name = place->name + ending,
                          .numbers = in_file_order(found->second, place->layout, model_),
                          .changed = !ops::host_equal(found->second, parameter.value)};
    tensor.shape = tensor.numbers.sizes().vec();
    if (is_matrix(tensor.shape, *place)) {
      const bool wide = parameter.stored == at::kDouble;
      const io::Dtype own = wide ? io::Dtype::f32 : io_dtype(parameter.stored);
      tensor.dtype = fitting(options_.type == "auto" ? own : *io::dtype_named(options_.type), tensor.shape);
    }
    plan_.tensors.push_back(std::move(tensor));
  }

  /// The type that most numbers have.
  io::Dtype usual_type() const {
    std::map<io::Dtype, int64_t> counts;
    for (const GgufTensorPlan& tensor : plan_.tensors) counts[tensor.dtype] += tensor.numbers.numel();
    return std::max_element(counts.begin(), counts.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }

  /// From the files that would stand beside the model in a folder.
  text::GgufTokenizer tokenizer() const {
    const ScratchFolder files(fs::temp_directory_path());
    if (options_.companions) options_.companions(files.path());
    if (text::tokenizer_sources(files.path()).empty()) {
      refuse(model_, "there is no tokenizer, which a GGUF file holds too");
    }
    return text::gguf_tokenizer({.folder = files.path(),
                                 .pieces = model_.folder(),
                                 .config = model_.config(),
                                 .rows = model_.vocab_size(),
                                 .pre_tokenizer = options_.pre_tokenizer});
  }

  const Model& model_;
  const std::map<std::string, Tensor>& numbers_;
  const GgufOptions& options_;
  GgufPlan plan_;
};

}  // namespace

GgufPlan gguf_plan(const Model& original, const std::map<std::string, Tensor>& numbers, const GgufOptions& options) {
  if (fs::is_directory(original.folder())) return FromFolder(original, numbers, options).plan();
  return FromFile(original, numbers, options.type).plan();
}

}  // namespace deltaw
