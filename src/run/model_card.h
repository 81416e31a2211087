// The page beside an adapter.
#pragma once

#include <string>

#include "deltaw/run.h"

namespace deltaw::run {

/// README.md of an adapter: front matter and text in Markdown. `settings` are those of run.json, `card` is the task's,
/// whose python_class may begin with its library ("diffusers.UNet2DModel"), else transformers; `facts` are run_facts(),
/// `results` may be empty.
std::string model_card(const Json& settings, const ModelCard& card, const Json& facts, const Json& results);

}  // namespace deltaw::run
