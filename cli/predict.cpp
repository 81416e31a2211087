#include "counter.h"
#include "io/safetensors.h"
#include "loaded_model.h"
#include "output.h"

namespace deltaw::cli {
namespace {

struct Keys {
  std::string input_file;
  std::string output_file;
  std::string logits_file;

  void fields(FieldVisitor& f) {
    f.field(
        "input_file", input_file,
        "Rows to predict: .parquet, .arrow, .tsv, .csv, .jsonl or .json with the columns above, or one text per line, "
        "blank lines too. Default: test_file.");
    f.field("output_file", output_file, "Where the lines go; default: standard output.");
    const std::string tensors = all_words(&TaskWords::tensors, ", or ");
    f.field("logits_file", logits_file,
            ("Also write the raw logits to this safetensors file: " + tensors + ".").c_str());
  }
};

const Usage& usage() {
  static const Usage text = {
      .verb = "predict",
      .what = "Writes one JSON line per input row, in their order: " + all_words(&TaskWords::predicts, ", or ") +
              ". `row` counts from 1; `id` stands behind it where the file has a column of that name. Labels are not "
              "needed.",
      .example =
          "  deltaw predict --adapter_name_or_path out --input_file texts.txt\n"
          "  deltaw predict --adapter_name_or_path out --input_file rows.csv \\\n"
          "    --output_file predictions.jsonl",
      .positional = "CONFIG",
      .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
      .positional_is_config = true,
      .needs = {kNeedsModel},
  };
  return text;
}

void write_tensors(const std::vector<std::pair<std::string, Tensor>>& tensors, const std::string& path) {
  std::vector<io::TensorBytes> bytes;
  for (const auto& [name, tensor] : tensors) {
    bytes.push_back({.name = name,
                     .dtype = io::Dtype::f32,
                     .shape = tensor.sizes().vec(),
                     .data = static_cast<const std::byte*>(tensor.const_data_ptr())});
  }
  io::write_safetensors(path, bytes);
}

void write_lines(Predictions& predictions, const std::string& path) {
  LineWriter output(path);
  for (int64_t i = 0; i < predictions.size(); ++i) {
    Json line = row_line(i + 1, predictions.id(i));
    line.update(predictions.row(i));
    output.write(to_line(line));
  }
  output.finish();
}

void check_outputs(const LoadedModel& loaded, const Keys& keys, const Invocation& invocation) {
  run::Inputs inputs = inputs_of(loaded, invocation);
  inputs.push_back({run::Input::Kind::file, "input_file", keys.input_file});
  run::refuse_input("output_file", keys.output_file, inputs);
  run::refuse_input("logits_file", keys.logits_file, inputs);
  run::refuse_one_file("output_file", keys.output_file, "logits_file", keys.logits_file);
}

}  // namespace

int predict(const Args& args) {
  LoadedModel loaded;
  Invocation invocation;
  std::vector<Section> own = prediction_sections();
  own.push_back(section_of<Keys>("Input and output"));
  if (!read_model_keys(usage(), args, std::move(own), invocation, loaded)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  check_outputs(loaded, keys, invocation);
  load_with_adapter(loaded, invocation, true);
  loaded.tasks.read(invocation, &TaskReader::prediction_fields);
  Counter counter("rows");
  TaskFiles files = loaded.files();
  const auto predictions = loaded.reader->predict(loaded.asked(counter.progress()), files, keys.input_file);
  if (!keys.logits_file.empty()) write_tensors(predictions->tensors(), keys.logits_file);
  write_lines(*predictions, keys.output_file);
  return kDone;
}

}  // namespace deltaw::cli
