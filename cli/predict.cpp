#include <fstream>

#include "deltaw/error.h"
#include "io/safetensors.h"
#include "output.h"
#include "serve.h"

namespace deltaw::cli {
namespace {

struct Keys {
  std::string input_file;
  std::string output_file;
  std::string logits_file;

  void fields(FieldVisitor& f) {
    f.field("input_file", input_file,
            "Rows to predict: .tsv, .csv, .jsonl or .json with the columns above, or one text per line. Default: "
            "test_file.");
    f.field("output_file", output_file, "Where the lines go; default: standard output.");
    f.field("logits_file", logits_file, "Also write the raw logits [rows, labels] to this safetensors file.");
  }
};

const Usage kUsageText = {
    .verb = "predict",
    .what =
        "Writes one JSON line per input row: {\"label\": ..., \"logits\": [...]}, or {\"label\": score} for "
        "regression. Labels are not needed.",
    .example =
        "  deltaw predict --adapter_name_or_path out --input_file texts.txt\n"
        "  deltaw predict --adapter_name_or_path out --input_file rows.csv \\\n"
        "    --output_file predictions.jsonl",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
};

bool is_table(const std::filesystem::path& file) {
  const std::string ending = file.extension().string();
  return ending == ".tsv" || ending == ".csv" || ending == ".jsonl" || ending == ".json";
}

Dataset read_lines(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw Error({.id = "io.not-found",
                 .what = "the file cannot be opened",
                 .where = path.string() + ", key 'input_file'",
                 .fix = "check the path"});
  }
  Dataset dataset;
  dataset.file = path;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    Example row;
    row.text = line;
    row.line = static_cast<int64_t>(dataset.rows.size()) + 1;
    dataset.rows.push_back(std::move(row));
  }
  return dataset;
}

Dataset read_input(const Served& served, const Keys& keys) {
  if (keys.input_file.empty()) {
    return load_split(served.data, Split::test, served.labels, Labels::ignored,
                      static_cast<uint64_t>(served.batch.seed));
  }
  if (!is_table(keys.input_file)) return read_lines(keys.input_file);
  return load_file(keys.input_file, served.data, served.labels, Labels::ignored);
}

void write_lines(const Served& served, const Tensor& logits, const std::string& path) {
  LineWriter output(path);
  const int64_t columns = logits.size(1);
  const float* row = logits.data_ptr<float>();
  for (int64_t i = 0; i < logits.size(0); ++i, row += columns) {
    if (served.labels.regression) {
      output.write(to_line({{"label", row[0]}}));
      continue;
    }
    const auto best = std::max_element(row, row + columns) - row;
    output.write(to_line({{"label", served.labels.names[static_cast<size_t>(best)]},
                          {"logits", std::vector<float>(row, row + columns)}}));
  }
  output.finish();
}

}  // namespace

int predict(const Args& args) {
  Served served;
  Invocation invocation;
  if (!read_serving(kUsageText, args, section_of<Keys>("Input and output"), invocation, served)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  load_served(served, invocation, true);
  const Dataset dataset = read_input(served, keys);
  const Tensor logits = dataset.rows.empty() ? at::empty({0, served.model->num_labels()}, at::kFloat)
                                             : logits_of(served, dataset).to(at::kFloat).contiguous();
  if (!keys.logits_file.empty()) {
    io::write_safetensors(keys.logits_file, {{.name = "logits",
                                              .dtype = io::Dtype::f32,
                                              .shape = logits.sizes().vec(),
                                              .data = static_cast<const std::byte*>(logits.const_data_ptr())}});
  }
  write_lines(served, logits, keys.output_file);
  return kDone;
}

}  // namespace deltaw::cli
