// What the verbs share that make one folder of weights from another: merge and export.
#pragma once

#include <string>

#include "core/output_folder.h"
#include "deltaw/convert.h"
#include "loaded_model.h"

namespace deltaw::cli {

struct FolderKeys {
  std::string output_dir;
  bool overwrite_output_dir = false;
  bool adopt_output_dir = false;

  void fields(FieldVisitor& f);
};

/// --to and --pre_tokenizer, of verbs that write a folder of weights or a GGUF file.
struct GgufKeys {
  std::string to = "hf";
  std::string pre_tokenizer;

  bool wanted() const { return to == "gguf"; }
  void fields(FieldVisitor& f);
  void own_fields(FieldVisitor& f);  // all but `to`
};

/// For a GGUF file of a type that a key save_dtype names.
GgufOptions gguf_options(const LoadedModel& loaded, const GgufKeys& keys, const std::string& save_dtype,
                         Progress progress);
/// Throws config.conflict for keys that only a GGUF file has, where a folder is to be written.
void refuse_gguf_keys(const GgufKeys& keys, const std::string& save_dtype);

/// Throws, before anything is read or written, where output_dir holds something that may not be replaced or is one of
/// the folders read from; records then what of it is deltaw's.
void claim_output(const run::Inputs& inputs, const FolderKeys& keys);
void claim_output(const LoadedModel& loaded, const Invocation& invocation, const FolderKeys& keys);
/// Loads base and adapter. Throws where no adapter is named, and before anything is read or written where output_dir
/// holds something that may not be replaced or is one of the folders read from.
void load_source(LoadedModel& loaded, const Invocation& invocation, const FolderKeys& keys);

/// Writes what the task has stand beside a model: the tokenizer and the chat template.
FillFolder companions_of(const LoadedModel& loaded);

/// What two models are compared on.
Probe probe_of(LoadedModel& loaded);

/// The type that a key save_dtype names; nothing for auto.
std::optional<at::ScalarType> stored_type(const std::string& save_dtype);

/// The exit code; a problem of what was written is told first.
int finish(const std::string& problem, const Usage& usage, const FolderKeys& keys);
/// Prints `facts` and what was compared, and returns the exit code.
int finish(const LoadedModel& loaded, const Usage& usage, const FolderKeys& keys, const WriteReport& report,
           Json facts);

}  // namespace deltaw::cli
