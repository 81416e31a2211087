// The files of a repository, as the hub's API lists them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/hub/names.h"

namespace deltaw::io::hub {

struct File {
  std::string path;   // "tokenizer.json", "sub/x.bin"; safe to put behind a folder
  int64_t size = -1;  // bytes; negative where the listing does not say
  std::string etag;   // sha256 of an LFS file, else git's sha1 of the blob; empty where the listing does not say
};

struct Listing {
  std::string commit;                 // 40 hexadecimal digits
  std::vector<File> files;            // by path
  std::vector<std::string> unusable;  // paths that lead out of a folder or that no file should have
};

/// {endpoint}/api/models/{id}/revision/{revision}?blobs=true
std::string listing_url(const std::string& endpoint, const RepoName& name);
/// {endpoint}/{id}/resolve/{commit}/{path}
std::string file_url(const std::string& endpoint, const RepoName& name, const std::string& commit,
                     const std::string& path);

/// Reads an answer of the API. `where` is the address. Throws format.hub-listing for what no hub answers: a commit that
/// is none, sizes below 0 or beyond 1 PiB, checksums of another form, a path that is there twice.
Listing parse_listing(std::string_view text, const std::string& where);

/// Relative, of plain parts, without control characters or backslashes.
bool is_safe_path(const std::string& path);

/// Whether `etag` is a checksum of the file: a sha256, or git's sha1.
bool is_checksum(std::string_view etag);

}  // namespace deltaw::io::hub
