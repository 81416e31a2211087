#include "core/manifest.h"

#include <algorithm>
#include <cerrno>

#include "core/descriptor.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/scratch_folder.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr int kVersion = 1;
constexpr int64_t kMostBytes = 1 << 24;  // of a manifest; one names a few dozen files
constexpr const char* kKinds[] = {"file", "log", "folder"};

/// Regular file, folder, or anything else, without following a link; nothing where there is nothing.
fs::file_type type_of(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored).type();
}

Content content_of(const fs::path& path, Content::Kind kind) {
  const bool folder = kind == Content::Kind::folder;
  FileHash file = xxh128_of_file(folder ? path / kManifestName : path);
  return {.kind = kind, .bytes = file.bytes, .hash = std::move(file.hash)};
}

bool has_content(const fs::path& path, const Content& content, Look look) {
  const fs::file_type type = type_of(path);
  std::error_code failed;
  if (content.kind == Content::Kind::folder) {
    if (type != fs::file_type::directory) return false;
    if (fs::is_empty(path, failed)) return true;  // removed, but for itself
    if (type_of(path / kManifestName) != fs::file_type::regular || content_of(path, content.kind) != content)
      return false;
    return is_wholly_own(path, look);
  }
  if (type != fs::file_type::regular) return false;
  const auto size = static_cast<int64_t>(fs::file_size(path, failed));
  const bool log = content.kind == Content::Kind::log;
  if (failed || size < content.bytes || (size > content.bytes && !log)) return false;
  return look == Look::sizes || xxh128_of_file(path, content.bytes).hash == content.hash;
}

Content content_from(const Json& json) {
  const auto kind = std::find(std::begin(kKinds), std::end(kKinds), json.at("kind").get<std::string>());
  Content content{.bytes = json.at("bytes").get<int64_t>(), .hash = json.at("xxh3_128").get<std::string>()};
  if (kind == std::end(kKinds) || content.bytes < 0 || !is_xxh128(content.hash)) throw std::domain_error("no content");
  content.kind = static_cast<Content::Kind>(kind - std::begin(kKinds));
  return content;
}

/// Throws where anything is not as write_manifest writes it: such a file is not one of deltaw's.
Records records_from(const Json& json) {
  Records records;
  if (json.at("deltaw_manifest") != kVersion) throw std::domain_error("another version");
  for (const auto& [name, contents] : json.at("files").items()) {
    if (!is_plain_name(name) || contents.empty() || contents.size() > 2) throw std::domain_error("no plain name");
    for (const Json& content : contents) records[name].push_back(content_from(content));
  }
  return records;
}

void unlink_file(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_write(path, "cannot remove the file", errno);
}

}  // namespace

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name != kManifestName &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
}

Manifest::Manifest(fs::path folder) : folder_(std::move(folder)) {
  const fs::path file = folder_ / kManifestName;
  const fs::file_type type = type_of(file);
  if (type == fs::file_type::not_found) return;
  foreign_ = true;
  std::error_code failed;
  if (type != fs::file_type::regular || static_cast<int64_t>(fs::file_size(file, failed)) > kMostBytes) return;
  try {
    records_ = records_from(read_json(file));
    foreign_ = false;
  } catch (const std::exception&) {
    records_.clear();
  }
}

const Content* Manifest::found(const std::string& name, Look look) const {
  if (const auto known = found_.find(name); known != found_.end()) return known->second;
  const auto recorded = records_.find(name);
  const Content* result = nullptr;
  if (recorded != records_.end()) {
    for (const Content& content : recorded->second) {
      if (!result && has_content(folder_ / name, content, look)) result = &content;
    }
  }
  if (look == Look::contents) found_[name] = result;
  return result;
}

Standing Manifest::standing(const std::string& name, Look look) const {
  if (type_of(folder_ / name) == fs::file_type::not_found) return Standing::absent;
  if (!records_.contains(name)) return Standing::foreign;
  return found(name, look) ? Standing::own : Standing::changed;
}

std::map<std::string, Standing> Manifest::survey(const NameTest& wanted, Look look) const {
  std::map<std::string, Standing> all;
  for (const auto& [name, contents] : records_) {
    if (wanted(name)) all[name] = standing(name, look);
  }
  std::error_code failed;
  for (fs::directory_iterator entry(folder_, failed), end; !failed && entry != end; entry.increment(failed)) {
    const std::string name = entry->path().filename().string();
    if (name == kManifestName || all.contains(name) || is_scratch(entry->path()) || !wanted(name)) continue;
    all[name] = Standing::foreign;
  }
  return all;
}

Content record(const fs::path& path, bool log) {
  switch (type_of(path)) {
    case fs::file_type::directory:
      write_file(path / kManifestName, manifest_text(record_folder(path)));
      return content_of(path, Content::Kind::folder);
    case fs::file_type::regular:
      return content_of(path, log ? Content::Kind::log : Content::Kind::file);
    default:
      throw Error({.id = "io.unwritable",
                   .what = "only files and folders can be put into an output folder",
                   .where = path.string(),
                   .fix = "write a file in place of the link or device"});
  }
}

Records record_folder(const fs::path& folder, const std::set<std::string>& logs) {
  Records records;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name == kManifestName || name == kScratchMark) continue;
    records[name] = {record(entry.path(), logs.contains(name))};
  }
  return records;
}

std::string manifest_text(const Records& records) {
  Json files = Json::object();
  for (const auto& [name, contents] : records) {
    for (const Content& content : contents) {
      files[name].push_back(
          {{"kind", kKinds[static_cast<size_t>(content.kind)]}, {"bytes", content.bytes}, {"xxh3_128", content.hash}});
    }
  }
  const Json manifest{{"deltaw_manifest", kVersion}, {"files", std::move(files)}};
  return manifest.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

void remove_own(const fs::path& folder, const std::string& name) {
  const fs::path path = folder / name;
  if (type_of(path) == fs::file_type::directory) return remove_wholly_own(path);
  unlink_file(path);
}

bool is_wholly_own(const fs::path& folder, Look look) {
  const Manifest manifest(folder);
  if (manifest.is_foreign() || type_of(folder / kManifestName) != fs::file_type::regular) return false;
  const auto all = manifest.survey([](const std::string&) { return true; }, look);
  return std::all_of(all.begin(), all.end(), [](const auto& entry) {
    return entry.second == Standing::own || entry.second == Standing::absent;
  });
}

void remove_wholly_own(const fs::path& folder) {
  remove_old_scratch(folder);
  const Manifest manifest(folder);
  for (const auto& [name, contents] : manifest.records()) remove_own(folder, name);
  unlink_file(folder / kManifestName);
  if (::rmdir(folder.c_str()) != 0 && errno != ENOENT) fail_write(folder, "cannot remove the folder", errno);
}

}  // namespace deltaw
