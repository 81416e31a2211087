// Keys as they were given: a file's, and those of a command line, which win.
#pragma once

#include <string>

#include "deltaw/options.h"

namespace deltaw {

struct GivenKeys {
  Json file = Json::object();
  Json flags = Json::object();  // texts count as values
  std::string file_name = {};   // where the first stand, as messages say it; empty where there are none
  std::string flags_name = {};  // where the second stand

  bool has(const std::string& key) const { return file.contains(key) || flags.contains(key); }
  Json all() const;           // flags over the file
  std::string where() const;  // of all()
};

/// Sets the fields of these that were given. Throws as read_fields does, naming the place of the two.
template <class Options>
void read_into(Options& options, const GivenKeys& given) {
  read_fields(fields_of(options), given.file, given.file_name);
  read_fields(fields_of(options), given.flags, given.flags_name);
}

}  // namespace deltaw
