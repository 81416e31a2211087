// adapter_config.json and adapter_model.safetensors read, as PEFT reads them.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "adapt/adapter_file.h"
#include "adapt/adapter_folder.h"
#include "adapt/added_rows.h"
#include "adapt/builder.h"
#include "adapt/composite.h"
#include "adapt/config.h"
#include "adapt/module_names.h"
#include "adapt/tensor_names.h"
#include "adapt/unread_modules.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "core/patterns.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "deltaw/pipeline.h"
#include "io/safetensors.h"
#include "models/loader.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

// With bias "all", PEFT also writes its wrappers' own copies of a saved module's biases; with a resized vocabulary, of
// a saved embedding's weight.
bool is_peft_copy(const std::string& name) {
  const bool original = name.find(".original_module.") != std::string::npos && name.ends_with(".bias");
  return original || name.find(".modules_to_save.") != std::string::npos;
}

// Reads an adapter file into the tensors that its config declares, and keeps account of names.
class Reader {
 public:
  Reader(std::shared_ptr<io::TensorFile> file, ModuleNames names, AdapterBuilder& builder, bool allow_partial)
      : file_(std::move(file)), names_(std::move(names)), builder_(builder), allow_partial_(allow_partial) {}

  void read_layers() {
    for (Param& param : builder_.whole().all()) read(param.file_name, param.value);
    for (AdaptedLayer* layer : builder_.layers()) read_layer(*layer);
    builder_.tie();
    for (AdaptedLayer* layer : builder_.layers()) read_turned(*layer);
    pass_over_tied_factors();
    read_words();
    for (const Parameter* parameter : builder_.adapter().model().parameters()) {
      if (!builder_.adapter().overrides(*parameter)) continue;
      const std::string name = base_prefix(builder_.adapter()) + override_name(builder_.adapter(), *parameter);
      if (taken_.contains(name)) continue;  // of the word embeddings behind a prompt, which have another name
      if (!find(name) && is_saved_alone(*parameter)) {  // PEFT saves modules, and passes over what is none
        builder_.override_of(*parameter) = Tensor();
        continue;
      }
      const Ties& ties = builder_.ties();
      if (!builder_.ties_modules() || parameter->slot != ties.head->weight.slot) {
        read(name, builder_.override_of(*parameter));
      } else if (find(name)) {  // a copy; PEFT has the last that it reads
        read(name, builder_.override_of(ties.words->weight));
      }
    }
    read_tokens();
  }

