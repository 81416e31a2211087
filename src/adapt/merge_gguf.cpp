// Base and adapter as one GGUF file.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "adapt/adapter_folder.h"
#include "adapt/builder.h"
#include "adapt/comparison.h"
#include "adapt/merged.h"
#include "core/files.h"
#include "core/output_folder.h"
#include "deltaw/convert.h"
#include "deltaw/error.h"
#include "io/decode.h"
#include "io/gguf_writer.h"
#include "models/gguf.h"
#include "models/loader.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "model.gguf";

/// A tensor of the file that is written.
struct Planned {
  std::string name;
  io::Dtype dtype = io::Dtype::f32;
  std::vector<int64_t> shape;
  const io::TensorBytes* kept = nullptr;  // the base's own, byte for byte
  Tensor numbers = {};                    // else these, float32, in the order of the file
  bool changed = false;                   // by the adapter
};

/// From the layout of a checkpoint to that of a file.
Tensor in_file_order(const Tensor& value, GgufLayout layout, const Model& model) {
  if (layout == GgufLayout::transposed && value.dim() == 2) return value.t().contiguous();
  if (layout == GgufLayout::plus_one) return value + 1;
  return gguf_rows(value, layout, model).contiguous();
}

io::Dtype type_of(const std::string& asked, const io::TensorBytes& own, bool changed) {
  const bool matrix = own.shape.size() == 2;
  io::Dtype type = own.dtype;
  if (asked != "auto" && matrix) {
    type = *io::dtype_named(asked);
  } else if (changed && io::is_block_type(own.dtype)) {
    type = io::Dtype::q8_0;
  }
  return io::fits(type, own.shape) ? type : io::Dtype::f16;
}

/// llama.cpp's number for what most tensors of a file are.
int64_t file_type(const std::string& type) {
  return type == "F32" ? 0 : type == "F16" ? 1 : type == "BF16" ? 32 : 7;
}

std::vector<io::GgufValue> values_of(const io::GgufFile& base, const std::string& type) {
  std::vector<io::GgufValue> values = io::gguf_values(base);
  if (type == "auto") return values;
  for (io::GgufValue& value : values) {
    if (value.key == "general.file_type") value.value = file_type(type);
  }
  return values;
}

class Plan {
 public:
  Plan(const Adapter& adapter, const Model& original, const io::GgufFile& base, const std::string& type,
       const Progress& progress)
      : original_(original), type_(type) {
    for (NamedTensor& tensor : merged_tensors(adapter, original, at::kFloat, progress)) {
      merged_[tensor.name] = std::move(tensor.value);
    }
    std::map<std::string, const Parameter*> parameters;
    for (const Parameter* parameter : original.parameters()) parameters[parameter->name] = parameter;
    std::map<std::string, std::string> names;  // of the file, by those of the model
    for (const auto& [name, parameter] : parameters) {
      const size_t dot = name.rfind('.');
      if (const auto place = gguf_place(original, name.substr(0, dot))) {
        names[place->name + name.substr(dot)] = name;
        layouts_[name] = place->layout;
      }
    }
    for (const io::TensorBytes& tensor : base.tensors()) {
      const auto found = names.find(tensor.name);
      if (found == names.end()) {
        planned_.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .kept = &tensor});
      } else {
        add(tensor, tensor.name, found->second, *parameters.at(found->second));
      }
    }
    add_parted_head(base);
  }

  const std::vector<Planned>& tensors() const { return planned_; }

 private:
  void add(const io::TensorBytes& own, const std::string& name, const std::string& module, const Parameter& parameter) {
    const Tensor& value = merged_.at(module);
    const bool changed = !ops::host_equal(value, parameter.value);
    Planned planned{.name = name, .dtype = type_of(type_, own, changed), .shape = own.shape, .changed = changed};
    if (!changed && planned.dtype == own.dtype) {
      planned.kept = &own;
    } else {
      planned.numbers = in_file_order(value, layouts_.at(module), original_);
    }
    planned_.push_back(std::move(planned));
  }

  /// A head that was the tensor of the word embeddings, and is another one now.
  void add_parted_head(const io::GgufFile& base) {
    for (const Parameter* parameter : original_.parameters()) {
      if (parameter->tied_to.empty() || ops::host_equal(merged_.at(parameter->name), merged_.at(parameter->tied_to)))
        continue;
      const size_t dot = parameter->name.rfind('.');
      const auto place = gguf_place(original_, parameter->name.substr(0, dot));
      const auto words = gguf_place(original_, parameter->tied_to.substr(0, parameter->tied_to.rfind('.')));
      const std::string name = place->name + parameter->name.substr(dot);
      if (base.find(name)) continue;
      add(*base.find(words->name + ".weight"), name, parameter->name, *parameter);
    }
  }

  const Model& original_;
  std::string type_;
  std::map<std::string, Tensor> merged_;
  std::map<std::string, GgufLayout> layouts_;  // by the model's names
  std::vector<Planned> planned_;
};

