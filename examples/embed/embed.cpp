// Fine-tuning inside another program, through the public headers alone: a checkpoint and some texts in, an adapter out.
//   embed CHECKPOINT OUTPUT
#include <deltaw/adapter.h>
#include <deltaw/data.h>
#include <deltaw/error.h>
#include <deltaw/model.h>
#include <deltaw/task.h>
#include <deltaw/text_rows.h>
#include <deltaw/tokenizer.h>
#include <deltaw/train.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <vector>

namespace {

// Rows that a program has in memory; `deltaw::load_training_data` reads them from files instead.
deltaw::Dataset reviews() {
  deltaw::Dataset dataset;
  dataset.labelled = true;
  for (const char* text : {"a dull film", "a bad film and a long one", "not good", "the actors are bad"}) {
    dataset.rows.push_back({.text = text, .label = 0});
  }
  for (const char* text : {"a fine film", "good actors and a good end", "not bad", "the end is fine"}) {
    dataset.rows.push_back({.text = text, .label = 1});
  }
  return dataset;
}

deltaw::Adapter train(const deltaw::Model& model, const std::shared_ptr<const deltaw::TextRows>& rows,
                      const std::filesystem::path& output) {
  deltaw::AdapterConfig config;
  config.method = "lora";
  config.options = {{"r", 4}, {"lora_alpha", 8}};
  config.target_modules = "all-linear";
  deltaw::Adapter adapter = deltaw::Adapter::create(model, config, /*seed=*/42);

  deltaw::TrainOptions options;
  options.output_dir = output.string();
  options.max_steps = 10;
  options.per_device_train_batch_size = 4;
  options.learning_rate = 1e-2;
  const std::unique_ptr<deltaw::Task> task = deltaw::task_of(model);
  deltaw::Trainer trainer(model, adapter, *task, options);
  trainer.set_data(rows, rows);
  trainer.on_event([](const deltaw::TrainEvent& event) {
    if (event.kind == deltaw::TrainEvent::Kind::step) {
      std::cout << "step " << event.step << " loss " << event.values.at("loss") << '\n';
    }
  });
  const double before = trainer.evaluate().at("eval_loss");
  trainer.train();
  const double after = trainer.evaluate().at("eval_loss");
  std::cout << "loss on all rows: " << before << " before, " << after << " after training " << adapter.trained_count()
            << " parameters\n";
  return adapter;
}

int run(const std::filesystem::path& checkpoint, const std::filesystem::path& output) {
  const std::unique_ptr<deltaw::Model> model = deltaw::load_model(checkpoint.string(), {.dtype = "float32"});
  const deltaw::Tokenizer tokenizer = deltaw::Tokenizer::from_folder(checkpoint);
  const auto rows =
      std::make_shared<const deltaw::TextRows>(deltaw::encode_rows(reviews(), tokenizer, model->max_positions()),
                                               tokenizer.pad_id().value_or(0), tokenizer.pads_left());

  const deltaw::Adapter adapter = train(*model, rows, output);
  std::filesystem::create_directories(output);
  adapter.save(output);

  const deltaw::Adapter reloaded = deltaw::Adapter::load(*model, output);
  const at::Tensor trained = deltaw::predict_logits(*model, &adapter, *rows, 8);
  const at::Tensor read = deltaw::predict_logits(*model, &reloaded, *rows, 8);
  const bool same = trained.equal(read);
  std::cout << "logits after reloading " << output << (same ? " are the same\n" : " differ\n");
  return same ? 0 : 3;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: embed CHECKPOINT OUTPUT\n";
    return 2;
  }
  try {
    return run(argv[1], argv[2]);
  } catch (const deltaw::Error& error) {
    std::cerr << error.what() << '\n';
    return error.exit_code();
  }
}
