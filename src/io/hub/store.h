// Where downloaded files lie: the cache as huggingface_hub lays it out, or a folder of the user's.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "io/hub/listing.h"
#include "io/hub/settings.h"

namespace deltaw::io::hub {

/// The cache has `blobs/ETAG`, `snapshots/COMMIT/PATH` as links to them and `refs/REVISION`; a folder of the user's has
/// the files themselves, and in `.cache/huggingface/download` what is half done and whose file is which.
class Store {
 public:
  Store(const Settings& settings, const RepoName& name, const std::string& commit,
        const std::filesystem::path& local_folder);

  const std::filesystem::path& folder() const { return folder_; }  // of the files, by their paths
  std::filesystem::path blob(const File& file) const;
  std::filesystem::path incomplete(const File& file) const;
  std::filesystem::path lock(const File& file) const;

  /// Whether the file is in its place, of the right size; of a user's folder, that it is the one.
  bool has(const File& file) const;
  bool has_blob(const File& file) const;

  /// Throws config.output-foreign for files of the user's that stand in the way: those that no download wrote, or that
  /// were changed since.
  void check_room(const std::vector<File>& files) const;

  /// Makes the folders. Throws io.unwritable.
  void prepare() const;
  /// Puts all files in place, from their blobs: config.json comes last, and behind it the revision's name, so that
  /// nobody takes a part for the whole. `fresh` are the checksums of those blobs that were not there before: without
  /// links they are moved, the others copied.
  void install(const std::vector<File>& files, const std::set<std::string>& fresh) const;

 private:
  std::filesystem::path place(const File& file) const { return folder_ / file.path; }
  std::filesystem::path note(const File& file) const;
  bool is_noted(const File& file, bool same) const;
  void link(const File& file) const;
  void move(const File& file, bool last) const;
  void write_revision() const;

  std::filesystem::path root_;  // of blobs, refs and snapshots; of a user's folder, its .cache/huggingface/download
  std::filesystem::path folder_;
  std::filesystem::path locks_;
  std::filesystem::path tagged_;  // the folder that backups may leave out
  std::string commit_, revision_;
  bool local_ = false;
  mutable bool links_ = true;  // until the file system refuses one
};

}  // namespace deltaw::io::hub
