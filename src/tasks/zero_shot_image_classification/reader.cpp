#include "tasks/zero_shot_image_classification/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/files.h"
#include "core/patterns.h"
#include "deltaw/error.h"
#include "tasks/common/hypothesis_template.h"
#include "tasks/common/image_reader.h"
#include "tasks/common/text_files.h"
#include "tasks/common/tower_texts.h"
#include "tasks/zero_shot_image_classification/prompts.h"
#include "tasks/zero_shot_image_classification/rows.h"
#include "tasks/zero_shot_image_classification/task.h"

namespace deltaw::zero_shot {
namespace {

constexpr const char* kTask = "zero-shot-image-classification";
constexpr const char* kTextSide = "text_model|text_projection";
constexpr const char* kTemplates = "hypothesis_templates.txt";  // beside an adapter or a model

/// What the first of the folders that has templates calls them; empty: none has.
std::filesystem::path kept_templates(const std::vector<std::filesystem::path>& folders) {
  for (const std::filesystem::path& folder : folders) {
    if (std::filesystem::is_regular_file(folder / kTemplates)) return folder / kTemplates;
  }
  return {};
}

/// A split in the place of the training rows.
class OneSplit final : public data::Tables {
 public:
  OneSplit(const data::Tables& all, Split split) : all_(all), split_(split) {}
  bool has(Split split) const override { return split == Split::train; }
  data::Table read(Split /*split*/) const override { return all_.read(split_); }

 private:
  const data::Tables& all_;
  Split split_;
};

class Reader final : public tasks::ClassImageReader {
 public:
  Reader() : ClassImageReader(kTask) {}

  // ---- keys of its own ----

  void fields(FieldVisitor& f) override {
    ImageReader::fields(f);
    tasks::hypothesis_field(f, template_);
    f.field("templates_file", templates_file_,
            "Several such sentences, one on each line: a class is the mean of them all.");
    f.field("temperature", temperature_,
            "What cosines are divided by; 0: they are multiplied with the model's own scale.", at_least(0));
  }

  std::vector<std::string> kept_keys() const override {
    std::vector<std::string> keys = ImageReader::kept_keys();
    for (const char* key : {"hypothesis_template", "temperature"}) keys.emplace_back(key);
    return keys;  // without the path of the templates: the folder has a copy
  }

