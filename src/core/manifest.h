// The manifest of a folder: what deltaw wrote there, by name and content. It is the only word on what deltaw may remove
// or replace, and is itself believed in little: plain names inside the folder, and only where the content is the
// recorded one. Its form stands in docs/formats.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace deltaw {

inline constexpr const char* kManifestName = "deltaw_manifest.json";

/// The content of a file; of a log, that it begins with; of a folder, that of the manifest in it.
struct Content {
  enum class Kind { file, log, folder };
  Kind kind = Kind::file;
  int64_t bytes = 0;
  std::string hash;  // XXH3-128, in hex

  bool operator==(const Content&) const = default;
};

/// By name. Two contents where a file was about to be replaced: either may stand there.
using Records = std::map<std::string, std::vector<Content>>;

using NameTest = std::function<bool(const std::string&)>;

enum class Standing {
  absent,
  own,      // recorded, and of that content
  changed,  // recorded, and of another content
  foreign,  // not recorded; links always
};

/// How closely a content is looked at: by names and sizes, for a first answer before hours of work, or by hashes too.
enum class Look { sizes, contents };

/// Reads each file once; changes after that are seen by a new Manifest only.
class Manifest {
 public:
  /// Reads that of `folder`. One that cannot be believed records nothing and is foreign.
  explicit Manifest(std::filesystem::path folder);

  const std::filesystem::path& folder() const { return folder_; }
  const Records& records() const { return records_; }
  bool is_foreign() const { return foreign_; }

  /// How `name` stands. A folder is own only where everything in it is.
  Standing standing(const std::string& name, Look look = Look::contents) const;
  /// Of every wanted name in the folder or in the manifest, save the manifest itself.
  std::map<std::string, Standing> survey(const NameTest& wanted, Look look = Look::contents) const;
  /// The recorded content that `name` has; nullptr where it has none of them.
  const Content* found(const std::string& name, Look look = Look::contents) const;

 private:
  std::filesystem::path folder_;
  Records records_;
  mutable std::map<std::string, const Content*> found_;  // by contents
  bool foreign_ = false;
};

/// One component of a path, and not the manifest's own.
bool is_plain_name(const std::string& name);

/// What is to be recorded of a file, which will be appended to where it is a `log`, or of a folder, which gets a
/// manifest of all that is in it. Refuses links and devices.
Content record(const std::filesystem::path& path, bool log = false);
/// Of all that stands in `folder`.
Records record_folder(const std::filesystem::path& folder, const std::set<std::string>& logs = {});

std::string manifest_text(const Records& records);

/// Removes `name`, whose standing is own: file by file, a folder's manifest last and nothing that it does not record. A
/// link is never followed.
void remove_own(const std::filesystem::path& folder, const std::string& name);

/// Whether a folder with a manifest holds nothing else than what that records.
bool is_wholly_own(const std::filesystem::path& folder, Look look = Look::contents);
/// Removes such a folder.
void remove_wholly_own(const std::filesystem::path& folder);

}  // namespace deltaw
