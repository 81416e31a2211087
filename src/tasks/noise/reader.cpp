#include "tasks/noise/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>

#include "adapt/lora_adapter.h"
#include "adapt/targets.h"
#include "core/ascii.h"
#include "core/files.h"
#include "core/memory.h"
#include "data/hold_out.h"
#include "data/image_sets.h"
#include "data/labels.h"
#include "data/no_rows.h"
#include "deltaw/error.h"
#include "deltaw/generate_images.h"
#include "models/config_values.h"
#include "models/gguf.h"
#include "tasks/common/captions.h"
#include "tasks/common/extends_model.h"
#include "tasks/common/hypothesis_template.h"
#include "tasks/common/image_reader.h"
#include "tasks/common/prepares_run.h"
#include "tasks/common/shown.h"
#include "tasks/common/shows_training.h"
#include "tasks/noise/pictures.h"
#include "tasks/noise/scorer.h"
#include "tasks/noise/subject.h"
#include "tasks/noise/task.h"
#include "tasks/noise/validation.h"

namespace deltaw::noise {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTask = "NOISE";
constexpr int64_t kShareOfMemory = 8;  // of which latents and states of captions that are kept take one part

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

/// The rows of a split as their files have them.
struct Read {
  Dataset rows = {};
  std::vector<std::vector<std::string>> captions = {};  // of each; empty where the model reads none
};

class Reader final : public tasks::ImageReader,
                     public MakesImages,
                     public tasks::PreparesRun,
                     public tasks::ExtendsModel,
                     public tasks::ShowsTraining {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override {
    ImageReader::fields(f);
    f.field("resolution", resolution_,
            "Pixels of a side of the pictures; 0: the sample_size of the model's config.json, for latents in pixels. "
            "Images are brought to it by their shorter side.",
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
    f.field("caption_column", captions_.caption_column,
            "Column of a file of rows with each image's caption, or a list of several; empty: caption, captions, text, "
            "sentence or sentences. Where there is none, and in folders of classes, CIFAR and MNIST, the caption is "
            "hypothesis_template with the class in it.");
    tasks::hypothesis_field(f, template_);
    subject_.fields(f);
  }

  void training_fields(FieldVisitor& f) override {
    f.field("center_crop", center_crop_, "Train on the middle of an image that is no square; else on a random part.");
    f.field("random_flip", random_flip_, "Turn every second image left to right.");
    f.field(
        "train_text_encoder", train_text_encoder_,
        "Train the pipeline's text encoder too: its layers, text_encoder.encoder.layers.0.self_attn.q_proj for one, "
        "are the model's, and by default those of its attention are adapted.");
    subject_.training_fields(f);
    validation_keys_.fields(f);
  }

  std::vector<std::string> kept_keys() const override {
    std::vector<std::string> keys = ImageReader::kept_keys();
    for (const char* key : {"resolution", "image_interpolation_mode", "snr_gamma", "noise_offset", "eval_timesteps",
                            "caption_column", "hypothesis_template", "instance_prompt"}) {
      keys.emplace_back(key);
    }
    return keys;
  }

  std::vector<std::pair<std::string, std::string>> named_files() const override { return subject_.named(); }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"text_column", "text_pair_column", "max_length", "group_by_length", "task_name", "problem_type"},
             "the rows are pictures"},
            {{"image_processor_backend"}, "image_interpolation_mode says how pictures are resized, as Pillow does"}};
  }

  std::unique_ptr<Task> make_task(const TaskSpec& /*spec*/) const override {
    return noise::make_task(
        {.snr_gamma = snr_gamma_, .prior_loss_weight = subject_.prior_loss_weight, .scheduler = scheduler_});
  }

  // ---- a run ----

  void load_preprocessors(const TaskFiles& files) override { take_scheduler(files); }

  void read(TaskFiles& files) override {
    take_config(files.base);
    subject_.check(reads_text_, files.data);
    validation_keys_.check(reads_text_, classes_);
    if (files.data.validation_split > 0 || tables_of(files.data).has(Split::validation)) {
      validating_ = rows_of(files, Split::validation);
    }
    training_ = rows_of(files, Split::train);
    if (subject_.with_prior_preservation) prior_ = class_pictures(subject_);
    settle_names(files);
    times_ = timesteps();
    seed_ = static_cast<int64_t>(files.seed);
  }

  // ---- ExtendsModel ----

  /// By the text encoder, where it is to be trained, or has been for an adapter that acts.
  void extend(Model& model, const TaskFiles& files) const override {
    as_denoiser(model);
    auto& denoiser = dynamic_cast<Denoiser&>(model);
    if (train_text_encoder_ && denoiser.cross_attention_dim() == 0) {
      throw Error({.id = "config.conflict",
                   .what = "the model reads no text, and has no text encoder to train",
                   .where = "key 'train_text_encoder'",
                   .fix = "leave it out, or train a model of text to image"});
    }
    const bool adapted =
        has_text_encoder(denoiser) && std::any_of(files.adapters.begin(), files.adapters.end(), changes_text_encoder);
    if (train_text_encoder_ || adapted) add_text_encoder(denoiser);
  }

  std::vector<std::string> extending_keys() const override { return {"train_text_encoder"}; }

  /// Beside the layers that the denoiser's family adapts those of the text encoder that diffusers' scripts do.
  void settle_adapter(const Model& model, AdapterConfig& config) const override {
    if (!as_denoiser(model).text_encoder()) return;
    if (!train_text_encoder_) return exclude_scope(config, kTextEncoderScope);  // it is there for adapters beside
    if (!config.target_modules.is_null()) return;
    Json names = find_method(config.method).default_targets(*model.family());
    if (!names.is_array() || names.empty()) return;
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) names.push_back(name);
    config.target_modules = std::move(names);
  }

  bool has_validation() const override { return !validating_.rows.rows.empty(); }

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
    const Denoiser& denoiser = as_denoiser(model);
    take_parts(denoiser);
    const auto own = [&](const Read& read) {
      RowParts parts = parts_of(read, denoiser, data);
      parts.pictures.form.center_crop = center_crop_;
      parts.pictures.form.random_flip = random_flip_;
      return parts;
    };
    RowParts parts = own(training_);
    side_ = parts.pictures.form.resolution;
    Pictures prior;
    if (!prior_.rows.rows.empty()) {
      prior = own({.rows = prior_.rows, .captions = captions_for(prior_.rows, subject_.class_prompt)}).pictures;
    }
    train_ = training_rows(std::move(parts), std::move(prior));
    validation_ = evaluation_of(validating_, denoiser, data);
  }

  void check(const Model& model, const Adapter* adapter) const override {
    make_task(find_task(kTask))->check(model, adapter, *train(), "training");
    check_text_encoder(as_denoiser(model), adapter);
    if (shows()) pictures_of(model, adapter);  // refuses what cannot be drawn
  }

  void prepare(const Model& model) override {
    make_class_pictures(subject_, prior_, source_of(as_denoiser(model), nullptr), seed_);
  }

  Json facts(const DataOptions& data) const override {
    const Example& first = training_.rows.rows.front();
    Json sample = {{"image", first.text}};
    if (reads_text_) sample["captions"] = training_.captions.front();
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
    if (shows()) text += fmt::format("shown    {}\n", validation_keys_.text());
    if (!reads_text_) return text;
    for (const Json& caption : facts["sample"]["captions"]) {
      text += fmt::format("caption  {}\n", tasks::shortened(caption.get<std::string>(), 300));
    }
    if (!prior_.rows.rows.empty()) {
      text += fmt::format("class    {} images, {} of which the base will make: {}\n", prior_.rows.rows.size(),
                          prior_.missing.size(), tasks::shortened(subject_.class_prompt, 300));
    }
    return text;
  }

  Json row(Split split, int64_t position) const override {
    const bool trains = split == Split::train;
    const auto each = trains ? int64_t{1} : static_cast<int64_t>(times_.size());
    const Read& own = trains ? training_ : validating_;
    const size_t place = static_cast<size_t>(position / each) % own.rows.rows.size();
    Json row = {{"image", own.rows.rows[place].text}};
    if (classes_ > 0) row["label"] = own.rows.rows[place].text_pair;
    if (reads_text_) row["captions"] = own.captions[place];
    if (!trains) row["timestep"] = times_[static_cast<size_t>(position % each)];
    return row;
  }

  std::vector<std::string> warnings(const Model& /*model*/, const Adapter* /*adapter*/,
                                    const DataOptions& /*data*/) const override {
    std::set<std::string> all, cut;
    for (const std::vector<std::string>& captions : training_.captions) all.insert(captions.begin(), captions.end());
    for (const std::string& caption : all) {
      if (features_->prompts().cuts(caption)) cut.insert(caption);
    }
    if (cut.empty()) return {};
    return {fmt::format("{} of {} captions are longer than the {} tokens that the text encoder reads, and were cut: {}",
                        cut.size(), all.size(), features_->prompts().length(), tasks::shortened(*cut.begin(), 300))};
  }

  ModelCard model_card() const override {
    if (reads_text_) {
      return {.pipeline_tag = "text-to-image",
              .python_class = "diffusers.UNet2DConditionModel",
              .load_arguments = {},
              .command = "generate",
              .command_arguments = "--prompt \"...\" --num_images 4 --output_dir pictures"};
    }
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
    take_config(files.base);
  }
  void begin_asking(const AskedModel& /*asked*/, TaskFiles& /*files*/) override {}

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    times_ = timesteps();
    validating_ = rows_of(files, Split::validation);
    if (validating_.rows.rows.empty()) {
      throw Error({.id = "config.no-data",
                   .what = "there are no images to evaluate on",
                   .where = validating_.rows.file.string(),
                   .fix = "name another validation_file"});
    }
    const Denoiser& denoiser = as_denoiser(asked.model);
    take_parts(denoiser);
    auto rows = evaluation_of(validating_, denoiser, files.data);
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

  // ---- ShowsTraining ----

  bool shows() const override { return validation_keys_.any(); }
  int64_t show_epochs() const override { return validation_keys_.validation_epochs; }

  void show(const Model& model, const Adapter& adapter, const fs::path& folder) const override {
    write_images(pictures_of(model, &adapter).run(), folder);
  }

  // ---- MakesImages ----

  ImageSource image_source(const AskedModel& asked) override {
    const Denoiser& denoiser = as_denoiser(asked.model);
    take_parts(denoiser);
    return source_of(denoiser, asked.adapter);
  }

 private:
  ImageSource source_of(const Denoiser& model, const Adapter* adapter) const {
    return {.model = model,
            .adapter = adapter,
            .scheduler = *scheduler_,
            .resolution = resolution_,
            .autoencoder = parts_->autoencoder.get(),
            .prompts = parts_->prompts.get()};
  }

  ImageGenerator pictures_of(const Model& model, const Adapter* adapter) const {
    return {source_of(as_denoiser(model), adapter), validation_keys_.options(seed_)};
  }

  static bool trains_text_encoder(const Adapter& adapter) {
    const auto& parts = adapter.parts();
    if (!parts.empty()) return std::any_of(parts.begin(), parts.end(), trains_text_encoder);
    const std::vector<NamedTensor> trained = adapter.trained();
    return std::any_of(trained.begin(), trained.end(),
                       [](const NamedTensor& tensor) { return tensor.name.starts_with(kTextEncoderScope); });
  }

  /// Where it is to be trained, something of it must train.
  void check_text_encoder(const Denoiser& model, const Adapter* adapter) const {
    if (!train_text_encoder_ || !adapter || trains_text_encoder(*adapter)) return;
    throw Error({.id = "config.conflict",
                 .what = "the text encoder is to be trained, and nothing of it is adapted",
                 .where = model.folder().string(),
                 .fix = "name layers of it in target_modules (q_proj, k_proj, v_proj, out_proj, fc1, fc2), or leave "
                        "train_text_encoder out"});
  }

  void take_parts(const Denoiser& model) {
    parts_ = std::make_shared<const PipelineParts>(load_parts(model));
    features_ = std::make_shared<const Features>(parts_, memory_bytes() / kShareOfMemory);
  }

  void take_scheduler(const TaskFiles& files) {
    scheduler_ = scheduler_of(files.base);
    if (NoiseScheduler::file_for(files.base)) return;
    files.warn(fmt::format(
        "there is no scheduler/scheduler_config.json beside {}: {} is assumed, as it is made without arguments: {} "
        "times, linear betas, epsilon",
        files.base.string(), scheduler_->where(), scheduler_->num_train_timesteps()));
  }

  /// What rows must have, before the model is loaded.
  void take_config(const fs::path& base) {
    const ConfigValues config(read_model_config(base), config_file(base).string());
    classes_ = config.has("num_class_embeds") ? config.size("num_class_embeds") : 0;
    reads_text_ = config.has("cross_attention_dim");
    captions_.sentence = tasks::hypothesis_of(template_);
  }

  data::ImageTables tables_of(const DataOptions& data) const { return tables(data, /*unlabelled=*/classes_ == 0); }

  /// Each row with its image and, where the model has classes, its label as the second text.
  Read rows_of(const TaskFiles& files, Split split) const {
    if (reads_text_) return captioned_rows(files, split);
    DataOptions options = by_columns(files.data);
    const std::string label = options.label_column.empty() ? "label" : options.label_column;
    if (classes_ > 0) options.text_pair_column = label;
    return {.rows = data::split_rows(options, split, {}, Labels::ignored, files.seed, tables_of(files.data))};
  }

  Read captioned_rows(const TaskFiles& files, Split split) const {
    const data::ImageTables images = tables_of(files.data);
    const bool parted = files.data.validation_split > 0 && !images.has(Split::validation);
    const bool of_training = split == Split::train || parted;
    const bool of_subject = of_training && !subject_.instance_data_dir.empty();
    const data::Table table = of_subject ? data::read_image_sets({subject_.instance_data_dir})
                                         : images.read(of_training ? Split::train : split);
    tasks::CaptionedImages found = tasks::captions_of(table, captions_, files.data,
                                                      of_subject ? tasks::Captions::ignored : tasks::Captions::wanted);
    data::keep_split(found, files.data, split, files.seed, parted);
    Read read{.rows = {.file = found.file}};
    for (tasks::Captioned& row : found.rows) {
      if (row.captions.empty()) row.captions = {caption_for(row, found)};
      read.rows.rows.push_back({.text = row.image, .line = row.line, .id = row.id});
      read.captions.push_back(std::move(row.captions));
    }
    return read;
  }

  /// Of an image that has none.
  const std::string& caption_for(const tasks::Captioned& row, const tasks::CaptionedImages& images) const {
    if (!subject_.instance_prompt.empty()) return subject_.instance_prompt;
    throw Error({.id = "config.caption-column",
                 .what = "the model reads captions, and the image has none: " + row.image,
                 .where = fmt::format("row {} of {}", row.line, images.file.string()),
                 .fix =
                     "give a file of rows with a column of captions (--caption_column NAME), a metadata.jsonl in the "
                     "folder of the images, or one caption for all of them: --instance_prompt \"a photo of sks dog\""});
  }

  static std::vector<std::vector<std::string>> captions_for(const Dataset& rows, const std::string& caption) {
    return std::vector<std::vector<std::string>>(rows.rows.size(), {caption});
  }

  static bool is_number(const std::string& label) { return data::class_number(label).has_value(); }

  /// What labels stand for which class: their own numbers, or those of label_names, or of their names in order.
  void settle_names(TaskFiles& files) const {
    if (classes_ == 0 || !files.data.label_names.empty()) return;
    std::set<std::string> names;
    for (const Example& row : training_.rows.rows) names.insert(std::string(trimmed(row.text_pair)));
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

  RowParts parts_of(const Read& read, const Denoiser& denoiser, const DataOptions& data) const {
    RowParts parts{.pictures = {.rows = read.rows, .captions = read.captions},
                   .noise = noise_form(),
                   .loader = loader(),
                   .features = features_};
    const bool latents = features_->has_latents();
    const int64_t factor = latents ? features_->autoencoder().factor() : 1;
    PictureForm& form = parts.pictures.form;
    form.channels = latents ? features_->autoencoder().channels() : denoiser.in_channels();
    form.resolution = resolution_ > 0 ? resolution_ : denoiser.sample_height() * factor;
    form.resample = resample_of(interpolation_);
    if (resolution_ == 0 && (denoiser.sample_height() == 0 || denoiser.sample_height() != denoiser.sample_width())) {
      throw Error({.id = "config.missing-key",
                   .what = "the model's config.json names no square sample_size",
                   .where = denoiser.folder().string(),
                   .fix = "give the pixels of a side: --resolution 64"});
    }
    if (resolution_ % factor != 0) {
      throw Error({.id = "data.image-size",
                   .what = fmt::format("{} pixels are no whole number of latents", resolution_),
                   .where = "key 'resolution'",
                   .fix = fmt::format("give a multiple of {}", factor)});
    }
    for (const Example& row : read.rows.rows) {
      if (classes_ > 0) parts.pictures.classes.push_back(class_of(row, read.rows, data));
    }
    return parts;
  }

  std::shared_ptr<const NoisyRows> evaluation_of(const Read& read, const Denoiser& denoiser,
                                                 const DataOptions& data) const {
    return evaluation_rows(parts_of(read, denoiser, data), times_);
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
  bool center_crop_ = false, random_flip_ = false, train_text_encoder_ = false;

  SubjectKeys subject_;
  ValidationKeys validation_keys_;
  tasks::CaptionKeys captions_;
  std::string template_;  // of captions of classes

  std::shared_ptr<const NoiseScheduler> scheduler_;
  std::shared_ptr<const PipelineParts> parts_;
  std::shared_ptr<const Features> features_;
  int64_t classes_ = 0;  // that the model knows
  bool reads_text_ = false;
  Read training_, validating_;
  ClassPictures prior_;
  int64_t seed_ = 0;
  std::vector<int64_t> times_;
  int64_t side_ = 0;
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::noise
