#include "deltaw/convert.h"

#include "converted.h"
#include "counter.h"
#include "io/resolve_model.h"
#include "output.h"

namespace deltaw::cli {
namespace {

struct Keys : FolderKeys {
  GgufKeys gguf;
  std::string save_dtype = "auto";

  void fields(FieldVisitor& f) {
    gguf.fields(f);
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
        "it; reads it back and compares every tensor. One JSON object on standard output.",
    .example =
        "  deltaw convert model.Q4_K_M.gguf --output_dir model\n"
        "  deltaw convert MODEL --output_dir model-safetensors\n"
        "  deltaw convert MODEL --save_dtype bf16 --output_dir model-bf16\n"
        "  deltaw convert MODEL --to gguf --save_dtype q8_0 --output_dir model-gguf",
    .positional = "MODEL",
    .positional_help = "A GGUF file, a checkpoint folder, or a hub name in the local cache.",
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
  LoadedModel loaded;
  loaded.base.model_name_or_path = invocation.positional;
  if (!keys.gguf.wanted()) refuse_gguf_keys(keys.gguf, keys.save_dtype);
  if (invocation.positional.empty()) refuse_missing(kUsageText, kNeedsModelToConvert);
  const ConvertReport report = converted(loaded, invocation, keys);
  print(to_text(Json{{"output_dir", keys.output_dir},
                     {"model_name_or_path", loaded.base.model_name_or_path},
                     {"tensors", report.tensors},
                     {"parameters", report.parameters},
                     {"passed", report.problem.empty()}}));
  return finish(report.problem, kUsageText, keys);
}

}  // namespace deltaw::cli
