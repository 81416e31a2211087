// A tiny BERT with an adapter and invented rows, for tests of the trainer.
#pragma once

#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/files.h"
#include "deltaw/text_rows.h"
#include "deltaw/train.h"
#include "support/data.h"

namespace deltaw::test {

/// Rows whose class can be read off their tokens; lengths from 3 to 12.
inline std::vector<EncodedRow> invented_rows(int64_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<EncodedRow> rows;
  for (int64_t i = 0; i < count; ++i) {
    EncodedRow row;
    const auto label = static_cast<int64_t>(engine() % 3);
    const auto length = static_cast<int64_t>(3 + engine() % 10);
    for (int64_t j = 0; j < length; ++j) row.ids.push_back(5 + label * 18 + static_cast<int64_t>(engine() % 18));
    row.type_ids.assign(row.ids.size(), 0);
    row.label = static_cast<double>(label);
    row.index = i;
    rows.push_back(std::move(row));
  }
  return rows;
}

inline std::shared_ptr<const TextRows> source_of(std::vector<EncodedRow> rows) {
  return std::make_shared<const TextRows>(std::move(rows), /*pad_id=*/0, /*pads_left=*/false);
}

/// As the model's task wants them.
inline std::shared_ptr<const TextRows> source_for(const Model& model, std::vector<EncodedRow> rows) {
  if (!model.is_causal()) return source_of(std::move(rows));
  return std::make_shared<const CausalRows>(std::move(rows), /*pad_id=*/0, /*pads_left=*/false);
}

inline std::shared_ptr<const TextRows> invented_source(int64_t count, uint64_t seed) {
  return source_of(invented_rows(count, seed));
}

inline AdapterConfig adapter_config(const std::string& method, Json options) {
  AdapterConfig config;
  config.method = method;
  config.options = std::move(options);
  config.target_modules = Json::array({"query", "value"});
  return config;
}

inline AdapterConfig lora_config() {
  return adapter_config("lora", {{"r", 3}, {"lora_alpha", 6}});
}

inline std::unique_ptr<Model> tiny_model(const std::string& dtype = "float32") {
  ModelOptions options;
  options.dtype = dtype;
  return load_model(fixture("golden/models/bert_cls").string(), options);
}

/// Model, adapter and trainer of one process's life.
struct TinyRun {
  std::unique_ptr<Model> model;
  Adapter adapter;
  std::unique_ptr<Task> task;
  Trainer trainer;

  TinyRun(const AdapterConfig& config, const TrainOptions& options, int64_t rows = 22,
          const std::string& dtype = "float32", bool group_by_length = true)
      : model(tiny_model(dtype)),
        adapter(Adapter::create(*model, config, 7)),
        task(task_of(*model)),
        trainer(*model, adapter, *task, options) {
    trainer.set_data(invented_source(rows, 1), invented_source(9, 2), group_by_length);
    trainer.set_metrics({"accuracy"});
  }
};

/// 22 rows in batches of 4: six steps an epoch; two epochs.
inline TrainOptions tiny_options(const std::filesystem::path& output_dir) {
  TrainOptions options;
  options.output_dir = output_dir.string();
  options.per_device_train_batch_size = 4;
  options.num_train_epochs = 2;
  options.learning_rate = 5e-3;
  options.warmup_ratio = 0.1;
  options.logging_steps = 4;
  return options;
}

/// The trained tensors' bytes, as Adapter::save and the live tensors have them.
inline std::vector<Tensor> copies(const Adapter& adapter) {
  std::vector<Tensor> tensors;
  for (const NamedTensor& tensor : adapter.trained()) tensors.push_back(tensor.value.detach().clone());
  return tensors;
}

inline bool equal(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!at::equal(a[i], b[i])) return false;
  }
  return true;
}

}  // namespace deltaw::test
