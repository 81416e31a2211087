#include "io/hub/download.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "core/progress.h"
#include "deltaw/error.h"
#include "io/hub/partial.h"

namespace deltaw::io::hub {
namespace {

namespace fs = std::filesystem;

bool is_ref_name(const std::string& revision) {
  return is_safe_path(revision) && !revision.ends_with(".lock");
}

void check_room_on_disk(const Plan& plan) {
  fs::path folder = plan.store.folder();
  std::error_code code;
  while (!folder.empty() && folder.has_parent_path() && folder != folder.parent_path() && !fs::exists(folder, code)) {
    folder = folder.parent_path();
  }
  if (folder.empty() || !fs::exists(folder, code)) folder = ".";
  const fs::space_info space = fs::space(folder, code);
  if (code || space.capacity == 0 || space.capacity == static_cast<uintmax_t>(-1)) return;  // it does not say
  const int64_t wanted = plan.bytes_to_fetch();
  if (wanted >= 0 && space.available >= static_cast<uintmax_t>(wanted)) return;
  throw Error({.id = "io.full-disk",
               .what = "there is too little room: " + format_bytes(static_cast<double>(wanted)) +
                       " are to be fetched, " + format_bytes(static_cast<double>(space.available)) + " are free",
               .where = folder.string(),
               .fix = "free some space, or name another disk in HF_HUB_CACHE or --local_dir"});
}

}  // namespace

int64_t Plan::bytes() const {
  return std::accumulate(steps.begin(), steps.end(), int64_t{0},
                         [](int64_t sum, const Step& step) { return sum + step.file.size; });
}

int64_t Plan::bytes_to_fetch() const {
  int64_t sum = 0;
  std::set<std::string> seen;  // one file may stand under several names
  for (const Step& step : steps) {
    if (!step.is_here && seen.insert(step.file.etag).second) sum += step.file.size - step.begun;
  }
  return sum;
}

Plan plan_download(Client& client, const RepoName& name, const Wishes& wishes, const fs::path& local_folder) {
  if (!is_ref_name(name.revision)) {
    throw Error({.id = "config.hub-name",
                 .what = "'" + name.revision + "' is no name of a revision",
                 .where = "key 'revision'",
                 .fix = "give a branch, a tag or a commit"});
  }
  const Listing listing = client.list(name);
  Choice choice = choose(listing, name, wishes);
  Plan plan{.name = name,
            .commit = listing.commit,
            .store = Store(client.settings(), name, listing.commit, local_folder),
            .steps = {},
            .code = choice.code,
            .unusable = listing.unusable};
  for (File& file : choice.files) client.complete(name, plan.commit, file);
  plan.store.check_room(choice.files);
  for (const File& file : choice.files) {
    const bool here = plan.store.has(file) || plan.store.has_blob(file);
    plan.steps.push_back({.file = file, .is_here = here, .begun = here ? 0 : bytes_begun(plan.store, file)});
  }
  check_room_on_disk(plan);
  return plan;
}

fs::path carry_out(const Plan& plan, Client& client, const Watch& watch) {
  plan.store.prepare();
  std::vector<File> files;
  std::set<std::string> fresh;
  for (const Plan::Step& step : plan.steps) {
    files.push_back(step.file);
    if (step.is_here) continue;
    fetch_blob(client, plan.name, plan.commit, plan.store, step.file, [&](int64_t done) { watch(step, done); });
    fresh.insert(step.file.etag);
  }
  plan.store.install(files, fresh);
  return plan.store.folder();
}

}  // namespace deltaw::io::hub
