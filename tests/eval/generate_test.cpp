#include "deltaw/generate.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/files.h"
#include "eval/counting_model.h"
#include "models/loader.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::fixture;
using test::put;
using test::TemporaryFolder;

using Prompts = std::vector<std::vector<int64_t>>;

// The least causal model whose answer depends on every token before it, on the mask and on the cache: what it reads
// fades with the distance.
class FadingModel final : public Model {
 public:
  static constexpr int64_t kVocabulary = 40, kPositions = 48;

  explicit FadingModel(const std::filesystem::path& folder) {
    folder_ = folder;
    config_ = {{"model_type", "fading"}, {"eos_token_id", 39}};
    head_ = {.task_type = "CAUSAL_LM", .architecture = "FadingForCausalLM"};
    vocab_size_ = kVocabulary;
    max_positions_ = kPositions;
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(7);
    head_weight_ = at::empty({kVocabulary, kVocabulary}, at::kFloat).normal_(0, 2, generator);
  }

  Tensor features(const ModelInput& input, Call& call) const override {
    const Tensor read = at::one_hot(input.input_ids, kVocabulary).to(at::kFloat).unsqueeze(1);
    const Tensor all = call.cache ? call.cache->append(0, read, read).first : read;
    const int64_t total = all.size(2), now = input.input_ids.size(1);
    EXPECT_EQ(input.attention_mask.size(1), total);
    const Tensor places = at::arange(total, at::kFloat);
    const Tensor distance = places.narrow(0, total - now, now).unsqueeze(1) - places;  // [new, total]
    const Tensor fading = at::where(distance < 0, at::zeros({}), at::pow(0.7, distance));
    return at::matmul(fading * input.attention_mask.to(at::kFloat).unsqueeze(1), all.squeeze(1));
  }

  Tensor logits(const Tensor& features, Call& /*call*/) const override {
    EXPECT_EQ(features.dim(), 2) << "the head should see the last tokens alone";
    return at::matmul(features, head_weight_.t());
  }

 private:
  Tensor head_weight_;
};

// Words for every token of the model above.
struct Fading {
  TemporaryFolder folder;
  FadingModel model{folder.path()};
  Tokenizer tokenizer = make_tokenizer(folder);

  static Tokenizer make_tokenizer(const TemporaryFolder& folder) {
    std::string words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (int64_t i = 5; i < FadingModel::kVocabulary; ++i)
      words += "word" + std::string(1, 'a' + char(i % 26)) + (i < 26 ? "x\n" : "y\n");
    put(folder / "vocab.txt", words);
    return Tokenizer::from_folder(folder.path());
  }

  std::vector<Generation> run(const GenerateOptions& options, const Prompts& prompts, const OnText& on_text = {}) {
    return TextGenerator(model, nullptr, tokenizer, options).run(prompts, on_text);
  }

  // One token at a time over the whole text, without cache, padding or batch.
  std::vector<int64_t> slowly(std::vector<int64_t> ids, int64_t count) const {
    std::vector<int64_t> said;
    for (int64_t i = 0; i < count; ++i) {
      const Tensor row = at::tensor(ids, at::kLong).unsqueeze(0);
      Call call;
      const Tensor all = model.features({.input_ids = row, .attention_mask = at::ones_like(row)}, call);
      said.push_back(model.logits(all.select(1, all.size(1) - 1), call).argmax().item<int64_t>());
      ids.push_back(said.back());
    }
    return said;
  }
};

const Prompts kPrompts = {{5, 17, 30}, {8}, {9, 12, 6, 33, 21, 5, 14}, {20, 11}, {31, 31, 7, 10}};

TEST(Generate, EqualsOneRowWithoutCacheTokenForToken) {
  Fading fading;
  for (const int64_t batch_size : {1, 2, 5}) {
    GenerateOptions options;
    options.max_new_tokens = 20;
    options.batch_size = batch_size;
    const std::vector<Generation> said = fading.run(options, kPrompts);
    ASSERT_EQ(said.size(), kPrompts.size());
    for (size_t i = 0; i < kPrompts.size(); ++i) {
      EXPECT_EQ(said[i].tokens, fading.slowly(kPrompts[i], 20)) << "prompt " << i << " in batches of " << batch_size;
      EXPECT_EQ(said[i].finish_reason, "length");
      EXPECT_EQ(said[i].prompt_tokens, static_cast<int64_t>(kPrompts[i].size()));
    }
  }
}

