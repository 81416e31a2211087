#include "core/output_folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "core/files.h"
#include "core/printable.h"
#include "core/scratch_folder.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// Without these nobody reads the folder: they come last and go first.
bool is_entry_point(const std::string& name) {
  return name == "config.json" || name == "adapter_config.json";
}

void flush_all(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_symlink() && (entry.is_regular_file() || entry.is_directory())) flush_to_disk(entry.path());
  }
  flush_to_disk(folder);
}

void rename_to(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) fail_write(to, "cannot put it in its place", errno);
}

void store(const fs::path& folder, const Records& records, const ScratchFolder& scratch) {
  write_file(scratch.path() / kManifestName, manifest_text(records));
  rename_to(scratch.path() / kManifestName, folder / kManifestName);
  flush_to_disk(folder);
}

/// Moves `name` from the scratch folder into `folder`, over a file or folder of deltaw's.
void place(const fs::path& folder, const std::string& name, const ScratchFolder& scratch) {
  const fs::path from = scratch.path() / name, to = folder / name;
  if (fs::is_directory(fs::symlink_status(to)) || fs::is_directory(from)) remove_own(folder, name);
  rename_to(from, to);
}

/// Puts what stands in the scratch folder, all of `made`, into `folder`; what is `outdated` and deltaw's goes.
void install(const ScratchFolder& scratch, const Records& made, const Manifest& manifest, const NameTest& outdated) {
  const fs::path& folder = manifest.folder();
  Records during = manifest.records(), after = made;
  std::vector<std::string> leaving;
  for (const auto& [name, contents] : manifest.records()) {
    if (fs::symlink_status(folder / name).type() == fs::file_type::not_found) continue;
    const bool replaced = made.contains(name);
    const bool goes = (replaced ? is_entry_point(name) : outdated && outdated(name)) && manifest.found(name);
    if (goes) leaving.push_back(name);
    if (!goes && !replaced) after[name] = contents;
  }
  for (const auto& [name, contents] : made) {
    const Content* old = manifest.found(name);
    during[name] = contents;
    if (old && *old != contents[0]) during[name].push_back(*old);
  }
  store(folder, during, scratch);

  std::stable_partition(leaving.begin(), leaving.end(), is_entry_point);
  for (const std::string& name : leaving) remove_own(folder, name);
  for (const bool last : {false, true}) {
    for (const auto& [name, contents] : made) {
      if (is_entry_point(name) == last) place(folder, name, scratch);
    }
  }
  flush_to_disk(folder);
  if (during != after) store(folder, after, scratch);
}

Manifest checked_manifest(const fs::path& folder, const NameTest& in_the_way) {
  Manifest manifest(folder);
  refuse_obstacles(folder, obstacles_of(manifest, in_the_way));
  return manifest;
}

bool is_adoptable(const fs::path& path, const NameTest& known) {
  const fs::file_status status = fs::symlink_status(path);
  if (!known(path.filename().string())) return false;
  if (!fs::is_directory(status)) return fs::is_regular_file(status);
  const auto entries = fs::directory_iterator(path);
  return std::all_of(begin(entries), end(entries), [&](const fs::directory_entry& entry) {
    const bool manifest = entry.path().filename() == kManifestName && !entry.is_symlink() && entry.is_regular_file();
    return manifest || is_adoptable(entry.path(), known);
  });
}

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void write_new_folder(const fs::path& folder, const FillFolder& fill) {
  std::error_code failed;
  fs::create_directories(parent_of(folder), failed);
  if (failed) fail_write(parent_of(folder), "cannot make the folder", failed.value());
  ScratchFolder scratch(parent_of(folder));
  fill(scratch.path());
  write_file(scratch.path() / kManifestName, manifest_text(record_folder(scratch.path())));
  flush_all(scratch.path());
  scratch.unmark();
  rename_to(scratch.path(), folder);
  flush_to_disk(parent_of(folder));
}

}  // namespace

fs::path real_folder(const fs::path& folder) {
  std::error_code failed;
  const fs::path real = fs::canonical(folder, failed);
  if (!failed) return real;
  return folder.has_filename() ? folder : folder.parent_path();
}

