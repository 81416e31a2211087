#include "io/hub/listing.h"

#include <algorithm>

#include "core/json.h"
#include "core/json_fields.h"
#include "core/printable.h"
#include "deltaw/error.h"

namespace deltaw::io::hub {
namespace {

constexpr const char* kBadListing = "format.hub-listing";
constexpr int64_t kMostBytes = int64_t{1} << 50;
constexpr size_t kMostName = 255;   // of a part, as file systems have it
constexpr size_t kMostPath = 1024;  // of all parts

[[noreturn]] void fail_listing(const std::string& what, const std::string& where) {
  throw Error({.id = kBadListing,
               .what = what,
               .where = where,
               .fix = "the server does not answer as the hub does; check HF_ENDPOINT"});
}

File read_file_entry(const JsonFields& entry, const std::string& path) {
  File file{.path = path};
  const JsonFields source = entry.has("lfs") ? entry.object("lfs") : entry;
  file.etag = source.get_or<std::string>(entry.has("lfs") ? "sha256" : "blobId", "");
  file.size = source.get_or<int64_t>("size", -1);
  if (source.has("size") && (file.size < 0 || file.size > kMostBytes)) {
    fail_listing("the size of '" + printable(path) + "' is " + std::to_string(file.size), entry.where());
  }
  if (!file.etag.empty() && !is_checksum(file.etag)) {
    fail_listing("the checksum of '" + printable(path) + "' is '" + printable(file.etag) + "'", entry.where());
  }
  return file;
}

std::string prefix_of(RepoType type) {
  return type == RepoType::dataset ? "datasets/" : "";
}

}  // namespace

std::string listing_url(const std::string& endpoint, const RepoName& name) {
  const std::string kind = name.type == RepoType::dataset ? "datasets/" : "models/";
  return endpoint + "/api/" + kind + name.id + "/revision/" + escaped(name.revision, /*slashes=*/false) + "?blobs=true";
}

std::string file_url(const std::string& endpoint, const RepoName& name, const std::string& commit,
                     const std::string& path) {
  return endpoint + "/" + prefix_of(name.type) + name.id + "/resolve/" + commit + "/" + escaped(path, /*slashes=*/true);
}

bool is_checksum(std::string_view etag) {
  return is_hex(etag, 64) || is_hex(etag, 40);
}

bool is_safe_path(const std::string& path) {
  // printable() writes out what steers a terminal and what is no UTF-8.
  if (path.empty() || path.size() > kMostPath || printable(path) != path) return false;
  if (path.find('\\') != path.npos || path.find(':') != path.npos) return false;
  if (path.starts_with(".cache/")) return false;  // there lies what is known of a folder's downloads
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string part = path.substr(start, end - start);
    if (part.empty() || part == "." || part == ".." || part == ".git" || part.size() > kMostName) return false;
    start = end + 1;
  }
  return true;
}

Listing parse_listing(std::string_view text, const std::string& where) {
  const JsonFields answer(parse_json(text, where), where, kBadListing);
  Listing listing{.commit = answer.get<std::string>("sha")};
  if (!is_hex(listing.commit, 40)) {
    fail_listing("the commit of the revision is '" + printable(listing.commit) + "'", where);
  }
  for (const Json& sibling : answer.list("siblings")) {
    const JsonFields entry(sibling, where, kBadListing);
    const std::string path = entry.get<std::string>("rfilename");
    if (is_safe_path(path)) {
      listing.files.push_back(read_file_entry(entry, path));
    } else {
      listing.unusable.push_back(path);
    }
  }
  std::sort(listing.files.begin(), listing.files.end(), [](const File& a, const File& b) { return a.path < b.path; });
  const auto twice = std::adjacent_find(listing.files.begin(), listing.files.end(),
                                        [](const File& a, const File& b) { return a.path == b.path; });
  if (twice != listing.files.end()) fail_listing("'" + printable(twice->path) + "' is listed twice", where);
  return listing;
}

}  // namespace deltaw::io::hub
