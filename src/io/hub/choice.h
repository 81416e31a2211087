// Which files of a repository are downloaded.
#pragma once

#include <string>
#include <vector>

#include "io/hub/listing.h"

namespace deltaw::io::hub {

/// Python's fnmatch.fnmatchcase, as `hf download` takes patterns: * also matches slashes, [abc], [!abc], ?; a pattern
/// that ends in a slash means all below.
bool matches(const std::string& pattern, const std::string& path);

struct Wishes {
  std::vector<std::string> include = {};  // in place of the default choice
  std::vector<std::string> exclude = {};
};

struct Choice {
  std::vector<File> files;        // by path
  std::vector<std::string> code;  // programs, which are never downloaded, that were asked for
};

/// By default what deltaw reads: configuration, tokenizer, chat templates, and the weights of a model or an adapter in
/// safetensors, else those of torch.save (weights_names()); of a pipeline of diffusers the same of its folders unet,
/// vae, text_encoder, tokenizer and scheduler; of a data set its tables and texts; of `name.quantisation` the GGUF file
/// whose name, or that of its folder, ends so, in capitals or not, all its parts. Throws config.hub-choice where that
/// is nothing, or not one of several GGUF files, naming what is there.
Choice choose(const Listing& listing, const RepoName& name, const Wishes& wishes);

}  // namespace deltaw::io::hub
