// A method that the library does not have, defined and trained in another program through the public headers alone.
//   custom_method CHECKPOINT TRAIN_FILE OUTPUT
//
// SVFT: singular vectors guided fine-tuning. Lingam et al. 2024, arXiv:2405.19597, the plain and the banded pattern.
//
//   dW = U M V^T        W0 = U S V^T, n = min(d_out, d_in)
//
//   U [d_out, n], V^T [n, d_in]   frozen
//   M [n, n]                      trained within d places of the diagonal, zero elsewhere
//
// Trained: n (2 d + 1) - d (d + 1) numbers a layer. M starts at zero, so that the first forward equals the base model;
// the authors' code (VijayLingam95/SVFT) draws it and multiplies it with a trained gate.
#include <deltaw/adapter.h>
#include <deltaw/data.h>
#include <deltaw/error.h>
#include <deltaw/method.h>
#include <deltaw/model.h>
#include <deltaw/task.h>
#include <deltaw/text_rows.h>
#include <deltaw/tokenizer.h>
#include <deltaw/train.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace {

class Svft final : public deltaw::Method {
 public:
  struct Options {
    int64_t off_diagonals = 0;

    void fields(deltaw::FieldVisitor& f) {
      f.field("off_diagonals", off_diagonals, "Diagonals trained on either side of the main one.", deltaw::at_least(0));
    }
  };
  explicit Svft(Options options) : options_(options) {}

  // What M trains; `d` beyond the corner gives all of M.
  static int64_t count(const deltaw::LayerInfo& layer, int64_t off_diagonals) {
    const int64_t n = std::min(layer.d_out, layer.d_in), d = std::min(off_diagonals, n - 1);
    return n * (2 * d + 1) - d * (d + 1);
  }

  std::vector<deltaw::Param> declare(const deltaw::LayerInfo& layer, const deltaw::BaseView& base,
                                     at::Generator&) const override {
    const auto [U, S, Vt] = base.svd(std::min(layer.d_out, layer.d_in));
    // Another SVD may turn the signs of a pair of vectors, which does not matter on the diagonal, and does beside it.
    const bool saved = options_.off_diagonals > 0;
    return {{"U", "svft_U", U, /*trained=*/false, saved},
            {"Vt", "svft_Vt", Vt, /*trained=*/false, saved},
            {"M", "svft_M", at::zeros({count(layer, options_.off_diagonals)}, at::kFloat)}};
  }

  deltaw::Update update(const deltaw::LayerInfo&, const deltaw::Params& p, const deltaw::BaseView&) const override {
    const int64_t n = p["Vt"].size(0), d = options_.off_diagonals;
    const at::Tensor band = at::ones({n, n}, at::kBool).triu(-d).tril(d);
    const at::Tensor M = at::zeros({n, n}, p["M"].options()).masked_scatter(band, p["M"]);
    return {.left = p["U"], .right = at::mm(M, p["Vt"])};
  }

 private:
  Options options_;
};

const deltaw::MethodSpec& method_svft() {
  static const deltaw::MethodSpec spec = deltaw::make_spec<Svft>({
      .id = "svft",
      .title = "SVFT",
      .paper = "arXiv:2405.19597",
      .peft_type = "SVFT",
      .parameter_count = "n (2 d + 1) - d (d + 1), n = min(d_out, d_in)",
      .count = [](const deltaw::LayerInfo& l, const deltaw::Json& o) { return Svft::count(l, o.at("off_diagonals")); },
  });
  return spec;
}

void run(const std::string& checkpoint, const std::string& train_file, const std::filesystem::path& output) {
  deltaw::register_method(method_svft());

  const deltaw::TrainingData data = deltaw::load_training_data({.train_file = train_file}, /*seed=*/42);
  const auto model =
      deltaw::load_model(checkpoint, {.label_names = data.labels.names, .ignore_mismatched_sizes = true});
  const deltaw::Tokenizer tokenizer = deltaw::Tokenizer::from_folder(checkpoint);
  const auto rows =
      std::make_shared<const deltaw::TextRows>(deltaw::encode_rows(data.train, tokenizer, model->max_positions()),
                                               tokenizer.pad_id().value_or(0), tokenizer.pads_left());

  deltaw::AdapterConfig config;
  config.method = "svft";
  config.options = {{"off_diagonals", 2}};
  config.target_modules = "all-linear";
  deltaw::Adapter adapter = deltaw::Adapter::create(*model, config, /*seed=*/42);

  deltaw::TrainOptions options;
  options.output_dir = output.string();
  options.max_steps = 10;
  options.learning_rate = 2e-2;
  const std::unique_ptr<deltaw::Task> task = deltaw::task_of(*model);
  deltaw::Trainer trainer(*model, adapter, *task, options);
  trainer.set_data(rows);
  trainer.on_event([](const deltaw::TrainEvent& event) {
    if (event.kind != deltaw::TrainEvent::Kind::step) return;
    std::cout << "step " << event.step << " loss " << event.values.at("loss") << '\n';
  });
  trainer.train();

  std::filesystem::create_directories(output);
  adapter.save(output);
  std::cout << adapter.trained_count() << " parameters trained and written to " << output << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: custom_method CHECKPOINT TRAIN_FILE OUTPUT\n";
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
