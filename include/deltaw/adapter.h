// A trained update of a frozen model: made, saved, loaded, merged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "deltaw/active_updates.h"
#include "deltaw/method.h"
#include "deltaw/model.h"
#include "deltaw/options.h"
#include "deltaw/progress.h"

namespace deltaw {

/// What adapter_config.json says, less the method's own options. Names and matching are PEFT's.
struct AdapterConfig {
  std::string method = "lora";    // id of the method table
  Json options = Json::object();  // the method's own options
  Json target_modules;            // list of suffixes, a regular expression, "all-linear", or null for the defaults
  Json exclude_modules;           // list of suffixes or a regular expression
  Json layers_to_transform;       // an index or a list of them
  Json layers_pattern;            // a name or a list of them
  std::vector<std::string> modules_to_save;
  Json trainable_token_indices;      // rows that train: a list, or {"embed_tokens": [...], "lm_head": [...]}
  bool ensure_weight_tying = false;  // embed_tokens and lm_head, where they are tied and named, stay one tensor
  std::string bias = "none";         // none, all, or lora_only (<method>_only): the base biases that train
  std::string task_type;             // a task's id; empty: the model's task, and in a file none
  Json share;                        // {"lora_AB": "attention"}: layers whose names end in "attention" have one lora_AB
  Json beside;                       // configurations of further adapters on the same model; see Adapter::create
  std::string base_model_name_or_path;

  void fields(FieldVisitor& f);  // all but method and options
};

/// Splits one flat object of options, as files and flags give them, into a config. `method` may be an id or a PEFT
/// type; keys that belong to neither are left alone. Settings such as "use_dora": true choose the method they name.
AdapterConfig adapter_config_from_json(const Json& values, const std::string& where);

/// A tensor that training moves, by its name in adapter_model.safetensors (less the prefix "base_model.model.").
struct NamedTensor {
  std::string name;
  Tensor value;
  double rate = 1;      // times the learning rate
  double own_rate = 0;  // above zero: its learning rate, whatever `rate` and the run's are
};

struct AdapterFolder;
class Adapter;

/// Rows for a start from data. `loss` runs the base model over them as the call says: their mean loss.
struct CalibrationBatch {
  int64_t rows = 0;
  std::function<Tensor(const Model& model, Call& call)> loss;
};
/// Batches that hold `samples` rows between them, fewer where there are no more.
using Calibration = std::function<std::vector<CalibrationBatch>(int64_t samples)>;

/// What a model computes of one fixed input, to compare models by: [n, width] float64.
using Probe = std::function<Tensor(const Model& model, const Adapter* adapter)>;

class Adapter final : public ActiveUpdates {
 public:
  /// Wraps the layers of `model` that `config` targets. `calibration` is asked only where the factors start from data
  /// (EVA, CorDA, LoRA-GA): the base model, its head as it is, runs over the batches without dropout. Throws
  /// config.no-target, config.unmatched-target (naming the nearest module names), config.no-calibration for such a
  /// start without batches, numeric.non-finite for what the model makes of them, and what the method's options refuse.
  ///
  /// With config.beside, several adapters as compose() puts them together. Each entry is a configuration of its own, or
  /// {"adapter_name_or_path": folder} for a finished adapter, which stays frozen. The first one trains the head.
  static Adapter create(const Model& model, const AdapterConfig& config, uint64_t seed,
                        const Calibration& calibration = {});

  struct LoadOptions {
    bool allow_partial = false;  // missing tensors keep their start, unexpected ones are ignored; both are logged
    /// To go on training it: a rank budget that has not pruned yet counts the steps of the run that comes. Else the
    /// tensors are frozen.
    bool trainable = false;
    /// In place of the folder's: options of a single adapter's method that only training looks at (trains_only()).
    Json options = Json::object();
  };
  /// Reads a folder that PEFT or deltaw wrote, as PEFT reads it: names in its configuration that match nothing are
  /// passed over. Missing, unexpected or misshapen tensors are errors, those of each part too where several act
  /// together; so are values that are not finite (numeric.non-finite). Throws config.no-adapter for a folder that is no
  /// adapter's, naming what it is.
  static Adapter load(const Model& model, const std::filesystem::path& folder, const LoadOptions& options);
  static Adapter load(const Model& model, const std::filesystem::path& folder) { return load(model, folder, {}); }

