#include "tasks/image_classification/reader.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "core/files.h"
#include "data/image_tables.h"
#include "deltaw/error.h"
#include "deltaw/image.h"
#include "tasks/common/choose_labels.h"
#include "tasks/common/classifier_rows.h"
#include "tasks/image_classification/rows.h"
#include "tasks/image_classification/scorer.h"

namespace deltaw::image_classification {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTask = "image-classification";

class Reader final : public TaskReader {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override {
    f.field(
        "image_column", image_column_,
        "Column of a file of rows that names each image's file, from the file's folder on; empty: image, file_name, "
        "image_path, path, file or img. A folder of class folders, and CIFAR's and MNIST's binary files, need no "
        "columns.");
  }

  void training_fields(FieldVisitor& f) override {
    rows_.training_fields(f);
    f.field("image_augmentation", augmentation_,
            "What training does to images: crop takes a part of each, stretched to the model's size, and turns every "
            "second one left to right; flip does the latter alone.",
            one_of({"crop", "flip", "none"}));
    f.field("crop_scale", crop_scale_, "The least share of an image's area that such a part has.", between(0.01, 1));
  }

  std::vector<std::string> kept_keys() const override { return {"image_column"}; }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"text_column", "text_pair_column", "max_length", "group_by_length", "task_name"}, "the rows are images"}};
  }

  // ---- a run ----

  void load_preprocessors(const TaskFiles& files) override {
    for (const fs::path& folder : files.folders()) {
      if (!ImageProcessor::file_in(folder)) continue;
      processor_file_ = *ImageProcessor::file_in(folder);
      processor_ = ImageProcessor::from_folder(folder);
      return;
    }
    throw Error({.id = "io.not-found",
                 .what = "there is no preprocessor_config.json, which says how the model sees an image",
                 .where = files.base.string(),
                 .fix = "take the file from where the checkpoint is from"});
  }

  void read(TaskFiles& files) override {
    rows_.read(files, [&](const HeadLabels& head) { return training_rows(files, head); });
  }

  bool has_validation() const override { return !rows_.data().validation.rows.empty(); }
  bool smooths_labels() const override { return rows_.labels().one_class(); }
  std::vector<std::string> metrics(const DataOptions& /*data*/) const override { return metrics_of(rows_.labels()); }
  void check_metric(const std::string& name) const override {
    image_classification::check_metric(name, rows_.labels());
  }

  void encode(const Model& model, const DataOptions& /*data*/) override {
    const Augmentation augmentation{
        .flip = augmentation_ != "none", .crop = augmentation_ == "crop", .scale = {crop_scale_, 1}};
    train_ = images(rows_.data().train, model, augmentation);
    validation_ = images(rows_.data().validation, model, {});
  }

  // ---- what is said of a run ----

  Json facts(const DataOptions& /*data*/) const override {
    const Example& first = as_rows<ImageRows>(*train_).rows().front();
    return {{"labels", rows_.labels().names},
            {"image_size", {processor_->height(), processor_->width()}},
            {"augmentation", augmentation_},
            {"sample", {{"image", first.text}, {"label", rows_.label_words(first)}}}};
  }

  std::string facts_text(const Json& facts) const override {
    std::string lines = tasks::ClassifierRows::labels_text(facts["labels"]);
    lines += fmt::format("         {} x {} pixels\n", processor_->width(), processor_->height());
    return lines + fmt::format("image    {}\nlabel    {}\n", facts["sample"]["image"].get<std::string>(),
                               facts["sample"]["label"].get<std::string>());
  }

  Json row(Split split, int64_t position) const override {
    const Example& row =
        as_rows<ImageRows>(*(split == Split::train ? train_ : validation_)).rows()[static_cast<size_t>(position)];
    return {{"image", row.text}, {"label", row.labels.empty() ? Json(row.label) : Json(row.labels)}};
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = kTask,
            .python_class = "AutoModelForImageClassification",
            .load_arguments = rows_.load_arguments(),
            .command = "predict",
            .command_arguments = "--input_file IMAGES"};
  }

  void write_companions(const Model& /*model*/, const fs::path& folder) const override {
    if (processor_) write_file(folder / processor_file_.filename(), read_file(processor_file_));
  }

  // ---- a model that is asked ----

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

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    Dataset dataset = split_rows(files, Split::validation, Labels::needed);
    if (!dataset.rows.empty()) return images(std::move(dataset), asked.model, {});
    throw Error({.id = "config.no-data",
                 .what = "there are no images to evaluate on",
                 .where = dataset.file.string(),
                 .fix = "name another validation_file"});
  }

  std::shared_ptr<const RowSource> rows_to_predict(const AskedModel& asked, TaskFiles& files, const std::string& file,
                                                   std::vector<Json>& ids) override {
    Dataset dataset = file.empty() ? split_rows(files, Split::test, Labels::ignored)
                                   : data::rows_of(tables(files.data).read_named(file, Split::test),
                                                   by_columns(files.data), rows_.labels(), Labels::ignored);
    for (const Example& row : dataset.rows) ids.push_back(row.id.is_null() ? Json(row.text) : row.id);
    return images(std::move(dataset), asked.model, {});
  }

 private:
  std::shared_ptr<const RowSource> images(Dataset rows, const Model& model, Augmentation augmentation) const {
    return std::make_shared<const ImageRows>(std::move(rows), *processor_, as_image_model(model), augmentation);
  }

  data::ImageTables tables(const DataOptions& options) const { return {options, image_column_}; }

  /// For the columns of such tables.
  static DataOptions by_columns(DataOptions options) {
    options.task_name.clear();
    options.text_column = data::kImageColumn;
    options.text_pair_column.clear();
    return options;
  }

  TrainingData training_rows(const TaskFiles& files, const HeadLabels& head) const {
    return data::training_rows(by_columns(files.data), files.seed, head, tables(files.data));
  }

  Dataset split_rows(const TaskFiles& files, Split split, Labels use) const {
    return data::split_rows(by_columns(files.data), split, rows_.labels(), use, files.seed, tables(files.data));
  }

  std::string image_column_;
  std::string augmentation_ = "crop";
  double crop_scale_ = 0.08;
  fs::path processor_file_;
  std::optional<ImageProcessor> processor_;
  tasks::ClassifierRows rows_{kTask};
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::image_classification
