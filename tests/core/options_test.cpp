#include "deltaw/options.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;

struct Sample {
  bool flag = false;
  int64_t rank = 8;
  double rate = 0.5;
  std::string schedule = "linear";
  std::vector<std::string> words = {"a"};
  Json targets = nullptr;

  void fields(FieldVisitor& f) {
    f.field("flag", flag, "A switch.");
    f.field("rank", rank, "Rank of the update.", at_least(1));
    f.field("rate", rate, "A fraction.", fraction());
    f.field("schedule", schedule, "Shape of the rate.", one_of({"linear", "cosine"}));
    f.field("words", words, "Some words.");
    f.field("targets", targets, "Layers.");
  }
};

Sample read(const Json& values) {
  Sample sample;
  read_fields(fields_of(sample), values, "run.yaml");
  return sample;
}

Error read_error(const Json& values) {
  return error_of([&] { read(values); });
}

TEST(ReadFields, TakesValuesOfTheirOwnType) {
  const Sample sample = read({{"flag", true},
                              {"rank", 4},
                              {"rate", 0.25},
                              {"schedule", "cosine"},
                              {"words", {"x", "y"}},
                              {"targets", {{"a", 1}}},
                              {"foreign", 1}});
  EXPECT_TRUE(sample.flag);
  EXPECT_EQ(sample.rank, 4);
  EXPECT_EQ(sample.rate, 0.25);
  EXPECT_EQ(sample.schedule, "cosine");
  EXPECT_EQ(sample.words, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(sample.targets, Json({{"a", 1}}));
}

TEST(ReadFields, KeepsDefaultsForNullAndAbsentKeys) {
  const Sample sample = read({{"rank", nullptr}, {"words", nullptr}});
  EXPECT_EQ(sample.rank, 8);
  EXPECT_EQ(sample.words, std::vector<std::string>{"a"});
  EXPECT_TRUE(sample.targets.is_null());
}

TEST(ReadFields, ParsesWholeNumbers) {
  for (const Json& good : {Json(3), Json("3"), Json(3.0), Json("3.0"), Json(" +3 "), Json("3e0"), Json(3u)}) {
    EXPECT_EQ(read({{"rank", good}}).rank, 3) << good;
  }
  for (const Json& bad : {Json(3.5), Json("3.5"), Json("three"), Json(""), Json(true), Json::array({3}), Json("+-3"),
                          Json("3 4"), Json(1e300), Json(UINT64_MAX), Json("99999999999999999999"), Json(NAN)}) {
    EXPECT_EQ(read_error({{"rank", bad}}).id(), "config.wrong-type") << bad;
  }
}

TEST(ReadFields, ParsesNumbers) {
  for (const Json& good : {Json(0.001), Json("1e-3"), Json("1E-3"), Json(".001"), Json("+0.001")}) {
    EXPECT_EQ(read({{"rate", good}}).rate, 0.001) << good;
  }
  EXPECT_EQ(read({{"rate", 0}}).rate, 0.0);
  for (const Json& bad : {Json("fast"), Json(""), Json(false), Json::object(), Json("1e-3x"), Json("0x1p1")}) {
    EXPECT_EQ(read_error({{"rate", bad}}).id(), "config.wrong-type") << bad;
  }
  for (const Json& bad : {Json("nan"), Json("inf"), Json(NAN), Json(INFINITY), Json(1.0), Json(-0.1), Json("2")}) {
    EXPECT_EQ(read_error({{"rate", bad}}).id(), "config.out-of-range") << bad;
  }
}

TEST(ReadFields, ParsesSwitches) {
  for (const Json& yes : {Json(true), Json("true"), Json("TRUE"), Json("1"), Json("yes"), Json("on"), Json(1)}) {
    EXPECT_TRUE(read({{"flag", yes}}).flag) << yes;
  }
  Sample sample;
  for (const Json& no : {Json(false), Json("False"), Json("0"), Json("no"), Json("off"), Json(0)}) {
    sample.flag = true;
    read_fields(fields_of(sample), {{"flag", no}}, "t");
    EXPECT_FALSE(sample.flag) << no;
  }
  for (const Json& bad : {Json("maybe"), Json(2), Json(0.5), Json(""), Json::array()}) {
    EXPECT_EQ(read_error({{"flag", bad}}).id(), "config.wrong-type") << bad;
  }
}

TEST(ReadFields, ParsesLists) {
  const std::vector<std::string> expected = {"q", "v"};
  for (const Json& good : {Json({"q", "v"}), Json("q,v"), Json(" q , v ,"), Json("[\"q\", \"v\"]")}) {
    EXPECT_EQ(read({{"words", good}}).words, expected) << good;
  }
  EXPECT_TRUE(read({{"words", ""}}).words.empty());
  EXPECT_TRUE(read({{"words", Json::array()}}).words.empty());
  for (const Json& bad : {Json(3), Json({1, 2}), Json::object(), Json("[1]")}) {
    EXPECT_EQ(read_error({{"words", bad}}).id(), "config.wrong-type") << bad;
  }
}

TEST(ReadFields, ParsesJsonFromTextThatLooksLikeIt) {
  EXPECT_EQ(read({{"targets", "{\"a\": 4}"}}).targets, Json({{"a", 4}}));
  EXPECT_EQ(read({{"targets", "[\"q\"]"}}).targets, Json::array({"q"}));
  EXPECT_EQ(read({{"targets", "all-linear"}}).targets, Json("all-linear"));
  EXPECT_EQ(read({{"targets", "[qv]_proj"}}).targets, Json("[qv]_proj"));
  EXPECT_EQ(read({{"targets", 7}}).targets, Json(7));
  EXPECT_EQ(read_error({{"targets", "{a: 4}"}}).id(), "config.wrong-type");
}

TEST(ReadFields, DoesNotGuessText) {
  const Error error = read_error({{"schedule", 3}});
  EXPECT_EQ(error.id(), "config.wrong-type");
  EXPECT_NE(error.parts().fix.find("quotes"), std::string::npos);
}

TEST(ReadFields, NamesFileKeyValueAndRange) {
  const Error range = read_error({{"rank", 0}});
  EXPECT_EQ(range.id(), "config.out-of-range");
  EXPECT_EQ(range.parts().what, "'rank' is 0, it must be >= 1");
  EXPECT_EQ(range.parts().where, "run.yaml, key 'rank'");
  EXPECT_EQ(range.exit_code(), 2);
  EXPECT_EQ(read_error({{"rank", "x"}}).parts().what,
            "'rank' has the value \"x\" (string), which is not a whole number");
  const Error choice = read_error({{"schedule", "cosin"}});
  EXPECT_EQ(choice.id(), "config.out-of-range");
  EXPECT_EQ(choice.parts().fix, "did you mean 'cosine'?");
  EXPECT_EQ(read_error(Json::array()).id(), "config.wrong-type");
}

TEST(ReadFields, LeavesTheValueWhenItRefusesOne) {
  Sample sample;
  EXPECT_THROW(read_fields(fields_of(sample), {{"rank", -3}}, "t"), Error);
  EXPECT_EQ(sample.rank, 8);
}

TEST(ReadFields, SurvivesTextThatIsNotUtf8) {
  EXPECT_EQ(read_error({{"rank", "\xff\xfe"}}).id(), "config.wrong-type");
  EXPECT_EQ(read_error({{"rank", std::string(500, 'x')}}).id(), "config.wrong-type");
}

TEST(WriteFields, GivesBackWhatWasRead) {
  Sample sample = read({{"rank", 3}, {"words", "x,y"}, {"targets", "q"}});
  const Json written = write_fields(fields_of(sample));
  EXPECT_EQ(written.dump(),
            R"({"flag":false,"rank":3,"rate":0.5,"schedule":"linear","words":["x","y"],"targets":"q"})");
  Sample again = read(written);
  EXPECT_EQ(write_fields(fields_of(again)), written);
}

TEST(DescribeFields, ShowsTypeDefaultRangeAndHelp) {
  Sample sample;
  const auto infos = describe_fields(fields_of(sample));
  ASSERT_EQ(infos.size(), 6u);
  const char* types[] = {"bool", "int", "float", "string", "list", "json"};
  for (size_t i = 0; i < infos.size(); ++i) EXPECT_EQ(infos[i].type, types[i]);
  EXPECT_EQ(infos[1].name, "rank");
  EXPECT_EQ(infos[1].default_value, 8);
  EXPECT_EQ(infos[1].range, ">= 1");
  EXPECT_EQ(infos[1].help, "Rank of the update.");
  EXPECT_EQ(infos[2].range, "in [0, 1)");
  EXPECT_EQ(infos[3].range, "one of: linear, cosine");
  EXPECT_EQ(infos[3].choices.size(), 2u);
  EXPECT_EQ(infos[4].default_value, Json::array({"a"}));
}

TEST(Rule, KnowsItsBordersAndItsText) {
  EXPECT_TRUE(at_least(1).allows(1));
  EXPECT_FALSE(above(0).allows(0));
  EXPECT_TRUE(above(0).allows(1e-30));
  EXPECT_TRUE(between(0, 1).allows(1));
  EXPECT_FALSE(fraction().allows(1));
  EXPECT_FALSE(Rule().allows(NAN));
  EXPECT_EQ(above(0).text(), "> 0");
  EXPECT_EQ(between(0, 0.5).text(), "in [0, 0.5]");
  EXPECT_EQ((Rule{.high = 5, .choices = {}}).text(), "<= 5");
  EXPECT_EQ(Rule().text(), "");
}

TEST(UnknownKeys, AreRefusedWithTheNearestNames) {
  const std::vector<std::string> known = {"learning_rate", "lora_alpha", "r"};
  EXPECT_NO_THROW(refuse_unknown_keys({{"r", 1}, {"lora_alpha", 2}}, known, "t"));
  const Error error = error_of([&] { refuse_unknown_keys({{"r", 1}, {"learning-rat", 2}}, known, "run.yaml"); });
  EXPECT_EQ(error.id(), "config.unknown-key");
  EXPECT_EQ(error.parts().what, "the key 'learning-rat' is not known");
  EXPECT_EQ(error.parts().where, "run.yaml");
  EXPECT_EQ(error.parts().fix, "did you mean 'learning_rate'?");
}

TEST(NearestNames, FindWhatWasMeant) {
  const std::vector<std::string> known = {"r",
                                          "lora_alpha",
                                          "lora_dropout",
                                          "learning_rate",
                                          "lr_scheduler_type",
                                          "max_length",
                                          "train_file",
                                          "seed",
                                          "target_modules",
                                          "weight_decay",
                                          "per_device_train_batch_size",
                                          "per_device_eval_batch_size"};
  const auto first = [&](const char* name) {
    const auto names = nearest_names(name, known);
    return names.empty() ? std::string() : names[0];
  };
  EXPECT_EQ(first("lora-alpha"), "lora_alpha");
  EXPECT_EQ(first("LoraAlpha"), "lora_alpha");
  EXPECT_EQ(first("lerning_rate"), "learning_rate");
  EXPECT_EQ(first("laerning_rate"), "learning_rate");
  EXPECT_EQ(first("alpha"), "lora_alpha");
  EXPECT_EQ(first("dropout"), "lora_dropout");
  EXPECT_EQ(first("train_batch_size"), "per_device_train_batch_size");
  EXPECT_EQ(first("lora-rank"), "r");
  EXPECT_EQ(first("targets"), "target_modules");
  EXPECT_EQ(first("seeed"), "seed");
  EXPECT_EQ(first("sede"), "seed");  // two neighbours swapped are one mistake
  EXPECT_EQ(first("xyzzy"), "");
  EXPECT_EQ(first(""), "");
  EXPECT_EQ(nearest_names("batch_size", known).size(), 2u);
}

TEST(NearestNames, ListAShortChoiceWhenNothingIsNear) {
  EXPECT_EQ(suggest_names("xyzzy", {"linear", "cosine"}), "known: linear, cosine");
  EXPECT_EQ(suggest_names("xyzzy", std::vector<std::string>(50, "name")), "");
  EXPECT_EQ(suggest_names("batch_size", {"train_batch_size", "eval_batch_size"}),
            "did you mean 'train_batch_size' or 'eval_batch_size'?");
}

}  // namespace
}  // namespace deltaw