// What was read is as much of the history as what was said.
TEST(Generate, PenalisesTheTokensOfThePromptToo) {
  Fading fading;
  const auto slowly = [&](const std::vector<int64_t>& prompt, bool counts_prompt) {
    std::vector<int64_t> ids = prompt, said;
    for (int64_t i = 0; i < 12; ++i) {
      const Tensor row = at::tensor(ids, at::kLong).unsqueeze(0);
      Call call;
      const Tensor all = fading.model.features({.input_ids = row, .attention_mask = at::ones_like(row)}, call);
      Tensor scores = fading.model.logits(all.select(1, all.size(1) - 1), call)[0];
      const std::vector<int64_t>& counted = counts_prompt ? ids : said;
      for (const int64_t id : std::set<int64_t>(counted.begin(), counted.end())) {
        const double score = scores[id].item<double>();
        scores[id] = score < 0 ? score * 1.8 : score / 1.8;
      }
      said.push_back(scores.argmax().item<int64_t>());
      ids.push_back(said.back());
    }
    return said;
  };
  GenerateOptions options;
  options.max_new_tokens = 12;
  options.repetition_penalty = 1.8;
  const std::vector<Generation> said = fading.run(options, kPrompts);
  bool matters = false;
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    EXPECT_EQ(said[i].tokens, slowly(kPrompts[i], true)) << "prompt " << i;
    matters = matters || slowly(kPrompts[i], false) != said[i].tokens;
  }
  EXPECT_TRUE(matters) << "no prompt has a token that comes again, and nothing is tested";
}

TEST(Generate, DrawsWithoutRegardToTheRowsBeside) {
  Fading fading;
  GenerateOptions options;
  options.temperature = 3;
  options.top_p = 0.95;
  options.max_new_tokens = 16;
  options.batch_size = 5;
  const std::vector<Generation> together = fading.run(options, kPrompts);
  const std::vector<Generation> again = fading.run(options, kPrompts);
  options.batch_size = 1;
  const std::vector<Generation> alone = fading.run(options, kPrompts);
  options.seed = 43;
  const std::vector<Generation> other = fading.run(options, kPrompts);
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    EXPECT_EQ(together[i].tokens, again[i].tokens);
    EXPECT_EQ(together[i].tokens, alone[i].tokens);
    EXPECT_NE(together[i].tokens, other[i].tokens);
  }
  const std::vector<Generation> twins = fading.run(options, {kPrompts[0], kPrompts[0]});
  EXPECT_NE(twins[0].tokens, twins[1].tokens);  // each row draws its own numbers
}

TEST(Generate, EndsEachRowAtAnEndToken) {
  Fading fading;
  const std::vector<int64_t> full = fading.slowly(kPrompts[2], 20);
  GenerateOptions options;
  options.max_new_tokens = 20;
  options.batch_size = 5;
  options.eos_token_ids = {1, full[4]};
  const std::vector<Generation> said = fading.run(options, kPrompts);
  bool other_length = false;
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    std::vector<int64_t> expected = fading.slowly(kPrompts[i], 20);
    const auto end =
        std::find_if(expected.begin(), expected.end(), [&](int64_t id) { return id == 1 || id == full[4]; });
    const bool ends = end != expected.end();
    if (ends) expected.erase(end + 1, expected.end());
    EXPECT_EQ(said[i].tokens, expected) << "prompt " << i;
    EXPECT_EQ(said[i].finish_reason, ends ? "stop" : "length");
    other_length = other_length || expected.size() != said[2].tokens.size();
  }
  EXPECT_LE(said[2].tokens.size(), 5u);
  EXPECT_TRUE(other_length) << "all rows end together, so that none was dropped from the batch before another";
}

TEST(Generate, CutsAtStopTextsThatSpanTokens) {
  Fading fading;
  GenerateOptions options;
  options.max_new_tokens = 20;
  const std::string text = fading.run(options, {kPrompts[0]})[0].text;
  ASSERT_GT(text.size(), 60u);
  const size_t word = text.find("word", 20);
  options.stop = {"no such text", text.substr(word - 4, 7)};  // the end of one word, the beginning of the next
  const Generation said = fading.run(options, {kPrompts[0]})[0];
  EXPECT_EQ(said.text, text.substr(0, text.find(options.stop[1])));
  EXPECT_EQ(said.finish_reason, "stop");
  EXPECT_LT(said.tokens.size(), 20u);
}

