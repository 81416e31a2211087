// adapter_config.json and adapter_model.safetensors, as PEFT lays them out.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "adapt/builder.h"
#include "adapt/composite.h"
#include "adapt/config.h"
#include "adapt/vocabulary.h"
#include "core/files.h"
#include "core/log.h"
#include "deltaw/error.h"
#include "io/safetensors.h"
#include "models/loader.h"

namespace deltaw {
namespace {

const std::string kModel = "base_model.model.";
const std::string kShared = "base_model.";

// PEFT wraps the base twice where a method adapts layers, and once where it only puts tokens before the input.
const std::string& base_prefix(const Adapter& adapter) {
  return adapter.spec().virtual_tokens ? kShared : kModel;
}

// FNV-1a over the bytes: enough to see that bases drawn elsewhere are not these.
std::string hash_of(const Params& shared) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const Param& param : shared.all()) {
    const Tensor value = param.value.contiguous();
    const auto* bytes = static_cast<const unsigned char*>(value.const_data_ptr());
    for (size_t i = 0; i < value.nbytes(); ++i) hash = (hash ^ bytes[i]) * 0x100000001B3ull;
  }
  return fmt::format("{:016x}", hash);
}

// A layer's tensor in the shape that it has in the file.
Tensor in_file(const Param& param) {
  return param.file_shape.empty() ? param.value : param.value.reshape(param.file_shape);
}

using KeptRanks = std::map<std::string, std::vector<bool>>;

// The components that the file keeps of every layer that has dead ones, or of all where a budget has pruned.
KeptRanks kept_components(const Adapter& adapter) {
  const auto budget = adapter.method().rank_budget();
  if (!budget || budget->allocated) return adapter.kept_ranks;
  KeptRanks kept;
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Tensor alive = layer->params[budget->gate.param].detach().ne(0).flatten().contiguous();
    if (alive.all().item<bool>()) continue;
    kept[layer->info.name] = std::vector<bool>(alive.data_ptr<bool>(), alive.data_ptr<bool>() + alive.numel());
  }
  return kept;
}

// A layer's tensors without its dead components.
Params pruned(const Adapter& adapter, const KeptRanks& all_kept, const AdaptedLayer& layer) {
  const auto kept = all_kept.find(layer.info.name);
  const auto budget = adapter.method().rank_budget();
  if (kept == all_kept.end() || !budget) return layer.params;
  std::vector<int64_t> alive;
  for (size_t i = 0; i < kept->second.size(); ++i) {
    if (kept->second[i]) alive.push_back(static_cast<int64_t>(i));
  }
  Params params = layer.params;
  for (Param& param : params.all()) {
    for (const Scored& scored : budget->scored) {
      if (scored.param != param.name) continue;
      param.value = param.value.detach().index_select(scored.axis, at::tensor(alive, at::kLong));
    }
  }
  return adapter.method().compact(layer.info, std::move(params));
}

std::vector<NamedTensor> file_tensors(const Adapter& adapter, const KeptRanks& kept) {
  std::vector<NamedTensor> tensors;
  for (const Param& param : adapter.whole().all()) tensors.push_back({param.file_name, param.value});
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Params params = pruned(adapter, kept, *layer);
    for (const Param& param : params.all()) {
      if (param.saved) tensors.push_back({kModel + layer->info.name + "." + param.file_name, in_file(param)});
    }
  }
  for (const Parameter* parameter : adapter.model().parameters()) {
    if (adapter.overrides(*parameter)) {
      tensors.push_back({base_prefix(adapter) + override_name(adapter, *parameter), adapter.value(*parameter)});
    }
    const TrainedTokens* tokens = adapter.tokens(*parameter);
    if (tokens && parameter->tied_to.empty()) tensors.push_back({kModel + tokens_name(*parameter), tokens->rows});
  }
  if (adapter.method().saves_shared()) {
    for (const Param& param : adapter.shared().all()) tensors.push_back({kShared + param.file_name, param.value});
  }
  for (const NamedTensor& tensor : resized_weights(adapter)) {
    tensors.push_back({base_prefix(adapter) + tensor.name, tensor.value});
  }
  for (NamedTensor& tensor : tensors) tensor.value = tensor.value.detach().contiguous();
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return tensors;
}