  /// Several adapters of one model as one: on a layer that more than one changes, W = W0 + sum_i weights[i] dW_i, with
  /// the gains of the one that has any. An adapter that is itself composed counts as its parts. Where two bring a head,
  /// the first one's stands, with a warning. `weights` may be empty: ones. Throws config.conflict, naming both, where
  /// two cannot act together: they are of two models, they train the same parameter other than the head (a bias),
  /// they replace it by different values, or one replaces a weight that another updates. Throws config.bad-value where
  /// there is no adapter or one was moved from, and for weights that are not finite or not one for each adapter.
  static Adapter compose(std::vector<Adapter> parts, std::vector<double> weights = {});

  Adapter(Adapter&&) noexcept = default;
  Adapter& operator=(Adapter&&) noexcept = default;

  /// Writes both files into an existing folder, where it replaces only what the folder's manifest lists as deltaw's.
  void save(const std::filesystem::path& folder) const;

  const AdapterConfig& config() const { return config_; }
  const MethodSpec& spec() const { return *spec_; }
  const Method& method() const { return *method_; }
  const Model& model() const override { return *model_; }

  /// What compose() was given; empty for a single adapter.
  const std::vector<Adapter>& parts() const { return parts_; }
  std::span<Adapter> parts() { return parts_; }
  const std::vector<double>& weights() const { return weights_; }

  const std::vector<AdaptedLayer*>& layers() const override { return ordered_; }
  const AdaptedLayer* layer(const Layer& base) const override { return by_layer_[base.index].get(); }
  const Params& shared() const { return shared_; }
  /// The method's tensors of the model as a whole, and the tokens that they make.
  const Params& whole() const { return whole_; }
  VirtualTokens virtual_tokens() const override;

  const Tensor& value(const Parameter& parameter) const override;
  bool overrides(const Parameter& parameter) const {
    return parameter.slot >= 0 && overrides_[parameter.slot].defined();
  }

  /// Whether a parameter's stand-in follows from the base and does not train: that of an embedding whose tied head has
  /// a start that is taken off the base (PiSSA).
  bool fixed(const Parameter& parameter) const { return fixed_.contains(parameter.slot); }

  const TrainedTokens* tokens(const Parameter& parameter) const override {
    const auto found = tokens_.find(parameter.slot);
    return found == tokens_.end() ? nullptr : &found->second;
  }
  Tensor whole_value(const Parameter& parameter) const override;

  /// Of a part of a composite: its stand-ins for parameters that a part before it replaces (a head), by slot. They are
  /// saved with it and have no effect.
  const std::map<int64_t, Tensor>& set_aside() const { return set_aside_; }

  /// Training does not move it from now on.
  void freeze();
  bool frozen() const { return frozen_; }

  /// Everything that training moves, in a fixed order.
  std::vector<NamedTensor> trained() const;
  int64_t trained_count() const;  // elements

  /// The method's penalty over all layers, or undefined.
  Tensor penalty() const;
  /// The method's part before and after an optimiser's step: it may change gradients, then tensors.
  void before_step();
  void after_step();

  /// Settles an option that only the run knows (total_step), for the saved configuration.
  void set_option(const std::string& name, Json value);

  /// Which rank components each layer keeps, when a rank budget has pruned: by module name. Empty: all.
  std::map<std::string, std::vector<bool>> kept_ranks;

 private:
  Adapter() = default;
  friend class AdapterBuilder;
  static Adapter create_one(const Model& model, AdapterConfig config, uint64_t seed, const Calibration& calibration,
                            bool with_head);
  static Adapter load_folder(const Model& model, const AdapterFolder& folder, const LoadOptions& options);
  static Adapter load_parts(const Model& model, const AdapterFolder& folder, const LoadOptions& options);
  void take_overrides_of_parts();
  void take_tokens_of_parts();
  void check_layers_of_parts() const;
  void save_parts(const std::filesystem::path& folder) const;
  Json target_names() const;

  AdapterConfig config_;
  const MethodSpec* spec_ = nullptr;
  const Model* model_ = nullptr;
  std::unique_ptr<Method> method_;
  Params shared_;
  Params whole_;
  std::vector<std::unique_ptr<AdaptedLayer>> by_layer_;
  std::vector<AdaptedLayer*> ordered_;
  std::vector<Tensor> overrides_;            // by slot
  std::set<int64_t> fixed_;                  // slots of stand-ins that do not train
  std::map<int64_t, TrainedTokens> tokens_;  // by slot
  std::map<int64_t, Tensor> set_aside_;      // by slot
  bool frozen_ = false;

