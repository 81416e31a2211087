// A comparison: settings x seeds, on one task or on several, from one file.
//
//   base: run.yaml                       keys of a run, or the name of a file of them
//   tasks: {mrpc: {task_name: mrpc}}     left out: one task, that of the other keys
//   settings: {small: {r: 1}, large: {config: large.yaml, lora_alpha: 32}}
//   seeds: [42, 43, 44]
//
// A later part wins over an earlier one: base, task, setting. The key `config` of a part names a file of keys below the
// others of the part, with {task} for the task's name; a null takes a key away.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "deltaw/options.h"

namespace deltaw {

/// One run of a comparison.
struct Cell {
  std::string task;  // empty where the file lists none
  std::string setting;
  int64_t seed = 0;
  Json keys;  // of the run, its seed among them

  std::string name() const;  // "mrpc/large/seed-42"
};

struct Comparison {
  std::vector<std::string> metrics;  // to be shown; empty: each task's own
  std::string output_dir;            // empty where the file names none
  std::vector<Cell> cells;           // task by task, seed by seed
};

/// A part of what the file holds, by names; empty: all. The seeds need not stand in the file.
struct ChosenCells {
  std::vector<std::string> tasks, settings;
  std::vector<int64_t> seeds;
};

/// Keys of a run under their canonical names; `where` is the file and the place in it. Throws for what is no key.
using ReadRunKeys = std::function<Json(const Json& keys, const std::filesystem::path& file, const std::string& where)>;

/// Without `seeds`, in the file or chosen, every setting has one run, of its own seed. Throws config.comparison for a
/// file that lists no settings or has another form, config.unknown-key, config.unknown-name for a choice that is not
/// listed, io.not-found, and what `read` throws.
Comparison read_comparison(const std::filesystem::path& file, const ReadRunKeys& read, const ChosenCells& chosen = {});

}  // namespace deltaw
