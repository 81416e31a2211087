#include "deltaw/error.h"
#include "train/run.h"
#include "train/setup.h"

namespace deltaw {

struct Trainer::Impl {
  train::Setup setup;
};

Trainer::Trainer(const Model& model, Adapter& adapter, const Task& task, TrainOptions options)
    : impl_(new Impl{{.model = model, .adapter = adapter, .task = task, .options = std::move(options)}}) {}

Trainer::~Trainer() = default;

void Trainer::set_data(std::shared_ptr<const RowSource> train, std::shared_ptr<const RowSource> validation,
                       bool group_by_length) {
  impl_->setup.train = std::move(train);
  impl_->setup.validation = std::move(validation);
  impl_->setup.group_by_length = group_by_length;
}

void Trainer::set_metrics(std::vector<std::string> names) {
  impl_->setup.metrics = std::move(names);
}

void Trainer::set_companions(std::function<void(const std::filesystem::path&)> write) {
  impl_->setup.companions = std::move(write);
}

void Trainer::on_event(std::function<void(const TrainEvent&)> callback) {
  impl_->setup.on_event = std::move(callback);
}

void Trainer::stop_when(std::function<int()> asked) {
  impl_->setup.stop_when = std::move(asked);
}

TrainResult Trainer::train() {
  return train::Run(impl_->setup).train();
}

Json Trainer::evaluate() {
  if (impl_->setup.has_validation()) return train::evaluate(impl_->setup);
  throw Error({.id = "config.no-data",
               .what = "there are no rows to evaluate on",
               .where = "the validation data",
               .fix = "give validation_file or validation_split"});
}

int64_t Trainer::total_steps() const {
  return train::make_schedule(impl_->setup.options, impl_->setup.train->size()).total_steps;
}

}  // namespace deltaw
