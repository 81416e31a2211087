// Downloads a repository of the hub, into the cache that transformers reads or into a folder.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "io/hub/choice.h"
#include "io/hub/client.h"
#include "io/hub/store.h"

namespace deltaw::io::hub {

struct Plan {
  struct Step {
    File file;
    bool is_here = false;  // nothing to fetch
    int64_t begun = 0;     // bytes that an earlier run left
  };

  RepoName name;
  std::string commit;
  Store store;
  std::vector<Step> steps;            // by path
  std::vector<std::string> code;      // asked for, and left out for being programs
  std::vector<std::string> unusable;  // names that no file should have

  int64_t bytes() const;  // of all files
  int64_t bytes_to_fetch() const;
};

/// What a download would do; writes nothing. `local_folder` empty: into the cache. Throws what Client::list and choose
/// throw, config.output-foreign for files in the way, and io.full-disk where there is too little room.
Plan plan_download(Client& client, const RepoName& name, const Wishes& wishes,
                   const std::filesystem::path& local_folder);

/// How far a download is. Called as bytes come, and with done = all of a file at its end.
using Watch = std::function<void(const Plan::Step& step, int64_t done)>;

/// Fetches what is missing and puts all in place, each file whole and of its checksum or not at all. What is cut off,
/// by a kill too, goes on where it stopped in the next run, also what huggingface_hub left. Several may run at once.
/// Returns the folder of the files. Throws io.network, io.checksum, io.full-disk and what Client throws.
std::filesystem::path carry_out(const Plan& plan, Client& client, const Watch& watch);

}  // namespace deltaw::io::hub
