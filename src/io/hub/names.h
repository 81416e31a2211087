// What a model or a data set is called on the Hugging Face hub, and where the cache keeps it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace deltaw::io::hub {

enum class RepoType { model, dataset };

struct RepoName {
  std::string id;  // "organisation/name", or "name"
  RepoType type = RepoType::model;
  std::string revision = "main";  // a branch, a tag or a commit
  std::string quantisation = {};  // "Q4_K_M" of "organisation/name:Q4_K_M"
};

/// "name" or "organisation/name", with the letters that the hub allows.
bool is_repo_id(const std::string& name);

/// Reads "organisation/name", also with ":Q4_K_M" behind it as Ollama and llama.cpp write it, and as an address
/// ("hf.co/...", "https://huggingface.co/.../tree/REVISION", "datasets/..."). Throws config.hub-name.
RepoName parse_repo_name(const std::string& given);

/// "models--organisation--name".
std::string cache_name(const std::string& id, RepoType type);

/// $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub.
std::filesystem::path cache_folder();
/// The folder above the last three: it holds the token too.
std::filesystem::path home_folder();

/// Names of the models that the cache holds.
std::vector<std::string> cached_models(const std::filesystem::path& cache);

/// A variable of the environment, empty where it is not set.
std::string variable(const char* name);
/// "~" and "~/..." as a shell expands them.
std::filesystem::path expanded(const std::string& name);

/// Everything but letters, digits and -._~ as %XX; slashes stay where `slashes`.
std::string escaped(std::string_view text, bool slashes);

/// Whether `text` has `digits` lower-case hexadecimal digits and nothing else.
bool is_hex(std::string_view text, size_t digits);

}  // namespace deltaw::io::hub
