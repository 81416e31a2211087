#include "io/hub/store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <map>
#include <sstream>

#include "core/descriptor.h"
#include "core/files.h"
#include "core/printable.h"
#include "deltaw/error.h"
#include "io/hub/checksum.h"

namespace deltaw::io::hub {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTag =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This folder is a cache, written by deltaw: https://bford.info/cachedir/\n";

void make_folder(const fs::path& folder) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (code) fail_write(folder, "cannot make the folder", code.value());
}

/// A name beside `path` that no other process takes.
fs::path beside(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  return path.parent_path() / ("." + path.filename().string().substr(0, 100) + "." + std::to_string(::getpid()) + "-" +
                               std::to_string(counter++));
}

/// Of a temporary file or link, which goes where that fails.
void rename_over(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) == 0) return;
  const int code = errno;
  ::unlink(from.c_str());
  fail_write(to, "cannot put the file in its place", code);
}

void copy_over(const fs::path& from, const fs::path& to) {
  const fs::path temporary = beside(to);
  std::error_code code;
  fs::copy_file(from, temporary, code);
  if (code) {
    ::unlink(temporary.c_str());
    fail_write(to, "cannot copy the file", code.value());
  }
  flush_to_disk(temporary);
  rename_over(temporary, to);
}

bool has_size(const fs::path& path, int64_t size) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_size == size;
}

std::string checksum_of(const fs::path& path, const File& file) {
  Checksum checksum(file.etag, file.size);
  std::FILE* stream = std::fopen(path.c_str(), "rbe");
  if (!stream) return "";
  std::vector<char> room(1 << 18);
  for (size_t got = 0; (got = std::fread(room.data(), 1, room.size(), stream)) > 0;) checksum.add({room.data(), got});
  std::fclose(stream);
  return checksum.digits();
}

/// A file that helps other programs, and is not missed.
void write_once(const fs::path& path, const char* text) {
  try {
    std::error_code code;
    if (!fs::exists(path, code)) write_file(path, text);
  } catch (const Error&) {
  }
}

bool is_entry_point(const File& file) {
  return file.path == "config.json" || file.path == "adapter_config.json";
}

}  // namespace

Store::Store(const Settings& settings, const RepoName& name, const std::string& commit, const fs::path& local_folder)
    : commit_(commit), revision_(name.revision), local_(!local_folder.empty()), links_(settings.symlinks) {
  if (local_) {
    folder_ = local_folder;
    tagged_ = folder_ / ".cache" / "huggingface";
    root_ = tagged_ / "download";
    locks_ = root_;
  } else {
    root_ = settings.cache / cache_name(name.id, name.type);
    folder_ = root_ / "snapshots" / commit;
    locks_ = settings.cache / ".locks" / cache_name(name.id, name.type);
    tagged_ = settings.cache;
  }
}

fs::path Store::blob(const File& file) const {
  return root_ / "blobs" / file.etag;
}

fs::path Store::incomplete(const File& file) const {
  return root_ / "blobs" / (file.etag + ".incomplete");
}

fs::path Store::lock(const File& file) const {
  return locks_ / ((local_ ? file.path : file.etag) + ".lock");
}

fs::path Store::note(const File& file) const {
  return root_ / (file.path + ".metadata");
}

/// Whether a download wrote the file that is in place, and nobody has since; `same`: this very one.
bool Store::is_noted(const File& file, bool same) const {
  std::error_code code;
  if (!fs::is_regular_file(note(file), code)) return false;
  std::istringstream lines(read_file(note(file)));
  std::string commit, etag;
  double seconds = 0;
  struct stat status = {};
  if (!(lines >> commit >> etag >> seconds) || ::stat(place(file).c_str(), &status) != 0) return false;
  // Of the second in which it was written, as huggingface_hub compares.
  return static_cast<double>(status.st_mtim.tv_sec) - 1 <= seconds && (!same || etag == file.etag);
}

bool Store::has(const File& file) const {
  if (!has_size(place(file), file.size)) return false;
  return !local_ || is_noted(file, /*same=*/true) || checksum_of(place(file), file) == file.etag;
}

bool Store::has_blob(const File& file) const {
  return has_size(blob(file), file.size);
}

void Store::check_room(const std::vector<File>& files) const {
  if (!local_) return;
  std::string names;
  for (const File& file : files) {
    const bool free = fs::symlink_status(place(file)).type() == fs::file_type::not_found;
    if (!free && !is_noted(file, /*same=*/false) && !has(file)) names += (names.empty() ? "" : ", ") + file.path;
  }
  if (names.empty()) return;
  throw Error({.id = "config.output-foreign",
               .what = "in the way, and not those of the hub: " + names,
               .where = printable(folder_.string()),
               .fix = "give another folder as local_dir, or move them away"});
}

void Store::prepare() const {
  make_folder(root_ / "blobs");
  make_folder(folder_);
  write_once(tagged_ / "CACHEDIR.TAG", kTag);
  if (local_) write_once(tagged_ / ".gitignore", "*");
}

/// A relative link, as a cache that is moved needs; false where the file system has none.
void Store::link(const File& file) const {
  fs::path target = fs::path("..") / ".." / "blobs" / file.etag;
  for (const char symbol : file.path) target = symbol == '/' ? ".." / target : target;
  const fs::path temporary = beside(place(file));
  if (::symlink(target.c_str(), temporary.c_str()) == 0) return rename_over(temporary, place(file));
  if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS) fail_write(place(file), "cannot make a link", errno);
  links_ = false;
}

/// The file itself; `last`: nobody else needs the blob.
void Store::move(const File& file, bool last) const {
  try {
    if (!last) copy_over(blob(file), place(file));
    if (last && std::rename(blob(file).c_str(), place(file).c_str()) != 0) {
      fail_write(place(file), "cannot put the file in its place", errno);
    }
  } catch (const Error&) {
    if (!has(file)) throw;  // else another run was faster
  }
  if (!local_) return;
  make_folder(note(file).parent_path());
  const auto now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  write_file(note(file), commit_ + "\n" + file.etag + "\n" + std::to_string(now) + "\n");
}

void Store::install(const std::vector<File>& files, const std::set<std::string>& fresh) const {
  std::vector<File> order = files;
  std::stable_partition(order.begin(), order.end(), [](const File& file) { return !is_entry_point(file); });
  std::map<std::string, int> uses;
  std::erase_if(order, [&](const File& file) { return has(file); });
  for (const File& file : order) ++uses[file.etag];
  for (const File& file : order) {
    make_folder(place(file).parent_path());
    if (!local_ && links_) link(file);
    // An older blob may be that of another snapshot too.
    const bool last = --uses[file.etag] == 0 && (local_ || fresh.contains(file.etag));
    if (local_ || !links_) move(file, last);
  }
  flush_to_disk(folder_);
  if (!local_ && revision_ != commit_) write_revision();
}

void Store::write_revision() const {
  const fs::path path = root_ / "refs" / revision_;
  std::error_code code;
  if (fs::is_regular_file(path, code) && read_file(path) == commit_) return;
  make_folder(path.parent_path());
  write_file(path, commit_);
}

}  // namespace deltaw::io::hub
