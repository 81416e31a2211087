#include "deltaw/error.h"
#include "train/run.h"
#include "train/trainer_inputs.h"

namespace deltaw {

struct Trainer::Impl {
  train::TrainerInputs inputs;
};

Trainer::Trainer(const Model& model, Adapter& adapter, const Task& task, TrainOptions options)
    : impl_(new Impl{{.model = model, .adapter = adapter, .task = task, .options = std::move(options)}}) {}

Trainer::~Trainer() = default;

void Trainer::set_data(std::shared_ptr<const RowSource> train, std::shared_ptr<const RowSource> validation,
                       bool group_by_length) {
  impl_->inputs.train = std::move(train);
  impl_->inputs.validation = std::move(validation);
  impl_->inputs.group_by_length = group_by_length;
}

void Trainer::set_metrics(std::vector<std::string> names) {
  impl_->inputs.metrics = std::move(names);
}

void Trainer::set_companions(std::function<void(const std::filesystem::path&)> write) {
  impl_->inputs.companions = std::move(write);
}

void Trainer::on_event(std::function<void(const TrainEvent&)> callback) {
  impl_->inputs.on_event = std::move(callback);
}

void Trainer::stop_when(std::function<int()> asked) {
  impl_->inputs.stop_when = std::move(asked);
}

TrainResult Trainer::train() {
  return train::Run(impl_->inputs).train();
}

Json Trainer::evaluate() {
  if (impl_->inputs.has_validation()) return train::evaluate(impl_->inputs);
  throw Error({.id = "config.no-data",
               .what = "there are no rows to evaluate on",
               .where = "the validation data",
               .fix = "give validation_file or validation_split"});
}

int64_t Trainer::total_steps() const {
  return train::make_schedule(impl_->inputs.options, impl_->inputs.train->size()).total_steps;
}

}  // namespace deltaw
