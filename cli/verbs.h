// The verbs of the program. Each lives in a file of its own name.
#pragma once

#include <string>
#include <vector>

namespace deltaw::cli {

using Args = std::vector<std::string>;  // what follows the verb

/// Exit codes that are no error's own (see Error::exit_code()).
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kDifference = 3;

struct Verb {
  const char* name;
  const char* summary;
  int (*run)(const Args& args);  // returns the exit code
};

const std::vector<Verb>& verbs();

int train(const Args& args);
int eval(const Args& args);
int predict(const Args& args);
int generate(const Args& args);
int merge(const Args& args);
int export_adapter(const Args& args);
int convert(const Args& args);
int init(const Args& args);
int tokenize(const Args& args);
int download(const Args& args);
int info(const Args& args);
int methods(const Args& args);
int validate(const Args& args);
int compare(const Args& args);
int landscape(const Args& args);
int bench(const Args& args);
int help(const Args& args);

/// Runs the verb that argv names.
int dispatch(const Args& args);

}  // namespace deltaw::cli
