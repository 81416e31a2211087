// The table of a tool's keys, and what its functions work with.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "core/foreign/configuration.h"

namespace deltaw::foreign {

class Reading;

/// What becomes of a key.
enum class Fate {
  taken,        // under another name, or its own
  passed_over,  // whatever it says, nothing here depends on it
  refused,      // but for values that ask for nothing
  computed,     // by a function
};

/// One line of a table.
struct Key {
  std::vector<std::string> names;
  Fate fate = Fate::taken;
  std::string here = {};  // the key of deltaw; empty: of the same name
  /// For people. Of a refused key: why, and what to do, with a bar between them.
  std::string note = {};
  std::vector<std::pair<Json, Json>> values = {};  // its value, and ours; others stay as they are
  std::vector<Json> accepted = {};                 // of a refused key, besides null, false, 0, "", [] and {}
  void (*take)(Reading& reading, const Json& value) = nullptr;  // of a computed one
};

/// `names` are one, or several with blanks between them.
Key same(const std::string& names, std::string note = {});
Key as(std::string name, std::string here, std::vector<std::pair<Json, Json>> values = {}, std::string note = {});
Key idle(const std::string& names, std::string reason);
Key refused(const std::string& names, std::string why_and_fix, std::vector<Json> accepted = {});
Key computed(std::string name, std::string here, std::string note, void (*take)(Reading&, const Json&));

struct Tool {
  std::string name;
  std::string version;             // that its keys were read in
  std::string file;                // what its configurations are called, for the documentation
  std::vector<std::string> marks;  // keys that no file of deltaw's can hold
  std::vector<Key> keys;
  /// More marks: keys whose value is one that deltaw's key of that name cannot have.
  std::vector<std::string> (*marked_by)(const Json& values) = nullptr;
  void (*finish)(Reading& reading) = nullptr;  // defaults, and what follows from several keys
  /// Of a tool that has deltaw's keys: takes one that the table does not list.
  void (*take_other)(Reading& reading, const std::string& name, const Json& value) = nullptr;
  std::string refusal = {};  // of a file of which nothing can be used: why, and what to do
};

const Key* find_key(const Tool& tool, const std::string& name);

/// In the order of the documentation.
const std::vector<Tool>& tools();

/// A translation as it is made.
class Reading {
 public:
  Reading(const Json& all, const Here& here, const Tool& tool, const std::string& where, Translation& result);

  const Json& all;
  const Here& here;
  const Tool& tool;
  const std::string& where;

  /// Sets a key of deltaw. `name` is the key that says so; two that disagree are a problem.
  void set(const std::string& key, const Json& value, const std::string& name);
  /// The same where nothing has set it, the file's own keys of deltaw included.
  void set_default(const std::string& key, const Json& value);
  bool is_set(const std::string& key) const;  // here, by a key of deltaw's own, or on the command line
  bool is_elsewhere(const std::string& key) const { return elsewhere_.contains(key); }  // given by the latter two
  void became(const std::string& sentence);
  void pass_over(const std::string& name);
  /// A wish that cannot be fulfilled. It is none where one of `settled_by`, or `name`, is given elsewhere.
  void refuse(const std::string& name, const std::string& what, const std::string& fix,
              std::vector<std::string> settled_by = {});
  void refuse_type(const std::string& name, const std::string& wanted);

  /// The value of another key of the file; null where it is missing.
  const Json& of(const std::string& name) const;
  /// A value in the type that is wanted, also where it is spelt as a text. A value of another type is a problem.
  std::optional<int64_t> whole_of(const std::string& name);
  std::optional<double> number_of(const std::string& name);
  std::optional<std::string> text_of(const std::string& name);
  /// The rank that counts: one that is given elsewhere, else the key's.
  int64_t rank(const std::string& name, int64_t fallback);
  bool truth_of(const std::string& name, bool fallback = false);

  void take_all();  // every key of the file, then what follows from them

 private:
  void take(const std::string& name, const Json& value);
  void take_refused(const Key& key, const std::string& name, const Json& value);
  void take_unknown(const std::string& name);

  Translation& result_;
  std::map<std::string, Json> elsewhere_;                    // given on the command line, or keys of deltaw in the file
  std::vector<std::pair<std::string, std::string>> set_by_;  // key here, key there
};

bool is_off(const Json& value);  // null, false, 0, an empty text, list or map, none, no, off

/// A value as a message shows it: a text without quotes.
std::string plain(const Json& value);

/// Whether the text ends as a file of rows does, compressed or not.
bool is_data_file(const std::string& text);

/// One or several names of files and folders of rows for `key` (train_file, validation_file). What is none is told with
/// how a data set of the hub is fetched.
void take_data(Reading& reading, const std::vector<std::string>& paths, const std::string& key,
               const std::string& name);

}  // namespace deltaw::foreign
