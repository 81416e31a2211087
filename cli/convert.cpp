#include "deltaw/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "converted.h"
#include "core/files.h"
#include "counter.h"
#include "deltaw/error.h"
#include "deltaw/image.h"
#include "io/resolve_model.h"
#include "output.h"
#include "tasks/common/text_files.h"

namespace deltaw::cli {
namespace {

/// Of two models that become one.
struct PairKeys {
  std::string vision, text;
  int64_t projection_dim = 512;

  bool wanted() const { return !vision.empty() || !text.empty(); }
  void fields(FieldVisitor& f) {
    f.field("vision_model_name_or_path", vision,
            "In place of MODEL: an encoder of images that becomes, with one of texts, a vision-text-dual-encoder. What "
            "neither has (projections, perhaps a pooler) is drawn and trained with every adapter.");
    f.field("text_model_name_or_path", text, "The encoder of texts.");
    f.field("projection_dim", projection_dim, "Width of the space of images and texts.", at_least(1));
  }
};

/// Of a LoRA of an image model.
struct LoraKeys {
  std::string base;

  void fields(FieldVisitor& f) {
    f.field(
        "model_name_or_path", base,
        "Where MODEL is a LoRA of an image model: the pipeline that it is of, or its UNet, whose layers give the names "
        "their meaning.");
  }
};

/// What MODEL becomes.
std::vector<std::string> formats() {
  std::vector<std::string> names = {"hf", "gguf"};
  for (std::string& name : lora_format_names()) names.push_back(std::move(name));
  return names;
}

struct Keys : FolderKeys {
  PairKeys pair;
  GgufKeys gguf;
  LoraKeys lora;
  std::string save_dtype = "auto";

