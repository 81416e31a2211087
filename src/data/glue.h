// Reads GLUE's files and writes predictions in the format of its server.
#pragma once

#include <string>
#include <vector>

#include "deltaw/data.h"

namespace deltaw::data {

struct GlueFiles {
  // Below the task's folder; empty: there is none.
  std::string train = "train.tsv";
  std::string validation = "dev.tsv";
  std::string test = "test.tsv";

  std::string submission;          // "MNLI-m.tsv"
  bool numbers = true;             // classes are answered by number, else by name
  double least = 0, greatest = 0;  // of scores
};

/// Small letters without '-' and '_': as names of tasks are compared.
std::string bare_name(const std::string& name);

/// Of a task of glue_tasks().
const GlueFiles& files_of(const GlueTask& task);
const std::string& file_of(const GlueTask& task, Split split);

/// The file that GLUE's server takes: a head, then "index<TAB>answer" for each row of the test set, in order, indices
/// from 0; scores within their range, with three decimals. `predictions` are names of classes, or scores. Throws
/// config.submission for what is no answer of the task.
std::string submission_text(const GlueTask& task, const std::vector<Json>& predictions);

}  // namespace deltaw::data
