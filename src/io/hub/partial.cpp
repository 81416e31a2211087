#include "io/hub/partial.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <optional>
#include <vector>

#include "core/descriptor.h"
#include "deltaw/error.h"
#include "io/hub/checksum.h"
#include "io/hub/lock.h"

namespace deltaw::io::hub {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLeftAlone = 60;  // seconds without a write, after which a file has no writer any more
constexpr int kMostWrong = 2;       // downloads of another checksum

std::optional<struct stat> status_of(const fs::path& path) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return status;
}

/// What huggingface_hub left since it gives each process a file of its own, ETAG.XXXXXXXX.incomplete: the longest one.
std::optional<fs::path> left_by_others(const Store& store, const File& file) {
  std::optional<fs::path> longest;
  int64_t most = 0;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(store.blob(file).parent_path(), code)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(file.etag + ".") || !name.ends_with(".incomplete")) continue;
    const size_t begin = file.etag.size() + 1, end = name.size() - std::string(".incomplete").size();
    if (end <= begin || !is_hex(name.substr(begin, end - begin), 8)) continue;
    const auto status = status_of(entry.path());
    if (!status || status->st_size <= most || status->st_size > file.size) continue;
    if (std::time(nullptr) - status->st_mtime < kLeftAlone) continue;
    most = status->st_size;
    longest = entry.path();
  }
  return longest;
}

/// The growing file. It is never cut: where the file system's locks do nothing, another process may have made it the
/// blob. Starting anew takes a new file.
class Partial {
 public:
  Partial(const Store& store, const File& file)
      : path_(store.incomplete(file)), file_(file), checksum_(file.etag, file.size) {
    open();
    const auto status = status_of(path_);
    if (status && status->st_size > file.size) {
      restart();
    } else {
      read_begun();
    }
  }

  int64_t size() const { return size_; }

  void restart() {
    if (::unlink(path_.c_str()) != 0 && errno != ENOENT) fail_write(path_, "cannot remove the file", errno);
    open();
    size_ = 0;
    checksum_ = Checksum(file_.etag, file_.size);
  }

  void add(std::string_view bytes) {
    checksum_.add(bytes);
    while (!bytes.empty()) {
      const ssize_t done = ::pwrite(descriptor_.number(), bytes.data(), bytes.size(), size_);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail_write(path_, "cannot write", errno);
      size_ += done;
      bytes.remove_prefix(static_cast<size_t>(done));
    }
  }

  /// Only when it is whole.
  std::string digits() { return checksum_.digits(); }

  /// Makes it the blob. False where another process has put a file of its own here meanwhile.
  bool finish(const fs::path& blob) {
    struct stat opened = {};
    const auto named = status_of(path_);
    if (::fstat(descriptor_.number(), &opened) != 0 || !named || named->st_ino != opened.st_ino) return false;
    if (::fsync(descriptor_.number()) != 0 && errno != EINVAL) fail_write(path_, "cannot flush", errno);
    if (std::rename(path_.c_str(), blob.c_str()) != 0) fail_write(blob, "cannot put the file in its place", errno);
    flush_to_disk(blob.parent_path());
    return true;
  }

 private:
  void open() {
    descriptor_ = Descriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666));
    if (descriptor_.number() < 0) fail_write(path_, "cannot create the file", errno);
  }

  void read_begun() {
    std::vector<char> room(1 << 18);
    for (;;) {
      const ssize_t got = ::pread(descriptor_.number(), room.data(), room.size(), size_);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return restart();
      if (got == 0) return;
      checksum_.add({room.data(), static_cast<size_t>(got)});
      size_ += got;
      if (size_ > file_.size) return restart();
    }
  }

  fs::path path_;
  File file_;
  Checksum checksum_;
  Descriptor descriptor_{-1};
  int64_t size_ = 0;
};

Trouble trouble(const std::string& id, const std::string& what, const std::string& where) {
  return {
      .error = Error(
          {.id = id, .what = what, .where = where, .fix = "try again later, or name another mirror in HF_ENDPOINT"})};
}

