#include "adapt/builder.h"

#include <fmt/format.h>

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "adapt/added_rows.h"
#include "adapt/observe.h"
#include "adapt/peft_format.h"
#include "adapt/rank_allocator.h"
#include "adapt/targets.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "deltaw/task.h"
#include "deltaw/tokenizer.h"
#include "io/resolve_model.h"

namespace deltaw {
namespace {

void check_virtual_tokens(const Model& model, const MethodSpec& spec) {
  if (model.shape().word_embeddings.defined()) return;
  throw Error(
      {.id = "config.no-virtual-tokens",
       .what = fmt::format("the method {} puts tokens before the input, and this model has no place for them", spec.id),
       .where = "key \"method\"",
       .fix = "choose a method that adapts layers; `deltaw methods` lists them"});
}

void check_place(const Layer& layer, const MethodSpec& spec, const Method& method) {
  if (spec.on(ActsOn::sublayer_outputs) && !layer.ends_sublayer) {
    throw Error(
        {.id = "config.no-sublayer",
         .what = fmt::format("'{}' does not end a sublayer, and the method {} works behind one", layer.name, spec.id),
         .where = "key \"target_modules\"",
         .fix = "leave target_modules out for the method's own places"});
  }
  if (layer.kind == LayerKind::embedding && method.acts_on_inputs()) {
    throw Error({.id = "config.no-embedding",
                 .what = fmt::format("'{}' is an embedding, and the method {} acts on vectors", layer.name, spec.id),
                 .where = "key \"target_modules\"",
                 .fix = "name linear layers only, or choose a method with factors"});
  }
}

bool takes_off_start(const AdaptedLayer& layer) {
  const auto& params = layer.params.all();
  return std::any_of(params.begin(), params.end(), [](const Param& param) { return param.name == "A0"; });
}

[[noreturn]] void refuse_quantised(const Parameter& parameter) {
  throw Error(
      {.id = "config.quantised",
       .what = fmt::format("'{}' is held in few bits and cannot train as a whole", parameter.name),
       .where = "keys \"method\" and \"modules_to_save\"",
       .fix =
           "train factors beside it (target_modules), or leave out load_in_4bit, load_in_8bit and base_compute_dtype"});
}

// A file may leave it out, and then means something by that: a classifier's head is one layer of many.
void settle_task_type(const Model& model, AdapterConfig& config, Purpose purpose) {
  if (config.task_type.empty() && purpose == Purpose::training) config.task_type = model.task_type();
  const std::string meant = head_type(config.task_type);
  const FamilySpec* family = model.family();
  if (purpose == Purpose::reading && family && !peft_names_heads(*family) && !family->head(meant))
    config.task_type.clear();
  if (config.task_type.empty() || meant == model.task_type()) return;
  throw Error({.id = "config.task-type",
               .what = fmt::format("the adapter is for {}, and a {} is loaded for {}", config.task_type,
                                   model.architecture(), model.task_type()),
               .where = "key \"task_type\"",
               .fix = "leave task_type out, or use a model of that kind"});
}

}  // namespace

AdapterBuilder::AdapterBuilder(const Model& model, AdapterConfig config, Purpose purpose)
    : purpose_(purpose), ties_(find_ties(model, config)) {
  settle_task_type(model, config, purpose);
  adapter_.spec_ = &find_method(config.method);
  adapter_.model_ = &model;
  adapter_.method_ = adapter_.spec_->make(config.options, "options of " + adapter_.spec_->id);
  config.options = adapter_.spec_->normalized(config.options, "options of " + adapter_.spec_->id);
  adapter_.config_ = std::move(config);
  adapter_.overrides_.resize(model.parameters().size());
  adapter_.by_layer_.resize(model.layers().size());
  const MethodSpec& spec = *adapter_.spec_;
  if (!spec.on_layers()) return;
  targets_ = find_targets(model, adapter_.config_, spec, purpose);
  for (const Layer* layer : targets_) check_place(*layer, spec, *adapter_.method_);
}

at::ScalarType AdapterBuilder::type() const {
  return adapter_.model_->dtype() == at::kDouble ? at::kDouble : at::kFloat;
}

void AdapterBuilder::count_steps_anew() {
  Json options = adapter_.config_.options;
  if (options.erase("total_step") == 0 || has_lost_components(adapter_)) return;
  adapter_.method_ = adapter_.spec_->make(options, "options of " + adapter_.spec_->id);
}

void AdapterBuilder::calibrate(const Calibration& calibration) {
  const CalibrationNeeds needs = adapter_.method_->needs();
  if (needs.what == Observations::none) return;
  AdapterConfig& config = adapter_.config_;
  const std::string where = "options of " + config.method;
  const std::vector<CalibrationBatch> batches =
      calibration ? calibration(needs.samples) : std::vector<CalibrationBatch>();
  if (batches.empty()) {
    throw Error({.id = "config.no-calibration",
                 .what = "the factors start from data, and there are no calibration rows",
                 .where = where,
                 .fix = "give Adapter::create batches of labelled rows, as `deltaw train` does, or choose another "
                        "start"});
  }
  observed_ = observe(*adapter_.model_, targets_, needs.what, batches);

  std::vector<LayerInfo> infos;
  for (const Layer* layer : targets_) infos.push_back(layer->info());
  const Allotment allotment = adapter_.method_->allot(infos, observed_);
  config.options.update(allotment.options);
  adapter_.method_ = adapter_.spec_->make(config.options, where);
  if (allotment.left_out.empty()) return;
  std::vector<const Layer*> targets;
  std::vector<Observed> observed;
  std::vector<std::string> names;
  for (size_t i = 0; i < targets_.size(); ++i) {
    const std::vector<std::string>& out = allotment.left_out;
    if (std::find(out.begin(), out.end(), targets_[i]->name) != out.end()) continue;
    targets.push_back(targets_[i]);
    observed.push_back(std::move(observed_[i]));
    names.push_back(targets_[i]->name);
  }
  targets_ = std::move(targets);
  observed_ = std::move(observed);
  config.target_modules = std::move(names);
}

void AdapterBuilder::wrap(uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const MethodSpec& spec = *adapter_.spec_;
  if (spec.on(ActsOn::virtual_tokens)) {
    check_virtual_tokens(*adapter_.model_, spec);
    ModelShape shape = adapter_.model_->shape();
    if (purpose_ == Purpose::training) {
      shape.token_ids = [model = adapter_.model_](const std::string& text, const std::string& tokenizer) {
        return Tokenizer::from_folder(tokenizer.empty() ? model->folder() : io::resolve_model(tokenizer))
            .encode(text)
            .ids;
      };
    }
    adapter_.whole_ = in_type(adapter_.method_->declare_whole(shape, generator));
  }
  for (size_t i = 0; i < targets_.size(); ++i) {
    const Layer* base = targets_[i];
    const BaseView informed = base->view_with(observed_.empty() ? nullptr : &observed_[i]);
    const BaseView& view = observed_.empty() ? *base->view : informed;  // which keeps what it computed
    auto layer = std::make_unique<AdaptedLayer>();
    layer->info = base->info();
    layer->base = base;
    layer->method = adapter_.method_.get();
    layer->params = in_type(adapter_.method_->declare(layer->info, view, generator));
    adapter_.ordered_.push_back(layer.get());
    adapter_.by_layer_[base->index] = std::move(layer);
  }
}

Params AdapterBuilder::in_type(std::vector<Param> params) const {
  for (Param& param : params) param.value = param.value.to(type()).contiguous();
  return Params(std::move(params));
}

void AdapterBuilder::replace(const Parameter& parameter) {
  if (parameter.quantised) refuse_quantised(parameter);
  adapter_.overrides_[parameter.slot] = parameter.value.to(type(), /*non_blocking=*/false, /*copy=*/true);
}

// Virtual tokens stand before word embeddings that PEFT takes from the base, whatever modules_to_save says of them.
void AdapterBuilder::pass_over_words() {
  const Layer* words = word_embedding_of(*adapter_.model_);
  if (!words || !adapter_.virtual_tokens().embeddings.defined() || !adapter_.overrides(words->weight)) return;
  if (purpose_ == Purpose::training) {
    throw Error({.id = "config.conflict",
                 .what = fmt::format("'{}' cannot train: {} puts its tokens before the word embeddings of the base",
                                     words->name, adapter_.spec_->title),
                 .where = "key \"modules_to_save\"",
                 .fix = "leave the embedding out, or choose prefix_tuning"});
  }
  adapter_.overrides_[words->weight.slot] = Tensor();
}

void AdapterBuilder::override_parameters() {
  const AdapterConfig config = ties_.applied(adapter_.config_);
  for (const Parameter* parameter : find_saved(*adapter_.model_, config.modules_to_save, purpose_)) replace(*parameter);
  for (const Parameter* parameter : find_base_tensors(*adapter_.model_, config, *adapter_.spec_)) {
    replace(*parameter);
  }
  for (const AdaptedLayer* layer : adapter_.ordered_) {
    if (!adapter_.overrides(layer->base->weight)) continue;
    throw Error(
        {.id = "config.conflict",
         .what = fmt::format("target_modules adapts '{}', and modules_to_save trains it whole", layer->info.name),
         .where = "keys \"target_modules\" and \"modules_to_save\"",
         .fix = "name it in one of the two; modules_to_save takes every module whose name ends so"});
  }
  pass_over_words();
  const std::string& bias = adapter_.config_.bias;
  if (bias == "all") {
    for (const Parameter* parameter : adapter_.model_->parameters()) {
      if (parameter->value.defined() && parameter->name.ends_with(".bias")) replace(*parameter);
    }
  } else if (bias != "none") {
    for (const AdaptedLayer* layer : adapter_.ordered_) {
      if (layer->base->bias.value.defined()) replace(layer->base->bias);
    }
  }
}

void AdapterBuilder::tie() {
  if (!ties_.head) return;
  if (ties_modules()) {
    Tensor& first = adapter_.overrides_[ties_.words->weight.slot];
    if (first.defined()) adapter_.overrides_[ties_.head->weight.slot] = first;
  }
  AdaptedLayer *words = layer(*ties_.words), *head = layer(*ties_.head);
  if (!ties_.targets || !words || !head || takes_off_start(*head)) return;
  // The embedding's W is the head's, turned round, and so are its factors.
  for (Param& param : head->params.all()) {
    for (const auto& [own, other] : {std::pair("lora_A", "lora_B"), std::pair("lora_B", "lora_A")}) {
      if (param.name != own) continue;
      param.value = words->params[other];
      param.turned = true;
    }
  }
}

void AdapterBuilder::lower_tied_words() {
  const AdaptedLayer* head = ties_.head ? layer(*ties_.head) : nullptr;
  if (!head || !takes_off_start(*head)) return;
  const Parameter& words = ties_.words->weight;
  if (purpose_ == Purpose::training) {
    throw Error({.id = "config.conflict",
                 .what = fmt::format("the start of '{}' is taken off its weight, which is that of '{}' too",
                                     ties_.head->name, ties_.words->name),
                 .where = "keys \"target_modules\" and \"init_lora_weights\"",
                 .fix = "leave the head out of target_modules, or give another start"});
  }
  if (adapter_.overrides(words) && !adapter_.fixed(words)) return;  // it was lowered before it trained
  adapter_.overrides_[words.slot] = lowered_weight(*head).to(type());
  adapter_.fixed_.insert(words.slot);
}

void AdapterBuilder::forget_saved(const Layer& words) {
  std::erase_if(adapter_.config_.modules_to_save, [&](const std::string& module) {
    const auto saved = find_saved(*adapter_.model_, {module}, Purpose::reading);
    return saved.size() == 1 && saved.front()->slot == words.weight.slot;
  });
}

void AdapterBuilder::train_tokens() {
  const Json& wanted = adapter_.config_.trainable_token_indices;
  if (wanted.is_null()) return;
  const Model& model = *adapter_.model_;
  const auto refuse_trained = [&](const Layer& layer) {
    if (!adapter_.by_layer_[layer.index] && !adapter_.overrides_[layer.weight.slot].defined()) return;
    throw Error({.id = "config.conflict",
                 .what = fmt::format("'{}' is trained by target_modules or modules_to_save too", layer.name),
                 .where = "key \"trainable_token_indices\"",
                 .fix = "train its rows in one way only"});
  };
  const auto tables = tokens_by_table(model, wanted, purpose_);
  if (ties_.head && tables.contains(ties_.words) && tables.contains(ties_.head) &&
      adapter_.config_.ensure_weight_tying) {
    throw Error({.id = "config.conflict",
                 .what = fmt::format("'{}' and '{}' are to stay one, and other rows of them train", ties_.words->name,
                                     ties_.head->name),
                 .where = "keys \"trainable_token_indices\" and \"ensure_weight_tying\"",
                 .fix = "give both the same list, or leave ensure_weight_tying out"});
  }
  for (const auto& [table, indices] : tables) {
    refuse_trained(*table);
    TrainedTokens tokens;
    tokens.indices = at::tensor(indices, at::kLong);
    tokens.rows = table->weight.value.index_select(0, tokens.indices).to(type());
    tokens.places = at::full({table->weight.value.size(0)}, -1, at::kLong);
    tokens.places.index_copy_(0, tokens.indices, at::arange(tokens.indices.numel(), at::kLong));
    adapter_.tokens_[table->weight.slot] = tokens;
    if (table != ties_.words || tables.contains(ties_.head)) continue;
    refuse_trained(*ties_.head);  // which has the same rows
    adapter_.tokens_[ties_.head->weight.slot] = tokens;
  }
}

std::vector<Param> AdapterBuilder::draw_shared() const {
  std::vector<LayerInfo> infos;
  for (const AdaptedLayer* layer : adapter_.ordered_) infos.push_back(layer->info);
  return adapter_.method_->declare_shared(infos);
}

void AdapterBuilder::use_shared(std::vector<Param> shared) {
  adapter_.shared_ = Params(std::move(shared));
  if (!adapter_.shared_.empty()) adapter_.method_->use_shared(adapter_.shared_);
}

void AdapterBuilder::set_trainable(bool trainable) {
  for (Param& param : adapter_.whole_.all()) param.value.set_requires_grad(trainable && param.trained);
  for (AdaptedLayer* layer : adapter_.ordered_) {
    for (Param& param : layer->params.all()) param.value.set_requires_grad(trainable && param.trained);
  }
  for (size_t slot = 0; slot < adapter_.overrides_.size(); ++slot) {
    Tensor& tensor = adapter_.overrides_[slot];
    if (tensor.defined()) tensor.set_requires_grad(trainable && !adapter_.fixed_.contains(static_cast<int64_t>(slot)));
  }
  for (auto& [slot, tokens] : adapter_.tokens_) tokens.rows.set_requires_grad(trainable);
}

Adapter AdapterBuilder::moved(const Adapter& adapter, const Model& model) {
  Adapter moved = standing_in(model, adapter.overrides_);
  moved.spec_ = adapter.spec_;
  moved.tokens_ = adapter.tokens_;
  for (const AdaptedLayer* layer : adapter.ordered_) {
    const Layer* base = model.layers()[layer->base->index];
    auto own = std::make_unique<AdaptedLayer>(AdaptedLayer{layer->info, base, layer->method, layer->params});
    moved.ordered_.push_back(own.get());
    moved.by_layer_[base->index] = std::move(own);
  }
  return moved;
}

Adapter AdapterBuilder::standing_in(const Model& model, std::vector<Tensor> tensors) {
  Adapter adapter;
  adapter.model_ = &model;
  adapter.overrides_ = std::move(tensors);
  adapter.by_layer_.resize(model.layers().size());
  return adapter;
}

Tensor lowered_weight(const AdaptedLayer& layer) {
  if (!takes_off_start(layer) || layer.info.kind != LayerKind::linear || !layer.base->weight.value.defined()) return {};
  const at::NoGradGuard no_grad;
  const Tensor &own = layer.base->weight.value, start = at::mm(layer.params["B0"], layer.params["A0"]);
  return (own.to(start.scalar_type()) - layer.update().scale * start).to(own.scalar_type());
}

}  // namespace deltaw
