// How deltaw writes into folders that are the user's: what it did not write there stays as it is.
#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/manifest.h"

namespace deltaw {

using FillFolder = std::function<void(const std::filesystem::path&)>;

/// What else happens when files are added.
struct Adding {
  std::set<std::string> logs = {};  // files that will be appended to
  NameTest outdated = {};           // what deltaw wrote under this name goes
  NameTest in_the_way = {};         // nor may anything else stand under such a name
};

/// Puts what `fill` writes into a scratch folder into `folder`, which must exist (a link to one will do), and records
/// it in the manifest there. Files and folders of these names are replaced where they are deltaw's, each whole or not
/// at all; adapter_config.json and config.json go first and come last, so that no old one is read beside new weights.
/// Throws config.output-foreign, naming all that is in the way, before anything is touched, and io.* errors. A kill at
/// any time leaves only what the next call knows as deltaw's. In a folder that `fill` was given, itself or deeper, it
/// only calls `fill`: all of that is recorded at the end.
void add_to_folder(const std::filesystem::path& folder, const FillFolder& fill, const Adding& adding = {});

/// Fills a new folder, below new ones if need be, whole or not at all. In one that exists all that deltaw wrote there
/// is replaced; what it did not write stays, and may have none of the names written now, nor one that is `in_the_way`.
void write_folder(const std::filesystem::path& folder, const FillFolder& fill, const NameTest& in_the_way = {});

/// Removes `name` where it is deltaw's, wholly, and tells whether it did.
bool remove_from_folder(const std::filesystem::path& folder, const std::string& name);

/// Records `name` anew, where it is deltaw's: as a file that will be appended to, or as complete.
void record_log(const std::filesystem::path& folder, const std::string& name, bool complete);

/// What is not recorded, or was changed since, and has nothing but known names and regular files.
std::vector<std::string> adoptable(const std::filesystem::path& folder, const NameTest& known);
/// Records these as deltaw's: the user said that they are.
void adopt(const std::filesystem::path& folder, const std::vector<std::string>& names);

/// Something in the way, and what it is beside its name, perhaps.
struct Obstacle {
  std::string name;
  std::string remark = {};
};

/// What stands under such names and is not deltaw's, or was changed since; a manifest that cannot be read too.
std::vector<Obstacle> obstacles_of(const Manifest& manifest, const NameTest& in_the_way, Look look = Look::contents);

/// Throws config.output-foreign with all of them, where there are any.
void refuse_obstacles(const std::filesystem::path& folder, const std::vector<Obstacle>& obstacles,
                      const std::string& id = "config.output-foreign",
                      const std::string& fix = "move them away, or choose another folder");

/// Where a link leads, else `folder` itself, with a name.
std::filesystem::path real_folder(const std::filesystem::path& folder);

}  // namespace deltaw
