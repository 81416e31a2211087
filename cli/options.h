// The keys of a verb: from a file and from flags, in one spelling, checked against the fields that the library
// declares.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/given_keys.h"
#include "core/problems.h"
#include "deltaw/options.h"
#include "verbs.h"

namespace deltaw::cli {

/// A group of keys, as help shows it.
struct Section {
  std::string title;
  std::vector<FieldInfo> keys;
  bool listed = true;  // false: accepted, but no part of this help (the options of another method)
  std::vector<std::function<void(const Json& values, const std::string& where)>> checks = {};  // read_fields()

  /// The keys of `more` after its own.
  void append(Section more);
};

template <class Options>
Section section_of(std::string title) {
  Options options;
  return {.title = std::move(title),
          .keys = describe_fields(fields_of(options)),
          .listed = true,
          .checks = {[](const Json& values, const std::string& where) {
            Options read;
            read_fields(fields_of(read), values, where);
          }}};
}

/// Part of every verb.
struct LogKeys {
  std::string log_level;

  void fields(FieldVisitor& f);
};

/// Keys of which a verb needs one.
struct Need {
  std::string name;
  std::vector<std::string> any_of;
  std::string fix;
};

/// What a verb needs, and what --help says of it besides its keys.
struct Usage {
  std::string verb;
  std::string what;             // a sentence or two
  std::string example;          // lines that work
  std::string positional = {};  // name of the word that is no flag ("CONFIG"); empty: there is none
  std::string positional_help = {};
  bool positional_is_config = false;  // a file of keys
  std::string exit_codes = "0 done; 1 failed; 2 usage or configuration, nothing was started";
  std::vector<Need> needs = {};
};

inline const Need kNeedsModel = {
    .name = "model_name_or_path or adapter_name_or_path",
    .any_of = {"model_name_or_path", "adapter_name_or_path"},
    .fix = "add --model_name_or_path MODEL, or --adapter_name_or_path with the folder of an adapter"};
inline const Need kNeedsAdapter = {
    .name = "adapter_name_or_path", .any_of = {"adapter_name_or_path"}, .fix = "add --adapter_name_or_path FOLDER"};
inline const Need kNeedsModelToConvert = {
    .name = "a model", .any_of = {}, .fix = "name it: deltaw convert model.gguf --output_dir model"};
inline const Need kNeedsOutput = {.name = "output_dir", .any_of = {"output_dir"}, .fix = "add --output_dir FOLDER"};
inline const Need kNeedsRows = {.name = "train_file",
                                .any_of = {"train_file", "task_name", "dataset_dir", "instance_data_dir"},
                                .fix = "add --train_file FILE, or --task_name NAME and --dataset_dir FOLDER"};

/// What the caller asked for. Keys have their canonical names; values of flags are strings.
struct Invocation : GivenKeys {
  Invocation() { flags_name = "command line"; }

  std::string positional;
  bool help = false;
};

/// Reads argv and the file of keys, translates the names that other tools use, refuses what is not known (naming the
/// nearest keys), values that no field takes and keys that are missing, and sets the log's level. `shared` keys may
/// stand in the file and are not looked at: one file serves several verbs. Throws all that is wrong at once.
Invocation parse_args(const Usage& usage, const std::vector<Section>& sections, const Args& args,
                      const std::vector<std::string>& shared = {});

/// The same, with what is wrong left in `problems` and out of the result.
Invocation parse_args(const Usage& usage, const std::vector<Section>& sections, const Args& args,
                      const std::vector<std::string>& shared, Problems& problems);

/// What argv and file seem to say, with nothing refused but an unreadable file: enough to know which method is meant.
Invocation peek_args(const Usage& usage, const std::vector<Section>& sections, const Args& args,
                     const std::vector<std::string>& shared = {});

/// The help of a verb on standard output.
void print_help(const Usage& usage, const std::vector<Section>& sections);

/// Throws usage.missing-key.
[[noreturn]] void refuse_missing(const Usage& usage, const Need& need, const std::string& where = "command line");

}  // namespace deltaw::cli
