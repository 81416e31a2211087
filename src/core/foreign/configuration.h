// Configurations of other tools in deltaw's keys.
//
// A tool is a table of its keys (see table.h), one file each. It is recognised by keys that no file of deltaw's can
// hold, so that these stay what they are.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "deltaw/error.h"
#include "deltaw/options.h"

namespace deltaw::foreign {

/// What a translation has to know of this place.
struct Here {
  std::set<std::string> keys = {};  // every key that a file of deltaw's may hold
  /// What is given elsewhere and wins over the file: keys with their values, and other names as null.
  std::map<std::string, Json> given = {};
  /// By every name of a method, PEFT's type among them: the names of its options. Empty where that is not known.
  std::map<std::string, std::set<std::string>> methods = {};
  std::string whole_model = {};  // the method that trains every tensor of the model
  /// The number of a checkpoint's blocks; nothing where it cannot be looked up.
  std::function<std::optional<int64_t>(const std::string& model)> blocks = {};
};

struct Translation {
  std::string tool;
  std::vector<std::string> marks;        // the keys that it was recognised by
  Json values = Json::object();          // in deltaw's keys
  std::vector<std::string> own;          // keys of deltaw in it, which are taken as they are
  std::vector<std::string> became;       // one sentence each, where a value is another here
  std::vector<std::string> passed_over;  // keys that mean nothing here
  std::vector<std::string> meant;        // keys of deltaw that a problem has kept from being set
  std::vector<Error> problems;           // what is not known, and what cannot be had: all of it

  /// What became of the file, for people: a line each for the tool, what changed and what was passed over.
  std::string report(const std::string& where) const;
};

/// `values` of a configuration file in deltaw's keys, or nothing where no other tool's key marks it. `where` is the
/// file. Reads LLaMA-Factory's dataset_info.json, and looks which files of a folder of data there are.
std::optional<Translation> translate(const Json& values, const Here& here, const std::string& where);

/// docs/configurations.md.
std::string markdown();

}  // namespace deltaw::foreign
