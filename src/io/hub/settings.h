// What the environment says of the hub, by the variables that huggingface_hub reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace deltaw::io::hub {

struct Settings {
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT, without a slash behind
  std::string token = {};                           // never shown
  std::string token_source = {};                    // "HF_TOKEN", or the file; empty without a token
  std::filesystem::path cache = {};                 // cache_folder()
  bool offline = false;                             // HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE
  bool symlinks = true;                             // HF_HUB_DISABLE_SYMLINKS
  int64_t patience = 10;                            // HF_HUB_DOWNLOAD_TIMEOUT: seconds without a byte
};

/// Throws config.hub-endpoint and config.hub-token for values that cannot be used.
Settings settings_of_environment();

/// The files that may hold the token, as a message names them.
std::string token_places();

}  // namespace deltaw::io::hub
