// The task of sentence embeddings as its keys have it.
#pragma once

#include <memory>
#include <string>

#include "deltaw/task.h"
#include "tasks/feature_extraction/modules.h"

namespace deltaw::feature_extraction {

struct Settings {
  std::string loss = {};  // one of those of losses.h; empty: cosine_similarity of rows with scores, else the ranking
  double scale = 20;      // what cosines are multiplied by where they are compared with each other
  Modules modules = {};
  bool scored = false;  // the rows that scores are of have some
};

std::unique_ptr<Task> make_task(const Settings& settings);

}  // namespace deltaw::feature_extraction
