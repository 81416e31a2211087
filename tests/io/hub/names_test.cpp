#include "io/hub/names.h"

#include <gtest/gtest.h>

#include "io/hub/settings.h"
#include "support/environment.h"
#include "support/temporary.h"

namespace deltaw::io::hub {
namespace {

using test::Environment;
using test::error_of;
using test::put;
using test::TemporaryFolder;
using test::Variables;

TEST(HubNames, ReadsNamesAndAddresses) {
  EXPECT_EQ(parse_repo_name("gpt2").id, "gpt2");
  EXPECT_EQ(parse_repo_name("org/name-1.5_b").id, "org/name-1.5_b");
  EXPECT_EQ(parse_repo_name("org/name").revision, "main");
  for (const char* given : {"hf.co/org/name:Q4_K_M", "https://huggingface.co/org/name:Q4_K_M", "org/name:Q4_K_M"}) {
    EXPECT_EQ(parse_repo_name(given).id, "org/name") << given;
    EXPECT_EQ(parse_repo_name(given).quantisation, "Q4_K_M") << given;
  }
  const RepoName tree = parse_repo_name("https://huggingface.co/datasets/org/rows/tree/refs/pr/1/");
  EXPECT_EQ(tree.id, "org/rows");
  EXPECT_EQ(tree.type, RepoType::dataset);
  EXPECT_EQ(tree.revision, "refs/pr/1/");
}

TEST(HubNames, RefusesWhatLeadsOutOfTheCache) {
  for (const char* given : {"", "/", "..", "../x", "a/../b", "a/b/c", "/etc/passwd", "a b", "a/b:", "a/b:x/y", "a--b/c",
                            "a/b..c", "a\nb", "a/b\x1b[31m", "https://huggingface.co/", "a/b?x=y", "a%2f..%2fb"}) {
    EXPECT_EQ(error_of([&] { parse_repo_name(given); }).id(), "config.hub-name") << given;
  }
}

TEST(HubNames, NamesFoldersAsHuggingFaceDoes) {
  EXPECT_EQ(cache_name("org/name", RepoType::model), "models--org--name");
  EXPECT_EQ(cache_name("gpt2", RepoType::model), "models--gpt2");
  EXPECT_EQ(cache_name("org/rows", RepoType::dataset), "datasets--org--rows");
}

TEST(HubNames, EscapesForAddresses) {
  EXPECT_EQ(escaped("a b/\xc3\xa9~?#%", true), "a%20b/%C3%A9~%3F%23%25");
  EXPECT_EQ(escaped("refs/pr/1", false), "refs%2Fpr%2F1");
}

class HubSettings : public testing::Test {
 protected:
  TemporaryFolder folder_;
  const std::string home_ = folder_.path().string();
  Environment environment_{Variables{{"HF_HOME", home_.c_str()},
                                     {"HF_TOKEN", nullptr},
                                     {"HUGGING_FACE_HUB_TOKEN", nullptr},
                                     {"HF_TOKEN_PATH", nullptr},
                                     {"HF_ENDPOINT", nullptr},
                                     {"HF_HUB_OFFLINE", nullptr},
                                     {"TRANSFORMERS_OFFLINE", nullptr},
                                     {"HF_HUB_DISABLE_IMPLICIT_TOKEN", nullptr},
                                     {"HF_HUB_DOWNLOAD_TIMEOUT", nullptr}}};
};

TEST_F(HubSettings, FindsTheTokenInTheOrderOfHuggingFaceHub) {
  EXPECT_EQ(settings_of_environment().token, "");
  put(folder_ / "token", "hf_file\r\n");
  EXPECT_EQ(settings_of_environment().token, "hf_file");
  const std::string path = put(folder_ / "other", "hf_other").string();
  const Environment with_path(Variables{{"HF_TOKEN_PATH", path.c_str()}});
  EXPECT_EQ(settings_of_environment().token, "hf_other");
  EXPECT_EQ(settings_of_environment().token_source, path);
  const Environment old(Variables{{"HUGGING_FACE_HUB_TOKEN", "hf_old"}});
  EXPECT_EQ(settings_of_environment().token, "hf_old");
  const Environment own(Variables{{"HF_TOKEN", " hf_own "}});
  EXPECT_EQ(settings_of_environment().token, "hf_own");
  EXPECT_EQ(settings_of_environment().token_source, "HF_TOKEN");
  const Environment none(Variables{{"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}});
  EXPECT_EQ(settings_of_environment().token, "");
}

TEST_F(HubSettings, RefusesATokenThatWouldBeTwoHeadersAndDoesNotShowIt) {
  const Environment broken(Variables{{"HF_TOKEN", "hf_secret\r\nX-Other: 1"}});
  const Error error = error_of([] { settings_of_environment(); });
  EXPECT_EQ(error.id(), "config.hub-token");
  EXPECT_EQ(std::string(error.what()).find("secret"), std::string::npos);
}

TEST_F(HubSettings, ReadsEndpointAndSwitches) {
  EXPECT_EQ(settings_of_environment().endpoint, "https://huggingface.co");
  EXPECT_FALSE(settings_of_environment().offline);
  const Environment set(Variables{
      {"HF_ENDPOINT", "https://mirror.example/"}, {"TRANSFORMERS_OFFLINE", "yes"}, {"HF_HUB_DOWNLOAD_TIMEOUT", "33"}});
  EXPECT_EQ(settings_of_environment().endpoint, "https://mirror.example");
  EXPECT_TRUE(settings_of_environment().offline);
  EXPECT_EQ(settings_of_environment().patience, 33);
  for (const char* wrong : {"mirror.example", "file:///x", "http://a b", "http://a\nb"}) {
    const Environment bad(Variables{{"HF_ENDPOINT", wrong}});
    EXPECT_EQ(error_of([] { settings_of_environment(); }).id(), "config.hub-endpoint") << wrong;
  }
}

}  // namespace
}  // namespace deltaw::io::hub
