#include "core/text_file.h"
#include "counter.h"
#include "data/find_files.h"
#include "data/formats.h"
#include "deltaw/error.h"
#include "io/safetensors.h"
#include "output.h"
#include "serve.h"
#include "texts.h"

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
    f.field("logits_file", logits_file,
            "Also write the raw logits to this safetensors file: `logits` [rows, labels], or `logits.<n>` [tokens, "
            "vocabulary] of a causal language model, where n is the number of the row, from 0; a row without tokens "
            "has none.");
  }
};

const Usage kUsageText = {
    .verb = "predict",
    .what =
        "Writes one JSON line per input row, in their order: {\"row\": ..., \"label\": ..., \"logits\": [...]}, "
        "{\"row\": ..., \"label\": [...], \"logits\": [...]} where a row has several classes, "
        "{\"row\": ..., \"label\": score} for regression, or {\"row\": ..., \"nll\": ..., \"tokens\": ...} for a "
        "causal "
        "language model: the negative log-likelihood of the row in nats and the number of tokens it is summed over, "
        "null and 0 where a row has no token with another before it. `row` counts from 1; `id` stands behind it where "
        "the file has a column of that name. Labels are not needed.",
    .example =
        "  deltaw predict --adapter_name_or_path out --input_file texts.txt\n"
        "  deltaw predict --adapter_name_or_path out --input_file rows.csv \\\n"
        "    --output_file predictions.jsonl",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys, that of `deltaw train` for one; flags win over it.",
    .positional_is_config = true,
    .needs = {kNeedsModel},
};

/// Whether these files hold rows and not lines of text, which are read from one file.
bool are_rows(const DataFiles& files) {
  const std::vector<std::filesystem::path> paths = data::find_files(files);
  return paths.size() > 1 || data::holds_rows(paths.at(0));
}

Dataset read_lines(const std::filesystem::path& path, const std::string& encoding) {
  Dataset dataset{.file = path};
  each_line(read_text(path, encoding), [&](std::string_view line, int64_t number) {
    dataset.rows.push_back({.text = std::string(line), .line = number});
  });
  return dataset;
}

void refuse_lines_for_pairs(const DataOptions& data, const std::string& file) {
  const std::string pair = data.text_pair_column.empty() && !data.task_name.empty()
                               ? find_glue_task(data.task_name).text_pair_column
                               : data.text_pair_column;
  if (pair.empty()) return;
  throw Error({.id = "config.missing-column",
               .what = "the model reads two texts a row, and a file of lines has no column '" + pair + "'",
               .where = file,
               .fix = "give a .csv, .tsv or .jsonl file with both columns"});
}

Dataset read_input(const Served& served, const Keys& keys) {
  if (keys.input_file.empty()) {
    return load_split(served.data, Split::test, served.labels, Labels::ignored,
                      static_cast<uint64_t>(served.batch.seed));
  }
  if (!are_rows(keys.input_file)) {
    refuse_lines_for_pairs(served.data, keys.input_file);
    return read_lines(keys.input_file, served.data.encoding);
  }
  return load_file(keys.input_file, served.data, served.labels, Labels::ignored);
}

/// The name of the likeliest class, or of all that are likelier than not.
Json said_by(const LabelSet& labels, const float* logits) {
  const auto count = static_cast<int64_t>(labels.names.size());
  if (!labels.multi_label) return labels.names[static_cast<size_t>(std::max_element(logits, logits + count) - logits)];
  Json names = Json::array();
  for (int64_t i = 0; i < count; ++i) {
    if (logits[i] > 0) names.push_back(labels.names[static_cast<size_t>(i)]);
  }
  return names;
}

void write_lines(const Served& served, const Dataset& dataset, const Tensor& logits, const std::string& path) {
  LineWriter output(path);
  const int64_t columns = logits.size(1);
  const float* row = logits.data_ptr<float>();
  for (int64_t i = 0; i < logits.size(0); ++i, row += columns) {
    Json line = row_line(i + 1, dataset.rows[static_cast<size_t>(i)].id);
    if (served.labels.regression) {
      line["label"] = row[0];
    } else {
      line["label"] = said_by(served.labels, row);
      line["logits"] = std::vector<float>(row, row + columns);
    }
    output.write(to_line(line));
  }
  output.finish();
}

/// The texts as they stand: only an answer is followed by an end-of-text token.
TextDataset read_texts(const Served& served, const Keys& keys) {
  DataFiles files = keys.input_file;
  if (files.empty()) {
    const auto test = text_split_file(served.data, Split::test);
    if (!test) {
      throw Error({.id = "config.no-data",
                   .what = "there is nothing to predict",
                   .where = "keys 'input_file' and 'test_file'",
                   .fix = "--input_file texts.txt"});
    }
    files = *test;
  }
  TextDataset texts;
  if (are_rows(files)) {
    texts = load_texts(files, served.data, served.text, renderer_of(served.chat_template), Blank::kept);
  } else {
    for (Example& row : read_lines(files.names()[0], served.data.encoding).rows) {
      const size_t size = row.text.size();
      texts.rows.push_back({.text = std::move(row.text), .trained = {{0, size}}, .line = row.line, .record = row.line});
    }
    texts.ids.resize(texts.rows.size());
  }
  for (TextExample& row : texts.rows) row.end &= row.answers;
  return texts;
}

