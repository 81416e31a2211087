// What a denoiser is trained for: to tell the noise in a picture or its latents, at any time of the diffusion.
//
//   x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e      t uniform, e from N(0, 1); Ho et al. 2020, arXiv:2006.11239
//   loss   the mean of (model(x_t, t) - target)^2 over pixels and rows; target is e, v or x_0, as the scheduler says;
//          with snr_gamma each row is weighted by its time (Hang et al. 2023, arXiv:2303.09556); rows that have a
//          picture of their class beside them add its error times prior_loss_weight (Ruiz et al. 2022,
//          arXiv:2208.12242)
//   scores that loss, and the squared error at each of a few fixed times, with fixed noise
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "deltaw/denoiser.h"
#include "deltaw/error.h"
#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "ops/host_read.h"
#include "tasks/noise/pictures.h"
#include "tasks/noise/reader.h"
#include "tasks/noise/scorer.h"
#include "tasks/noise/task.h"

namespace deltaw {
namespace noise {

std::shared_ptr<const NoiseScheduler> scheduler_of(const std::filesystem::path& model) {
  const auto file = NoiseScheduler::file_for(model);
  return std::make_shared<const NoiseScheduler>(file ? NoiseScheduler::from_file(*file) : NoiseScheduler::standard());
}

namespace {

class NoiseTask final : public Task {
 public:
  explicit NoiseTask(TaskOptions options) : options_(std::move(options)) {}

  void check(const Model& model, const Adapter* /*adapter*/, const RowSource& source,
             const std::string& split) const override {
    const Denoiser& denoiser = as_denoiser(model);
    const auto& rows = as_rows<NoisyRows>(source);
    if (rows.channels() != denoiser.in_channels()) {
      throw Error({.id = "shape.mismatch",
                   .what = fmt::format("the pictures have {} channels, and the model reads {}", rows.channels(),
                                       denoiser.in_channels()),
                   .where = split,
                   .fix = "make the rows for this model"});
    }
    if (rows.size() == 0) return;
    if (rows.text_width() != denoiser.cross_attention_dim()) {
      throw Error({.id = "shape.mismatch",
                   .what = fmt::format("the states of captions have width {}, and the model reads {}",
                                       rows.text_width(), denoiser.cross_attention_dim()),
                   .where = split,
                   .fix = "make the rows for this model"});
    }
    if (rows.has_classes() == (denoiser.num_class_embeds() > 0)) return;
    throw Error({.id = "data.label",
                 .what = rows.has_classes() ? "the rows have classes, and the model knows none"
                                            : "the model was made for classes, and the rows have none",
                 .where = split,
                 .fix = "make the rows for this model"});
  }

  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t rows, int64_t /*cost*/,
                                         uint64_t seed) const override {
    return noise::random_rows(as_denoiser(model), rows, scheduler(model)->num_train_timesteps(), seed);
  }

  /// {what the model says [rows, channels, height, width]}
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    const Tensor noisy = scheduler(model)->add_noise(clean_of(batch), batch["noise"], batch["timesteps"]);
    const Denoiser& denoiser = as_denoiser(model);
    Condition condition{.class_labels = batch.get("class_labels"),
                        .encoder_hidden_states = batch.get("encoder_hidden_states")};
    const Tensor ids = batch.get("input_ids");
    if (ids.defined()) condition.encoder_hidden_states = denoiser.encode_text(ids, call);
    return {denoiser.denoise(noisy.to(model.dtype()), batch["timesteps"], condition, call)};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch.rows); }

  Tensor loss(const Model& model, const Outputs& outputs, const Batch& batch, Call& /*call*/,
              const LossScale& scale) const override {
    const auto schedule = scheduler(model);
    Tensor errors = squared_errors(*schedule, outputs.at(0), batch);
    if (options_.snr_gamma > 0) errors = errors * schedule->min_snr_weights(batch["timesteps"], options_.snr_gamma);
    if (errors.size(0) > batch.rows) {  // pictures of the class behind those to learn
      errors = errors.narrow(0, 0, batch.rows) + options_.prior_loss_weight * errors.narrow(0, batch.rows, batch.rows);
    }
    return errors.sum() / scale.total_weight;
  }

  /// Of a model that says zeros, for pictures that are black or white.
  double chance_loss(const Model& model, const RowSource& rows) const override {
    const auto schedule = scheduler(model);
    const Tensor times = at::arange(schedule->num_train_timesteps(), at::kLong);
    const double sets = as_rows<NoisyRows>(rows).with_prior() ? 1 + options_.prior_loss_weight : 1;
    if (options_.snr_gamma == 0) return sets;
    return sets * ops::host_number(schedule->min_snr_weights(times, options_.snr_gamma).to(at::kDouble).mean());
  }

  std::vector<std::string> metrics(const Model& /*model*/) const override { return {"loss"}; }
  void check_metric(const Model& /*model*/, const std::string& name) const override { noise::check_metric(name); }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* /*adapter*/, const RowSource& /*rows*/,
                                 std::vector<std::string> /*metrics*/) const override {
    return make_scorer(scheduler(model), options_.snr_gamma);
  }

  Tensor comparable(const Model& /*model*/, const Outputs& outputs, const Batch& /*batch*/,
                    Call& /*call*/) const override {
    return outputs.at(0).flatten(1).to(at::kDouble);
  }

 private:
  std::shared_ptr<const NoiseScheduler> scheduler(const Model& model) const {
    if (options_.scheduler) return options_.scheduler;
    const std::lock_guard lock(guard_);
    if (!read_ || folder_ != model.folder()) {
      read_ = scheduler_of(model.folder());
      folder_ = model.folder();
    }
    return read_;
  }

  TaskOptions options_;
  mutable std::mutex guard_;
  mutable std::shared_ptr<const NoiseScheduler> read_;  // of `folder_`
  mutable std::filesystem::path folder_;
};

}  // namespace

std::unique_ptr<Task> make_task(TaskOptions options) {
  return std::make_unique<NoiseTask>(std::move(options));
}

}  // namespace noise

const TaskSpec& task_noise() {
  static const TaskSpec spec{.id = "NOISE",
                             .title = "noise in pictures: diffusion models",
                             .make = [] { return noise::make_task(); },
                             .reader = noise::make_reader,
                             .words = {.model = "denoiser",
                                       .models = "denoisers",
                                       .keys = "Denoisers",
                                       .evaluates = "a denoiser by its error at fixed times"}};
  return spec;
}

}  // namespace deltaw