TEST(Generate, StopsAtASpecialTokenThatAStopTextNames) {
  test::Counting counting({"one", "two"}, 16);
  counting.say("one", "two", 5);
  counting.say("two", "[SEP]", 20);
  counting.say("[SEP]", "one", 60);
  GenerateOptions options;
  options.max_new_tokens = 4;
  const auto run = [&] {
    return TextGenerator(counting.model, nullptr, counting.tokenizer, options).run({{counting.id("one")}})[0];
  };
  const Generation whole = run();
  ASSERT_EQ(whole.tokens[1], counting.id("[SEP]"));
  EXPECT_EQ(whole.finish_reason, "length");
  EXPECT_EQ(whole.text.find("SEP"), std::string::npos) << whole.text;
  options.stop = {"[SEP]"};
  const Generation cut = run();
  EXPECT_EQ(cut.finish_reason, "stop");
  EXPECT_EQ(cut.tokens.size(), 2u);
  EXPECT_EQ(cut.text.find("one"), std::string::npos) << cut.text;
  EXPECT_NE(cut.text.find("two"), std::string::npos) << cut.text;
}

TEST(Generate, StreamsExactlyTheText) {
  Fading fading;
  GenerateOptions options;
  options.max_new_tokens = 12;
  options.batch_size = 2;
  const std::string text = fading.run(options, {kPrompts[0]})[0].text;
  for (const std::vector<std::string>& stop : {std::vector<std::string>{}, {text.substr(20, 9)}}) {
    options.stop = stop;
    std::vector<std::string> streamed(kPrompts.size());
    std::vector<size_t> calls(kPrompts.size());
    const std::vector<Generation> said = fading.run(options, kPrompts, [&](int64_t row, std::string_view piece) {
      streamed[static_cast<size_t>(row)] += piece;
      ++calls[static_cast<size_t>(row)];
      return true;
    });
    for (size_t i = 0; i < kPrompts.size(); ++i) {
      EXPECT_EQ(streamed[i], said[i].text);
      EXPECT_EQ(calls[i], said[i].tokens.size());
    }
  }
}

TEST(Generate, EndsARowWhenItsCallbackSaysSo) {
  Fading fading;
  GenerateOptions options;
  options.max_new_tokens = 12;
  int64_t calls = 0;
  const std::vector<Generation> said =
      fading.run(options, {kPrompts[0], kPrompts[1]}, [&](int64_t row, auto) { return row == 1 || ++calls < 3; });
  EXPECT_EQ(said[0].tokens.size(), 3u);
  EXPECT_EQ(said[0].finish_reason, "cancelled");
  EXPECT_EQ(said[1].tokens.size(), 12u);
  EXPECT_EQ(said[1].finish_reason, "length");
}

TEST(Generate, EndsWhereTheModelHasNoFurtherPosition) {
  Fading fading;
  GenerateOptions options;
  options.max_new_tokens = 1000;
  const std::vector<Generation> said =
      fading.run(options, {std::vector<int64_t>(40, 6), std::vector<int64_t>(47, 6), {5}});
  EXPECT_EQ(said[0].tokens.size(), 8u);
  EXPECT_EQ(said[1].tokens.size(), 1u);
  EXPECT_EQ(said[2].tokens.size(), 47u);
  for (const Generation& row : said) EXPECT_EQ(row.finish_reason, "length");
  const Error error = error_of([&] { fading.run(options, {{5}, std::vector<int64_t>(48, 6)}); });
  EXPECT_EQ(error.id(), "data.long-prompt");
  EXPECT_EQ(error.parts().where, "prompt 2");
  EXPECT_NE(error.parts().fix.find("47"), std::string::npos);
}

TEST(Generate, RefusesWhatMakesNoSense) {
  Fading fading;
  EXPECT_EQ(error_of([&] { fading.run({}, {{5}, {}}); }).id(), "data.empty-prompt");
  EXPECT_EQ(error_of([&] { fading.run({.stop = {"a", ""}}, {{5}}); }).id(), "config.empty-stop");
  EXPECT_EQ(error_of([&] { fading.run({.temperature = -1}, {{5}}); }).id(), "config.out-of-range");
  EXPECT_TRUE(fading.run({}, {}).empty());
  const auto classifier = load_model(fixture("golden/models/bert_cls").string());
  const Error error = error_of([&] { TextGenerator(*classifier, nullptr, fading.tokenizer, {}); });
  EXPECT_EQ(error.id(), "config.not-causal");
  EXPECT_NE(error.parts().fix.find("deltaw predict"), std::string::npos);
}

