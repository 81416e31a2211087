#include "tasks/image_classification/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "core/files.h"
#include "data/find_files.h"
#include "data/image_tables.h"
#include "data/load_rows.h"
#include "deltaw/error.h"
#include "deltaw/image.h"
#include "deltaw/text_rows.h"
#include "tasks/common/choose_labels.h"
#include "tasks/common/head_labels.h"
#include "tasks/common/metrics.h"
#include "tasks/common/shown.h"
#include "tasks/image_classification/rows.h"

namespace deltaw::image_classification {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTask = "image-classification";
constexpr const char* kProcessor = "preprocessor_config.json";

const ImageModel& as_images(const Model& model) {
  return dynamic_cast<const ImageModel&>(model);  // a head of this task is one of such models
}

/// The folder of a split in a folder of image sets, or nothing.
std::optional<fs::path> folder_of(const fs::path& root, Split split) {
  static const std::vector<std::string> names[] = {{"train"}, {"validation", "valid", "val", "dev"}, {"test"}};
  for (const std::string& name : names[static_cast<size_t>(split)]) {
    if (fs::is_directory(root / name)) return root / name;
  }
  return std::nullopt;
}

/// The set of images that a name of the options means, or nothing where it means a table.
std::optional<fs::path> image_set_of(const fs::path& path, Split split) {
  if (!fs::exists(path)) return std::nullopt;
  if (fs::is_directory(path)) {
    const auto own = folder_of(path, split);
    if (own && data::is_image_set(*own)) return own;
  }
  return data::is_image_set(path) ? std::optional(path) : std::nullopt;
}

const std::string& image_column_of(const std::string& asked, const data::Table& table) {
  static const std::vector<std::string> usual = {"image", "file_name", "image_path", "path", "file", "img"};
  if (!asked.empty()) return table.columns[table.column(asked, "image_column")];
  for (const std::string& name : usual) {
    if (table.has(name)) return name;
  }
  throw Error({.id = "config.missing-column",
               .what = fmt::format("no column is named {}", fmt::join(usual, ", ")),
               .where = table.file.string(),
               .fix = "name the column of the images' files: --image_column NAME"});
}

/// Paths in a table begin at its own folder.
void resolve_paths(data::Table& table, const std::string& column) {
  const size_t place = table.column(column, "image_column");
  for (data::Row& row : table.rows) {
    if (place >= row.cells.size() || row.cells[place].kind == data::Cell::Kind::missing) continue;
    const fs::path file = table.sources.empty() ? table.file : table.sources[row.source].file;
    row.cells[place].text = (file.parent_path() / row.cells[place].text).string();
  }
}

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
    f.field("image_augmentation", augmentation_,
            "What training does to images: crop takes a part of each, stretched to the model's size, and turns every "
            "second one left to right; flip does the latter alone.",
            one_of({"crop", "flip", "none"}));
    f.field("crop_scale", crop_scale_, "The least share of an image's area that such a part has.", between(0.01, 1));
  }

  std::vector<std::string> kept_keys() const override { return {"image_column"}; }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"text_column", "text_pair_column", "max_length", "group_by_length"}, "the rows are images"}};
  }

  // ---- a run ----

  void load_preprocessors(const TaskFiles& files) override {
    for (const fs::path& folder : files.folders()) {
      if (!fs::exists(folder / kProcessor)) continue;
      processor_folder_ = folder;
      processor_ = ImageProcessor::from_folder(folder);
      return;
    }
    throw Error({.id = "io.not-found",
                 .what = std::string("there is no ") + kProcessor + ", which says how the model sees an image",
                 .where = files.base.string(),
                 .fix = "take the file from where the checkpoint is from"});
  }

  void read(TaskFiles& files) override {
    const bool goes_on = !files.adapters.empty();
    if (goes_on) tasks::inherit_head(files);
    rows_ = training_rows(files, goes_on ? HeadLabels() : tasks::head_of(files.base, files.model, kTask));
    labels_ = rows_.labels;
    if (goes_on) tasks::check_head_size(files.adapters.front(), labels_.outputs());
    for (const std::string& sentence : rows_.warnings) files.warn(sentence);
    settle(files);
  }

  bool has_validation() const override { return !rows_.validation.rows.empty(); }
  bool smooths_labels() const override { return labels_.one_class(); }
  std::vector<std::string> metrics(const DataOptions& data) const override {
    std::vector<std::string> names = metric_names(data, labels_);
    if (labels_.one_class() && labels_.outputs() > 5) names.emplace_back("top5_accuracy");
    return names;
  }
  void check_metric(const std::string& name) const override {
    if (name != "top5_accuracy") tasks::check_class_metric(name, labels_);
  }

  void encode(const Model& model, const DataOptions& /*data*/) override {
    const Augmentation augmentation{
        .flip = augmentation_ != "none", .crop = augmentation_ == "crop", .scale = {crop_scale_, 1}};
    train_ = images(std::move(rows_.train.rows), model, augmentation);
    validation_ = images(std::move(rows_.validation.rows), model, {});
  }

  // ---- what is said of a run ----

  Json facts(const DataOptions& /*data*/) const override {
    const Example& first = as_rows<ImageRows>(*train_).rows().front();
    return {{"labels", labels_.names},
            {"image_size", {processor_->height(), processor_->width()}},
            {"augmentation", augmentation_},
            {"sample", {{"image", first.text}, {"label", label_words(first)}}}};
  }

  std::string facts_text(const Json& facts) const override {
    const Json& names = facts["labels"];
    std::string lines =
        names.empty() ? "         scores\n" : fmt::format("         labels: {}\n", tasks::first_words(names, 12));
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
            .load_arguments = fmt::format(", num_labels={}", std::max<size_t>(1, labels_.names.size())),
            .command = "predict",
            .command_arguments = "--input_file IMAGES"};
  }

  void write_companions(const Model& /*model*/, const fs::path& folder) const override {
    if (!processor_folder_.empty()) write_file(folder / kProcessor, read_file(processor_folder_ / kProcessor));
  }

  // ---- a model that is asked ----

  void choose_model(TaskFiles& files) override {
    tasks::choose_labels(files, kTask, [&](const HeadLabels& head) -> std::optional<TrainingData> {
      if (!table_of(files.data, Split::train)) return std::nullopt;
      return training_rows(files, head);
    });
  }

  void begin_asking(const AskedModel& asked, TaskFiles& files) override {
    labels_.regression = asked.model.is_regression();
    if (!labels_.regression) {
      labels_ = label_set(files.data, asked.model.label_names());
      labels_.multi_label = asked.model.is_multi_label();
    }
    load_preprocessors(files);
  }

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    Dataset dataset = data::split_rows(with_columns(files.data), Split::validation, labels_, Labels::needed, files.seed,
                                       tables(files.data));
    if (!dataset.rows.empty()) return images(std::move(dataset.rows), asked.model, {});
    throw Error({.id = "config.no-data",
                 .what = "there are no images to evaluate on",
                 .where = dataset.file.string(),
                 .fix = "name another validation_file"});
  }

  std::shared_ptr<const RowSource> rows_to_predict(const AskedModel& asked, TaskFiles& files, const std::string& file,
                                                   std::vector<Json>& ids) override {
    Dataset dataset;
    if (file.empty()) {
      dataset = data::split_rows(with_columns(files.data), Split::test, labels_, Labels::ignored, files.seed,
                                 tables(files.data));
    } else {
      dataset = data::rows_of(*table_in(DataFiles(file), Split::test, files.data), with_columns(files.data), labels_,
                              Labels::ignored);
    }
    for (const Example& row : dataset.rows) ids.push_back(row.id.is_null() ? Json(row.text) : row.id);
    return images(std::move(dataset.rows), asked.model, {});
  }

  Batch probe(const AskedModel& asked, const TaskFiles& /*files*/) const override {
    return asked.task.random_rows(asked.model, 4, 0, 1)->collate({0, 1, 2, 3}, {});
  }

 private:
  std::shared_ptr<const RowSource> images(std::vector<Example> rows, const Model& model,
                                          Augmentation augmentation) const {
    return std::make_shared<const ImageRows>(std::move(rows), *processor_, as_images(model), augmentation);
  }

  /// The table that names lead to: one set of images, or files of rows.
  std::optional<data::Table> table_in(const DataFiles& files, Split split, const DataOptions& options) const {
    if (files.names().size() == 1) {
      if (const auto set = image_set_of(files.names().front(), split)) return renamed(data::read_image_set(*set));
    }
    data::Table table = data::read_table(data::found_files(files, split), {}, options.encoding);
    const std::string column = image_column_of(image_column_, table);
    resolve_paths(table, column);
    std::replace(table.columns.begin(), table.columns.end(), column, std::string(kImages));
    return table;
  }

  std::optional<data::Table> table_of(const DataOptions& options, Split split) const {
    const DataFiles& named = data::files_option(options, split);
    if (!named.empty()) return table_in(named, split, options);
    if (options.dataset_dir.empty()) return std::nullopt;
    if (const auto folder = folder_of(options.dataset_dir, split)) return table_in(*folder, split, options);
    const auto files = data::files_of_folder(options.dataset_dir, split);
    return files ? table_in(*files, split, options) : std::nullopt;
  }

  data::TableOf tables(const DataOptions& options) const {
    return [this, &options](Split split) { return table_of(options, split); };
  }

  TrainingData training_rows(const TaskFiles& files, const HeadLabels& head) const {
    const DataOptions options = with_columns(files.data);
    return data::training_rows(options, files.seed, head, tables(files.data));
  }

  static data::Table renamed(data::Table table) {
    table.columns[0] = kImages;
    return table;
  }

  static DataOptions with_columns(DataOptions options) {
    options.text_column = kImages;
    options.text_pair_column.clear();
    return options;
  }

  std::string label_words(const Example& row) const {
    if (labels_.regression) return Json(row.label).dump();
    if (!labels_.multi_label) return labels_.names[static_cast<size_t>(row.label)];
    std::vector<std::string> names;
    for (size_t i = 0; i < row.labels.size(); ++i) {
      if (row.labels[i] > 0) names.push_back(labels_.names[i]);
    }
    return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
  }

  /// The labels are those of the run from here on, as texts have it.
  void settle(TaskFiles& files) const {
    files.data.label_column = rows_.label_column;
    files.model.new_head = rows_.new_head;
    files.data.label_names = labels_.names;
    files.data.problem_type = labels_.problem_type();
    files.model.problem_type = files.data.problem_type;
    files.model.num_labels = labels_.outputs();
    files.model.label_names = labels_.names;
  }

  static constexpr const char* kImages = "image";

  std::string image_column_;
  std::string augmentation_ = "crop";
  double crop_scale_ = 0.08;
  fs::path processor_folder_;
  std::optional<ImageProcessor> processor_;
  TrainingData rows_;
  LabelSet labels_;
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::image_classification
