#include "data/image_sets.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/ascii.h"
#include "data/find_files.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

namespace fs = std::filesystem;

/// Of a version control, an archive's copy of metadata, the like.
bool is_foreign(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with('.') || name.starts_with("__");
}

/// What a folder holds, sorted by name.
std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::vector<fs::directory_entry> entries;
  std::error_code failed;
  fs::directory_iterator entry(folder, failed);
  for (const fs::directory_iterator end; !failed && entry != end; entry.increment(failed)) {
    if (!is_foreign(entry->path())) entries.push_back(*entry);
  }
  if (failed) {
    throw Error({.id = "io.unreadable",
                 .what = "cannot read the folder: " + failed.message(),
                 .where = folder.string(),
                 .fix = "give a folder that you may read"});
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool is_folder(const fs::directory_entry& entry) {
  std::error_code ignored;
  return entry.is_directory(ignored);
}

/// Throws io.not-found for a link to an image that is not there (of a data set that was fetched in part, say).
bool is_image(const fs::directory_entry& entry) {
  std::error_code ignored;
  if (!is_image_name(entry.path())) return false;
  if (entry.is_regular_file(ignored)) return true;
  if (!entry.is_symlink(ignored) || entry.exists(ignored)) return false;
  throw Error({.id = "io.not-found",
               .what = "the image is not there: the link leads to no file",
               .where = entry.path().string(),
               .fix = "fetch what it leads to, or remove the link"});
}

/// Calls `take` with each image of a folder and of those in it, until it says false. A folder that is a link to another
/// one could hold itself.
template <class Take>
bool each_image(const fs::path& folder, const Take& take) {
  for (const fs::directory_entry& entry : entries_of(folder)) {
    if (is_image(entry) && !take(entry.path())) return false;
    if (is_folder(entry) && !entry.is_symlink() && !each_image(entry.path(), take)) return false;
  }
  return true;
}

class Sets {
 public:
  Table read(const std::vector<fs::path>& sets) {
    const bool several = sets.size() > 1;
    for (const fs::path& set : sets) {
      row_.line = 0;
      row_.source = table_.sources.size();
      table_.unit = fs::is_directory(set) ? "image" : "record";
      add(set);
      if (several) table_.sources.push_back({set, table_.unit});
    }
    table_.file = name_of(sets);
    return std::move(table_);
  }

 private:
  void add(const fs::path& set) {
    if (has_class_folders(set)) return add_classes(set);
    if (fs::is_directory(set)) {
      for (const fs::directory_entry& entry : entries_of(set)) {
        if (is_image(entry)) add(entry.path().string(), {});
      }
    } else if (ImageRecords::is_one(set)) {
      const std::vector<Cell> labels = ImageRecords(set).labels();
      for (size_t i = 0; i < labels.size(); ++i) add(fmt::format("{}#{}", set.string(), i), labels[i]);
    } else {
      add(set.string(), {});
    }
  }

  void add_classes(const fs::path& set) {
    for (const fs::directory_entry& folder : entries_of(set)) {
      if (!is_folder(folder)) continue;
      const size_t before = table_.rows.size();
      const Cell label{.kind = Cell::Kind::text, .text = folder.path().filename().string()};
      each_image(folder.path(), [&](const fs::path& image) {
        add(image.string(), label);
        return true;
      });
      if (table_.rows.size() > before) continue;
      throw Error({.id = "data.no-images",
                   .what = "the folder of the class holds no image",
                   .where = folder.path().string(),
                   .fix = "put JPEG, PNG or WebP files into it, or remove it"});
    }
  }

  void add(std::string image, Cell label) {
    ++row_.line;
    row_.cells = {Cell{.kind = Cell::Kind::text, .text = std::move(image)}, std::move(label)};
    table_.rows.push_back(row_);
  }

  Table table_{.columns = {"image", "label"}};
  Row row_;
};

}  // namespace

bool is_image_name(const fs::path& path) {
  const std::string ending = lower(path.extension().string());
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png" || ending == ".webp";
}

bool has_class_folders(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  const auto has_one = [](const fs::directory_entry& entry) {
    return is_folder(entry) && !each_image(entry.path(), [](const fs::path&) { return false; });
  };
  const std::vector<fs::directory_entry> entries = entries_of(folder);
  return std::any_of(entries.begin(), entries.end(), has_one);
}

bool has_images(const fs::path& folder) {
  const std::vector<fs::directory_entry> entries = entries_of(folder);
  return std::any_of(entries.begin(), entries.end(), is_image);
}

Table read_image_sets(const std::vector<fs::path>& sets) {
  return Sets().read(sets);
}

Image ImageFiles::read(const std::string& name) const {
  const size_t mark = name.rfind('#');
  if (mark == std::string::npos || !ImageRecords::is_one(name.substr(0, mark))) return read_image(name);
  int64_t record = -1;
  std::from_chars(name.data() + mark + 1, name.data() + name.size(), record);
  return records(name.substr(0, mark))->image(record);
}

std::shared_ptr<const ImageRecords> ImageFiles::records(const std::string& path) const {
  const std::lock_guard lock(guard_);
  std::shared_ptr<const ImageRecords>& file = records_[path];
  if (!file) file = std::make_shared<const ImageRecords>(path);
  return file;
}

}  // namespace deltaw::data