void add_to_folder(const fs::path& given, const FillFolder& fill, const Adding& adding) {
  if (is_in_scratch(given)) return fill(given);
  const fs::path folder = real_folder(given);
  const ScratchFolder scratch(folder);
  fill(scratch.path());
  const Records made = record_folder(scratch.path(), adding.logs);
  flush_all(scratch.path());
  const Manifest manifest = checked_manifest(folder, [&](const std::string& name) {
    return made.contains(name) || (adding.in_the_way && adding.in_the_way(name));
  });
  install(scratch, made, manifest, adding.outdated);
}

void write_folder(const fs::path& given, const FillFolder& fill, const NameTest& in_the_way) {
  const fs::path folder = real_folder(given);
  if (is_in_scratch(folder)) {
    fs::create_directories(folder);
    return fill(folder);
  }
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) return write_new_folder(folder, fill);
  if (!fs::is_directory(folder)) fail_write(folder, "cannot replace it by a folder", ENOTDIR);
  add_to_folder(folder, fill, {.outdated = [](const std::string&) { return true; }, .in_the_way = in_the_way});
}

bool remove_from_folder(const fs::path& given, const std::string& name) {
  const fs::path folder = real_folder(given);
  remove_old_scratch(folder);
  const Manifest manifest(folder);
  const Standing standing = manifest.standing(name);
  if (standing == Standing::foreign || standing == Standing::changed) return false;
  Records records = manifest.records();
  records.erase(name);
  if (records == manifest.records()) return false;
  const ScratchFolder scratch(folder);
  remove_own(folder, name);
  store(folder, records, scratch);
  return true;
}

void record_log(const fs::path& given, const std::string& name, bool complete) {
  const fs::path folder = real_folder(given);
  const Manifest manifest(folder);
  if (!manifest.found(name)) return;
  Records records = manifest.records();
  records[name] = {record(folder / name, !complete)};
  store(folder, records, ScratchFolder(folder));
}

std::vector<std::string> adoptable(const fs::path& folder, const NameTest& known) {
  std::vector<std::string> names;
  const Manifest manifest(folder);
  if (manifest.is_foreign()) return names;
  for (const auto& [name, standing] : manifest.survey(known)) {
    if (standing != Standing::foreign && standing != Standing::changed) continue;
    if (is_adoptable(folder / name, known)) names.push_back(name);
  }
  return names;
}

void adopt(const fs::path& given, const std::vector<std::string>& names) {
  if (names.empty()) return;
  const fs::path folder = real_folder(given);
  Records records = Manifest(folder).records();
  for (const std::string& name : names) records[name] = {record(folder / name)};
  store(folder, records, ScratchFolder(folder));
}

std::vector<Obstacle> obstacles_of(const Manifest& manifest, const NameTest& in_the_way, Look look) {
  std::vector<Obstacle> obstacles;
  if (manifest.is_foreign()) obstacles.push_back({kManifestName, "cannot be read as a manifest"});
  for (const auto& [name, standing] : manifest.survey(in_the_way, look)) {
    const bool folder = fs::is_directory(fs::symlink_status(manifest.folder() / name));
    const std::string shown = name + (folder ? "/" : "");
    if (standing == Standing::foreign) obstacles.push_back({shown});
    if (standing == Standing::changed) obstacles.push_back({shown, "changed since deltaw wrote it"});
  }
  return obstacles;
}

void refuse_obstacles(const fs::path& folder, const std::vector<Obstacle>& obstacles, const std::string& id,
                      const std::string& fix) {
  if (obstacles.empty()) return;
  std::string list;
  for (const Obstacle& obstacle : obstacles) {
    list += (list.empty() ? "" : ", ") + printable(obstacle.name);
    if (!obstacle.remark.empty()) list += " (" + obstacle.remark + ")";
  }
  throw Error({.id = id,
               .what = "in the way, and not deltaw's to remove or replace: " + list,
               .where = folder.string(),
               .fix = fix});
}

}  // namespace deltaw
