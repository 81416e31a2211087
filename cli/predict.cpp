#include <fstream>

#include "deltaw/error.h"
#include "io/safetensors.h"
#include "output.h"
#include "serve.h"
#include "texts.h"
#include "train/batch_tensors.h"

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
    f.field("logits_file", logits_file,
            "Also write the raw logits to this safetensors file: `logits` [rows, labels], or `logits.<row>` [tokens, "
            "vocabulary] of a causal language model.");
  }
};

const Usage kUsageText = {
    .verb = "predict",
    .what =
        "Writes one JSON line per input row: {\"label\": ..., \"logits\": [...]}, {\"label\": score} for "
        "regression, or {\"nll\": ..., \"tokens\": ...} for a causal language model: the negative log-likelihood of "
        "the row in nats and the number of tokens it is summed over. Labels are not needed.",
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

/// The texts as they stand: only an answer is followed by an end-of-text token.
TextDataset read_texts(const Served& served, const Keys& keys) {
  std::filesystem::path file = keys.input_file;
  if (file.empty()) {
    const auto test = text_split_file(served.data, Split::test);
    if (!test) {
      throw Error({.id = "config.no-data",
                   .what = "there is nothing to predict",
                   .where = "keys 'input_file' and 'test_file'",
                   .fix = "--input_file texts.txt"});
    }
    file = *test;
  }
  TextDataset texts;
  if (is_table(file)) {
    texts = load_texts(file, served.data, served.text, renderer_of(served.chat_template));
  } else {
    for (Example& row : read_lines(file).rows) {
      const size_t size = row.text.size();
      texts.rows.push_back({.text = std::move(row.text), .trained = {{0, size}}, .line = row.line});
    }
  }
  for (TextExample& row : texts.rows) row.end &= row.answers;
  return texts;
}

/// logits.<row> [tokens, vocabulary] of each row.
void write_text_logits(const Served& served, const std::vector<EncodedRow>& rows, const std::string& path) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> logits;
  std::vector<io::TensorBytes> tensors;
  for (size_t i = 0; i < rows.size(); ++i) {
    Call call{.adapter = served.acting()};
    const ModelInput input =
        train::to_input(collate(rows, {static_cast<int64_t>(i)}, served.pad_id, /*pads_left=*/false));
    logits.push_back(served.model->forward(input, call)[0].to(at::kFloat).contiguous());
    tensors.push_back({.name = "logits." + std::to_string(i),
                       .dtype = io::Dtype::f32,
                       .shape = logits.back().sizes().vec(),
                       .data = static_cast<const std::byte*>(logits.back().const_data_ptr())});
  }
  io::write_safetensors(path, tensors);
}

void predict_texts(const Served& served, const Keys& keys) {
  const std::vector<EncodedRow> rows = encoded(served, read_texts(served, keys)).rows;
  if (!keys.logits_file.empty()) write_text_logits(served, rows, keys.logits_file);
  LineWriter output(keys.output_file);
  for (const RowLoss& row :
       predict_losses(*served.model, served.acting(), rows, served.batch.per_device_eval_batch_size, served.pad_id,
                      served.tokenizer->pads_left())) {
    output.write(to_line({{"nll", row.nll}, {"tokens", row.tokens}}));
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
  if (served.model->is_causal()) {
    predict_texts(served, keys);
    return kDone;
  }
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
