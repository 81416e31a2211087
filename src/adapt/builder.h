// The steps that make an adapter, shared by creation and loading.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "adapt/targets.h"
#include "adapt/ties.h"
#include "deltaw/adapter.h"

namespace deltaw {

class AdapterBuilder {
 public:
  AdapterBuilder(const Model& model, AdapterConfig config, Purpose purpose);

  /// A rank budget that has not pruned yet counts the steps of the run that comes, not those of one that is over.
  void count_steps_anew();
  void calibrate(const Calibration& calibration);  // settles what follows from data; needed by create() alone
  /// Declares the method's tensors on every targeted layer; those of an adapter that is read get their values later.
  void wrap(uint64_t seed);
  /// Makes the tensors that config.share names one; on loading they must be equal already.
  void share_tensors(bool must_agree);
  void override_parameters();  // copies what modules_to_save and bias name
  /// Makes the stand-ins, or the factors, of a tied embedding and head one, where the configuration wants that; again
  /// after reading them.
  void tie();
  /// A head that is tied to the embedding and whose start lowers the base (PiSSA, OLoRA) lowers the embedding too.
  void lower_tied_words();
  void train_tokens();  // of trainable_token_indices
  std::vector<Param> draw_shared() const;
  void use_shared(std::vector<Param> shared);
  void set_trainable(bool trainable);
  /// Takes out of modules_to_save what names this embedding alone.
  void forget_saved(const Layer& words);

  at::ScalarType type() const;  // of the adapter's tensors: float32, or float64 over such a model
  Adapter& adapter() { return adapter_; }
  const Ties& ties() const { return ties_; }
  /// Whether the stand-ins of a tied embedding and head are one tensor.
  bool ties_modules() const { return ties_.head && (ties_.modules || adapter_.spec_->on(ActsOn::every_tensor)); }
  const AdapterConfig& config() const { return adapter_.config_; }
  Tensor& override_of(const Parameter& parameter) { return adapter_.overrides_[parameter.slot]; }
  std::map<int64_t, TrainedTokens>& tokens() { return adapter_.tokens_; }
  Params& whole() { return adapter_.whole_; }
  std::vector<AdaptedLayer*>& layers() { return adapter_.ordered_; }
  AdaptedLayer* layer(const Layer& base) { return adapter_.by_layer_[base.index].get(); }
  const std::vector<const Layer*>& targets() const { return targets_; }
  Adapter take() { return std::move(adapter_); }

  // To compute with, and for nothing else: without parts and configuration. What they are made of must outlive them.
  /// `adapter` beside another copy of its base, with the same tensors.
  static Adapter moved(const Adapter& adapter, const Model& model);
  /// Tensors in place of the model's own, by slot; undefined ones leave it as it is.
  static Adapter standing_in(const Model& model, std::vector<Tensor> tensors);

 private:
  Params in_type(std::vector<Param> params) const;
  void replace(const Parameter& parameter);
  void pass_over_words();

  Purpose purpose_;
  Ties ties_;
  Adapter adapter_;
  std::vector<const Layer*> targets_;
  std::vector<Observed> observed_;  // of the targets, or empty
};

/// W0 of a head less the start that the method takes off it, in the type of the weight; undefined where it takes none.
Tensor lowered_weight(const AdaptedLayer& layer);

}  // namespace deltaw
