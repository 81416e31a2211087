#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/files.h"
#include "core/json_fields.h"
#include "core/mix_seed.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "deltaw/new_model.h"
#include "io/checkpoint.h"
#include "io/resolve_model.h"
#include "models/config_values.h"
#include "models/family_input.h"
#include "models/gguf.h"
#include "ops/vector_math.h"
#include "ops/vectors.h"

namespace deltaw {
namespace {

std::string family_names() {
  std::vector<std::string> names;
  for (const FamilySpec* family : family_table()) names.push_back(family->model_type);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// The family of a config.json, the file `file`.
const FamilySpec& family_of(const Json& config, const std::string& file) {
  const char* key = io::model_type_key(config);
  const std::string type = ConfigValues(config, file).get_or(key, std::string());
  if (const FamilySpec* family = find_family(type)) return *family;
  throw Error({.id = "config.unsupported",
               .what = fmt::format("{} '{}' is not implemented", key, type),
               .where = fmt::format("{}, key \"{}\"", file, key),
               .fix = "deltaw reads " + family_names()});
}

/// The heads that a family has, and which families have the one that is asked for.
std::string other_heads(const FamilySpec& family, const std::string& task_type) {
  std::vector<std::string> own, others;
  for (const HeadSpec& head : family.heads) own.push_back(head.task_type);
  for (const FamilySpec* other : family_table()) {
    if (other->head(task_type)) others.push_back(other->model_type);
  }
  std::string fix = fmt::format("{}", fmt::join(own, " or "));
  if (!others.empty()) fix += fmt::format(", or a model of another type ({})", fmt::join(others, ", "));
  return fix;
}

/// The head that is asked for. Where none is, that with labels whose class config.json names, else the family's first:
/// most checkpoints bear the class that they were pretrained as.
const HeadSpec& head_for(const FamilySpec& family, const Json& config, const std::string& task_type) {
  if (!task_type.empty()) {
    if (const HeadSpec* head = family.head(task_type)) return *head;
    throw Error(
        {.id = "config.unsupported",
         .what = fmt::format("task_type '{}' is not implemented for model_type '{}'", task_type, family.model_type),
         .where = "key \"task_type\"",
         .fix = other_heads(family, task_type)});
  }
  const Json names = config.value("architectures", Json());
  for (const HeadSpec& head : family.heads) {
    if (!head.weight.empty() && names.is_array() && !names.empty() && names[0] == head.architecture) return head;
  }
  return family.heads.at(0);
}

at::ScalarType parse_dtype(const std::string& dtype) {
  if (dtype == "auto") return ops::has_bf16_units() ? at::kBFloat16 : at::kFloat;
  if (dtype == "float32" || dtype == "fp32") return at::kFloat;
  if (dtype == "bf16" || dtype == "bfloat16") return at::kBFloat16;
  if (dtype == "float64") return at::kDouble;
  throw Error({.id = "config.out-of-range",
               .what = "dtype '" + dtype + "' is not implemented",
               .where = "key \"dtype\"",
               .fix = "one of: auto, float32, bf16, float64"});
}

constexpr int64_t kMostLabels = 1'000'000;

/// The classes of id2label in their order, else of label2id; empty where they are no list.
std::vector<std::string> named_labels(const Json& config) {
  std::map<std::string, std::string> by_class;
  const auto id2label = config.find("id2label"), label2id = config.find("label2id");
  if (id2label != config.end() && id2label->is_object() && !id2label->empty()) {
    for (const auto& [id, name] : id2label->items()) {
      if (name.is_string()) by_class[id] = name.get<std::string>();
    }
  } else if (label2id != config.end() && label2id->is_object()) {
    for (const auto& [name, id] : label2id->items()) by_class[id.dump()] = name;
  }
  std::vector<std::string> labels;
  for (size_t i = 0; i < by_class.size(); ++i) {
    const auto found = by_class.find(std::to_string(i));
    if (found == by_class.end()) return {};
    labels.push_back(found->second);
  }
  return labels;
}

/// The labels that config.json names, or LABEL_0 ... as transformers makes them.
std::vector<std::string> labels_of(const Json& config, int64_t stored_rows, const std::string& file) {
  std::vector<std::string> labels = named_labels(config);
  if (!labels.empty()) return labels;
  const ConfigValues values(config, file);
  const int64_t count = values.size_or("num_labels", stored_rows > 0 ? stored_rows : int64_t{2});
  if (count > kMostLabels) values.complain("num_labels", fmt::format("a whole number from 1 to {}", kMostLabels));
  for (int64_t i = 0; i < count; ++i) labels.push_back(fmt::format("LABEL_{}", i));
  return labels;
}

/// Rows of the stored head; 0: there is none.
int64_t head_rows(const io::Checkpoint& checkpoint, const HeadSpec& spec) {
  const io::TensorBytes* head = spec.has_labels() ? checkpoint.find(spec.weight) : nullptr;
  return head && !head->shape.empty() ? head->shape[0] : 0;
}

void check_head(const FamilyInput& input, const ModelOptions& options, bool& new_head) {
  const std::string& weight = input.head.weight;
  const io::TensorBytes* head = input.checkpoint->find(weight);
  const bool labelled = input.head.has_labels();
  const int64_t rows = labelled ? static_cast<int64_t>(input.labels.size()) : input.head.outputs;
  if (!head || head->shape.empty() || head->shape[0] == rows) return;
  new_head = options.ignore_mismatched_sizes;
  if (new_head) return;
  throw Error({.id = "shape.mismatch",
               .what = fmt::format("the checkpoint's head has {} {}, {} are asked for", head->shape[0],
                                   labelled ? "labels" : "outputs", rows),
               .where = fmt::format("{}, tensor '{}'", input.checkpoint->file_of(weight).string(), weight),
               .fix = "--ignore_mismatched_sizes true draws a new head and trains it"});
}

void settle_labels(FamilyInput& input, Json config, const ModelOptions& options) {
  input.labels = options.label_names;
  if (options.new_head) input.drawn_head = input.head.weight;
  if (input.labels.empty()) {
    if (options.num_labels > 0) config["num_labels"] = options.num_labels;
    if (options.num_labels > 0 && config.contains("id2label") &&
        static_cast<int64_t>(config["id2label"].size()) != options.num_labels) {
      config.erase("id2label");
      config.erase("label2id");
    }
    input.labels =
        labels_of(config, head_rows(*input.checkpoint, input.head), config_file(input.checkpoint->folder()).string());
  }
  check_head(input, options, input.new_head);
}

void refuse_labels(const ModelOptions& options, const FamilySpec& family, const HeadSpec& head) {
  const char* key = options.num_labels > 0          ? "num_labels"
                    : !options.label_names.empty()  ? "label_names"
                    : !options.problem_type.empty() ? "problem_type"
                                                    : nullptr;
  if (!key) return;
  throw Error({.id = "config.unsupported",
               .what = fmt::format("model_type '{}' is loaded for {}, whose head has no labels", family.model_type,
                                   head.task_type),
               .where = fmt::format("key \"{}\"", key),
               .fix = "--task_type SEQ_CLS loads it as a classifier; or leave the key out"});
}

void refuse_vocabulary(const ModelOptions& options, const Json& config, const FamilySpec& family,
                       const HeadSpec& head) {
  const auto stored = config.find("vocab_size");
  const std::optional<int64_t> size = stored == config.end() ? std::nullopt : json_as<int64_t>(*stored);
  if (options.vocab_size == 0 || (size && options.vocab_size <= *size)) return;
  throw Error({.id = "config.unsupported",
               .what = fmt::format("new tokens for model_type '{}' are not implemented: it is loaded for {}",
                                   family.model_type, head.task_type),
               .where = "ModelOptions::vocab_size",
               .fix = "use a causal language model, or a checkpoint that has the tokens"});
}

std::optional<Quantisation> quantisation_of(const ModelOptions& options) {
  if (!options.dequantize && (options.load_in_4bit || options.load_in_8bit)) {
    throw Error({.id = "config.conflict",
                 .what = "dequantize is false, and the base is to be held in other bits than its file's",
                 .where = std::string("keys \"dequantize\" and \"") +
                          (options.load_in_4bit ? "load_in_4bit" : "load_in_8bit") + "\"",
                 .fix = "keep one of them"});
  }
  if (options.load_in_4bit && options.load_in_8bit) {
    throw Error({.id = "config.conflict",
                 .what = "load_in_4bit and load_in_8bit are both set",
                 .where = "keys \"load_in_4bit\" and \"load_in_8bit\"",
                 .fix = "keep one of them"});
  }
  if (options.bnb_4bit_use_double_quant && !options.load_in_4bit) {
    throw Error({.id = "config.conflict",
                 .what = "bnb_4bit_use_double_quant is set, and the base is not loaded in 4 bits",
                 .where = "key \"bnb_4bit_use_double_quant\"",
                 .fix = "set load_in_4bit too, or leave the key out"});
  }
  const bool multiplies = options.base_compute_dtype == "int8";
  if (!multiplies && options.base_compute_dtype != "auto") {
    throw Error({.id = "config.out-of-range",
                 .what = fmt::format("base_compute_dtype '{}' is not implemented", options.base_compute_dtype),
                 .where = "key \"base_compute_dtype\"",
                 .fix = "one of: auto, int8"});
  }
  if (multiplies && (options.load_in_4bit || !options.dequantize)) {
    throw Error({.id = "config.conflict",
                 .what = "base_compute_dtype is int8, and the base is to be held in other bits",
                 .where = std::string("keys \"base_compute_dtype\" and \"") +
                          (options.load_in_4bit ? "load_in_4bit" : "dequantize") + "\"",
                 .fix = "keep one of them"});
  }
  if (options.load_in_8bit || multiplies) return Quantisation{.type = QuantType::int8, .multiplies = multiplies};
  if (!options.load_in_4bit) return std::nullopt;
  const std::string& type = options.bnb_4bit_quant_type;
  if (type != "nf4" && type != "fp4") {
    throw Error({.id = "config.out-of-range",
                 .what = fmt::format("bnb_4bit_quant_type '{}' is not implemented", type),
                 .where = "key \"bnb_4bit_quant_type\"",
                 .fix = "one of: nf4, fp4"});
  }
  return Quantisation{.type = type == "nf4" ? QuantType::nf4 : QuantType::fp4,
                      .nested = options.bnb_4bit_use_double_quant};
}

// Codes of another program are not read.
void refuse_quantised(const Json& config, const std::string& where) {
  const auto own = config.find("quantization_config");
  if (own == config.end() || own->is_null()) return;
  const Json method = own->is_object() ? own->value("quant_method", Json()) : Json();
  throw Error({.id = "format.unsupported",
               .what = fmt::format("the checkpoint is quantised already{}",
                                   method.is_string() ? fmt::format(" ({})", method.get<std::string>()) : ""),
               .where = where + ", key \"quantization_config\"",
               .fix = "use the unquantised checkpoint, with load_in_4bit or load_in_8bit to save memory"});
}

class NoWeights : public io::TensorFile {
 public:
  explicit NoWeights(const std::filesystem::path& config) : TensorFile(config) {}
};

}  // namespace

void ModelOptions::fields(FieldVisitor& f) {
  f.field("task_type", task_type,
          "What the model is loaded for, as PEFT names it: SEQ_CLS (a decoder too, by its last token), CAUSAL_LM, or "
          "another task that its family has a head for; empty: what config.json says.");
  f.field("dtype", dtype, "Type of the frozen base: auto is bf16 where the machine computes it natively, else float32.",
          one_of({"auto", "float32", "fp32", "bf16", "bfloat16", "float64"}));
  f.field("ignore_mismatched_sizes", ignore_mismatched_sizes,
          "Draw a new head where the checkpoint's has another number of labels.");
  f.field("load_in_4bit", load_in_4bit, "Hold the frozen linear layers, but for heads, in 4 bits (QLoRA).");
  f.field("load_in_8bit", load_in_8bit, "Hold them in 8 bits, scaled by rows; their inputs stay as they are.");
  f.field("bnb_4bit_quant_type", bnb_4bit_quant_type, "The 16 numbers of 4 bits: NormalFloat or a tiny float.",
          one_of({"nf4", "fp4"}));
  f.field(
      "dequantize", dequantize,
      "Make numbers of a GGUF file's blocks when it is loaded; false: linear layers, but for heads, stay as they are "
      "in the mapped file, which takes less memory and more time.");
  f.field("bnb_4bit_use_double_quant", bnb_4bit_use_double_quant,
          "Quantise the scales of the 4-bit blocks too: 0.4 bits less for each weight.");
  f.field("base_compute_dtype", base_compute_dtype,
          "What products with the frozen linear layers, but for heads, are computed in: auto is dtype. int8 holds the "
          "layers in 8 bits, and quantises inputs and gradients by rows (SwitchBack), which takes less memory "
          "and loses about a hundredth of each product.",
          one_of({"auto", "int8"}));
}

uint64_t Call::next_key() {
  const uint64_t run = mix_seed(seed, static_cast<uint64_t>(step));
  return mix_seed(mix_seed(run, static_cast<uint64_t>(micro_step)), static_cast<uint64_t>(draws++));
}

std::string task_type_of(const std::string& model_name_or_path, const std::string& asked) {
  const auto path = io::resolve_model(model_name_or_path);
  const Json config = read_model_config(path);
  return head_for(family_of(config, config_file(path).string()), config, asked).task_type;
}

StoredLabels stored_labels(const std::string& model_name_or_path, const std::string& task_type) {
  const auto path = io::resolve_model(model_name_or_path);
  const auto opened = open_checkpoint(path);
  const io::Checkpoint& checkpoint = *opened;
  const std::string file = config_file(path).string();
  const FamilySpec& family = family_of(checkpoint.config(), file);
  const int64_t rows = head_rows(checkpoint, head_for(family, {}, task_type));
  std::vector<std::string> names = labels_of(checkpoint.config(), rows, file);
  if (rows > 0 && static_cast<int64_t>(names.size()) != rows) names = labels_of({{"num_labels", rows}}, rows, file);
  return {std::move(names), rows > 0};
}

std::unique_ptr<Model> load_model(const std::string& model_name_or_path, const ModelOptions& options) {
  ops::settle_vector_math();
  const auto path = io::resolve_model(model_name_or_path);
  FamilyInput input;
  input.checkpoint = open_checkpoint(path);
  input.dtype = parse_dtype(options.dtype);
  input.seed = options.seed;
  input.quantisation = quantisation_of(options);
  input.dequantize = options.dequantize;

  const Json& config = input.checkpoint->config();
  const std::string file = config_file(path).string();
  const FamilySpec& family = family_of(config, file);
  input.family = &family;
  input.head = head_for(family, config, options.task_type);
  refuse_quantised(config, file);
  ConfigValues(config, file).find<std::string>("problem_type");  // throws where it is no text
  if (!input.head.has_labels()) refuse_labels(options, family, input.head);
  if (input.head.weight.empty() && family.is_decoder) {
    input.vocab_size = options.vocab_size;
    input.embeddings = options.embeddings;
  } else {
    refuse_vocabulary(options, config, family, input.head);
  }
  if (!input.head.weight.empty() && !input.head.has_labels()) check_head(input, options, input.new_head);
  if (!input.head.has_labels()) return family.load(input);
  settle_labels(input, config, options);
  std::unique_ptr<Model> model = family.load(input);
  model->settle_labels(options.problem_type);
  return model;
}

std::unique_ptr<Model> new_model(const std::filesystem::path& folder, uint64_t seed) {
  ops::settle_vector_math();
  const std::filesystem::path file = folder / "config.json";
  const Json config = read_json_object(file, "format.config");
  if (!io::is_diffusers(config)) {
    throw Error({.id = "config.unsupported",
                 .what = "weights are drawn for models of diffusers alone, whose config.json has a _class_name",
                 .where = file.string(),
                 .fix = "give the config.json of a UNet2DModel, or train from a checkpoint"});
  }
  FamilyInput input;
  // Where the loader finds a configuration in the place of weights, it draws.
  input.checkpoint =
      std::make_shared<const io::Checkpoint>(folder, config, NoWeights(file), std::vector<io::TensorBytes>());
  input.seed = seed;
  const FamilySpec& family = family_of(config, file.string());
  input.family = &family;
  input.head = head_for(family, config, {});
  return family.load(input);
}

void Model::settle_labels(std::string problem_type) {
  Json id2label = Json::object(), label2id = Json::object();
  for (size_t i = 0; i < labels_.size(); ++i) {
    id2label[std::to_string(i)] = labels_[i];
    label2id[labels_[i]] = i;
  }
  config_["id2label"] = std::move(id2label);
  config_["label2id"] = std::move(label2id);
  if (!head_.problem_type) return;
  if (problem_type.empty())
    problem_type = config_.value("problem_type", Json()).is_string() ? config_["problem_type"].get<std::string>() : "";
  if (problem_type.empty()) problem_type = num_labels() == 1 ? "regression" : "single_label_classification";
  regression_ = problem_type == "regression";
  multi_label_ = problem_type == "multi_label_classification";
  const bool known = regression_ || multi_label_ || problem_type == "single_label_classification";
  if (!known || (regression_ && num_labels() != 1)) {
    throw Error({.id = "config.unsupported",
                 .what = fmt::format("problem_type '{}' with {} labels is not implemented", problem_type, num_labels()),
                 .where = config_file(folder_).string() + ", key \"problem_type\"",
                 .fix = "single_label_classification or multi_label_classification, or regression with one label"});
  }
  config_["problem_type"] = problem_type;
}

}  // namespace deltaw