// Phi-3 turns all positions of a row by other angles once it is longer than original_max_position_embeddings, 8 here.
TEST(Generate, GoesOverALimitOfLongropeAsIfItHadReadTheRowAtOnce) {
  const auto model = load_model(fixture("golden/models/phi3_long").string(), {.dtype = "float32"});
  const std::vector<int64_t> prompt{2, 5, 6, 7, 8, 9, 3};
  std::vector<int64_t> read = prompt;
  const at::NoGradGuard no_grad;
  while (read.size() < prompt.size() + 9) {
    const Tensor ids = at::tensor(read, at::kLong).unsqueeze(0);
    Call call;
    const Tensor logits = model->forward({ids, at::ones_like(ids), {}}, call);
    read.push_back(logits[0][-1].argmax().item<int64_t>());
  }
  const std::vector<int64_t> expected(read.begin() + static_cast<std::ptrdiff_t>(prompt.size()), read.end());
  EXPECT_EQ(expected, (std::vector<int64_t>{50, 28, 50, 23, 7, 33, 50, 44, 7}));  // transformers 5.23's generate()
  Fading words;
  GenerateOptions options;
  options.max_new_tokens = 9;
  TextGenerator generator(*model, nullptr, words.tokenizer, options);
  EXPECT_EQ(generator.run({prompt}).front().tokens, expected);
  // Beside a row that is long from the start.
  const std::vector<int64_t> other{9, 8, 7, 6, 5, 4, 3, 2, 1, 9, 8, 7};
  EXPECT_EQ(generator.run({prompt, other}).front().tokens.size(), 9u);
}

TEST(DefaultGeneration, FollowsTheCheckpointsFiles) {
  Fading fading;
  GenerateOptions options = default_generation(fading.model, fading.tokenizer);
  EXPECT_EQ(options.temperature, 0);
  EXPECT_EQ(options.top_k, 0);
  EXPECT_EQ(options.eos_token_ids.front(), 39);  // of config.json

  const std::filesystem::path file = fading.folder / "generation_config.json";
  put(file, R"({"do_sample": true, "top_p": 0.8, "temperature": null, "eos_token_id": [3, 9], "bos_token_id": 1})");
  options = default_generation(fading.model, fading.tokenizer);
  EXPECT_EQ(options.temperature, 1);
  EXPECT_EQ(options.top_k, 50);  // transformers' own default where it samples
  EXPECT_EQ(options.top_p, 0.8);
  EXPECT_EQ(options.eos_token_ids[0], 3);
  EXPECT_EQ(options.eos_token_ids[1], 9);

  put(file, R"({"do_sample": false, "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.05})");
  options = default_generation(fading.model, fading.tokenizer);
  EXPECT_EQ(options.temperature, 0);
  EXPECT_EQ(options.top_k, 20);
  EXPECT_EQ(options.repetition_penalty, 1.05);
  EXPECT_EQ(options.eos_token_ids[0], 39);

  put(file, R"({"eos_token_id": "end"})");
  EXPECT_EQ(error_of([&] { default_generation(fading.model, fading.tokenizer); }).id(), "format.wrong-type");
  put(file, R"({"top_p": 3})");
  EXPECT_EQ(error_of([&] { default_generation(fading.model, fading.tokenizer); }).id(), "config.out-of-range");
}

TEST(DefaultGeneration, EndsAtWhatTrainingTaughtToo) {
  Fading fading;
  const std::vector<int64_t> own = end_token_ids(fading.model, fading.tokenizer);
  ASSERT_EQ(own.front(), 39);
  TemporaryFolder adapter;
  EXPECT_TRUE(taught_end_ids(adapter.path()).empty());
  // Nothing new, no file.
  write_generation_config(fading.model, fading.tokenizer, {}, adapter.path());
  write_generation_config(fading.model, fading.tokenizer, own, adapter.path());
  EXPECT_FALSE(std::filesystem::exists(adapter / "generation_config.json"));

  std::vector<int64_t> all = own;
  all.push_back(7);
  EXPECT_EQ(default_generation(fading.model, fading.tokenizer, {7}).eos_token_ids, all);
  EXPECT_EQ(default_generation(fading.model, fading.tokenizer, {7, 4000, 39}).eos_token_ids, all);
  write_generation_config(fading.model, fading.tokenizer, {7}, adapter.path());
  EXPECT_EQ(taught_end_ids(adapter.path()), all);
  EXPECT_EQ(default_generation(fading.model, fading.tokenizer, taught_end_ids(adapter.path())).eos_token_ids, all);

  // How the checkpoint samples goes along, so that the file stands alone.
  put(fading.folder / "generation_config.json", R"({"do_sample": true, "top_p": 0.8, "eos_token_id": [3, 9]})");
  write_generation_config(fading.model, fading.tokenizer, {7}, adapter.path());
  const Json written = read_json(adapter / "generation_config.json");
  EXPECT_EQ(written["top_p"], 0.8);
  EXPECT_EQ(written["do_sample"], true);
  EXPECT_EQ(written["eos_token_id"][0], 3);
  EXPECT_EQ(written["eos_token_id"][1], 9);
  EXPECT_EQ(written["eos_token_id"].back(), 7);
  put(adapter / "generation_config.json", R"({"eos_token_id": 5})");
  EXPECT_EQ(taught_end_ids(adapter.path()), std::vector<int64_t>{5});
  put(adapter / "generation_config.json", R"({"eos_token_id": "end"})");
  EXPECT_EQ(error_of([&] { taught_end_ids(adapter.path()); }).id(), "format.wrong-type");
}

