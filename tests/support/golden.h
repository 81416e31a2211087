// Fixtures that the oracle wrote: tensors by name, inputs, and comparisons that name the worst element.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "core/files.h"
#include "deltaw/model.h"
#include "io/safetensors.h"
#include "models/loader.h"
#include "support/data.h"

namespace deltaw::test {

class Golden {
 public:
  explicit Golden(const std::filesystem::path& file) : file_(std::make_shared<io::SafetensorsFile>(file)) {}

  bool has(const std::string& name) const { return file_->find(name) != nullptr; }
  Tensor operator[](const std::string& name) const {
    const io::TensorBytes* bytes = file_->find(name);
    if (!bytes) throw std::runtime_error("the fixture has no '" + name + "': run oracle/make_all.py");
    return to_tensor(*bytes, scalar_type(bytes->dtype), file_);
  }
  ModelInput input(const std::string& prefix = "") const {
    ModelInput input{.input_ids = (*this)[prefix + "input_ids"], .attention_mask = (*this)[prefix + "attention_mask"]};
    if (has(prefix + "token_type_ids")) input.token_type_ids = (*this)[prefix + "token_type_ids"];
    return input;
  }
  std::vector<std::string> names(const std::string& prefix) const {
    std::vector<std::string> found;
    for (const io::TensorBytes& tensor : file_->tensors()) {
      if (tensor.name.starts_with(prefix)) found.push_back(tensor.name.substr(prefix.size()));
    }
    return found;
  }

 private:
  std::shared_ptr<io::SafetensorsFile> file_;
};

/// Empty when every element is within `tolerance`, else the worst one.
inline std::string differs(const Tensor& actual, const Tensor& expected, double tolerance) {
  if (!actual.defined()) return "undefined";
  if (actual.sizes() != expected.sizes()) return "other sizes";
  if (actual.numel() == 0) return "";
  const Tensor error = (actual.detach().to(at::kDouble) - expected.to(at::kDouble)).abs().reshape(-1);
  const auto worst = error.argmax().item<int64_t>();
  if (error[worst].item<double>() <= tolerance) return "";
  return "element " + std::to_string(worst) + " is " +
         std::to_string(actual.detach().reshape(-1)[worst].item<double>()) + ", expected " +
         std::to_string(expected.reshape(-1)[worst].item<double>()) + ", off by " +
         std::to_string(error[worst].item<double>());
}

/// The design's bound on float32 logits.
inline double logit_tolerance(const Tensor& logits) {
  return 1e-4 * std::max(1.0, logits.abs().max().item<double>());
}

}  // namespace deltaw::test