/// "bytes 100-199/200": whether it begins at `from` and is of a file of `size`.
bool is_range_of(const std::string& range, int64_t from, int64_t size) {
  return range.starts_with("bytes " + std::to_string(from) + "-") && range.ends_with("/" + std::to_string(size));
}

/// One stretch, from where the file ends to where the connection does.
void fetch_stretch(Client& client, const RepoName& name, const std::string& commit, const File& file, Partial& partial,
                   const std::function<void(int64_t)>& came) {
  bool begun = false;
  const int64_t from = partial.size();
  const int64_t status = client.fetch(name, commit, file, from, [&](const Answer& head, std::string_view bytes) {
    const bool goes_on = head.status == 206 && is_range_of(head.header("content-range"), from, file.size);
    if (!begun && !goes_on && from > 0) partial.restart();  // the server sends all of it
    if (!begun && !goes_on && head.status == 206)
      throw trouble("io.network", "the server sends another part than asked for", shown_url(head.url));
    begun = true;
    if (static_cast<int64_t>(bytes.size()) > file.size - partial.size()) {
      partial.restart();
      throw trouble("io.checksum",
                    "the server sends more than the " + std::to_string(file.size) + " bytes of '" + file.path + "'",
                    shown_url(head.url));
    }
    partial.add(bytes);
    if (partial.size() < file.size) came(partial.size());  // the end is told once it is checked
  });
  if (status == 416) partial.restart();
  if (partial.size() == file.size) return;
  throw trouble("io.network",
                "'" + file.path + "' ended after " + std::to_string(partial.size()) + " of " +
                    std::to_string(file.size) + " bytes",
                shown_url(client.settings().endpoint));
}

void fetch_to_end(Client& client, const RepoName& name, const std::string& commit, const File& file, Partial& partial,
                  const std::function<void(int64_t)>& came) {
  Patience patience = client.patience();
  while (partial.size() < file.size) {
    const int64_t before = partial.size();
    try {
      fetch_stretch(client, name, commit, file, partial, came);
    } catch (const Trouble& trouble) {
      if (partial.size() > before) patience.progressed();
      patience.wait(trouble);
    }
  }
}

void adopt_begun(const Store& store, const File& file) {
  const auto own = status_of(store.incomplete(file));
  const auto other = left_by_others(store, file);
  if (!other || (own && own->st_size >= status_of(*other)->st_size)) return;
  // Where that fails it is fetched from the beginning.
  static_cast<void>(std::rename(other->c_str(), store.incomplete(file).c_str()));
}

}  // namespace

int64_t bytes_begun(const Store& store, const File& file) {
  const auto own = status_of(store.incomplete(file));
  const auto other = left_by_others(store, file);
  const int64_t mine = own && own->st_size <= file.size ? own->st_size : 0;
  return std::max<int64_t>(mine, other ? status_of(*other)->st_size : 0);
}

void fetch_blob(Client& client, const RepoName& name, const std::string& commit, const Store& store, const File& file,
                const std::function<void(int64_t)>& came) {
  const FileLock lock(store.lock(file),
                      [&] { client.tell("another program is downloading '" + file.path + "': waiting for it"); });
  if (store.has(file) || store.has_blob(file)) return came(file.size);
  adopt_begun(store, file);
  Partial partial(store, file);
  std::string digits;
  for (int wrong = 0; wrong < kMostWrong; ++wrong) {
    fetch_to_end(client, name, commit, file, partial, came);
    digits = partial.digits();
    if (digits != file.etag) {
      client.tell("'" + file.path + "' came with another checksum than the hub gives: fetching it again");
      partial.restart();
      continue;
    }
    if (partial.finish(store.blob(file)) || store.has_blob(file)) return came(file.size);
    throw Error({.id = "io.unwritable",
                 .what = "another program has replaced the file while it was written",
                 .where = store.incomplete(file).string(),
                 .fix = "try again when no other download runs"});
  }
  throw Error({.id = "io.checksum",
               .what = "the checksum of '" + file.path + "' is " + digits + ", the hub gives " + file.etag,
               .where = shown_url(file_url(client.settings().endpoint, name, commit, file.path)),
               .fix = "try again later, or name another mirror in HF_ENDPOINT; nothing of it was kept"});
}

}  // namespace deltaw::io::hub
