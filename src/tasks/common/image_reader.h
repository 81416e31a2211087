// What readers of images share: sets and tables of images, the processor, what training does to an image.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/image_tables.h"
#include "deltaw/image.h"
#include "deltaw/task_reader.h"
#include "tasks/common/classifier_rows.h"
#include "tasks/common/image_rows.h"

namespace deltaw::tasks {

class ImageReader : public TaskReader {
 public:
  void fields(FieldVisitor& f) override;
  void training_fields(FieldVisitor& f) override;
  std::vector<std::string> kept_keys() const override {
    return {"image_column", "image_processor_backend", "only_labels"};
  }

  /// Throws io.not-found where no folder has a preprocessor_config.json, and what ImageProcessor::from_folder throws.
  void load_preprocessors(const TaskFiles& files) override;
  /// The processor's file.
  void write_companions(const Model& model, const std::filesystem::path& folder) const override;
  Batch probe(const AskedModel& asked, const TaskFiles& files) const override;

 protected:
  const ImageProcessor& processor() const { return *processor_; }
  Augmentation augmentation() const;
  const LoaderOptions& loader() const { return loader_; }
  /// `unlabelled`: a folder of images alone will do.
  data::ImageTables tables(const DataOptions& options, bool unlabelled = false) const;
  /// For the columns of such tables.
  static DataOptions by_columns(DataOptions options);
  Json image_facts() const;
  std::string image_text(const Json& facts) const;

 private:
  data::ImageChoice choice_;
  std::string backend_ = "pil";
  std::string augmentation_ = "crop";
  double crop_scale_ = 0.08;
  LoaderOptions loader_;
  std::filesystem::path processor_file_;
  std::optional<ImageProcessor> processor_;
};

/// Images that have classes.
class ClassImageReader : public ImageReader {
 public:
  explicit ClassImageReader(const char* task) : rows_(task) {}

  void training_fields(FieldVisitor& f) override;

  bool has_validation() const override { return !rows_.data().validation.rows.empty(); }
  bool smooths_labels() const override { return rows_.labels().one_class(); }
  std::vector<std::string> metrics(const DataOptions& data) const override;
  void check_metric(const std::string& name) const override;
  void encode(const Model& model, const DataOptions& data) override;

  Json facts(const DataOptions& data) const override;
  std::string facts_text(const Json& facts) const override;
  Json row(Split split, int64_t position) const override;

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override;
  std::shared_ptr<const RowSource> rows_to_predict(const AskedModel& asked, TaskFiles& files, const std::string& file,
                                                   std::vector<Json>& ids) override;

 protected:
  /// The rows as the model gets them. `adapter` may be null.
  virtual std::shared_ptr<const RowSource> source(Dataset rows, const Model& model, const Adapter* adapter,
                                                  Augmentation augmentation) const = 0;
  TrainingData training_rows(const TaskFiles& files, const HeadLabels& head) const;
  Dataset split_rows(const TaskFiles& files, Split split, Labels use) const;

  ClassifierRows rows_;
};

}  // namespace deltaw::tasks
