#include "tasks/noise/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>

#include "core/ascii.h"
#include "core/files.h"
#include "data/labels.h"
#include "data/no_rows.h"
#include "deltaw/error.h"
#include "deltaw/generate_images.h"
#include "models/config_values.h"
#include "models/gguf.h"
#include "tasks/common/image_reader.h"
#include "tasks/noise/pictures.h"
#include "tasks/noise/scorer.h"
#include "tasks/noise/task.h"

namespace deltaw::noise {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTask = "NOISE";

Resample resample_of(const std::string& mode) {
  static const std::pair<const char*, Resample> modes[] = {
      {"nearest", Resample::nearest}, {"bilinear", Resample::bilinear}, {"bicubic", Resample::bicubic},
      {"box", Resample::box},         {"hamming", Resample::hamming},   {"lanczos", Resample::lanczos}};
  for (const auto& [name, resample] : modes) {
    if (mode == name) return resample;
  }
  throw Error({.id = "config.out-of-range",
               .what = "'" + mode + "' is no way to resize an image",
               .where = "key 'image_interpolation_mode'",
               .fix = "one of: nearest, bilinear, bicubic, box, hamming, lanczos"});
}

class Reader final : public tasks::ImageReader, public MakesImages {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override {
    ImageReader::fields(f);
    f.field("resolution", resolution_,
            "Pixels of a side of the pictures; 0: the sample_size of the model's config.json. Images are brought to it "
            "by their shorter side.",
            at_least(0));
    f.field("image_interpolation_mode", interpolation_, "How images are resized.",
            one_of({"nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"}));
    f.field("snr_gamma", snr_gamma_,
            "Weight each time's error by min(SNR, this) / SNR, or its like for v_prediction (min-SNR; 5 is usual); 0: "
            "all alike.",
            at_least(0));
    f.field("noise_offset", noise_offset_, "Noise that a picture's channel shares, added to that of its pixels.",
            at_least(0));
    f.field("eval_timesteps", eval_timesteps_,
            "Times at which evaluation measures the error, with noise that is the same in every run: noise_mse_500.");
  }

  void training_fields(FieldVisitor& f) override {
    f.field("center_crop", center_crop_, "Train on the middle of an image that is no square; else on a random part.");
    f.field("random_flip", random_flip_, "Turn every second image left to right.");
  }