void refuse_non_finite(const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& tensor : tensors) {
    if (tensor.value.isfinite().all().item<bool>()) continue;
    throw Error({.id = "numeric.non-finite",
                 .what = "the adapter holds values that are not finite, and is not saved",
                 .where = tensor.name,
                 .fix = "train again with a lower learning rate"});
  }
}

// With bias "all", PEFT also writes its wrappers' own copies of a saved module's bias; with a resized vocabulary, of a
// saved embedding's weight.
bool is_peft_copy(const std::string& name) {
  return name.ends_with(".modules_to_save.bias") || name.ends_with(".original_module.bias") ||
         name.ends_with(".modules_to_save.weight");
}

// Reads an adapter file into the tensors that its config declares, and keeps account of names.
class Reader {
 public:
  Reader(const std::filesystem::path& folder, AdapterBuilder& builder, bool allow_partial)
      : file_(std::make_shared<io::TensorFile>(io::open_adapter(folder))),
        builder_(builder),
        allow_partial_(allow_partial) {}

  void read_layers() {
    for (Param& param : builder_.whole().all()) read(param.file_name, param.value);
    for (AdaptedLayer* layer : builder_.layers()) {
      for (Param& param : layer->params.all()) {
        if (!param.saved) continue;
        const std::string name = kModel + layer->info.name + "." + param.file_name;
        if (param.may_lack && !file_->find(name)) {
          drawn_.push_back(name);
        } else {
          read(name, param.value, in_file(param).sizes());
        }
      }
    }
    for (const Parameter* parameter : builder_.adapter().model().parameters()) {
      if (!builder_.adapter().overrides(*parameter)) continue;
      read(base_prefix(builder_.adapter()) + override_name(builder_.adapter(), *parameter),
           builder_.override_of(*parameter));
    }
    read_tokens();
    for (const AdaptedLayer* layer : builder_.layers()) check_base_copies(*layer->base);
    const Model& model = builder_.adapter().model();
    for (const Layer* layer : model.layers()) {
      if (layer->kind == LayerKind::embedding || (model.is_causal() && layer == model.head_layer()))
        check_base_copies(*layer);
    }
  }

  // One copy for the model, or PEFT's copy for every layer, which must all be equal.
  void read_shared() {
    std::vector<Param> shared = builder_.draw_shared();
    if (shared.empty()) return;
    const bool stored = builder_.adapter().method().saves_shared();
    for (Param& param : shared) {
      std::vector<std::string> names{kShared + param.file_name};
      for (const AdaptedLayer* layer : builder_.layers())
        names.push_back(kModel + layer->info.name + "." + param.file_name);
      const io::TensorBytes* first = nullptr;
      for (const std::string& name : names) {
        const io::TensorBytes* bytes = file_->find(name);
        if (!bytes) continue;
        taken_.insert(name);
        if (!stored) continue;
        if (!first) {
          first = bytes;
          copy(*bytes, param.value, param.value.sizes());
        } else if (bytes->shape != first->shape || bytes->dtype != first->dtype ||
                   !std::equal(bytes->data, bytes->data + bytes->size(), first->data)) {
          throw Error({.id = "format.conflict",
                       .what = fmt::format("'{}' and '{}' are copies of one tensor and differ", first->name, name),
                       .where = file_->path().string(),
                       .fix = "the file is damaged or was put together by hand: save the adapter again"});
        }
      }
      if (stored && !first) missing_.push_back(names.front());
    }
    builder_.use_shared(std::move(shared));
    check_hash();
  }

  void finish() const {
    std::vector<std::string> unexpected;
    for (const io::TensorBytes& tensor : file_->tensors()) {
      if (!taken_.contains(tensor.name) && !is_peft_copy(tensor.name)) unexpected.push_back(tensor.name);
    }
    report("format.missing-tensor", "the file lacks {} tensors that its config asks for: {}", missing_);
    report("format.unexpected-tensor", "the file holds {} tensors that its config does not ask for: {}", unexpected);
    if (!drawn_.empty()) {
      log().warn(
          "{}: the random start of the factors is not in the file and was drawn again, as PEFT does; outputs are not "
          "quite those of the training ({})",
          file_->path().string(), listed(drawn_));
    }
  }