  std::vector<std::pair<std::string, std::string>> named_files() const override {
    if (templates_file_.empty()) return {};
    return {{"templates_file", templates_file_}};
  }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"text_column", "text_pair_column", "max_length", "group_by_length", "task_name"}, "the rows are images"},
            {{"problem_type", "ignore_mismatched_sizes"}, "the classes are words"}};
  }

  std::unique_ptr<Task> make_task(const TaskSpec& /*spec*/) const override {
    return zero_shot::make_task(temperature_);
  }

  // ---- a run ----

  void load_preprocessors(const TaskFiles& files) override {
    ImageReader::load_preprocessors(files);
    const std::filesystem::path adapter = files.adapters.empty() ? std::filesystem::path() : files.adapters.front();
    tokenizer_ = Tokenizer::from_folder(tasks::tokenizer_folder(files.base, adapter), files.base);
    std::filesystem::path file = templates_file_;
    if (file.empty() && template_.empty()) file = kept_templates(files.folders());
    if (file.empty()) {
      templates_ = {tasks::hypothesis_of(template_)};
    } else {
      templates_ = read_templates(file);
      templates_text_ = read_file(file);
    }
  }

  void read(TaskFiles& files) override {
    if (!template_.empty() && !templates_file_.empty()) {
      throw Error({.id = "config.conflict",
                   .what = "there is a sentence, and a file of sentences",
                   .where = "keys \"hypothesis_template\" and \"templates_file\"",
                   .fix = "keep one of them; a line of the file may be the sentence"});
    }
    rows_.read_without_head(files, [&](const HeadLabels& head) { return training_rows(files, head); });
    check_classes(files);
  }

  void settle_adapter(const Model& /*model*/, AdapterConfig& config) const override {
    if (config.exclude_modules.is_null()) config.exclude_modules = unread_modules();
  }

  void check(const Model& /*model*/, const Adapter* adapter) const override {
    if (!adapter) return;
    for (const NamedTensor& tensor : adapter->trained()) {
      if (!full_match(unread_modules(), tensor.name)) continue;
      throw Error(
          {.id = "config.learns-nothing",
           .what = fmt::format("'{}' would learn nothing: the classes stay where the tower of texts put them "
                               "before training{}",
                               tensor.name, temperature_ == 0 ? "" : ", and temperature replaces the scale"),
           .where = "keys \"target_modules\", \"exclude_modules\" and \"modules_to_save\"",
           .fix = "leave them to the tower of images, or train both towers: --task_type contrastive-image-text"});
    }
  }

  Json facts(const DataOptions& data) const override {
    Json facts = ClassImageReader::facts(data);
    facts["templates"] = templates_.size();
    facts["sentence"] = templates_.front();
    return facts;
  }

  std::string facts_text(const Json& facts) const override {
    return ClassImageReader::facts_text(facts) + fmt::format("         {} sentence{} for each class: {}\n",
                                                             templates_.size(), templates_.size() == 1 ? "" : "s",
                                                             templates_.front());
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = kTask,
            .python_class = "AutoModel",
            .command = "predict",
            .command_arguments = "--input_file IMAGES"};
  }

  void write_companions(const Model& model, const std::filesystem::path& folder) const override {
    ImageReader::write_companions(model, folder);
    if (tokenizer_) tasks::write_tokenizer(*tokenizer_, folder);
    if (!templates_text_.empty()) write_file(folder / kTemplates, templates_text_);
  }

  // ---- a model that is asked ----

  void begin_asking(const AskedModel& /*asked*/, TaskFiles& files) override {
    load_preprocessors(files);
    rows_.take_labels(labels_of(files));
    check_classes(files);
  }

 protected:
  std::shared_ptr<const RowSource> source(Dataset rows, const Model& model, const Adapter* adapter,
                                          tasks::Augmentation augmentation) const override {
    const TwoTowerModel& towers = tasks::as_two_towers(model);
    auto images =
        std::make_shared<const tasks::ImageRows>(std::move(rows), processor(), towers, augmentation, loader());
    return std::make_shared<const RowsWithClasses>(
        std::move(images), rows_.labels(), ClassSentences(towers, *tokenizer_, rows_.labels().names, templates_),
        adapter);
  }

 private:
  /// What no gradient reaches, since the classes are settled before training: an expression of modules and tensors.
  std::string unread_modules() const {
    return fmt::format("(.*\\.)?({}{})(\\..*)?", kTextSide, temperature_ == 0 ? "" : "|logit_scale|logit_bias");
  }

  /// Those that were asked for, else those of the files that are there, of training first.
  LabelSet labels_of(const TaskFiles& files) const {
    if (!files.data.label_names.empty()) return {.names = files.data.label_names};
    const data::ImageTables all = tables(files.data);
    for (const Split split : {Split::train, Split::validation, Split::test}) {
      if (!all.has(split)) continue;
      DataOptions options = by_columns(files.data);
      options.validation_split = 0;
      return data::training_rows(options, files.seed, {}, OneSplit(all, split)).labels;
    }
    return {};
  }

  void check_classes(const TaskFiles& files) const {
    if (rows_.labels().one_class() && rows_.labels().outputs() > 0) return;
    throw Error({.id = "config.no-labels",
                 .what = rows_.labels().outputs() == 0 ? "nothing says which classes there are"
                                                       : "the labels are no classes that words could name",
                 .where = files.data.label_column.empty() ? "key \"label_names\"" : "column " + files.data.label_column,
                 .fix = "list the classes: --label_names cat,dog"});
  }

  std::string template_, templates_file_;
  double temperature_ = 0;
  std::vector<std::string> templates_;
  std::string templates_text_;  // of the file that they are from, or empty
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::zero_shot