  std::vector<std::string> kept_keys() const override {
    std::vector<std::string> keys = ImageReader::kept_keys();
    for (const char* key : {"resolution", "image_interpolation_mode", "snr_gamma", "noise_offset", "eval_timesteps"}) {
      keys.emplace_back(key);
    }
    return keys;
  }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"text_column", "text_pair_column", "max_length", "group_by_length", "task_name", "problem_type"},
             "the rows are pictures"},
            {{"image_processor_backend"}, "image_interpolation_mode says how pictures are resized, as Pillow does"}};
  }

  std::unique_ptr<Task> make_task(const TaskSpec& /*spec*/) const override {
    return noise::make_task({.snr_gamma = snr_gamma_, .scheduler = scheduler_});
  }

  // ---- a run ----

  void load_preprocessors(const TaskFiles& files) override { take_scheduler(files); }

  void read(TaskFiles& files) override {
    take_classes(files.base);
    if (files.data.validation_split > 0 || tables_of(files.data).has(Split::validation)) {
      validation_rows_ = rows_of(files, Split::validation);
    }
    train_rows_ = rows_of(files, Split::train);
    settle_names(files);
    times_ = timesteps();
  }

  bool has_validation() const override { return !validation_rows_.rows.empty(); }

  std::vector<std::string> metrics(const DataOptions& /*data*/) const override {
    std::vector<std::string> names = {"loss"};
    for (const int64_t time : timesteps()) names.push_back(metric_name(time));
    return names;
  }

  void check_metric(const std::string& name) const override {
    noise::check_metric(name);
    const std::vector<std::string> names = metrics({});
    if (std::find(names.begin(), names.end(), name) != names.end()) return;
    throw Error({.id = "config.unknown-metric",
                 .what = fmt::format("'{}' is not measured", name),
                 .where = "key 'metric_for_best_model'",
                 .fix = fmt::format("one of: {}; or add its time to eval_timesteps", fmt::join(names, ", "))});
  }

  void encode(const Model& model, const DataOptions& data) override {
    Pictures pictures = pictures_of(train_rows_, model, data);
    pictures.form.center_crop = center_crop_;
    pictures.form.random_flip = random_flip_;
    side_ = pictures.form.resolution;
    train_ = training_rows(std::move(pictures), noise_form(), loader());
    validation_ = evaluation_of(validation_rows_, model, data);
  }

  void check(const Model& model, const Adapter* adapter) const override {
    make_task(find_task(kTask))->check(model, adapter, *train(), "training");
  }

  Json facts(const DataOptions& data) const override {
    const Example& first = train_rows_.rows.front();
    Json sample = {{"image", first.text}};
    if (classes_ > 0) sample["label"] = first.text_pair;
    return {{"labels", data.label_names},
            {"image_size", {side_, side_}},
            {"num_train_timesteps", scheduler_->num_train_timesteps()},
            {"scheduler", scheduler_->where()},
            {"sample", std::move(sample)}};
  }

  std::string facts_text(const Json& facts) const override {
    std::string text = fmt::format("         {} x {} pixels, {} times of noise ({})\nimage    {}\n", side_, side_,
                                   facts["num_train_timesteps"].get<int64_t>(), facts["scheduler"].get<std::string>(),
                                   facts["sample"]["image"].get<std::string>());
    if (classes_ > 0) text += fmt::format("label    {}\n", facts["sample"]["label"].get<std::string>());
    return text;
  }

  Json row(Split split, int64_t position) const override {
    const bool trains = split == Split::train;
    const auto each = trains ? int64_t{1} : static_cast<int64_t>(times_.size());
    const Dataset& rows = trains ? train_rows_ : validation_rows_;
    Json row = {{"image", rows.rows[static_cast<size_t>(position / each)].text}};
    if (classes_ > 0) row["label"] = rows.rows[static_cast<size_t>(position / each)].text_pair;
    if (!trains) row["timestep"] = times_[static_cast<size_t>(position % each)];
    return row;
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = "unconditional-image-generation",
            .python_class = "diffusers.UNet2DModel",
            .load_arguments = {},
            .command = "generate",
            .command_arguments = "--num_images 16 --output_dir pictures"};
  }

  /// The schedule, from where diffusers and this task read it beside a merged model.
  void write_companions(const Model& model, const fs::path& folder) const override {
    const fs::path to = folder / NoiseScheduler::kFile;
    if (const auto file = NoiseScheduler::file_for(model.folder())) {
      write_file(to, read_file(*file));
    } else {
      write_json(to, scheduler_->config(), KeyOrder::kept);
    }
  }

  // ---- a model that is asked ----

  void choose_model(TaskFiles& files) override {
    take_scheduler(files);
    take_classes(files.base);
  }
  void begin_asking(const AskedModel& /*asked*/, TaskFiles& /*files*/) override {}

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    times_ = timesteps();
    validation_rows_ = rows_of(files, Split::validation);
    if (validation_rows_.rows.empty()) {
      throw Error({.id = "config.no-data",
                   .what = "there are no images to evaluate on",
                   .where = validation_rows_.file.string(),
                   .fix = "name another validation_file"});
    }
    auto rows = evaluation_of(validation_rows_, asked.model, files.data);
    asked.task.check(asked.model, asked.adapter, *rows, "evaluation");
    return rows;
  }

  std::shared_ptr<const RowSource> rows_to_predict(const AskedModel& /*asked*/, TaskFiles& /*files*/,
                                                   const std::string& /*file*/, std::vector<Json>& /*ids*/) override {
    throw Error({.id = "config.unsupported",
                 .what = "a denoiser predicts nothing of an image",
                 .where = "verb predict",
                 .fix = "deltaw eval measures its error on images, deltaw generate makes new ones"});
  }

  Batch probe(const AskedModel& asked, const TaskFiles& files) const override {
    return TaskReader::probe(asked, files);
  }

  // ---- MakesImages ----

  ImageSource image_source(const AskedModel& asked) const override {
    return {.model = as_denoiser(asked.model),
            .adapter = asked.adapter,
            .scheduler = *scheduler_,
            .resolution = resolution_};
  }

 private:
  void take_scheduler(const TaskFiles& files) {
    scheduler_ = scheduler_of(files.base);
    if (NoiseScheduler::file_for(files.base)) return;
    files.warn(fmt::format(
        "there is no scheduler/scheduler_config.json beside {}: {} is assumed, as it is made without arguments: {} "
        "times, linear betas, epsilon",
        files.base.string(), scheduler_->where(), scheduler_->num_train_timesteps()));
  }

  void take_classes(const fs::path& base) {
    const ConfigValues config(read_model_config(base), config_file(base).string());
    classes_ = config.has("num_class_embeds") ? config.size("num_class_embeds") : 0;
  }

  data::ImageTables tables_of(const DataOptions& data) const { return tables(data, /*unlabelled=*/classes_ == 0); }

  /// Each row with its image and, where the model has classes, its label as the second text.
  Dataset rows_of(const TaskFiles& files, Split split) const {
    DataOptions options = by_columns(files.data);
    const std::string label = options.label_column.empty() ? "label" : options.label_column;
    if (classes_ > 0) options.text_pair_column = label;
    return data::split_rows(options, split, {}, Labels::ignored, files.seed, tables_of(files.data));
  }

  static bool is_number(const std::string& label) { return data::class_number(label).has_value(); }

  /// What labels stand for which class: their own numbers, or those of label_names, or of their names in order.
  void settle_names(TaskFiles& files) const {
    if (classes_ == 0 || !files.data.label_names.empty()) return;
    std::set<std::string> names;
    for (const Example& row : train_rows_.rows) names.insert(std::string(trimmed(row.text_pair)));
    if (std::all_of(names.begin(), names.end(), is_number)) return;
    files.data.label_names.assign(names.begin(), names.end());
  }

  int64_t class_of(const Example& row, const Dataset& rows, const DataOptions& data) const {
    const std::string label(trimmed(row.text_pair));
    const std::optional<int64_t> found =
        data.label_names.empty() ? data::class_number(label) : LabelSet{.names = data.label_names}.find(label);
    if (found && *found < classes_) return *found;
    throw Error({.id = "data.label",
                 .what = found ? fmt::format("the label '{}' is class {}, and the model knows {} (num_class_embeds)",
                                             label, *found, classes_)
                               : fmt::format("the label '{}' is the number of no class", label),
                 .where = fmt::format("row {} of {}", row.line, rows.file.string()),
                 .fix = "give label_names, the labels in the order of the model's classes"});
  }

  Pictures pictures_of(const Dataset& rows, const Model& model, const DataOptions& data) const {
    const Denoiser& denoiser = as_denoiser(model);
    Pictures pictures{.rows = rows, .classes = {}, .form = {}};
    pictures.form.channels = denoiser.in_channels();
    pictures.form.resolution = resolution_ > 0 ? resolution_ : denoiser.sample_height();
    pictures.form.resample = resample_of(interpolation_);
    if (resolution_ == 0 && (denoiser.sample_height() == 0 || denoiser.sample_height() != denoiser.sample_width())) {
      throw Error({.id = "config.missing-key",
                   .what = "the model's config.json names no square sample_size",
                   .where = denoiser.folder().string(),
                   .fix = "give the pixels of a side: --resolution 64"});
    }
    for (const Example& row : rows.rows) {
      if (classes_ > 0) pictures.classes.push_back(class_of(row, rows, data));
    }
    return pictures;
  }

  std::shared_ptr<const NoisyRows> evaluation_of(const Dataset& rows, const Model& model,
                                                 const DataOptions& data) const {
    return evaluation_rows(pictures_of(rows, model, data), noise_form(), times_, loader());
  }

  NoiseForm noise_form() const {
    return {.num_train_timesteps = scheduler_->num_train_timesteps(), .noise_offset = noise_offset_};
  }

  /// eval_timesteps as numbers.
  std::vector<int64_t> timesteps() const {
    std::vector<int64_t> times;
    const int64_t all = scheduler_->num_train_timesteps();
    if (eval_timesteps_.empty()) {
      for (const int64_t thousandths : {50, 200, 500, 900}) times.push_back(all * thousandths / 1000);
    }
    for (const std::string& text : eval_timesteps_) {
      const std::optional<int64_t> time = data::class_number(text);
      if (!time || *time >= all) {
        throw Error({.id = "config.out-of-range",
                     .what = fmt::format("'{}' is no time of the diffusion", text),
                     .where = "key 'eval_timesteps'",
                     .fix = fmt::format("give whole numbers from 0 to {}", all - 1)});
      }
      times.push_back(*time);
    }
    std::sort(times.begin(), times.end());
    times.erase(std::unique(times.begin(), times.end()), times.end());
    return times;
  }

  int64_t resolution_ = 0;
  std::string interpolation_ = "bilinear";
  double snr_gamma_ = 0, noise_offset_ = 0;
  std::vector<std::string> eval_timesteps_;
  bool center_crop_ = false, random_flip_ = false;

  std::shared_ptr<const NoiseScheduler> scheduler_;
  int64_t classes_ = 0;  // that the model knows
  Dataset train_rows_, validation_rows_;
  std::vector<int64_t> times_;
  int64_t side_ = 0;
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::noise