  // After the factors, and the embedding that a head's start lowers.
  void check_base_copies() {
    for (const AdaptedLayer* layer : builder_.layers()) check_base_copies(*layer->base);
    const Model& model = builder_.adapter().model();
    for (const Layer* layer : model.layers()) {
      if (layer->kind == LayerKind::embedding || (!saves_head(model) && layer == model.head_layer()))
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
        const io::TensorBytes* bytes = find(name);
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
    file_->check_length();
    std::vector<std::string> unexpected, passed_over, missing;
    std::set<std::string> taken;
    for (const std::string& name : taken_) taken.insert(names_.in_file(name));
    for (const std::string& name : missing_) missing.push_back(names_.in_file(name));
    for (const io::TensorBytes& tensor : file_->tensors()) {
      if (names_.of_lacking_pooler(tensor.name)) {
        passed_over.push_back(tensor.name);
        continue;
      }
      if (!taken.contains(tensor.name) && !is_peft_copy(tensor.name)) unexpected.push_back(tensor.name);
    }
    pass_over_unread(unexpected);
    const NamesInstead instead = names_instead(missing, unexpected, builder_.adapter().model());
    report("format.missing-tensor", "the file lacks {} tensors that its config asks for: {}", missing, instead);
    report("format.unexpected-tensor", "the file holds {} tensors that its config does not ask for: {}", unexpected,
           instead);
    if (!passed_over.empty()) {
      log().warn("{}: the pooler is not loaded, as no embedding reads it, and its {} tensors are passed over",
                 file_->path().string(), passed_over.size());
    }
    if (!drawn_.empty()) {
      log().warn(
          "{}: the random start of the factors is not in the file and was drawn again, as PEFT does; outputs are not "
          "quite those of the training ({})",
          file_->path().string(), listed(drawn_));
    }
  }

 private:
  // Whether modules_to_save names the tensor itself, of a layer or of none, and not a module with it.
  bool is_saved_alone(const Parameter& parameter) const {
    const Adapter& adapter = builder_.adapter();
    const auto& saved = adapter.config().modules_to_save;
    return !adapter.spec().on_base() && std::any_of(saved.begin(), saved.end(), [&](const std::string& entry) {
      return !entry.empty() && parameter.name.ends_with(entry);
    });
  }

  // Takes the tensors of modules that nothing here reads out of `unexpected`.
  void pass_over_unread(std::vector<std::string>& unexpected) const {
    if (unexpected.empty()) return;
    std::set<std::string> starts, found;
    for (const std::string& module : unread_modules(builder_.adapter().model()))
      starts.insert(names_.in_file(kModel + module));
    const size_t all = unexpected.size();
    std::erase_if(unexpected, [&](const std::string& name) {
      for (size_t dot = name.find('.', kModel.size()); dot != std::string::npos; dot = name.find('.', dot + 1)) {
        const std::string module = name.substr(0, dot);
        if (starts.contains(module)) return found.insert(module.substr(kModel.size())), true;
      }
      return false;
    });
    if (found.empty()) return;
    log().warn("{}: {} of its tensors are passed over, as the model's outputs do not depend on their modules: {}",
               file_->path().string(), all - unexpected.size(), listed({found.begin(), found.end()}));
  }

  void read_layer(AdaptedLayer& layer) {
    for (Param& param : layer.params.all()) {
      if (!param.saved || param.turned) continue;
      const std::string name = kModel + layer.info.name + "." + param.file_name;
      if (param.may_lack && !find(name)) {
        drawn_.push_back(name);
      } else if (!param.other_name.empty() && !find(name)) {
        read(kModel + layer.info.name + "." + param.other_name, param.value, in_file(param).sizes());
      } else {
        read(name, param.value, in_file(param).sizes());
      }
    }
  }

  // A tied head's factor is the embedding's own, and a copy of it. Where the two differ, PEFT has the last that it
  // reads.
  void read_turned(AdaptedLayer& layer) {
    const at::NoGradGuard no_grad;
    for (Param& param : layer.params.all()) {
      const std::string name = kModel + layer.info.name + "." + param.file_name;
      if (!param.turned || !find(name)) continue;
      Tensor head = in_file(param).contiguous();
      read(name, head);
      param.value.copy_(head.t());
    }
  }

  // PEFT ties a head that it does not find again when it reads the adapter, by the names of the modules (GPT-2).
  void pass_over_tied_factors() {
    const Layer* head = builder_.ties().head;
    if (!head || !builder_.config().ensure_weight_tying || builder_.adapter().layer(*head)) return;
    const std::string prefix = kModel + head->name + ".lora_";
    bool any = false;
    for (const io::TensorBytes& tensor : file_->tensors()) {
      if (tensor.name.starts_with(prefix)) any |= taken_.insert(tensor.name).second;
    }
    if (!any) return;
    log().warn("{}: PEFT ties '{}' when it trains and passes its factors over when it reads, as is done here",
               file_->path().string(), head->name);
  }

  // After virtual tokens come the base's word embeddings, unless the file has them under PEFT's second name.
  void read_words() {
    const Adapter& adapter = builder_.adapter();
    const Layer* words = word_embedding_of(adapter.model());
    if (!words || !adapter.virtual_tokens().embeddings.defined()) return;
    taken_.insert(base_prefix(adapter) + words->weight.name);
    if (!find(kPromptWords)) return builder_.forget_saved(*words);
    Tensor& value = builder_.override_of(words->weight);
    value = words->weight.value.to(builder_.type());
    read(kPromptWords, value);
  }

  // The rows of an embedding, which a head that is tied to it shares unless it has its own.
  void read_tokens() {
    const Adapter& adapter = builder_.adapter();
    std::vector<const Parameter*> own, tied;
    for (const Parameter* parameter : adapter.model().parameters()) {
      if (adapter.tokens(*parameter)) (own_tokens(adapter, *parameter) ? own : tied).push_back(parameter);
    }
    for (const Parameter* parameter : own) read(kModel + tokens_name(*parameter), rows_of(*parameter));
    for (const Parameter* parameter : tied) {
      rows_of(*parameter) = rows_of(builder_.ties().words->weight);
      taken_.insert(kModel + tokens_name(*parameter));  // PEFT's copy
    }
  }

  Tensor& rows_of(const Parameter& parameter) { return builder_.tokens().at(parameter.slot).rows; }

  // Where an embedding is targeted or resized, PEFT adds the base's own weights to the file.
  void check_base_copies(const Layer& layer) {
    const Adapter& adapter = builder_.adapter();
    const bool tied_copy = adapter.config().ensure_weight_tying && !layer.weight.tied_to.empty();
    for (const std::string& copy : base_copies(layer.name)) {
      const std::string name = base_prefix(adapter) + copy;
      const io::TensorBytes* bytes = find(name);
      if (!bytes || !taken_.insert(name).second) continue;  // read before, or passed over
      if (tied_copy || is_base(*bytes, layer.weight) || is_lowered(*bytes, layer)) continue;
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
    return ops::host_equal(to_tensor(bytes, weight.stored, file_).to(own.scalar_type()), rows) ||
           ops::host_equal(to_tensor(bytes, type, file_), rows.to(type));
  }

  // Whether these are the weight of a head less its start, which PEFT stores where it stores a head: the head's own, or
  // its embedding's. A start that was drawn at random is found again from them.
  bool is_lowered(const io::TensorBytes& bytes, const Layer& layer) {
    const Ties& ties = builder_.ties();
    const Layer* head = &layer == ties.words ? ties.head : &layer;
    AdaptedLayer* adapted = head ? builder_.layer(*head) : nullptr;
    Tensor lowered = adapted ? lowered_weight(*adapted) : Tensor();
    if (!lowered.defined() || at::IntArrayRef(bytes.shape) != lowered.sizes()) return false;
    const Tensor stored = to_tensor(bytes, builder_.type(), file_);
    const double step = lowered.scalar_type() == at::kBFloat16 ? 0x1p-7 : 1e-4;
    const double bound = step * ops::host_number(head->weight.value.abs().max());
    const auto near = [&] {
      return ops::host_number((lowered.to(stored.scalar_type()) - stored).abs().max()) <= bound;
    };
    if (near()) return true;
    find_start(*adapted, stored);
    lowered = lowered_weight(*adapted);
    return near();
  }

  // The frozen factors whose product, times the scale, is what `lowered` lacks of W0.
  void find_start(AdaptedLayer& layer, const Tensor& lowered) {
    const at::NoGradGuard no_grad;
    const Tensor lacking = (layer.base->weight.value.to(lowered.scalar_type()) - lowered) / layer.update().scale;
    const int64_t n = layer.params["A0"].size(0);
    const BaseView::Svd svd = BaseView(lacking).svd(n);
    for (Param& param : layer.params.all()) {
      if (param.name == "B0") param.value = (svd.U * svd.S).contiguous();
      if (param.name == "A0") param.value = svd.Vt.contiguous();
    }
    std::erase_if(drawn_, [&](const std::string& name) { return name.starts_with(kModel + layer.info.name + "."); });
    builder_.lower_tied_words();
  }

  const io::TensorBytes* find(const std::string& name) const { return file_->find(names_.in_file(name)); }

  void read(const std::string& name, Tensor& into) { read(name, into, into.sizes()); }

  void read(const std::string& name, Tensor& into, at::IntArrayRef shape) {
    const io::TensorBytes* bytes = find(name);
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
    refuse_non_finite(bytes.name, into, file_->path());
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

  void report(const char* id, fmt::format_string<size_t, std::string> what, const std::vector<std::string>& names,
              const NamesInstead& instead) const {
    if (names.empty()) return;
    const std::string text = fmt::format(what, names.size(), listed(names)) + instead.what;
    if (allow_partial_) {
      log().warn("{}: {}", file_->path().string(), text);
      return;
    }
    throw Error({.id = id,
                 .what = text,
                 .where = file_->path().string(),
                 .fix = instead.fix + "--allow_partial true loads what there is"});
  }

  std::shared_ptr<io::TensorFile> file_;
  ModuleNames names_;
  AdapterBuilder& builder_;
  bool allow_partial_;
  std::set<std::string> taken_;
  std::vector<std::string> missing_, drawn_;
};

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

/// Leaves a model's text encoder alone where the adapter was made without it: what "all-linear" and methods of every
/// tensor meant then.
AdapterConfig without_untouched_part(AdapterConfig config, const io::TensorFile& file, const Model& model) {
  const std::string scope(kTextEncoderScope);
  const auto& parameters = model.parameters();
  const auto& tensors = file.tensors();
  const bool has_part =
      std::any_of(parameters.begin(), parameters.end(), [&](const auto* p) { return p->name.starts_with(scope); });
  const bool touches =
      std::any_of(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name.starts_with(kModel + scope); });
  if (has_part && !touches) exclude_scope(config, scope);
  return config;
}

/// The names that the weight of a head of labels may have.
std::set<std::string> head_weights() {
  std::set<std::string> names;
  for (const FamilySpec* family : family_table()) {
    for (const HeadSpec& head : family->heads) {
      if (head.has_labels()) names.insert(head.weight);
    }
  }
  return names;
}

/// The names that the metadata holds; other programs may keep something else under that word, which is none.
Json label_list(const std::string& text, const std::filesystem::path& file) {
  try {
    return parse_json(text, file.string());
  } catch (const Error&) {
    return nullptr;
  }
}

}  // namespace

Adapter Adapter::load_parts(const Model& model, const AdapterFolder& folder, const LoadOptions& options) {
  if (!options.options.empty()) {
    throw Error({.id = "config.conflict",
                 .what = "'" + options.options.begin().key() + "' is an option of one method, and the adapter has " +
                         std::to_string(folder.parts.size()) + " parts",
                 .where = folder.path.string(),
                 .fix = "leave it out, or go on with the folder of one part"});
  }
  std::vector<Adapter> parts;
  std::vector<double> weights;
  for (const PartEntry& part : folder.parts) {
    const LoadOptions own{.allow_partial = options.allow_partial, .trainable = options.trainable && !part.frozen};
    parts.push_back(load_folder(model, open_adapter_folder(part.folder), own));
    if (part.frozen) parts.back().freeze();
    weights.push_back(part.weight);
  }
  return compose(std::move(parts), std::move(weights));
}

Adapter Adapter::load(const Model& model, const std::filesystem::path& folder, const LoadOptions& options) {
  const AdapterFolder opened = open_adapter_folder(folder);
  try {
    Adapter adapter = opened.parts.empty() ? load_folder(model, opened, options) : load_parts(model, opened, options);
    if (!options.allow_partial) check_head(model, adapter, folder);
    return adapter;
  } catch (const c10::Error& error) {  // sizes that no tensor can have
    throw Error({.id = "format.bad-adapter",
                 .what = std::string("its values make no tensors: ") + error.what_without_backtrace(),
                 .where = opened.config_file().string(),
                 .fix = "compare the ranks and sizes in it with those of the tensors beside it"});
  }
}

Adapter Adapter::load_folder(const Model& model, const AdapterFolder& folder, const LoadOptions& options) {
  const std::string where = folder.config_file().string();
  AdapterContents contents = open_adapter_contents(folder, model);
  Json& json = contents.config;
  const MethodSpec& spec = choose_method(json, where);
  refuse_other_keys(json, spec, where);
  for (const auto& [key, value] : options.options.items()) {
    if (!trains_only(spec, key)) refuse_unless(false, key, value, "what the adapter has: its tensors depend on it");
    json[key] = value;
  }
  AdapterConfig config = adapter_config_from_json(json, where);
  auto file = std::make_shared<io::TensorFile>(std::move(contents.tensors));
  const std::string& start = spec.on(ActsOn::virtual_tokens) ? kShared : kModel;
  ModuleNames names = ModuleNames::of_file(*file, start, config, model);
  AdapterBuilder builder(model, without_untouched_part(names.for_model(std::move(config)), *file, model),
                         Purpose::reading);
  if (options.trainable && !options.options.contains("total_step")) builder.count_steps_anew();
  builder.wrap(0);
  builder.override_parameters();
  builder.tie();
  builder.train_tokens();
  Reader reader(std::move(file), std::move(names), builder, options.allow_partial);
  reader.read_layers();
  builder.tie();
  builder.lower_tied_words();
  reader.check_base_copies();
  reader.read_shared();
  reader.finish();
  builder.share_tensors(/*must_agree=*/!options.allow_partial);
  builder.set_trainable(options.trainable);
  return builder.take();
}

ModelOptions with_adapter_head(ModelOptions options, const std::filesystem::path& adapter_folder) {
  const AdapterFolder folder = open_adapter_folder(adapter_folder);
  if (!folder.parts.empty()) return with_adapter_head(std::move(options), folder.parts.front().folder);
  const io::TensorFile file = open_adapter_tensors(folder);
  for (const std::string& name : head_weights()) {
    const io::TensorBytes* head = file.find(kModel + name);
    if (!head) head = file.find(kShared + name);
    if (!head || head->shape.empty()) continue;
    options.num_labels = head->shape[0];
    options.ignore_mismatched_sizes = true;  // the adapter brings its own head
  }
  const auto labels = file.metadata().find("labels");
  if (labels != file.metadata().end()) {
    const Json names = label_list(labels->second, file.path());
    if (names.is_array() && (options.num_labels == 0 || static_cast<int64_t>(names.size()) == options.num_labels)) {
      options.label_names.clear();
      for (const Json& name : names) {
        options.label_names.push_back(name.is_string() ? name.get<std::string>() : name.dump());
      }
    }
  }
  const auto problem = file.metadata().find("problem_type");
  if (problem != file.metadata().end()) options.problem_type = problem->second;
  return options;
}

}  // namespace deltaw