  bool converts_lora() const {
    const std::vector<std::string> names = lora_format_names();
    return std::find(names.begin(), names.end(), gguf.to) != names.end();
  }
  void fields(FieldVisitor& f) {
    pair.fields(f);
    f.field(
        "to", gguf.to,
        "What to write: the folder of a Hugging Face checkpoint, or a GGUF file for llama.cpp and Ollama. Of a LoRA of "
        "an image model: a file of diffusers, one by the names of kohya's scripts for A1111 and ComfyUI, or PEFT's "
        "folder.",
        one_of(formats()));
    lora.fields(f);
    gguf.own_fields(f);
    f.field(
        "save_dtype", save_dtype,
        "Type to write: auto is that of the file, tensor by tensor, and in a folder float32 for GGUF's blocks, which "
        "it holds exactly. In a GGUF file the type of its matrices, q8_0 too.",
        one_of({"auto", "float32", "bf16", "bfloat16", "float16", "q8_0"}));
    FolderKeys::fields(f);
  }
};

const Usage kUsageText = {
    .verb = "convert",
    .what =
        "Writes a GGUF file, or a folder with pytorch_model.bin, as a checkpoint folder of safetensors that "
        "transformers loads, or a folder as a GGUF file that llama.cpp and Ollama run, tokenizer and chat template "
        "with "
        "it; or an encoder of images and one of texts as one folder; or a LoRA of an image model in other names, its "
        "scale kept. Reads it back and compares every tensor. One JSON object on standard output.",
    .example =
        "  deltaw convert model.Q4_K_M.gguf --output_dir model\n"
        "  deltaw convert MODEL --output_dir model-safetensors\n"
        "  deltaw convert MODEL --save_dtype bf16 --output_dir model-bf16\n"
        "  deltaw convert MODEL --to gguf --save_dtype q8_0 --output_dir model-gguf\n"
        "  deltaw convert --vision_model_name_or_path vit \\\n"
        "    --text_model_name_or_path bert --output_dir pair\n"
        "  deltaw convert style.safetensors --to diffusers \\\n"
        "    --model_name_or_path PIPELINE --output_dir style",
    .positional = "MODEL",
    .positional_help =
        "A GGUF file, a checkpoint folder, or a hub name in the local cache; or the file or folder of a LoRA of an "
        "image "
        "model.",
    .exit_codes = "0 done; 1 failed; 2 usage or configuration, nothing was started; 3 the folder is not the model",
    .needs = {kNeedsOutput},
};

ConvertReport converted(LoadedModel& loaded, const Invocation& invocation, const Keys& keys) {
  Counter counter("tensors");
  if (keys.gguf.wanted()) {
    loaded.model_options.dtype = "float32";
    load_source(loaded, invocation, keys);
    return convert_gguf(*loaded.model, keys.output_dir,
                        gguf_options(loaded, keys.gguf, keys.save_dtype, counter.progress()));
  }
  const std::filesystem::path source = io::resolve_model(loaded.base.model_name_or_path);
  if (std::filesystem::is_directory(source)) {
    claim_output(loaded, invocation, keys);
    return convert_folder(source, keys.output_dir, stored_type(keys.save_dtype), counter.progress());
  }
  loaded.model_options.dtype = "float32";
  load_source(loaded, invocation, keys);
  return convert_checkpoint(*loaded.model, keys.output_dir, companions_of(loaded), stored_type(keys.save_dtype),
                            counter.progress());
}

void check_pair(const Invocation& invocation, const Keys& keys) {
  const auto refuse = [](const std::string& what, const char* key, const char* fix) {
    throw Error({.id = "config.conflict", .what = what, .where = std::string("key '") + key + "'", .fix = fix});
  };
  if (keys.pair.vision.empty() || keys.pair.text.empty()) {
    refuse("a pair has an encoder of images and one of texts, and one of them is not named",
           keys.pair.vision.empty() ? "vision_model_name_or_path" : "text_model_name_or_path", "name both");
  }
  if (!invocation.positional.empty()) {
    refuse("MODEL is to be converted and two models are to be joined", "vision_model_name_or_path", "keep one of them");
  }
  if (keys.gguf.wanted()) refuse("llama.cpp has no pairs of encoders", "to", "leave it out");
}

/// The files beside the weights: the image processor and the tokenizer.
FillFolder pair_companions(const std::filesystem::path& vision, const std::filesystem::path& text) {
  return [vision, text](const std::filesystem::path& folder) {
    if (const auto file = ImageProcessor::file_in(vision)) write_file(folder / file->filename(), read_file(*file));
    tasks::write_tokenizer(Tokenizer::from_folder(text, text), folder);
  };
}

Json joined(const Invocation& invocation, const Keys& keys, ConvertReport& report) {
  check_pair(invocation, keys);
  using Kind = run::Input::Kind;
  const std::filesystem::path vision = io::resolve_model(keys.pair.vision), text = io::resolve_model(keys.pair.text);
  claim_output({{Kind::model, "the encoder of images", vision}, {Kind::model, "the encoder of texts", text}}, keys);
  const auto model = join_towers(vision, text, keys.pair.projection_dim);
  Counter counter("tensors");
  report = convert_checkpoint(*model, keys.output_dir, pair_companions(vision, text), stored_type(keys.save_dtype),
                              counter.progress());
  return {{"vision_model_name_or_path", keys.pair.vision},
          {"text_model_name_or_path", keys.pair.text},
          {"new_modules", model->new_modules()}};
}

/// Keys that act for a LoRA alone, or never for one.
void check_lora_keys(const Keys& keys) {
  const auto refuse = [](const std::string& what, const char* key, const char* fix) {
    throw Error({.id = "config.conflict", .what = what, .where = std::string("key '") + key + "'", .fix = fix});
  };
  if (!keys.converts_lora()) {
    if (!keys.lora.base.empty())
      refuse("the model to convert is MODEL; this key is the base of a LoRA", "model_name_or_path",
             "leave it out, or name the LoRA's format with --to");
    return;
  }
  if (keys.pair.wanted()) refuse("a pair of encoders is no LoRA", "to", "leave one of them out");
  if (keys.save_dtype != "auto") refuse("factors keep their types", "save_dtype", "leave it out");
  if (!keys.gguf.pre_tokenizer.empty()) refuse("only GGUF files name a pre-tokenizer", "pre_tokenizer", "leave it out");
}

/// A LoRA in another format.
int convert_lora_file(const Invocation& invocation, const Keys& keys) {
  if (invocation.positional.empty()) refuse_missing(kUsageText, kNeedsModelToConvert);
  if (keys.lora.base.empty()) {
    throw Error({.id = "usage.missing-key",
                 .what = "the names in a LoRA of an image model mean nothing without the model, and none is given",
                 .where = "key \"model_name_or_path\"",
                 .fix = "add --model_name_or_path PIPELINE, or its UNet"});
  }
  using Kind = run::Input::Kind;
  claim_output(
      {{Kind::model, "the base", io::resolve_model(keys.lora.base)}, {Kind::model, "the LoRA", invocation.positional}},
      keys);
  const LoraConversion report = convert_lora(invocation.positional, keys.lora.base, keys.gguf.to, keys.output_dir);
  if (!report.left_out.empty()) {
    warning(fmt::format("{} tensors are of no layer of the pipeline's models and were left out; left_out lists them",
                        report.left_out.size()));
  }
  print(to_text({{"output_dir", keys.output_dir},
                 {"adapter_name_or_path", invocation.positional},
                 {"model_name_or_path", keys.lora.base},
                 {"to", keys.gguf.to},
                 {"layers", report.layers},
                 {"rank", report.rank},
                 {"left_out", report.left_out},
                 {"passed", report.problem.empty()}}));
  return finish(report.problem, kUsageText, keys);
}

}  // namespace

int convert(const Args& args) {
  const std::vector<Section> sections = {section_of<Keys>("Output"), section_of<LogKeys>("Log")};
  const Invocation invocation = parse_args(kUsageText, sections, args);
  if (invocation.help) {
    print_help(kUsageText, sections);
    return kDone;
  }
  Keys keys;
  read_into(keys, invocation);
  check_lora_keys(keys);
  if (keys.converts_lora()) return convert_lora_file(invocation, keys);
  LoadedModel loaded;
  loaded.base.model_name_or_path = invocation.positional;
  if (!keys.gguf.wanted()) refuse_gguf_keys(keys.gguf, keys.save_dtype);
  ConvertReport report;
  Json result{{"output_dir", keys.output_dir}};
  if (keys.pair.wanted()) {
    result.update(joined(invocation, keys, report));
  } else {
    if (invocation.positional.empty()) refuse_missing(kUsageText, kNeedsModelToConvert);
    report = converted(loaded, invocation, keys);
    result["model_name_or_path"] = loaded.base.model_name_or_path;
  }
  result.update({{"tensors", report.tensors}, {"parameters", report.parameters}, {"passed", report.problem.empty()}});
  print(to_text(result));
  return finish(report.problem, kUsageText, keys);
}

}  // namespace deltaw::cli