 private:
  // The rows of an embedding, which a head that is tied to it shares.
  void read_tokens() {
    const Model& model = builder_.adapter().model();
    for (const Parameter* parameter : model.parameters()) {
      const auto found = builder_.tokens().find(parameter->slot);
      if (found == builder_.tokens().end() || !parameter->tied_to.empty()) continue;
      read(kModel + tokens_name(*parameter), found->second.rows);
      for (const Parameter* tied : model.parameters()) {
        if (tied->tied_to != parameter->name) continue;
        builder_.tokens()[tied->slot].rows = found->second.rows;
        taken_.insert(kModel + tokens_name(*tied));  // PEFT's copy
      }
    }
  }

  // Where an embedding is targeted or resized, PEFT adds the base's own weights to the file.
  void check_base_copies(const Layer& layer) {
    const Adapter& adapter = builder_.adapter();
    const bool tied_copy = adapter.config().ensure_weight_tying && !layer.weight.tied_to.empty();
    for (const std::string& copy : base_copies(layer.name)) {
      const std::string name = base_prefix(adapter) + copy;
      const io::TensorBytes* bytes = file_->find(name);
      if (!bytes || (copy == layer.weight.name && adapter.overrides(layer.weight))) continue;
      taken_.insert(name);
      if (tied_copy || is_base(*bytes, layer.weight)) continue;
      throw Error({.id = "format.other-base",
                   .what = fmt::format("'{}' is a weight of the base, and it is not this base's", name),
                   .where = file_->path().string(),
                   .fix = "use the base model that the adapter was trained on"});
    }
  }

  // Whether these are the base's first rows, all of them or fewer, in the narrower of the two types.
  bool is_base(const io::TensorBytes& bytes, const Parameter& weight) const {
    if (weight.quantised) return true;  // its own bits are gone
    const Tensor& own = weight.value;
    if (static_cast<int64_t>(bytes.shape.size()) != own.dim() || bytes.shape[0] > own.size(0)) return false;
    const Tensor rows = own.narrow(0, 0, bytes.shape[0]);
    if (at::IntArrayRef(bytes.shape) != rows.sizes()) return false;
    const at::ScalarType type = scalar_type(bytes.dtype);
    return to_tensor(bytes, weight.stored, file_).to(own.scalar_type()).equal(rows) ||
           to_tensor(bytes, type, file_).equal(rows.to(type));
  }

  void read(const std::string& name, Tensor& into) { read(name, into, into.sizes()); }

  void read(const std::string& name, Tensor& into, at::IntArrayRef shape) {
    const io::TensorBytes* bytes = file_->find(name);
    if (!bytes) {
      missing_.push_back(name);
      return;
    }
    taken_.insert(name);
    copy(*bytes, into, shape);
  }

  // The numbers of a tensor that has `shape` in the file.
  void copy(const io::TensorBytes& bytes, Tensor& into, at::IntArrayRef shape) const {
    if (at::IntArrayRef(bytes.shape) != shape) {
      const std::string& base = builder_.adapter().config().base_model_name_or_path;
      throw Error({.id = "shape.mismatch",
                   .what = fmt::format("tensor '{}' is [{}], this base makes it [{}]", bytes.name,
                                       fmt::join(bytes.shape, ", "), fmt::join(shape.vec(), ", ")),
                   .where = file_->path().string(),
                   .fix = base.empty() ? "use the base model that the adapter was trained on"
                                       : "use the base model that the adapter was trained on: " + base});
    }
    into = to_tensor(bytes, into.scalar_type(), file_).reshape(into.sizes()).clone();
  }

  void check_hash() const {
    const auto stored = file_->metadata().find("shared_hash");
    if (stored == file_->metadata().end()) return;
    const std::string drawn = hash_of(builder_.adapter().shared());
    if (stored->second == drawn) return;
    throw Error(
        {.id = "format.other-bases",
         .what = fmt::format("the random bases have hash {}, the adapter was trained with {}", drawn, stored->second),
         .where = file_->path().string(),
         .fix = "this libtorch draws other numbers: save the adapter with save_projection true where it was made"});
  }

