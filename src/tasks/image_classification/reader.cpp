#include "tasks/image_classification/reader.h"

#include <optional>

#include "deltaw/error.h"
#include "deltaw/family.h"
#include "tasks/common/choose_labels.h"
#include "tasks/common/image_reader.h"

namespace deltaw::image_classification {
namespace {

constexpr const char* kTask = "image-classification";

class Reader final : public tasks::ClassImageReader {
 public:
  Reader() : ClassImageReader(kTask) {}

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"text_column", "text_pair_column", "max_length", "group_by_length", "task_name"}, "the rows are images"}};
  }

  void read(TaskFiles& files) override {
    rows_.read(files, [&](const HeadLabels& head) { return training_rows(files, head); });
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = kTask,
            .python_class = "AutoModelForImageClassification",
            .load_arguments = rows_.load_arguments(),
            .command = "predict",
            .command_arguments = "--input_file IMAGES"};
  }

  void choose_model(TaskFiles& files) override {
    tasks::choose_labels(files, kTask, [&](const HeadLabels& head) -> std::optional<TrainingData> {
      if (!tables(files.data).has(Split::train)) return std::nullopt;
      return training_rows(files, head);
    });
  }

  void begin_asking(const AskedModel& asked, TaskFiles& files) override {
    rows_.begin_asking(asked, files.data);
    load_preprocessors(files);
  }

 protected:
  std::shared_ptr<const RowSource> source(Dataset rows, const Model& model, const Adapter* /*adapter*/,
                                          tasks::Augmentation augmentation) const override {
    return std::make_shared<const tasks::ImageRows>(std::move(rows), processor(), as_image_model(model), augmentation,
                                                    loader());
  }
};

}  // namespace

const ImageModel& as_image_model(const Model& model) {
  if (const auto* images = dynamic_cast<const ImageModel*>(&model)) return *images;
  throw Error({.id = "config.unsupported",
               .what = "model_type '" + (model.family() ? model.family()->model_type : "") + "' reads no images",
               .where = model.folder().string(),
               .fix = "use the checkpoint of a model of images"});
}

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::image_classification
