#include "tasks/common/image_reader.h"

#include <fmt/format.h>

#include "core/files.h"
#include "deltaw/error.h"
#include "tasks/common/image_scorer.h"

namespace deltaw::tasks {

namespace fs = std::filesystem;

void ImageReader::fields(FieldVisitor& f) {
  f.field("image_column", choice_.image_column,
          "Column of a file of rows that names each image's file, from the file's folder on; empty: image, file_name, "
          "image_path, path, file or img. A folder of class folders, and CIFAR's and MNIST's binary files, need no "
          "columns.");
  f.field("image_processor_backend", backend_,
          "Whose arithmetic brings images to the model's size: Pillow's, or that which transformers 5 takes where "
          "torchvision is installed. They differ by a level of brightness here and there.",
          one_of({"pil", "torchvision"}));
  f.field("only_labels", choice_.only_labels,
          "Train and evaluate only on images with one of these labels, as the files name them (0,1,3); empty: on all.");
  loader_.fields(f);
}

void ImageReader::training_fields(FieldVisitor& f) {
  f.field("image_augmentation", augmentation_,
          "What training does to images: crop takes a part of each, stretched to the model's size, and turns every "
          "second one left to right; flip does the latter alone.",
          one_of({"crop", "flip", "none"}));
  f.field("crop_scale", crop_scale_, "The least share of an image's area that such a part has.", between(0.01, 1));
}

void ImageReader::load_preprocessors(const TaskFiles& files) {
  for (const fs::path& folder : files.folders()) {
    if (!ImageProcessor::file_in(folder)) continue;
    processor_file_ = *ImageProcessor::file_in(folder);
    processor_ = ImageProcessor::from_folder(folder, backend_ == "pil" ? ImageBackend::pil : ImageBackend::torchvision);
    return;
  }
  throw Error({.id = "io.not-found",
               .what = "there is no preprocessor_config.json, which says how the model sees an image",
               .where = files.base.string(),
               .fix = "take the file from where the checkpoint is from"});
}

void ImageReader::write_companions(const Model& /*model*/, const fs::path& folder) const {
  if (processor_) write_file(folder / processor_file_.filename(), read_file(processor_file_));
}

Batch ImageReader::probe(const AskedModel& asked, const TaskFiles& /*files*/) const {
  return asked.task.random_rows(asked.model, 4, 0, 1)->collate({0, 1, 2, 3}, {});
}

Augmentation ImageReader::augmentation() const {
  return {.flip = augmentation_ != "none", .crop = augmentation_ == "crop", .scale = {crop_scale_, 1}};
}

data::ImageTables ImageReader::tables(const DataOptions& options, bool unlabelled) const {
  data::ImageChoice choice = choice_;
  choice.unlabelled = unlabelled;
  return {options, std::move(choice)};
}

DataOptions ImageReader::by_columns(DataOptions options) {
  options.task_name.clear();
  options.text_column = data::kImageColumn;
  options.text_pair_column.clear();
  return options;
}

Json ImageReader::image_facts() const {
  return {{"image_size", {processor_->height(), processor_->width()}}, {"augmentation", augmentation_}};
}

std::string ImageReader::image_text(const Json& facts) const {
  return fmt::format("         {} x {} pixels\nimage    {}\n", processor_->width(), processor_->height(),
                     facts["sample"]["image"].get<std::string>());
}

void ClassImageReader::training_fields(FieldVisitor& f) {
  rows_.training_fields(f);
  ImageReader::training_fields(f);
}

std::vector<std::string> ClassImageReader::metrics(const DataOptions& /*data*/) const {
  return image_metrics(rows_.labels());
}

void ClassImageReader::check_metric(const std::string& name) const {
  check_image_metric(name, rows_.labels());
}

void ClassImageReader::encode(const Model& model, const DataOptions& /*data*/) {
  train_ = source(rows_.data().train, model, nullptr, augmentation());
  validation_ = source(rows_.data().validation, model, nullptr, {});
}

Json ClassImageReader::facts(const DataOptions& /*data*/) const {
  const Example& first = rows_.data().train.rows.front();
  Json facts = image_facts();
  facts["labels"] = rows_.labels().names;
  facts["sample"] = {{"image", first.text}, {"label", rows_.label_words(first)}};
  return facts;
}

std::string ClassImageReader::facts_text(const Json& facts) const {
  return ClassifierRows::labels_text(facts["labels"]) + image_text(facts) +
         fmt::format("label    {}\n", facts["sample"]["label"].get<std::string>());
}

Json ClassImageReader::row(Split split, int64_t position) const {
  const TrainingData& data = rows_.data();
  const Example& row = (split == Split::train ? data.train : data.validation).rows[static_cast<size_t>(position)];
  return {{"image", row.text}, {"label", row.labels.empty() ? Json(row.label) : Json(row.labels)}};
}

std::shared_ptr<const RowSource> ClassImageReader::rows_to_score(const AskedModel& asked, TaskFiles& files) {
  Dataset dataset = split_rows(files, Split::validation, Labels::needed);
  if (!dataset.rows.empty()) return source(std::move(dataset), asked.model, asked.adapter, {});
  throw Error({.id = "config.no-data",
               .what = "there are no images to evaluate on",
               .where = dataset.file.string(),
               .fix = "name another validation_file"});
}

std::shared_ptr<const RowSource> ClassImageReader::rows_to_predict(const AskedModel& asked, TaskFiles& files,
                                                                   const std::string& file, std::vector<Json>& ids) {
  Dataset dataset = file.empty() ? split_rows(files, Split::test, Labels::ignored)
                                 : data::rows_of(tables(files.data).read_named(file, Split::test),
                                                 by_columns(files.data), rows_.labels(), Labels::ignored);
  for (const Example& row : dataset.rows) ids.push_back(row.id.is_null() ? Json(row.text) : row.id);
  return source(std::move(dataset), asked.model, asked.adapter, {});
}

TrainingData ClassImageReader::training_rows(const TaskFiles& files, const HeadLabels& head) const {
  return data::training_rows(by_columns(files.data), files.seed, head, tables(files.data));
}

Dataset ClassImageReader::split_rows(const TaskFiles& files, Split split, Labels use) const {
  return data::split_rows(by_columns(files.data), split, rows_.labels(), use, files.seed, tables(files.data));
}

}  // namespace deltaw::tasks