  // Of a composite. Its layers and overrides are the parts' own tensors.
  std::vector<Adapter> parts_;
  std::vector<double> weights_;
  std::unique_ptr<MethodSpec> own_spec_;
};

/// `options` with the labels and the problem type of the head that the adapter brings.
ModelOptions with_adapter_head(ModelOptions options, const std::filesystem::path& adapter_folder);

/// `options` with the rows that the base had when the adapter was made, where its vocabulary has grown: their number,
/// and their values where the file holds them. May be called for several adapters in turn.
ModelOptions with_adapter_vocabulary(ModelOptions options, const std::filesystem::path& adapter_folder);

/// Makes the rows of these tokens train: adds them to config.trainable_token_indices for the word embeddings and for a
/// head that is not tied to them, unless modules_to_save, target_modules or the method train these anyway.
/// Throws config.conflict for a method that trains no rows.
void train_new_tokens(const Model& model, AdapterConfig& config, const std::vector<int64_t>& ids);

/// One adapted layer's weight and bias (undefined where there is none), in `weight`'s layout and type. Throws
/// config.not-mergeable when the method adds a bias to a layer without one.
struct MergedLayer {
  Tensor weight;
  Tensor bias;
};
MergedLayer merge_layer(const AdaptedLayer& layer, const Tensor& weight, const Tensor& bias);

/// What was written, read back and compared with what should be there.
struct WriteReport {
  int64_t layers = 0;
  double max_difference = 0;  // of a logit, from the adapter's
  bool passed = false;
  std::string problem = {};  // where it has not: what is wrong, the worst layer with its numbers
};

struct MergeReport : WriteReport {
  int64_t tensors = 0;  // that were compared: all of the checkpoint
  std::string dtype;    // the narrowest type that a changed tensor is stored in: "bfloat16"
  /// What rounding to that type costs: || merged - adapter || / || adapter - base ||, logits of the probe, computed in
  /// float32. No fault of merging, but above one half little of the adapter is left.
  double rounding_share = 0;
  /// Over a quantised base: how far the adapter's logits on it are from those on the checkpoint's own weights, which
  /// are what is merged and compared.
  std::optional<double> quantisation_difference;
};

struct ExportReport : WriteReport {
  int64_t rank = 0;          // the highest of a layer
  bool exact = true;         // the LoRA is the whole update; else a cut of it, or PEFT's linear combination
  double largest_error = 0;  // || dW - B A || / || dW || of a layer, Frobenius norms, of the factors in the file
  std::string worst_layer;   // that has it
  double kept_share = 1;     // 1 - || exported - adapter || / || adapter - base ||, logits of the probe
};

/// How several LoRAs become one.
enum class Combination {
  sum,     // sum_i w_i dW_i: PEFT's cat, and its svd where `rank` cuts it
  linear,  // PEFT's: (sum_i sqrt(w_i s_i) B_i) (sum_i sqrt(w_i s_i) A_i), which keeps the rank and is not the sum
};

/// Writes the adapter as a plain LoRA over the same base: exact where the update is a product of thin factors, else,
/// and where `rank` is given and lower, its leading singular triplets. Reads it back: `passed` says that the file holds
/// just that, however much was cut. Throws config.no-export for what is no update of weights, config.no-rank where the
/// update has no thin factors and `rank` is 0, and config.conflict for parts that have no linear combination: other
/// methods than lora, or other ranks on one layer. Of a folder that exists it replaces what merge_checkpoint() would.
ExportReport export_lora(const Adapter& adapter, const std::filesystem::path& output, int64_t rank, const Probe& probe,
                         const std::function<void(const std::filesystem::path&)>& companions = {},
                         Combination combination = Combination::sum);

/// Writes base + adapter as a checkpoint that transformers loads, from the checkpoint's own tensors, in float32,
/// rounded once; then reads it back and compares every tensor with what it should be, and what both models make of
/// `probe`. Tied weights that the update has parted are both written, and config.json says so. `companions` adds files
/// before the folder takes its name; `stored` replaces types; `progress` counts tensors that are made and compared. In
/// a folder that exists only what its manifest lists as deltaw's is replaced (config.output-foreign).
MergeReport merge_checkpoint(const Adapter& adapter, const std::filesystem::path& output, const Probe& probe,
                             const std::function<void(const std::filesystem::path&)>& companions = {},
                             std::optional<at::ScalarType> stored = {}, const Progress& progress = {});

}  // namespace deltaw