// ---- a real checkpoint ----

struct Stories {
  std::unique_ptr<Model> model;
  Tokenizer tokenizer;
  Json golden = read_json(fixture("golden/sampling/stories.json"));

  explicit Stories(const std::filesystem::path& folder)
      : model(load_model(folder.string(), {.dtype = "float32"})), tokenizer(Tokenizer::from_folder(folder)) {}

  Adapter adapter(const std::string& method) const {
    Adapter adapter = Adapter::create(
        *model,
        adapter_config_from_json({{"method", method}, {"r", 4}, {"target_modules", {"q_proj", "v_proj"}}}, "test"), 3);
    const at::NoGradGuard no_grad;
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
    for (NamedTensor& tensor : adapter.trained())
      tensor.value.add_(at::empty_like(tensor.value).normal_(0, 0.1, generator));
    return adapter;
  }
};

TEST(GenerateStories, SaysWhatTransformersSays) {
  DELTAW_NEEDS_DATA(folder, "models/stories260k_hf");
  const Stories stories(folder);
  Prompts prompts;
  for (const Json& row : stories.golden["rows"]) {
    prompts.push_back(prompt_ids(stories.tokenizer, row["prompt"].get<std::string>()));
    EXPECT_EQ(prompts.back(), row["ids"].get<std::vector<int64_t>>());
    GenerateOptions options;
    options.max_new_tokens = static_cast<int64_t>(row["tokens"].size());
    options.repetition_penalty = row.value("repetition_penalty", 1.0);
    const Generation said = TextGenerator(*stories.model, nullptr, stories.tokenizer, options).run({prompts.back()})[0];
    EXPECT_EQ(said.tokens, row["tokens"].get<std::vector<int64_t>>()) << row["prompt"];
    EXPECT_EQ(row["prompt"].get<std::string>() + said.text, row["text"].get<std::string>());
  }
  GenerateOptions options;
  options.max_new_tokens = 80;
  const std::vector<Generation> said = TextGenerator(*stories.model, nullptr, stories.tokenizer, options).run(prompts);
  for (size_t i = 0; i + 1 < prompts.size(); ++i) {  // the last row has a penalty
    EXPECT_EQ(said[i].tokens, stories.golden["rows"][i]["tokens"].get<std::vector<int64_t>>())
        << "in a batch, row " << i;
  }
}

TEST(GenerateStories, WithAnAdapterEqualsWholePassesWithoutCache) {
  DELTAW_NEEDS_DATA(folder, "models/stories260k_hf");
  const Stories stories(folder);
  const std::vector<int64_t> prompt = prompt_ids(stories.tokenizer, "Once upon a time");
  const std::vector<int64_t> base = stories.golden["rows"][0]["tokens"].get<std::vector<int64_t>>();
  for (const char* method : {"lora", "randlora", "dora"}) {
    const Adapter adapter = stories.adapter(method);
    GenerateOptions options;
    options.max_new_tokens = 24;
    const std::vector<int64_t> said =
        TextGenerator(*stories.model, &adapter, stories.tokenizer, options).run({prompt})[0].tokens;
    std::vector<int64_t> ids = prompt;
    const at::NoGradGuard no_grad;
    for (int i = 0; i < 24; ++i) {
      const Tensor row = at::tensor(ids, at::kLong).unsqueeze(0);
      Call call{.adapter = &adapter};
      const Tensor scores = stories.model->forward({.input_ids = row, .attention_mask = at::ones_like(row)}, call);
      ids.push_back(scores[0][scores.size(1) - 1].argmax().item<int64_t>());
    }
    EXPECT_EQ(said, std::vector<int64_t>(ids.begin() + static_cast<int64_t>(prompt.size()), ids.end())) << method;
    EXPECT_NE(said, std::vector<int64_t>(base.begin(), base.begin() + 24)) << method << " changes nothing";
  }
}

}  // namespace
}  // namespace deltaw
