// Data sets as other tools name them.
#include "core/foreign_test.h"

namespace deltaw {
namespace {

using test::Configurations;
using test::contains;
using test::put;

class LlamaFactoryData : public Configurations {
 protected:
  /// A configuration on the data set `a`, of which dataset_info.json says this.
  std::string on(const std::string& entry, const std::string& stage = "sft") const {
    put(folder / "data/dataset_info.json", "{\"a\": " + entry + R"(, "other": {"file_name": "o.json"}})");
    return "template: qwen\nstage: " + stage + "\ndataset: a\ndataset_dir: " + (folder / "data").string() + "\n";
  }
  std::string file(const std::string& name) const { return (folder / "data" / name).string(); }
};

TEST_F(LlamaFactoryData, IsLookedUpInDatasetInfo) {
  expect_values(on(R"({"file_name": "rows.json"})"), {{"train_file", file("rows.json")}, {"as_conversation", true}});
  EXPECT_FALSE(values_of(on(R"({"file_name": "rows.json"})")).contains("dataset_dir"));
  EXPECT_FALSE(values_of(on(R"({"file_name": "rows.json"})")).contains("text_column"));
  expect_values(on(R"({"file_name": "rows.json"})") + "eval_dataset: other", {{"validation_file", file("o.json")}});
  expect_values("template: qwen\nstage: sft\ndataset: rows.jsonl", {{"train_file", "rows.jsonl"}});
  const std::string two = on(R"({"file_name": "rows.json"})") + "eval_dataset: a, other";
  expect_values(two, {{"validation_file", {file("rows.json"), file("o.json")}}});
  EXPECT_TRUE(became(two, "eval_dataset a, other is validation_file " + file("rows.json") + ", " + file("o.json")));
}

TEST_F(LlamaFactoryData, HasItsColumnsAndTags) {
  expect_values(on(R"({"file_name": "r.json", "columns": {"prompt": "q", "response": "a"}})"),
                {{"text_column", "q"}, {"label_column", "a"}});
  expect_values(on(R"({"file_name": "r.jsonl", "columns": {"prompt": "body"}})", "pt"),
                {{"text_column", "body"}, {"packing", true}});
  expect_values(on(R"({"file_name": "r.json", "formatting": "sharegpt", "columns": {"messages": "talk"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}})"),
                {{"text_column", "talk"}});
  EXPECT_FALSE(values_of(on(R"({"file_name": "r.json", "formatting": "sharegpt"})")).contains("text_column"));
  EXPECT_FALSE(values_of(on(R"({"file_name": "r.json", "columns": {"prompt": "instruction", "query": "input",
    "response": "output", "system": "system", "history": "history"}})"))
                   .contains("text_column"));
}

TEST_F(LlamaFactoryData, ThatCannotBeReadHereIsToldWithWhatToDo) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"hf_hub_url": "x/y"})", "is one of a hub"},
      {R"({"file_name": "r.json", "columns": {"images": "images"}})", "has images"},
      {R"({"file_name": "r.json", "ranking": true})", "ranks answers"},
      {R"({"file_name": "r.json", "num_samples": 100})", "takes 100 of its rows"},
      {R"({"file_name": "r.json", "columns": {"kto_tag": "label"}})", "ranks answers"},
      {R"({"file_name": "r.json", "columns": {"prompt": "q", "query": "more", "response": "a"}})",
       "names other columns"},
      {R"({"file_name": "r.json", "columns": {"system": "persona"}})", "has its system in the column persona"},
      {R"({"file_name": "r.json", "formatting": "sharegpt", "tags": {"user_tag": "me"}})", "has the user_tag me"},
      {R"("rows.json")", "there is no data set 'a'"},
  };
  for (const auto& [entry, words] : cases) {
    const std::string problem = problem_of(on(entry), "dataset");
    EXPECT_TRUE(contains(problem, words)) << problem;
  }
  EXPECT_TRUE(contains(problem_of("template: x\nstage: sft\ndataset: b", "dataset"), "set dataset_dir to the folder"));
}

class AxolotlData : public Configurations {
 protected:
  static std::string on(const std::string& set) {
    return "base_model: m\nadapter: lora\nstrict: false\ndatasets:\n  - {" + set + "}\n";
  }
};

