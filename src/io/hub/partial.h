// A file that is fetched in one or several stretches.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "io/hub/client.h"
#include "io/hub/store.h"

namespace deltaw::io::hub {

/// Bytes that an earlier run, also one of huggingface_hub, left of the file.
int64_t bytes_begun(const Store& store, const File& file);

/// Fetches the file as a blob of the store, unless it is there when its lock is. `came` gets the bytes that are there.
void fetch_blob(Client& client, const RepoName& name, const std::string& commit, const Store& store, const File& file,
                const std::function<void(int64_t)>& came);

}  // namespace deltaw::io::hub