  static std::string listed(const std::vector<std::string>& names) {
    const size_t shown = std::min<size_t>(names.size(), 6);
    std::string list = fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<int64_t>(shown), ", "));
    return shown < names.size() ? list + ", ..." : list;
  }

  void report(const char* id, fmt::format_string<size_t, std::string> what,
              const std::vector<std::string>& names) const {
    if (names.empty()) return;
    const std::string text = fmt::format(what, names.size(), listed(names));
    if (allow_partial_) {
      log().warn("{}: {}", file_->path().string(), text);
      return;
    }
    throw Error({.id = id,
                 .what = text,
                 .where = file_->path().string(),
                 .fix = "check that config and tensors belong together; --allow_partial true loads what there is"});
  }

  std::shared_ptr<io::TensorFile> file_;
  AdapterBuilder& builder_;
  bool allow_partial_;
  std::set<std::string> taken_;
  std::vector<std::string> missing_, drawn_;
};

// How the factors were drawn is of no account once they are read, where it left the base alone.
void forget_start(Json& config) {
  const auto start = config.find("init_lora_weights");
  if (start != config.end() && *start == "orthogonal") *start = true;
}

bool is_composite(const Json& config) {
  const auto parts = config.find("parts");
  return parts != config.end() && parts->is_array() && !parts->empty() &&
         std::all_of(parts->begin(), parts->end(), [](const Json& part) { return part.is_object(); });
}

void check_head(const Model& model, const Adapter& adapter, const std::filesystem::path& folder) {
  for (const std::string& module : model.new_modules()) {
    for (const Parameter* parameter : model.parameters()) {
      if (!parameter->value.defined() || !parameter->name.starts_with(module + ".") || adapter.overrides(*parameter))
        continue;
      throw Error(
          {.id = "format.missing-head",
           .what =
               fmt::format("neither the base nor the adapter holds '{}': its values would be random", parameter->name),
           .where = folder.string(),
           .fix =
               "use a base with the head, or an adapter whose modules_to_save has it; --allow_partial true goes on"});
    }
  }
}

}  // namespace

void Adapter::save(const std::filesystem::path& folder) const {
  if (!parts_.empty()) {
    save_parts(folder);
    return;
  }
  AdapterConfig config = config_;
  if (config.base_model_name_or_path.empty()) config.base_model_name_or_path = model_->folder().string();
  const KeptRanks kept = kept_components(*this);
  if (!kept.empty()) {
    const RankBudget budget = *method_->rank_budget();
    Json pattern = Json::object();
    for (const auto& [name, alive] : kept) pattern[name + "." + budget.gate.param] = alive;
    config.options[budget.pattern] = std::move(pattern);
    if (!budget.compact.empty()) config.options[budget.compact] = true;
  }
  Json json = adapter_config_to_json(config);
  if (config.target_modules.is_null() && spec_->on_layers) json["target_modules"] = target_names();

  if (spec_->virtual_tokens) {  // PEFT builds the tensor from these
    const ModelShape& shape = model_->shape();
    const bool prefix = virtual_tokens().prefix.defined();
    json.update({{"token_dim", prefix ? shape.prefix_width : shape.hidden},
                 {"num_layers", shape.layers},
                 {"num_attention_heads", prefix ? shape.prefix_heads : shape.heads},
                 {"num_transformer_submodules", 1}});
    if (json.value("tokenizer_name_or_path", "none") == "")  // without which PEFT reads no prompt that began as a text
      json["tokenizer_name_or_path"] = json["base_model_name_or_path"];
  }

  const std::vector<NamedTensor> tensors = file_tensors(*this, kept);
  refuse_non_finite(tensors);
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  std::map<std::string, std::string> metadata{{"format", "pt"}, {"labels", Json(model_->label_names()).dump()}};
  metadata["problem_type"] = model_->config().value("problem_type", std::string());
  if (!shared_.empty()) metadata["shared_hash"] = hash_of(shared_);
  io::write_safetensors(folder / "adapter_model.safetensors", bytes, metadata);
  write_json(folder / "adapter_config.json", json);
}

Json Adapter::target_names() const {
  std::vector<std::string> names;
  for (const AdaptedLayer* layer : ordered_) names.push_back(layer->info.name);
  return names;
}

