// A file of weights that is cut short while the program reads it.
#pragma once

namespace deltaw::cli {

/// From here on a read after the new end of a mapped file ends the program with a message that names the file and the
/// exit code 1, instead of a bus error without a word.
void name_cut_files();

}  // namespace deltaw::cli