void write(const Plan& plan, const std::vector<io::GgufValue>& values, const fs::path& folder) {
  std::vector<io::GgufTensor> tensors;
  for (const Planned& planned : plan.tensors()) {
    io::GgufTensor tensor{.name = planned.name, .dtype = planned.dtype, .shape = planned.shape};
    if (planned.kept) {
      tensor.stored = planned.kept->data;
    } else {
      tensor.numbers = [numbers = planned.numbers](std::span<float> out) {
        std::copy_n(numbers.const_data_ptr<float>(), out.size(), out.begin());
      };
    }
    tensors.push_back(std::move(tensor));
  }
  io::write_gguf(folder / kFile, values, tensors);
  write_file(folder / "Modelfile", fmt::format("FROM ./{}\n", kFile));
}

/// Whether numbers of a file are these, rounded once; of Q8_0, within half a step of each block.
bool is_stored(const Tensor& found, const Tensor& numbers, io::Dtype dtype) {
  if (dtype != io::Dtype::q8_0) return ops::host_equal(found, numbers.to(scalar_type(dtype)).to(at::kFloat));
  constexpr int64_t kBlock = 32;
  // Half a step of 127 and, since the scale is rounded to float16 behind that, 127 times what is lost there.
  constexpr double kShare = 0.5 / 127 + 0x1p-11, kTiny = 127 * 0x1p-25;
  const Tensor blocks = numbers.reshape({-1, kBlock}), off = (found.reshape({-1, kBlock}) - blocks).abs();
  return ops::host_flag(off.le(blocks.abs().amax(1, /*keepdim=*/true) * kShare + kTiny).all());
}

std::string problem_of(const Plan& plan, const fs::path& path) {
  const io::GgufFile file(path);
  for (const Planned& planned : plan.tensors()) {
    const io::TensorBytes* stored = file.find(planned.name);
    if (!stored || stored->dtype != planned.dtype || stored->shape != planned.shape) {
      return planned.name + " is missing, or of another type or shape";
    }
    if (planned.kept) {
      if (std::memcmp(stored->data, planned.kept->data, stored->size()) != 0)
        return planned.name + " is not the base's";
      continue;
    }
    const Tensor found = at::empty(planned.numbers.sizes(), at::kFloat);
    io::decode(*stored, {found.mutable_data_ptr<float>(), static_cast<size_t>(found.numel())});
    if (!is_stored(found, planned.numbers, planned.dtype)) return planned.name + " is not what was to be written";
  }
  file.check_length();
  return "";
}

void refuse_other_bases(const Model& model) {
  if (!io::is_gguf(model.folder())) {
    throw Error({.id = "config.unsupported",
                 .what = "the base is a checkpoint folder, and a GGUF file is made from one",
                 .where = model.folder().string(),
                 .fix = "merge into a folder, and let llama.cpp's convert_hf_to_gguf.py make a GGUF file of that"});
  }
  if (model.added_rows().empty()) return;
  throw Error({.id = "config.unsupported",
               .what = "the adapter has new tokens, and the file's vocabulary stays as it is",
               .where = "key \"to\"",
               .fix = "merge into a folder, and let llama.cpp's convert_hf_to_gguf.py make a GGUF file of that"});
}

}  // namespace

MergeReport merge_gguf(const Adapter& adapter, const fs::path& output, const Probe& probe, const std::string& type,
                       const Progress& progress) {
  const at::NoGradGuard no_grad;
  refuse_unmergeable(adapter);
  refuse_other_bases(adapter.model());
  const auto original = original_of(adapter.model());
  const io::GgufFile base(adapter.model().folder());
  const Plan plan(adapter, *original, base, type, progress);
  write_folder(
      output, [&](const fs::path& folder) { write(plan, values_of(base, type), folder); }, is_read_as_model);

  MergeReport report;
  report.layers = static_cast<int64_t>(adapter.layers().size());
  report.tensors = static_cast<int64_t>(plan.tensors().size());
  size_t narrowest = sizeof(float) * 32;
  for (const Planned& planned : plan.tensors()) {
    if (!planned.changed) continue;
    const io::DtypeBlock block = io::dtype_block(planned.dtype);
    const size_t bytes = block.bytes * 32 / static_cast<size_t>(block.numbers);
    if (report.dtype.empty() || bytes < narrowest) report.dtype = io::dtype_name(planned.dtype);
    narrowest = std::min(narrowest, bytes);
  }
  report.problem = problem_of(plan, output / kFile);
  const auto merged = load_model((output / kFile).string(), {.dtype = "float32"});
  const Adapter moved = AdapterBuilder::moved(adapter, *original);
  const Compared logits{
      .base = probe(*original, nullptr), .adapter = probe(*original, &moved), .written = probe(*merged, nullptr)};
  report.max_difference = logits.difference();
  report.rounding_share = logits.share();
  report.passed = report.problem.empty();
  return report;
}

}  // namespace deltaw