/// logits.<record> [tokens, vocabulary] of each row that has tokens, from 0.
void write_text_logits(const Served& served, const TextDataset& texts, const std::vector<EncodedRow>& rows,
                       const std::string& path) {
  const at::NoGradGuard no_grad;
  const TextRows source(rows, served.pad_id, /*pads_left=*/false);
  std::vector<Tensor> logits;
  std::vector<io::TensorBytes> tensors;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].ids.empty()) continue;
    Call call{.adapter = served.acting()};
    const ModelInput input = text_input(source.collate({static_cast<int64_t>(i)}, {}));
    logits.push_back(served.model->forward(input, call)[0].to(at::kFloat).contiguous());
    tensors.push_back({.name = "logits." + std::to_string(texts.rows[i].record - 1),
                       .dtype = io::Dtype::f32,
                       .shape = logits.back().sizes().vec(),
                       .data = static_cast<const std::byte*>(logits.back().const_data_ptr())});
  }
  io::write_safetensors(path, tensors);
}

/// Of each of the file's rows, whether it says anything or not.
std::vector<RowLoss> losses_of(const Served& served, const TextDataset& texts, const std::vector<EncodedRow>& rows) {
  std::vector<EncodedRow> scored;
  std::vector<int64_t> records;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (trained_tokens(rows[i]) == 0) continue;
    scored.push_back(rows[i]);
    records.push_back(texts.rows[i].record);
  }
  Counter counter("rows");
  const CausalRows source(std::move(scored), served.pad_id, served.tokenizer->pads_left());
  const std::vector<RowLoss> losses = predict_losses(*served.model, served.acting(), source,
                                                     served.batch.per_device_eval_batch_size, counter.progress());
  std::vector<RowLoss> all(texts.ids.size());
  for (size_t i = 0; i < losses.size(); ++i) all[static_cast<size_t>(records[i] - 1)] = losses[i];
  return all;
}

void predict_texts(const Served& served, const Keys& keys) {
  const TextDataset texts = read_texts(served, keys);
  const std::vector<EncodedRow> rows = encoded(served, texts, Untrained::kept).rows;
  warn_of_cut_rows(served, truncated_rows(rows), static_cast<int64_t>(rows.size()));
  if (!keys.logits_file.empty()) write_text_logits(served, texts, rows, keys.logits_file);
  const std::vector<RowLoss> losses = losses_of(served, texts, rows);
  LineWriter output(keys.output_file);
  for (size_t i = 0; i < losses.size(); ++i) {
    Json line = row_line(static_cast<int64_t>(i) + 1, texts.ids[i]);
    line["nll"] = losses[i].tokens > 0 ? Json(losses[i].nll) : Json();
    line["tokens"] = losses[i].tokens;
    output.write(to_line(line));
  }
  output.finish();
}

void check_outputs(const Served& served, const Keys& keys, const Invocation& invocation) {
  Inputs inputs = inputs_of(served, invocation);
  inputs.push_back({Input::Kind::file, "input_file", keys.input_file});
  refuse_input("output_file", keys.output_file, inputs);
  refuse_input("logits_file", keys.logits_file, inputs);
  refuse_one_file("output_file", keys.output_file, "logits_file", keys.logits_file);
}

}  // namespace

int predict(const Args& args) {
  Served served;
  Invocation invocation;
  if (!read_serving(kUsageText, args, section_of<Keys>("Input and output"), invocation, served)) return kDone;
  Keys keys;
  read_into(keys, invocation);
  check_outputs(served, keys, invocation);
  load_served(served, invocation, true);
  if (served.model->is_causal()) {
    predict_texts(served, keys);
    return kDone;
  }
  const Dataset dataset = read_input(served, keys);
  const Tensor logits = dataset.rows.empty() ? at::empty({0, served.model->num_labels()}, at::kFloat)
                                             : logits_of(served, encoded(served, dataset)).to(at::kFloat).contiguous();
  if (!keys.logits_file.empty()) {
    io::write_safetensors(keys.logits_file, {{.name = "logits",
                                              .dtype = io::Dtype::f32,
                                              .shape = logits.sizes().vec(),
                                              .data = static_cast<const std::byte*>(logits.const_data_ptr())}});
  }
  write_lines(served, dataset, logits, keys.output_file);
  return kDone;
}

}  // namespace deltaw::cli
