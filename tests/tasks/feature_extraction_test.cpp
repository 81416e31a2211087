// Embeddings of texts, their losses against numbers of sentence-transformers, and their scores.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>

#include "core/files.h"
#include "deltaw/task.h"
#include "deltaw/tokenizer.h"
#include "deltaw/train.h"
#include "support/data.h"
#include "support/golden.h"
#include "support/temporary.h"
#include "support/tiny_model.h"
#include "tasks/feature_extraction/losses.h"
#include "tasks/feature_extraction/modules.h"
#include "tasks/feature_extraction/rows.h"
#include "tasks/feature_extraction/scorer.h"
#include "tasks/feature_extraction/task.h"
#include "tasks/feature_extraction/tuples.h"

namespace deltaw {
namespace {

using namespace feature_extraction;  // NOLINT
using test::fixture;

constexpr const char* kTask = "FEATURE_EXTRACTION";

std::unique_ptr<Model> encoder(const std::string& name) {
  return load_model(fixture("golden/models/" + name).string(), {.task_type = kTask, .dtype = "float64"});
}

Tensor matrix(const std::vector<double>& values) {
  return at::tensor(at::ArrayRef<double>(values), at::kDouble).view({-1, 3});
}

const Tensor kAnchors = matrix({1, 2, 0, 0, 1, -1, 2, 0, 1});
const Tensor kPositives = matrix({1, 1, 1, 1, 1, -1, 0, -1, 2});
const Tensor kNegatives = matrix({2, 1, 0, -1, 0, 1, 1, 1, 0});

// ---- losses ----

struct LossCase {
  const char* name;  // in the fixture
  std::function<Tensor(const std::vector<Tensor>& texts, const Tensor& scores)> loss;
  int64_t texts = 2;
};

void PrintTo(const LossCase& c, std::ostream* out) {
  *out << c.name;
}

class EmbeddingLosses : public testing::TestWithParam<LossCase> {};

TEST_P(EmbeddingLosses, AndTheirGradientsAreThoseOfSentenceTransformers) {
  const test::Golden io(fixture("golden/sentences/losses.safetensors"));
  std::vector<Tensor> texts = io["texts"].narrow(0, 0, GetParam().texts).clone().requires_grad_().unbind();
  const Tensor loss = GetParam().loss(texts, io["scores"]);
  EXPECT_NEAR(loss.item<double>(), io[GetParam().name].item<double>(), 1e-7);  // the library's cosines are float32
  const Tensor gradients = at::stack(torch::autograd::grad({loss}, texts));
  EXPECT_EQ(test::differs(gradients, io[GetParam().name + std::string("_gradients")], 1e-7), "");
}

INSTANTIATE_TEST_SUITE_P(
    All, EmbeddingLosses,
    testing::Values(
        LossCase{"ranking", [](const auto& texts, const auto&) { return ranking_loss(texts, 20); }},
        LossCase{"ranking_negatives", [](const auto& texts, const auto&) { return ranking_loss(texts, 20); }, 3},
        LossCase{"ranking_scale", [](const auto& texts, const auto&) { return ranking_loss(texts, 5); }},
        LossCase{"cosine", [](const auto& t, const auto& scores) { return cosine_loss(cosines(t[0], t[1]), scores); }},
        LossCase{"cosent",
                 [](const auto& t, const auto& scores) { return cosent_loss(cosines(t[0], t[1]), scores, 20); }},
        LossCase{"cosent_scale",
                 [](const auto& t, const auto& scores) { return cosent_loss(cosines(t[0], t[1]), scores, 5); }}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(CosentLoss, HasNoPairWhereAllScoresAreEqual) {
  const Tensor own = cosines(kAnchors, kPositives).requires_grad_();
  const Tensor loss = cosent_loss(own, at::ones({3}, at::kDouble), 20);
  EXPECT_EQ(loss.item<double>(), 0);
  EXPECT_TRUE(torch::autograd::grad({loss}, {own})[0].eq(0).all().item<bool>());
}

// ---- from states to embeddings ----

TEST(Pooling, ReadsTokensAndNoPaddingOnEitherSide) {
  const Tensor states = at::arange(1, 25, at::kDouble).view({2, 4, 3});  // nothing is zero, padding neither
  const Tensor mask = at::tensor({1, 1, 1, 0, 0, 0, 1, 1}, at::kLong).view({2, 4});
  const auto pooled = [&](const char* name) { return embedding_of(states, mask, {.pooling = name}); };
  EXPECT_TRUE(pooled("mean").equal(matrix({4, 5, 6, 20.5, 21.5, 22.5})));
  EXPECT_TRUE(pooled("cls").equal(matrix({1, 2, 3, 19, 20, 21})));
  EXPECT_TRUE(pooled("max").equal(matrix({7, 8, 9, 22, 23, 24})));
  const Tensor unit = embedding_of(states, mask, {.pooling = "mean", .normalize = true});
  EXPECT_TRUE(at::allclose(unit.norm(2, 1), at::ones({2}, at::kDouble)));
  EXPECT_EQ(embedding_of(states.to(at::kBFloat16), mask, {}).scalar_type(), at::kFloat);
}

TEST(Pooling, IsThatOfSentenceTransformers) {
  const test::Golden io(fixture("golden/sentences/pooling.safetensors"));
  for (const std::string& name : poolings()) {
    for (const bool normalize : {false, true}) {
      const Tensor pooled = embedding_of(io["states"], io["mask"], {.pooling = name, .normalize = normalize});
      EXPECT_EQ(test::differs(pooled, io[name + (normalize ? "_normalized" : "")], 1e-12), "") << name;
    }
  }
}

void write(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

TEST(SentenceModules, AreReadAsTheyWereWritten) {
  const test::TemporaryFolder folder;
  EXPECT_FALSE(read_modules({folder.path()}).has_value());
  for (const Modules& modules :
       {Modules{"cls", true, 77, {{"query", "ask: "}, {"document", ""}}, "query"}, Modules{"max", false, 0},
        Modules{"mean", false, 256, {{"query", "ask: "}}, "", false}}) {
    write_modules(modules, 3, folder.path());
    const auto read = read_modules({folder / "none", folder.path()});
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read->pooling, modules.pooling);
    EXPECT_EQ(read->normalize, modules.normalize);
    EXPECT_EQ(read->max_seq_length, modules.max_seq_length);
    EXPECT_EQ(read->prompts, modules.prompts);
    EXPECT_EQ(read->prompt_name, modules.prompt_name);
    EXPECT_EQ(read->include_prompt, modules.include_prompt);
  }
}

TEST(SentenceModules, OfThePresentFormAreRead) {
  const test::TemporaryFolder folder;
  write(folder / "modules.json",
        R"([{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}])");
  write(folder / "1_Pooling/config.json", R"({"embedding_dimension": 3, "pooling_mode": "cls"})");
  EXPECT_EQ(read_modules({folder.path()})->pooling, "cls");
  EXPECT_EQ(read_modules({folder.path()})->max_seq_length, 0);
}

// What sentence-transformers wrote (oracle/make_sentences.py), over the weights of another fixture.
TEST(SentenceModules, OfSentenceTransformersGiveItsEmbeddings) {
  const test::TemporaryFolder folder;
  const auto both = std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing;
  std::filesystem::copy(fixture("golden/fill_mask"), folder.path(), both);
  std::filesystem::copy(fixture("golden/sentences/model"), folder.path(), both);
  const auto model = load_model(folder.path().string(), {.task_type = kTask, .dtype = "float32"});
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
  const Json texts = read_json(fixture("golden/sentences/case.json"))["texts"];
  const test::Golden io(fixture("golden/sentences/embeddings.safetensors"));
  Modules modules = read_modules({folder.path()}).value();
  EXPECT_EQ(modules.max_seq_length, 12);
  EXPECT_EQ(modules.prompt_name, "query");
  for (const auto& [name, prompt] : modules.prompts) {
    modules.prompt_name = name;
    std::vector<EncodedRow> rows;
    for (const Json& text : texts) {
      const Encoding encoding =
          tokenizer.encode(modules.prompt() + text.get<std::string>(), {.max_length = modules.max_seq_length});
      rows.push_back({.ids = encoding.ids, .type_ids = encoding.type_ids});
    }
    const TextRows source(std::move(rows), 0, false);
    const Batch batch = source.collate({0, 1, 2, 3, 4}, {});
    Call call;
    const at::NoGradGuard no_grad;
    const Tensor found = embedding_of(model->features(text_input(batch), call), batch["attention_mask"], modules);
    EXPECT_EQ(test::differs(found, io[name], 1e-5), "") << name;
  }
}

TEST(SentenceModules, HaveNoOtherPromptsThanTheirFilesName) {
  EXPECT_EQ(Modules().prompt(), "");
  const Modules modules{.prompts = {{"query", "ask: "}, {"none", ""}}, .prompt_name = "document"};
  const Error error = test::error_of([&] { (void)modules.prompt(); });
  EXPECT_EQ(error.id(), "config.unknown-prompt");
  EXPECT_NE(error.parts().fix.find("query"), std::string::npos);
  Modules left_out{.prompts = {{"query", "ask: "}, {"empty", ""}}, .prompt_name = "query", .include_prompt = false};
  EXPECT_EQ(test::error_of([&] { (void)left_out.prompt(); }).id(), "format.unsupported");
  left_out.prompt_name = "empty";
  EXPECT_EQ(left_out.prompt(), "");
}

TEST(SentenceModules, HaveTheLengthOfTheTokenizerWhereTheySayNone) {
  const test::TemporaryFolder folder;
  const auto length = [&](const std::string& own, const std::string& tokenizer) {
    write(folder / "modules.json", "[]");
    write(folder / "sentence_bert_config.json", own);
    write(folder / "tokenizer_config.json", tokenizer);
    return read_modules({folder.path()})->max_seq_length;
  };
  EXPECT_EQ(length(R"({"max_seq_length": 128})", R"({"model_max_length": 256})"), 128);
  EXPECT_EQ(length("{}", R"({"model_max_length": 256})"), 256);
  EXPECT_EQ(length(R"({"max_seq_length": null})", R"({"model_max_length": 1000000000000000019884624838656})"), 0);
  const auto error = [&](const std::string& own) { return test::error_of([&] { length(own, "{}"); }).id(); };
  EXPECT_EQ(error(R"({"max_seq_length": "long"})"), "format.json");
  EXPECT_EQ(error(R"({"max_seq_length": 0})"), "format.json");
  EXPECT_EQ(error("[]"), "format.json");
  EXPECT_EQ(error(R"({"do_lower_case": true})"), "format.unsupported");
}

TEST(SentenceModules, ThatAreNotImplementedAreRefused) {
  const test::TemporaryFolder folder;
  const auto error = [&](const std::string& modules, const std::string& pooling, const std::string& asked = {}) {
    write(folder / "modules.json", modules);
    write(folder / "1_Pooling/config.json", pooling);
    return test::error_of([&] { read_modules({folder.path()}, asked); }).id();
  };
  const std::string pools = R"([{"path": "1_Pooling", "type": "x.Pooling"}])";
  EXPECT_EQ(error(pools, R"({"pooling_mode_mean_tokens": true})"), "none");
  EXPECT_EQ(error(pools, R"({"pooling_mode": "lasttoken"})"), "format.unsupported");
  EXPECT_EQ(error(pools, R"({"pooling_mode": "lasttoken"})", "mean"), "none");
  EXPECT_EQ(error(pools, R"({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true})"),
            "format.unsupported");
  EXPECT_EQ(error(R"([{"path": "2_Dense", "type": "x.Dense"}])", "{}"), "format.unsupported");
  EXPECT_EQ(error(R"([{"path": "../1_Pooling", "type": "x.Pooling"}])", "{}"), "format.json");
  EXPECT_EQ(error(R"({"path": ""})", "{}"), "format.json");
}

// ---- the bare base model ----

class BareModel : public testing::TestWithParam<const char*> {};

TEST_P(BareModel, HasTheStatesOfTheModelWithAHeadUnderNamesWithoutItsPrefix) {
  const auto bare = encoder(GetParam());
  const auto whole = load_model(fixture("golden/models/" + std::string(GetParam())).string(),
                                {.task_type = "fill-mask", .dtype = "float64"});
  EXPECT_EQ(bare->task_type(), kTask);
  EXPECT_TRUE(bare->head().empty());
  EXPECT_TRUE(bare->new_modules().empty());
  EXPECT_TRUE(bare->architecture().ends_with("Model")) << bare->architecture();
  const TextRows rows(random_texts(*bare, 3, 9, 5), 0, false);
  const Batch batch = rows.collate({0, 1, 2}, {});
  Call call, other;
  EXPECT_TRUE(bare->forward(text_input(batch), call).equal(whole->features(text_input(batch), other)));
  const std::string prefix = whole->parameters()[0]->name.substr(0, whole->parameters()[0]->name.find('.') + 1);
  for (const Parameter* parameter : bare->parameters()) {
    if (!parameter->exists()) continue;
    EXPECT_FALSE(parameter->name.starts_with(prefix)) << parameter->name;
    EXPECT_TRUE(std::any_of(whole->parameters().begin(), whole->parameters().end(), [&](const Parameter* other) {
      return other->name == prefix + parameter->name;
    })) << parameter->name;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, BareModel,
                         testing::Values("bert_masked", "roberta_masked", "xlm_roberta_masked", "distilbert_masked",
                                         "electra_masked", "albert_masked", "mpnet_masked", "modernbert_masked",
                                         "deberta_masked"),
                         [](const auto& info) { return std::string(info.param); });

TEST(FeatureExtraction, AdaptersBearNamesOfTheBareModelAndAreReadAgain) {
  const auto model = encoder("bert_masked");
  Adapter adapter = Adapter::create(*model, adapter_config_from_json({{"method", "lora"}, {"r", 2}}, "test"), 3);
  test::randomise(adapter, 5, 0.1);
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const Json config = read_json(folder / "adapter_config.json");
  EXPECT_EQ(config["task_type"], kTask);
  EXPECT_TRUE(config.value("modules_to_save", Json::array()).empty());
  const std::string bytes = read_file(folder / "adapter_model.safetensors");
  EXPECT_NE(bytes.find("\"base_model.model.encoder.layer.0.attention.self.query.lora_A.weight\""), std::string::npos);
  const Adapter again = Adapter::load(*model, folder.path());
  const TextRows rows(random_texts(*model, 2, 9, 5), 0, false);
  const Batch batch = rows.collate({0, 1}, {});
  Call call{.adapter = &adapter}, other{.adapter = &again};
  EXPECT_TRUE(model->forward(text_input(batch), call).equal(model->forward(text_input(batch), other)));
}

// ---- the task ----

std::shared_ptr<const TupleRows> some_rows(const Model& model, int64_t rows, int64_t texts, bool scored) {
  std::vector<EncodedRow> all;
  std::vector<double> scores;
  for (int64_t i = 0; i < rows * texts; ++i) {
    all.push_back(random_texts(model, 1, 4 + (i * 5) % 7, 11 + static_cast<uint64_t>(i))[0]);
    all.back().index = i / texts;
  }
  for (int64_t i = 0; scored && i < rows; ++i) scores.push_back(static_cast<double>((i * 3) % 5) / 5);
  return std::make_shared<const TupleRows>(std::move(all), texts, std::move(scores), 0, false);
}

std::vector<int64_t> all_of(const RowSource& rows) {
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < rows.size(); ++i) positions.push_back(i);
  return positions;
}

TEST(FeatureExtraction, EmbedsEachTextAsIfItStoodAlone) {
  const auto model = encoder("bert_masked");
  const auto task = feature_extraction::make_task({});
  const auto rows = some_rows(*model, 3, 3, false);
  Call call;
  const Outputs outputs = task->outputs(*model, rows->collate({2, 0}, {}), call);
  ASSERT_EQ(outputs.size(), 3U);
  for (size_t text = 0; text < 3; ++text) {
    for (size_t row = 0; row < 2; ++row) {
      const TextRows alone({rows->texts()[(row == 0 ? 6 : 0) + text]}, 0, false);
      Call own;
      const Tensor states = model->features(text_input(alone.collate({0}, {})), own);
      EXPECT_TRUE(at::allclose(outputs[text][static_cast<int64_t>(row)], states[0].mean(0), 1e-10, 1e-12));
    }
  }
  EXPECT_EQ(rows->cost(1), rows->collate({1}, {})["attention_mask"].sum().item<int64_t>());
}

TEST(FeatureExtraction, ChoosesTheLossByTheRowsAndComparesThemUnlessEachStandsAlone) {
  const auto model = encoder("bert_masked");
  const auto loss = [&](const std::string& name, bool scored, int64_t texts = 2) {
    const auto task = feature_extraction::make_task({.loss = name});
    const auto rows = some_rows(*model, 4, texts, scored);
    const Batch batch = rows->collate({0, 1, 2, 3}, {});
    Call call;
    const Outputs out = task->outputs(*model, batch, call);
    const double found = task->loss(*model, out, batch, call, {.total_weight = 4}).item<double>();
    const Tensor own = cosines(out[0], out[1]), scores = batch.get("scores");
    const double expected = !scored           ? ranking_loss(out, 20).item<double>()
                            : name == kCoSent ? cosent_loss(own, scores, 20).item<double>()
                                              : cosine_loss(own, scores).item<double>();
    EXPECT_NEAR(found, expected, 1e-12) << name;
    const auto scorer = task->scorer(*model, nullptr, *rows, {});
    score(*task, *model, nullptr, *rows, 3, *scorer);
    EXPECT_NEAR(scorer->metrics()["loss"].get<double>(), expected, 1e-9) << name;
  };
  loss("", false);
  loss("", false, 3);
  loss("", true);
  loss(kCosine, true);
  loss(kCoSent, true);
  EXPECT_FALSE(feature_extraction::make_task({.loss = kCosine})->compares_rows());
  EXPECT_TRUE(feature_extraction::make_task({.loss = kCoSent})->compares_rows());
  EXPECT_TRUE(feature_extraction::make_task({.loss = kRanking})->compares_rows());
}

TEST(FeatureExtraction, LossesOfSmallBatchesOfCosinesAddUpToThatOfALargeOne) {
  const auto model = encoder("bert_masked");
  const auto task = feature_extraction::make_task({.loss = kCosine});
  const auto rows = some_rows(*model, 5, 2, true);
  const auto share = [&](const std::vector<int64_t>& positions) {
    const Batch batch = rows->collate(positions, {});
    Call call;
    return task->loss(*model, task->outputs(*model, batch, call), batch, call, {.total_weight = 5}).item<double>();
  };
  EXPECT_NEAR(share({4, 0, 2}) + share({1, 3}), share(all_of(*rows)), 1e-12);
}

// Whatever the loss compares: four batches of eight rows are one of 32.
TEST(FeatureExtraction, LearnsFromSmallBatchesWhatItLearnsFromALargeOne) {
  const auto model = encoder("bert_masked");
  const auto trained = [&](const char* loss, bool scored, int64_t batch, int64_t steps) {
    const test::TemporaryFolder folder;
    Adapter adapter = Adapter::create(
        *model, adapter_config_from_json({{"method", "lora"}, {"r", 2}, {"lora_dropout", 0.0}}, "test"), 3);
    const auto task = feature_extraction::make_task({.loss = loss});
    TrainOptions options{.output_dir = folder.path().string(), .max_steps = 2, .learning_rate = 1e-2};
    options.per_device_train_batch_size = batch;
    options.gradient_accumulation_steps = steps;
    Trainer trainer(*model, adapter, *task, options);
    trainer.set_data(some_rows(*model, 32, scored ? 2 : 3, scored));
    trainer.train();
    std::vector<Tensor> values;
    for (const NamedTensor& tensor : adapter.trained()) values.push_back(tensor.value.detach().flatten());
    return at::cat(values);
  };
  for (const auto& [loss, scored] : {std::pair{kRanking, false}, {kCosine, true}, {kCoSent, true}}) {
    const Tensor one = trained(loss, scored, 32, 1);
    EXPECT_EQ(test::differs(trained(loss, scored, 8, 4), one, 1e-9), "") << loss;
    EXPECT_NE(test::differs(trained(loss, scored, 8, 1), one, 1e-4), "") << loss;  // other steps, other tensors
  }
}

// ---- scores ----

Json scores_of(const std::vector<Tensor>& texts, const std::vector<double>& scores) {
  std::vector<EncodedRow> tokens(static_cast<size_t>(texts[0].size(0)) * texts.size(), EncodedRow{.ids = {1}});
  const TupleRows rows(std::move(tokens), static_cast<int64_t>(texts.size()), scores, 0, false);
  const auto scorer = make_scorer(rows, metric_names(!scores.empty()), scores.empty() ? kRanking : kCosine, 20);
  for (int64_t row = rows.size() - 1; row >= 0; --row) {  // the last one first
    Outputs outputs;
    for (const Tensor& text : texts) outputs.push_back(text.narrow(0, row, 1));
    scorer->add(outputs, {.rows = 1, .positions = {row}});
  }
  return scorer->metrics();
}

TEST(EmbeddingScores, CountTheAnchorsThatFindTheirPositive) {
  // The third anchor lies nearer to the first positive (0.63) than to its own (0.4).
  const Tensor positives = matrix({1, 1, 0, 1, 1, -1, 0, -1, 2});
  EXPECT_DOUBLE_EQ(scores_of({kAnchors, positives}, {})["accuracy"].get<double>(), 2.0 / 3);
  // 0.77 < 0.8, 0.82 > -0.5, 0.4 < 0.63: its own negatives alone count.
  EXPECT_DOUBLE_EQ(scores_of({kAnchors, kPositives, kNegatives}, {})["accuracy"].get<double>(), 1.0 / 3);
}

TEST(EmbeddingScores, AreThoseOfSentenceTransformers) {
  const test::Golden io(fixture("golden/sentences/losses.safetensors"));
  const Json expected = read_json(fixture("golden/sentences/case.json"));
  const std::vector<Tensor> texts = io["texts"].unbind();
  const Tensor scores = io["scores"];
  const Json pairs = scores_of({texts[0], texts[1]},
                               {scores.const_data_ptr<double>(), scores.const_data_ptr<double>() + scores.numel()});
  EXPECT_NEAR(pairs["spearmanr"].get<double>(), expected["spearmanr"].get<double>(), 1e-12);
  EXPECT_NEAR(pairs["pearson"].get<double>(), expected["pearson"].get<double>(), 1e-6);
  EXPECT_NEAR(scores_of(texts, {})["accuracy"].get<double>(), expected["accuracy"].get<double>(), 1e-6);
}

TEST(EmbeddingScores, SayOfARowItsNormAndItsCosines) {
  const auto scorer_of = [](const std::vector<Tensor>& texts) {
    std::vector<EncodedRow> tokens(3 * texts.size(), EncodedRow{.ids = {1}});
    const TupleRows rows(std::move(tokens), static_cast<int64_t>(texts.size()), {}, 0, false);
    auto scorer = make_scorer(rows, {}, kRanking, 20);
    scorer->add(texts, {.rows = 3, .positions = {0, 1, 2}});
    return scorer;
  };
  const auto alone = scorer_of({kAnchors});
  EXPECT_NEAR(alone->row(1)["norm"].get<double>(), std::sqrt(2), 1e-12);
  EXPECT_FALSE(alone->row(1).contains("cosine"));
  EXPECT_TRUE(alone->metrics()["loss"].is_null());
  const auto pairs = scorer_of({kAnchors, kPositives});
  EXPECT_NEAR(pairs->row(0)["cosine"].get<double>(), 3 / std::sqrt(15), 1e-12);
  const auto triplets = scorer_of({kAnchors, kPositives, kNegatives});
  EXPECT_NEAR(triplets->row(2)["cosine"][0].get<double>(), 2.0 / 5, 1e-12);
  EXPECT_NEAR(triplets->row(2)["cosine"][1].get<double>(), 2 / std::sqrt(10), 1e-12);
  const auto tensors = triplets->tensors();
  ASSERT_EQ(tensors.size(), 3U);
  EXPECT_EQ(tensors[0].first, "embeddings");
  EXPECT_EQ(tensors[2].first, "embeddings_3");
  EXPECT_TRUE(tensors[2].second.equal(kNegatives.to(at::kFloat)));
  const Tensor bad = at::where(kAnchors.eq(2), at::full({}, INFINITY, at::kDouble), kAnchors);
  EXPECT_EQ(test::error_of([&] { scorer_of({bad}); }).id(), "numeric.non-finite");
}

TEST(EmbeddingScores, CorrelateCosinesWithScores) {
  const Json found = scores_of({kAnchors, kPositives}, {0.5, 0.9, 0.1});  // cosines 0.77, 0.82, 0.4
  EXPECT_NEAR(found["spearmanr"].get<double>(), 1, 1e-12);
  EXPECT_LT(found["pearson"].get<double>(), 1);
  EXPECT_GT(found["pearson"].get<double>(), 0.8);
  EXPECT_TRUE(scores_of({kAnchors, kPositives}, {1, 1, 1})["spearmanr"].is_null());
  EXPECT_EQ(test::error_of([] { feature_extraction::check_metric("accuracy", true); }).id(), "config.unknown-metric");
  EXPECT_EQ(test::error_of([] { feature_extraction::check_metric("spearmanr", false); }).id(), "config.unknown-metric");
}

// ---- files ----

Tuples read(const std::string& text, const DataOptions& data = {}, Wanted wanted = Wanted::tuples) {
  const test::TemporaryFolder folder;
  write(folder / "rows.csv", text);
  return read_tuples(folder / "rows.csv", data, wanted);
}

TEST(Tuples, TakeTheColumnsThatTheFileNames) {
  const Tuples triplets = read("negative,anchor,positive,negative_1\nn,a,p,m\n");
  EXPECT_EQ(triplets.columns, (std::vector<std::string>{"anchor", "positive", "negative", "negative_1"}));
  EXPECT_EQ(triplets.rows.at(0).texts, (std::vector<std::string>{"a", "p", "n", "m"}));
  EXPECT_FALSE(triplets.scored());
  const Tuples scored = read("id,sentence1,sentence2,score\n7,a,b,2.5\n");
  EXPECT_EQ(scored.score_column, "score");
  EXPECT_EQ(scored.rows.at(0).score, 2.5);
  EXPECT_EQ(scored.rows.at(0).id, "7");
  const Tuples named = read("x,y,z\na,b,1\n", {.text_column = "y", .text_pair_column = "x", .label_column = "z"});
  EXPECT_EQ(named.rows.at(0).texts, (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(named.rows.at(0).score, 1);
  EXPECT_EQ(read("text\na\n", {}, Wanted::texts).rows.at(0).texts, (std::vector<std::string>{"a"}));
  EXPECT_FALSE(read("sentence1,sentence2,score\na,b,x\n", {}, Wanted::texts).scored());
}

TEST(Tuples, RefuseWhatIsNoTuple) {
  const auto id = [](const std::string& text, const DataOptions& data = {}) {
    return test::error_of([&] { read(text, data); }).id();
  };
  EXPECT_EQ(id("text\na\n"), "config.text-column");
  EXPECT_EQ(id("text,other\na,b\n", {.text_column = "text"}), "config.text-column");
  EXPECT_EQ(id("sentence1,sentence2,score\na,b,high\n"), "data.not-a-number");
  EXPECT_EQ(id("anchor,positive\na,b\n", {.label_column = "score"}), "config.missing-column");
  EXPECT_EQ(id("sentence1,sentence2,score\na,b,1\n", {.task_name = "mrpc"}), "config.unknown-task");
  EXPECT_EQ(highest_score({.task_name = "stsb"}, 0), 5);
  EXPECT_EQ(highest_score({.task_name = "stsb"}, 4), 4);
  EXPECT_EQ(highest_score({}, 0), 1);
}

}  // namespace
}  // namespace deltaw
