// Files of images with captions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/table.h"
#include "deltaw/data.h"

namespace deltaw::tasks {

struct Captioned {
  std::string image;                       // as data::ImageFiles reads it
  std::vector<std::string> captions = {};  // none where nothing is asked of them
  int64_t line = 0;
  Json id = nullptr;
};

struct CaptionedImages {
  std::filesystem::path file = {};  // or what the messages call several
  std::vector<Captioned> rows = {};
};

/// Where captions stand.
struct CaptionKeys {
  std::string caption_column = {};  // empty: caption, captions, text, sentence or sentences
  std::string sentence = {};        // with {} where the name of a class is to stand: the caption of an image of it
};

enum class Captions {
  needed,   // every row has one
  wanted,   // those that the file has, if it has any
  ignored,  // none is looked for
};

/// The rows of a table of images (data/image_tables.h). A caption is a cell of the column of captions, or several are,
/// as a list. Where no column holds captions, that of labels does: a caption is then the sentence with the class in it,
/// whose number may stand there for one of label_names.
///
/// Throws config.caption-column where there are neither, config.missing-column; data.not-text, data.missing-label,
/// data.unknown-label, data.no-caption for an empty list.
CaptionedImages captions_of(const data::Table& table, const CaptionKeys& keys, const DataOptions& options,
                            Captions use);

}  // namespace deltaw::tasks
