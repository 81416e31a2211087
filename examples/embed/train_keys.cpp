// What `deltaw train` does, inside another program: the keys of a run in, a folder with the adapter and its results
// out.
//   train_keys CHECKPOINT ROWS OUTPUT
#include <deltaw/error.h>
#include <deltaw/memory.h>
#include <deltaw/run.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: train_keys CHECKPOINT ROWS OUTPUT\n";
    return 2;
  }
  try {
    deltaw::reuse_memory();
    const auto settings = deltaw::RunSettings::from_json({{"model_name_or_path", argv[1]},
                                                          {"train_file", argv[2]},
                                                          {"output_dir", argv[3]},
                                                          {"method", "lora"},
                                                          {"r", 4},
                                                          {"max_steps", 10},
                                                          {"learning_rate", 1e-2}});
    const auto trained = deltaw::run_training(settings, {.warn = [](const auto& text) { std::cerr << text << '\n'; }});
    std::cout << trained.adapter << ": loss " << trained.results["train_loss"] << '\n';
  } catch (const deltaw::Error& error) {
    std::cerr << error.what() << '\n';
    return error.exit_code();
  }
}
