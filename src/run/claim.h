// Before something is written: what it may replace, and that it writes over nothing that it reads.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/output_folder.h"
#include "deltaw/data.h"

namespace deltaw::run {

/// Something that is read.
struct Input {
  enum class Kind { file, model, rows } kind;  // a file; a folder of weights; a folder of data files
  std::string name;                            // for people: "train_file"
  std::filesystem::path path;
};

using Inputs = std::vector<Input>;

/// What these keys name; `more` are keys with paths, `keys_file` the file that the keys are from, or empty.
Inputs inputs_of(const std::string& base, const std::vector<std::string>& adapters, const DataOptions& data,
                 const std::vector<std::pair<std::string, std::string>>& more, const std::string& keys_file);

/// Throws config.output-is-input where `file`, the value of `key`, is one of them or is read from one of their folders.
void refuse_input(const std::string& key, const std::string& file, const Inputs& inputs);

/// Throws config.conflict where two keys name one file to write.
void refuse_one_file(const std::string& key, const std::string& file, const std::string& other_key,
                     const std::string& other);

/// A folder that is written into.
struct Claim {
  std::filesystem::path folder;
  bool overwrite = false;
  bool adopts = false;                      // the user says that known names are deltaw's
  bool resumes = false;                     // what deltaw wrote there stays
  NameTest known;                           // names that deltaw has in such a folder
  NameTest in_the_way;                      // names that nothing of the user's may have there
  NameTest result;                          // names that are a finished work, replaced only where that is asked for
  std::filesystem::path goes_on_from = {};  // an adapter that may be in the folder itself
};

/// Throws config.output-is-input, config.output-exists, config.output-busy or config.output-foreign, naming what is in
/// the way, before anything is read for long or touched. Contents are compared when the folder is written.
void check_claim(const Claim& claim, const Inputs& inputs);

/// Records known names as deltaw's, where the user said that they are.
void adopt_known(const Claim& claim);

inline constexpr const char* kAdoptHelp =
    "Take files and folders in output_dir that have the names deltaw gives, and that it has no record of having "
    "written, for its own: those of versions before it kept one, or copied without it. They may then be replaced.";

}  // namespace deltaw::run
