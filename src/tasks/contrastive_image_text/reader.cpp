#include "tasks/contrastive_image_text/reader.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <utility>

#include "core/ascii.h"
#include "deltaw/error.h"
#include "tasks/common/hypothesis_template.h"
#include "tasks/common/image_reader.h"
#include "tasks/common/shown.h"
#include "tasks/common/text_files.h"
#include "tasks/common/tower_texts.h"
#include "tasks/contrastive_image_text/captions.h"
#include "tasks/contrastive_image_text/retrieval.h"
#include "tasks/contrastive_image_text/rows.h"
#include "tasks/contrastive_image_text/scorer.h"

namespace deltaw::contrastive {
namespace {

/// Texts by number, each once.
class Distinct {
 public:
  int64_t number_of(const std::string& text) {
    const auto [place, is_new] = numbers_.emplace(text, static_cast<int64_t>(texts_.size()));
    if (is_new) texts_.push_back(text);
    return place->second;
  }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::map<std::string, int64_t> numbers_;
  std::vector<std::string> texts_;
};

class Reader final : public tasks::ImageReader {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override {
    ImageReader::fields(f);
    f.field("caption_column", keys_.caption_column,
            "Column of a file of rows with each image's caption, or a list of several; empty: caption, captions, text, "
            "sentence or sentences. Where there is none, and in folders of classes, CIFAR and MNIST, the caption is "
            "hypothesis_template with the class in it.");
    tasks::hypothesis_field(f, template_);
  }

  void prediction_fields(FieldVisitor& f) override {
    f.field("captions_file", captions_file_,
            "The captions that images are to find, one on each line; empty: those of the images' own file.");
  }

