// What `train` and `validate` are told: the fields of the library's options, in one flat list of keys.
#pragma once

#include <string>
#include <vector>

#include "base_hash.h"
#include "claim.h"
#include "deltaw/adapter.h"
#include "deltaw/data.h"
#include "deltaw/model.h"
#include "deltaw/train.h"
#include "options.h"
#include "task_keys.h"

namespace deltaw::cli {

struct BaseKeys {
  std::string model_name_or_path;

  void fields(FieldVisitor& f);
};

/// The adapter that training goes on from.
struct ContinueKeys {
  std::string adapter_name_or_path;

  void fields(FieldVisitor& f);
};

struct OutputKeys {
  bool overwrite_output_dir = false;
  bool adopt_output_dir = false;

  void fields(FieldVisitor& f);
};

struct Setup {
  BaseKeys base;
  RecordKeys record;
  ModelOptions model;
  DataOptions data;
  TaskKeys tasks;
  AdapterConfig adapter;
  TrainOptions train;
  OutputKeys output;
  bool length_given = false;  // max_length was asked for

  // Where training goes on from an adapter (see continued.h):
  ContinueKeys from;
  Json asked = Json::object();  // every key that was given, and where
  std::string asked_where;
  bool several = false;  // the adapter has parts, of which `adapter` says nothing

  bool goes_on() const { return !from.adapter_name_or_path.empty(); }
};

/// The keys of a run, those of `method` listed among them.
std::vector<Section> run_sections(const std::string& method);

/// Every key that a file of `train` may hold.
std::vector<std::string> run_keys();

/// Reads argv in two parts: the keys, and what they say. Where help is asked for, the first prints it and returns
/// false. `unused` keys of a run are none of this verb; a file may hold them, and they are dropped. What the first
/// finds wrong stands in `problems`, which the second throws with its own.
bool parse_setup(const Usage& usage, const Args& args, Section extra, Invocation& invocation, Problems& problems,
                 const std::vector<std::string>& unused = {});
Setup setup_of(const Usage& usage, const Invocation& invocation, Problems problems);

/// Both.
bool read_setup(const Usage& usage, const Args& args, Section extra, Invocation& invocation, Setup& setup);

/// The adapter that training goes on from, if any, and finished ones beside it.
std::vector<std::string> adapters_of(const Setup& setup);

/// What a run reads, for what it writes.
Inputs inputs_of(const Setup& setup, const Invocation& invocation);

/// The setup as a file that `deltaw train` reads.
Json resolved(const Setup& setup);

}  // namespace deltaw::cli
