#include "io/hub/listing.h"

#include <gtest/gtest.h>

#include "io/hub/checksum.h"
#include "io/hub/http.h"
#include "support/mutations.h"
#include "support/temporary.h"

namespace deltaw::io::hub {
namespace {

using test::error_of;

const std::string kCommit(40, 'a'), kSha1(40, 'b'), kSha256(64, 'c');

Json good_listing() {
  return {{"id", "org/tiny"},
          {"sha", kCommit},
          {"siblings",
           {{{"rfilename", "sub/weights.bin"},
             {"size", 5000},
             {"blobId", kSha1},
             {"lfs", {{"sha256", kSha256}, {"size", 5000}, {"pointerSize", 130}}}},
            {{"rfilename", "config.json"}, {"size", 20}, {"blobId", kSha1}}}}};
}

Listing listing_of(const Json& value) {
  return parse_listing(value.dump(), "address");
}

Json with_file(const Json& changes) {
  Json listing = good_listing();
  listing["siblings"][1].update(changes);
  return listing;
}

TEST(HubListing, ReadsWhatTheApiAnswers) {
  const Listing listing = listing_of(good_listing());
  EXPECT_EQ(listing.commit, kCommit);
  ASSERT_EQ(listing.files.size(), 2u);
  EXPECT_EQ(listing.files[0].path, "config.json");
  EXPECT_EQ(listing.files[0].etag, kSha1);
  EXPECT_EQ(listing.files[0].size, 20);
  EXPECT_EQ(listing.files[1].path, "sub/weights.bin");
  EXPECT_EQ(listing.files[1].etag, kSha256);  // the file's, not that of git's pointer to it
}

TEST(HubListing, IsReadWithoutSizesAndChecksums) {
  const Listing listing = listing_of({{"sha", kCommit}, {"siblings", {{{"rfilename", "config.json"}}}}});
  EXPECT_LT(listing.files[0].size, 0);
  EXPECT_EQ(listing.files[0].etag, "");
}

TEST(HubListing, KeepsNoNameThatLeadsOutOfAFolder) {
  for (const char* path :
       {"../evil", "a/../../evil", "/etc/passwd", "a//b", "a/", "./a", "a/.", "", "..", "a\\..\\b", "C:/x", "a\nb",
        "a\x1b[31m", ".git/config", ".cache/huggingface/download/config.json.metadata", "a\xe2\x80\xae.txt"}) {
    const Listing listing = listing_of(with_file({{"rfilename", path}}));
    EXPECT_EQ(listing.files.size(), 1u) << path;
    EXPECT_EQ(listing.unusable, std::vector<std::string>{path});
    EXPECT_FALSE(is_safe_path(path)) << path;
  }
  EXPECT_FALSE(is_safe_path(std::string(300, 'x')));
  std::string deep = "x";
  for (int i = 0; i < 600; ++i) deep += "/x";
  EXPECT_FALSE(is_safe_path(deep));
  for (const char* path : {"a", "a/b.json", "...", "a..b", ".gitattributes", "\xc3\xa9 b/c"})
    EXPECT_TRUE(is_safe_path(path)) << path;
}

TEST(HubListing, RefusesWhatNoHubAnswers) {
  std::vector<Json> listings = {with_file({{"size", -1}}),
                                with_file({{"size", (int64_t{1} << 50) + 1}}),
                                with_file({{"size", 1e300}}),
                                with_file({{"size", "20"}}),
                                with_file({{"blobId", "../../x"}}),
                                with_file({{"blobId", std::string(40, 'G')}}),
                                with_file({{"rfilename", "sub/weights.bin"}}),
                                with_file({{"lfs", {{"sha256", "x"}, {"size", 1}}}})};
  for (const char* commit : {"", "main", "../../../x", "AAAA"}) {
    listings.push_back(good_listing());
    listings.back()["sha"] = commit;
  }
  for (const Json& listing : listings) {
    EXPECT_EQ(error_of([&] { listing_of(listing); }).id(), "format.hub-listing") << listing.dump();
  }
  EXPECT_EQ(error_of([] { parse_listing("<html>", "address"); }).id(), "format.json");
}

TEST(HostileListing, EndsClearly) {
  int read = 0;
  test::each_mutation(good_listing(), [&](const Json& listing, const std::string& what) {
    read += test::ends_clearly(what, [&] {
      for (const File& file : listing_of(listing).files) EXPECT_TRUE(is_safe_path(file.path)) << what;
    });
  });
  EXPECT_GT(read, 10);
}

TEST(HubListing, BuildsAddresses) {
  const RepoName model{.id = "org/tiny", .revision = "refs/pr/1"};
  EXPECT_EQ(listing_url("https://h", model), "https://h/api/models/org/tiny/revision/refs%2Fpr%2F1?blobs=true");
  EXPECT_EQ(file_url("https://h", model, kCommit, "a b/c#.json"),
            "https://h/org/tiny/resolve/" + kCommit + "/a%20b/c%23.json");
  const RepoName rows{.id = "org/rows", .type = RepoType::dataset};
  EXPECT_EQ(listing_url("https://h", rows), "https://h/api/datasets/org/rows/revision/main?blobs=true");
  EXPECT_EQ(file_url("https://h", rows, kCommit, "x"), "https://h/datasets/org/rows/resolve/" + kCommit + "/x");
}

TEST(HubChecksum, IsThatOfSha256sumAndOfGit) {
  Checksum sha256(kSha256, 3);
  sha256.add("a");
  sha256.add("bc");
  EXPECT_EQ(sha256.digits(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Checksum git(kSha1, 6);  // printf 'hello\n' | git hash-object --stdin
  git.add("hello\n");
  EXPECT_EQ(git.digits(), "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(HubHttp, ComparesOriginsAndShowsNoSecrets) {
  EXPECT_EQ(origin_of("https://Huggingface.co/x"), origin_of("https://huggingface.co:443/y?z"));
  EXPECT_NE(origin_of("https://huggingface.co"), origin_of("http://huggingface.co"));
  EXPECT_NE(origin_of("https://huggingface.co"), origin_of("https://huggingface.co:444"));
  EXPECT_NE(origin_of("https://huggingface.co"), origin_of("https://huggingface.co.evil.example"));
  EXPECT_NE(origin_of("https://huggingface.co"), origin_of("https://huggingface.co@evil.example"));
  EXPECT_EQ(origin_of("file:///etc/passwd"), "");
  EXPECT_EQ(origin_of("nonsense with blanks"), "");
  EXPECT_EQ(shown_url("https://user:word@host/a?signature=secret#x"), "https://host/a");
}

}  // namespace
}  // namespace deltaw::io::hub
