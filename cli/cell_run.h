// One run of a comparison: a process of `deltaw train` with a folder, a file of keys and a log of its own.
//
//   OUTPUT/mrpc/large/seed-42/        what `deltaw train` writes
//   OUTPUT/mrpc/large/seed-42.json    its keys
//   OUTPUT/mrpc/large/seed-42.log     what it says
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "core/comparison_table.h"
#include "signals.h"

namespace deltaw::cli {

/// Where a run of a comparison stands.
struct CellPlace {
  std::filesystem::path folder;
  std::string keys_file() const { return folder.string() + ".json"; }
  std::string log_file() const { return folder.string() + ".log"; }
};

CellPlace place_of(const std::filesystem::path& output_dir, const Cell& cell);

/// "finished", "cut" or "open", with the results of a finished one; by the run's own files.
CellResult result_of(const Cell& cell, const CellPlace& place);

/// Removes what `deltaw train` wrote for other keys. What is not deltaw's stays.
void clear_run(const CellPlace& place);

/// Writes the keys and an empty log.
void write_keys(const Cell& cell, const CellPlace& place);

/// Trains the run, or goes on with it, as `deltaw train KEYS_FILE --resume_from_checkpoint auto` in a process of its
/// own. A signal that `guard` has caught is handed on once: the process then writes a checkpoint. `wait` is called now
/// and then with the last line that it said. Returns the result: "failed" with the problem, "cut" after a signal.
CellResult run_cell(const Cell& cell, const CellPlace& place, const SignalGuard& guard,
                    const std::function<void(const std::string& last_line)>& wait);

/// While it lives, no other comparison runs in the folder, nor does a process that an earlier one left behind; who
/// comes second waits. `waits` is called before.
class FolderLock {
 public:
  FolderLock(const std::filesystem::path& folder, const SignalGuard& guard, const std::function<void()>& waits);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  bool held() const { return held_; }  // false: a signal came first

 private:
  int folder_ = -1;
  bool held_ = false;
};

}  // namespace deltaw::cli
