// The steps that make an adapter, shared by creation and loading.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw {

class AdapterBuilder {
 public:
  AdapterBuilder(const Model& model, AdapterConfig config);

  void calibrate(const Calibration& calibration);  // settles what follows from data; needed by create() alone
  /// Declares the method's tensors on every targeted layer; `to_be_read`: they get their values later.
  void wrap(uint64_t seed, bool to_be_read);
  /// Makes the tensors that config.share names one; on loading they must be equal already.
  void share_tensors(bool must_agree);
  void override_parameters();  // copies what modules_to_save and bias name
  /// Makes the copies of tied parameters one tensor, where the configuration wants that; again after reading them.
  void tie_overrides();
  void train_tokens();  // of trainable_token_indices
  std::vector<Param> draw_shared() const;
  void use_shared(std::vector<Param> shared);
  void set_trainable(bool trainable);

  at::ScalarType type() const;  // of the adapter's tensors: float32, or float64 over such a model
  Adapter& adapter() { return adapter_; }
  Tensor& override_of(const Parameter& parameter) { return adapter_.overrides_[parameter.slot]; }
  std::map<int64_t, TrainedTokens>& tokens() { return adapter_.tokens_; }
  Params& whole() { return adapter_.whole_; }
  std::vector<AdaptedLayer*>& layers() { return adapter_.ordered_; }
  const std::vector<const Layer*>& targets() const { return targets_; }
  Adapter take() { return std::move(adapter_); }

 private:
  Params in_type(std::vector<Param> params) const;

  Adapter adapter_;
  std::vector<const Layer*> targets_;
  std::vector<Observed> observed_;  // of the targets, or empty
};

/// The name of trained rows in the file, after that of the embedding they belong to.
std::string tokens_name(const Parameter& parameter);

/// A stand-in's name in the file: PEFT calls the bias of an adapted layer "<module>.base_layer.bias".
std::string override_name(const Adapter& adapter, const Parameter& parameter);

}  // namespace deltaw