TEST_F(AxolotlData, OfFilesIsRead) {
  expect_values(on("path: a.jsonl, type: alpaca"), {{"train_file", "a.jsonl"}});
  expect_values(on("path: json, data_files: [b.jsonl], type: chat_template"), {{"train_file", "b.jsonl"}});
  expect_values(on("path: a.jsonl, type: chat_template, field_messages: talk, roles_to_train: [assistant]"),
                {{"text_column", "talk"}});
  EXPECT_FALSE(values_of(on("path: a.jsonl, type: chat_template, field_messages: conversations, "
                            "message_property_mappings: {role: from, content: value}, train_on_eos: turn"))
                   .contains("text_column"));
  expect_values(on("path: a.jsonl, type: completion, field: chapter"), {{"text_column", "chapter"}});
  values_of(on("path: a.jsonl, type: chat_template, roles: {user: [user, human], assistant: [gpt]}"));
  expect_values(on("path: a.jsonl, type: alpaca") + "test_datasets: [{path: t.jsonl, type: alpaca}]",
                {{"validation_file", "t.jsonl"}});
  EXPECT_FALSE(values_of(on("path: a.jsonl, type: alpaca")).contains("as_conversation"));
}

TEST_F(AxolotlData, ThatCannotBeReadHereIsToldWithWhatToDo) {
  const std::pair<const char*, const char*> cases[] = {
      {"path: tatsu-lab/alpaca, type: alpaca", "deltaw download tatsu-lab/alpaca --repo_type dataset"},
      {"path: a.jsonl, type: input_output", "has the type input_output"},
      {"path: a.jsonl, type: {format: '{instruction}'}", "by a format of its own"},
      {"path: a.jsonl, type: alpaca, field_output: answer", "has its output in the column answer"},
      {"path: a.jsonl, type: chat_template, message_field_role: who", "names a message's parts who"},
      {"path: a.jsonl, type: chat_template, roles: {user: [me]}", "calls the role user me"},
      {"path: a.jsonl, type: chat_template, train_on_eos: last", "has train_on_eos last"},
      {"path: a.jsonl, type: chat_template, roles_to_train: [user]", "has roles_to_train"},
      {"path: 'a.jsonl', type: alpaca, split: 'train[:10%]'", "is cut"},
  };
  for (const auto& [set, words] : cases) {
    const std::string problem = problem_of(on(set), "datasets");
    EXPECT_TRUE(contains(problem, words)) << problem;
    EXPECT_TRUE(contains(problem, "--train_file")) << problem;
  }
}

TEST_F(Configurations, OfTrlNameAFileOrAHub) {
  expect_values("use_peft: true\ndataset_name: a.jsonl", {{"train_file", "a.jsonl"}});
  expect_values("use_peft: true\ndatasets: [{path: json, data_files: a.jsonl}]\n", {{"train_file", "a.jsonl"}});
  EXPECT_TRUE(contains(problem_of("dataset_name: stanfordnlp/imdb", "dataset_name"),
                       "is neither a file of rows nor a folder here"));
}

TEST_F(Configurations, NameFoldersThatAreThere) {
  const std::string there = folder.path().string();
  expect_values("use_peft: true\ndatasets: [{path: " + there + "}, {path: a.parquet}]",
                {{"train_file", {there, "a.parquet"}}});
  const std::string problem = problem_of("use_peft: true\ndatasets: [{path: ./no/such/folder}]", "datasets");
  EXPECT_TRUE(contains(problem, "'./no/such/folder' is neither")) << problem;
  EXPECT_TRUE(contains(problem, "fix:   give --train_file FILE")) << problem;
}

TEST_F(Configurations, OfMlxNameAFolderOfData) {
  put(folder / "d/train.jsonl", "");
  const std::string yaml = "model: m\nfine_tune_type: lora\ndata: " + (folder / "d").string() + "\n";
  expect_values(yaml, {{"train_file", (folder / "d/train.jsonl").string()}, {"as_conversation", true}});
  EXPECT_FALSE(values_of(yaml).contains("validation_file"));
  EXPECT_FALSE(values_of(yaml).contains("eval_steps"));
  put(folder / "d/valid.jsonl", "");
  expect_values(yaml + "batch_size: 2\nval_batches: 3\nsteps_per_eval: 20",
                {{"validation_file", (folder / "d/valid.jsonl").string()},
                 {"eval_strategy", "steps"},
                 {"eval_steps", 20},
                 {"max_eval_samples", 6}});
  EXPECT_TRUE(contains(problem_of("fine_tune_type: lora\ndata: mlx-community/WikiSQL", "data"),
                       "is neither a file of rows nor a folder here"));
}

}  // namespace
}  // namespace deltaw