  std::vector<std::string> kept_keys() const override {
    std::vector<std::string> keys = ImageReader::kept_keys();
    for (const char* key : {"caption_column", "hypothesis_template"}) keys.emplace_back(key);
    return keys;
  }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"text_column", "text_pair_column", "max_length", "group_by_length", "task_name"},
             "a row is an image and a caption, which is read as far as the model reads"},
            {{"problem_type", "ignore_mismatched_sizes"}, "captions are no classes"}};
  }

  // ---- a run ----

  void load_preprocessors(const TaskFiles& files) override {
    ImageReader::load_preprocessors(files);
    const std::filesystem::path adapter = files.adapters.empty() ? std::filesystem::path() : files.adapters.front();
    tokenizer_ = Tokenizer::from_folder(tasks::tokenizer_folder(files.base, adapter), files.base);
    keys_.sentence = tasks::hypothesis_of(template_);
  }

  void read(TaskFiles& files) override {
    const data::ImageTables images = tables(files.data);
    training_ = read_split(images, keys_, files.data, Split::train, files.seed);
    if (!contrastive::has_validation(images, files.data)) return;
    judged_ = read_split(images, keys_, files.data, Split::validation, files.seed);
  }

  bool has_validation() const override { return !judged_.rows.empty(); }
  std::vector<std::string> metrics(const DataOptions& /*data*/) const override { return metric_names(); }
  void check_metric(const std::string& name) const override { contrastive::check_metric(name); }

  void encode(const Model& model, const DataOptions& /*data*/) override {
    train_ = source(training_, model, augmentation());
    validation_ = source(judged_, model, {});
  }

  Json facts(const DataOptions& /*data*/) const override {
    const auto& rows = as_rows<PairRows>(*train_);
    const Captioned& first = training_.rows.front();
    Json facts = image_facts();
    facts["labels"] = Json::array();
    facts["images"] = rows.images();
    facts["captions"] = rows.captions().size();
    facts["sample"] = {{"image", first.image}, {"captions", first.captions}};
    return facts;
  }

  std::string facts_text(const Json& facts) const override {
    std::string lines = fmt::format("         {} images, {} different captions\n", tasks::count_text(facts["images"]),
                                    tasks::count_text(facts["captions"])) +
                        image_text(facts);
    for (const Json& caption : facts["sample"]["captions"]) {
      lines += "caption  " + tasks::shortened(caption.get<std::string>(), 300) + "\n";
    }
    return lines;
  }

  std::vector<std::string> warnings(const Model& model, const Adapter* /*adapter*/,
                                    const DataOptions& /*data*/) const override {
    const TextRows& captions = as_rows<PairRows>(*train_).captions();
    const int64_t cut = truncated_rows(captions.rows()), readable = readable_length(model);
    if (cut == 0) return {};
    return {truncation_warning(cut, captions.size(), readable, readable)};
  }

  Json row(Split split, int64_t position) const override {
    const bool trains = split == Split::train;
    const auto& rows = as_rows<PairRows>(trains ? *train_ : *validation_);
    const Pair& pair = rows.pairs()[static_cast<size_t>(position)];
    const Captioned& own = (trains ? training_ : judged_).rows[static_cast<size_t>(pair.image)];
    return {{"image", own.image}, {"ids", rows.captions().rows()[static_cast<size_t>(pair.caption)].ids}};
  }

  std::optional<int64_t> cut_rows(Split split) const override {
    const auto& rows = split == Split::train ? train_ : validation_;
    return rows ? truncated_rows(as_rows<PairRows>(*rows).captions().rows()) : 0;
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = "zero-shot-image-classification",
            .python_class = "AutoModel",
            .command = "predict",
            .command_arguments = "--input_file IMAGES --captions_file CAPTIONS"};
  }

  void write_companions(const Model& model, const std::filesystem::path& folder) const override {
    ImageReader::write_companions(model, folder);
    if (tokenizer_) tasks::write_tokenizer(*tokenizer_, folder);
  }

  // ---- a model that is asked ----

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    judged_ = read_split(tables(files.data), keys_, files.data, Split::validation, files.seed);
    if (judged_.rows.empty()) {
      throw Error({.id = "config.no-data",
                   .what = "there are no images to evaluate on",
                   .where = judged_.file.string(),
                   .fix = "name another validation_file"});
    }
    return source(judged_, asked.model, {});
  }

  std::unique_ptr<Predictions> predict(const AskedModel& asked, TaskFiles& files, const std::string& file) override {
    const data::ImageTables images = tables(files.data);
    const CaptionedImages rows =
        captions_of(file.empty() ? images.read(Split::test) : images.read_named(file, Split::test), keys_, files.data,
                    captions_file_.empty() ? Captions::wanted : Captions::ignored);
    const std::vector<std::string> captions = candidates(rows, files.data.encoding);
    const TwoTowerModel& model = tasks::as_two_towers(asked.model);
    Dataset pictures{.file = rows.file};
    std::vector<Json> ids;
    for (const Captioned& row : rows.rows) {
      pictures.rows.push_back({.text = row.image, .line = row.line});
      ids.push_back(row.id.is_null() ? Json(row.image) : row.id);
    }
    const tasks::ImageRows source(std::move(pictures), processor(), model, {}, loader());
    return nearest_captions(asked, source, captions, tasks::TowerTexts(captions, *tokenizer_, model), std::move(ids));
  }

  Batch probe(const AskedModel& asked, const TaskFiles& files) const override {
    return TaskReader::probe(asked, files);
  }

 private:
  std::shared_ptr<const PairRows> source(const CaptionedImages& images, const Model& model,
                                         tasks::Augmentation augmentation) const {
    const TwoTowerModel& towers = tasks::as_two_towers(model);
    Dataset pictures{.file = images.file};
    std::vector<Pair> pairs;
    Distinct captions;
    for (const Captioned& row : images.rows) {
      for (const std::string& caption : row.captions) {
        pairs.push_back({.image = static_cast<int64_t>(pictures.rows.size()), .caption = captions.number_of(caption)});
      }
      pictures.rows.push_back({.text = row.image, .line = row.line});
    }
    return std::make_shared<const PairRows>(
        std::move(pairs),
        std::make_shared<const tasks::ImageRows>(std::move(pictures), processor(), towers, augmentation, loader()),
        std::make_shared<const tasks::TowerTexts>(captions.texts(), *tokenizer_, towers));
  }

  /// The captions that images may find, each once.
  std::vector<std::string> candidates(const CaptionedImages& images, const std::string& encoding) const {
    Distinct captions;
    for (const Captioned& row : images.rows) {
      for (const std::string& caption : row.captions) captions.number_of(caption);
    }
    if (!captions_file_.empty()) {
      for (const Example& line : tasks::read_lines(captions_file_, encoding).rows) {
        const std::string caption(trimmed(line.text));
        if (!caption.empty()) captions.number_of(caption);
      }
    }
    if (!captions.texts().empty()) return captions.texts();
    throw Error({.id = "config.no-captions",
                 .what = "there are no captions that the images could find",
                 .where = captions_file_.empty() ? images.file.string() : captions_file_,
                 .fix =
                     "give some, one on each line: --captions_file captions.txt; or ask for classes with --task_type "
                     "zero-shot-image-classification --label_names cat,dog"});
  }

  int64_t readable_length(const Model& model) const {
    const int64_t whole = tasks::as_two_towers(model).text_length();
    return whole > 0 ? whole : tasks::readable_length(model, nullptr, *tokenizer_);
  }

  CaptionKeys keys_;
  std::string template_, captions_file_;
  std::optional<Tokenizer> tokenizer_;
  CaptionedImages training_, judged_;
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::contrastive