// Each part in a folder of its own, as if it stood alone, and what is to be made of them.
void Adapter::save_parts(const std::filesystem::path& folder) const {
  Json parts = Json::array();
  for (size_t i = 0; i < parts_.size(); ++i) {
    const std::string name = fmt::format("{}-{}", i, parts_[i].spec_->id);
    std::filesystem::create_directories(folder / name);
    parts_[i].save(folder / name);
    parts.push_back({{"folder", name}, {"weight", weights_[i]}, {"frozen", parts_[i].frozen_}});
  }
  const Json first = read_json(folder / parts[0]["folder"].get<std::string>() / "adapter_config.json");
  write_json(folder / "adapter_config.json", {{"peft_type", spec_->peft_type},
                                              {"method", spec_->id},
                                              {"base_model_name_or_path", first["base_model_name_or_path"]},
                                              {"task_type", first["task_type"]},
                                              {"parts", parts}});
}

Adapter Adapter::load_parts(const Model& model, const std::filesystem::path& folder, const Json& config,
                            const LoadOptions& options) {
  std::vector<Adapter> parts;
  std::vector<double> weights;
  try {
    for (const Json& part : config.at("parts")) {
      const bool frozen = part.at("frozen").get<bool>();
      const LoadOptions own{.allow_partial = options.allow_partial || !parts.empty(),
                            .trainable = options.trainable && !frozen};
      parts.push_back(load(model, folder / part.at("folder").get<std::string>(), own));
      if (frozen) parts.back().freeze();
      weights.push_back(part.at("weight").get<double>());
    }
  } catch (const Json::exception&) {
    parts.clear();
  }
  if (parts.empty()) {
    throw Error({.id = "format.bad-adapter",
                 .what = "\"parts\" is no list of {folder, weight, frozen}",
                 .where = (folder / "adapter_config.json").string(),
                 .fix = "save the adapter again"});
  }
  return compose(std::move(parts), std::move(weights));
}

Adapter Adapter::load(const Model& model, const std::filesystem::path& folder, const LoadOptions& options) {
  const std::string where = (folder / "adapter_config.json").string();
  Json json = read_json(folder / "adapter_config.json");
  if (is_composite(json)) return load_parts(model, folder, json, options);
  forget_start(json);
  const MethodSpec& spec = choose_method(json);
  refuse_other_keys(json, spec, where);
  AdapterBuilder builder(model, adapter_config_from_json(json, where));
  builder.wrap(0, /*to_be_read=*/true);
  builder.override_parameters();
  builder.train_tokens();
  Reader reader(folder, builder, options.allow_partial);
  reader.read_layers();
  builder.tie_overrides();
  reader.read_shared();
  reader.finish();
  builder.share_tensors(/*must_agree=*/!options.allow_partial);
  builder.set_trainable(options.trainable);
  if (!options.allow_partial) check_head(model, builder.adapter(), folder);
  return builder.take();
}

ModelOptions with_adapter_head(ModelOptions options, const std::filesystem::path& adapter_folder) {
  const Json config = read_json(adapter_folder / "adapter_config.json");
  if (is_composite(config)) {
    return with_adapter_head(std::move(options), adapter_folder / config["parts"][0].value("folder", std::string()));
  }
  const io::TensorFile file = io::open_adapter(adapter_folder);
  for (const char* name : {"classifier.weight", "classifier.out_proj.weight", "score.weight"}) {
    const io::TensorBytes* head = file.find(kModel + name);
    if (!head) head = file.find(kShared + name);
    if (!head || head->shape.empty()) continue;
    options.num_labels = head->shape[0];
    options.ignore_mismatched_sizes = true;  // the adapter brings its own head
  }
  const auto labels = file.metadata().find("labels");
  if (labels != file.metadata().end()) {
    const Json names = Json::parse(labels->second, nullptr, /*allow_exceptions=*/false);
    if (names.is_array() && (options.num_labels == 0 || static_cast<int64_t>(names.size()) == options.num_labels)) {
      options.label_names.clear();
      for (const Json& name : names) {
        if (name.is_string()) options.label_names.push_back(name.get<std::string>());
      }
    }
  }
  const auto problem = file.metadata().find("problem_type");
  if (problem != file.metadata().end()) options.problem_type = problem->second;
  return options;
}

}  // namespace deltaw
