// Trains a task from outside the library: sentences that say the same get like vectors.
//   custom_task CHECKPOINT PAIRS OUTPUT
#include <deltaw/adapter.h>
#include <deltaw/data.h>
#include <deltaw/error.h>
#include <deltaw/model.h>
#include <deltaw/tokenizer.h>
#include <deltaw/train.h>

#include <filesystem>
#include <iostream>
#include <memory>

#include "pair_reader.h"

namespace {

void run(const std::string& checkpoint, const std::string& file, const std::filesystem::path& output) {
  deltaw::register_task(task_contrastive());
  const auto model =
      deltaw::load_model(checkpoint, {.dtype = "float32", .num_labels = 16, .ignore_mismatched_sizes = true});
  const auto tokenizer = deltaw::Tokenizer::from_folder(checkpoint);

  const deltaw::Dataset pairs =
      deltaw::load_file(file, {.text_column = "first", .text_pair_column = "second"}, {}, deltaw::Labels::ignored);
  deltaw::Dataset first, second;
  for (const deltaw::Example& row : pairs.rows) {
    first.rows.push_back({.text = row.text});
    second.rows.push_back({.text = row.text_pair});
  }
  const auto rows = std::make_shared<const PairRows>(deltaw::encode_rows(first, tokenizer, model->max_positions()),
                                                     deltaw::encode_rows(second, tokenizer, model->max_positions()),
                                                     tokenizer.pad_id().value_or(0));

  deltaw::AdapterConfig config;
  config.method = "lora";
  config.target_modules = "all-linear";
  deltaw::Adapter adapter = deltaw::Adapter::create(*model, config, /*seed=*/42);
  deltaw::TrainOptions options;
  options.output_dir = output.string();
  options.max_steps = 10;
  options.per_device_train_batch_size = 4;
  options.gradient_accumulation_steps = 2;  // rows of both batches are compared with each other
  options.learning_rate = 1e-2;
  const auto task = deltaw::find_task("contrastive").make();
  deltaw::Trainer trainer(*model, adapter, *task, options);
  trainer.set_data(rows, rows);
  trainer.on_event([](const deltaw::TrainEvent& event) {
    if (event.kind != deltaw::TrainEvent::Kind::step) return;
    std::cout << "step " << event.step << " loss " << event.values.at("loss") << '\n';
  });
  trainer.train();
  std::cout << trainer.evaluate().at("eval_recall_at_1") << " of the texts find their partner\n";
  std::filesystem::create_directories(output);
  adapter.save(output);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: custom_task CHECKPOINT PAIRS OUTPUT\n";
    return 2;
  }
  try {
    run(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const deltaw::Error& error) {
    std::cerr << error.what() << '\n';
    return error.exit_code();
  }
}
