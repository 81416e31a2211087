#include "data/image_tables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "data/columns.h"
#include "data/dataset_folder.h"
#include "data/find_files.h"
#include "data/image_sets.h"
#include "data/labels.h"
#include "data/no_rows.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

namespace fs = std::filesystem;
using Paths = std::vector<fs::path>;

/// Whether a file beside the images says more of them, as Hugging Face's imagefolder has it: in the folder, or in that
/// of a split.
bool has_metadata(const fs::path& root) {
  const auto holds = [](const fs::path& folder) {
    std::error_code ignored;
    for (const char* name : {"metadata.jsonl", "metadata.csv", "metadata.parquet"}) {
      if (fs::is_regular_file(folder / name, ignored)) return true;
    }
    return false;
  };
  if (holds(root)) return true;
  for (const Split part : {Split::train, Split::validation, Split::test}) {
    for (const std::string& name : split_words(part)) {
      if (holds(root / name)) return true;
    }
  }
  return false;
}

/// The folder of a split among those in `root`, where these hold class folders: nothing where it has no such folder,
/// and `root` itself where it is not divided.
std::optional<fs::path> class_folders(const fs::path& root, Split split) {
  bool divided = false;
  for (const Split part : {Split::train, Split::validation, Split::test}) {
    for (const std::string& name : split_words(part)) {
      if (!has_class_folders(root / name)) continue;
      if (part == split) return root / name;
      divided = true;
    }
  }
  return divided || !has_class_folders(root) ? std::nullopt : std::optional(root);
}

/// The binary files of a split as CIFAR and MNIST are shipped.
Paths shipped_records(const fs::path& root, Split split) {
  static const std::vector<std::string> train = {
      "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",        "data_batch_4.bin",
      "data_batch_5.bin", "train.bin",        "train-images-idx3-ubyte", "train-images.idx3-ubyte"};
  static const std::vector<std::string> test = {"test_batch.bin", "test.bin", "t10k-images-idx3-ubyte",
                                                "t10k-images.idx3-ubyte"};
  Paths found;
  if (split == Split::validation) return found;
  for (const std::string& name : split == Split::train ? train : test) {
    for (const char* packing : {"", ".gz"}) {
      if (!fs::exists(root / (name + packing))) continue;
      found.push_back(root / (name + packing));
      break;
    }
  }
  return found;
}

/// `find()`, whose folder may hold neither images nor files of rows.
template <class Find>
auto files_or_refuse(const Find& find) {
  try {
    return find();
  } catch (const Error& error) {
    if (error.id() != "config.no-files" && error.id() != "config.dataset-dir") throw;
    ErrorParts parts = error.parts();
    parts.fix = "Give a folder with a folder of JPEG, PNG or WebP files for each class, or with files of rows.";
    throw Error(std::move(parts));
  }
}

const std::string& column_of(const std::string& asked, const Table& table) {
  static const std::vector<std::string> usual = {kImageColumn, "file_name", "image_path", "path", "file", "img"};
  if (!asked.empty()) return table.columns[table.column(asked, "image_column")];
  for (const std::string& name : usual) {
    if (table.has(name)) return name;
  }
  throw Error({.id = "config.missing-column",
               .what = fmt::format("no column is named {}", fmt::join(usual, ", ")),
               .where = table.file.string(),
               .fix = "name the column of the images' files: --image_column NAME"});
}

/// The file that a cell names, from the folder of its own file on.
std::string file_of(const Table& table, const Row& row, size_t column) {
  const fs::path own = table.sources.empty() ? table.file : table.sources[row.source].file;
  if (const Cell& cell = row.cell(column); is_nested(cell)) {
    throw Error({.id = "data.not-text",
                 .what = fmt::format("column '{}' holds {}, and no name of a file", table.columns[column], cell.text),
                 .where = table.where(row),
                 .fix = "images that lie in the file itself are not read: save each as a file, in Python by "
                        "row['image'].save(NAME), and give a table of their names"});
  }
  const std::string name = text_of(table, row, column);
  const fs::path file = own.parent_path() / name;
  std::error_code ignored;
  const bool is_folder = fs::is_directory(file, ignored);
  if (!name.empty() && !is_folder && fs::exists(file, ignored)) return file.string();
  const char* const problem = is_folder ? "this is a folder, and no image" : "the image is not there";
  throw Error({.id = "io.not-found",
               .what = name.empty() ? "no image is named" : fmt::format("{}: {}", problem, file.string()),
               .where = fmt::format("{}, column '{}'", table.where(row), table.columns[column]),
               .fix = "correct its path, which begins at the folder of the file of rows, or leave the row out"});
}

}  // namespace

ImageTables::ImageTables(const DataOptions& options, ImageChoice choice)
    : options_(options), choice_(std::move(choice)) {}

/// The sets of a split in a folder.
Paths ImageTables::sets_in(const fs::path& root, Split split) const {
  if (!fs::is_directory(root) || has_metadata(root)) return {};
  if (const auto folder = class_folders(root, split)) return {*folder};
  Paths records = shipped_records(root, split);
  const bool alone = records.empty() && (choice_.unlabelled || split == Split::test) && has_images(root);
  return alone ? Paths{root} : records;
}

/// The same in a data set's folder: what no split names is for training.
Paths ImageTables::sets_of_dataset(const fs::path& root, Split split) const {
  Paths found = sets_in(root, split);
  if (split != Split::train && found == Paths{root}) found.clear();
  return found;
}

bool ImageTables::is_of_sets(const fs::path& root) const {
  return !sets_in(root, Split::train).empty() || !sets_of_dataset(root, Split::test).empty();
}

std::optional<DataFiles> ImageTables::row_files(Split split) const {
  return files_or_refuse([&] { return files_of_folder(options_.dataset_dir, split); });
}

bool ImageTables::has(Split split) const {
  if (!files_option(options_, split).empty()) return true;
  const std::string& root = options_.dataset_dir;
  if (root.empty()) return false;
  return is_of_sets(root) ? !sets_of_dataset(root, split).empty() : row_files(split).has_value();
}

Table ImageTables::read(Split split) const {
  return chosen(read_all(split), split);
}

Table ImageTables::read_named(const DataFiles& files, Split split) const {
  return chosen(read_all_named(files, split), split);
}

Table ImageTables::read_all(Split split) const {
  if (!has(split)) throw no_file(options_, option_name(split), "");
  const DataFiles& named = files_option(options_, split);
  if (!named.empty()) return read_all_named(named, split);
  const std::string& root = options_.dataset_dir;
  return is_of_sets(root) ? read_image_sets(sets_of_dataset(root, split)) : read_rows(*row_files(split));
}

Table ImageTables::read_all_named(const DataFiles& files, Split split) const {
  Paths sets;
  std::vector<std::string> tables;
  for (const std::string& name : files.names()) {
    Paths found = sets_in(name, split);
    sets.insert(sets.end(), found.begin(), found.end());
    if (!found.empty()) continue;
    const DataFiles others = files_or_refuse([&] { return found_files(name, split); });
    for (const std::string& file : others.names()) {
      if (ImageRecords::is_one(file) || is_image_name(file)) {
        sets.emplace_back(file);
      } else {
        tables.push_back(file);
      }
    }
  }
  if (sets.empty()) return read_rows(tables);
  if (tables.empty()) return read_image_sets(sets);
  throw Error({.id = "config.conflict",
               .what = fmt::format("{} is a set of images and {} a file of rows", sets[0].string(), tables[0]),
               .where = fmt::format("key '{}'", option_name(split)),
               .fix = "name files of one kind"});
}

Table ImageTables::read_rows(const DataFiles& files) const {
  Table table = read_table(files, {}, options_.encoding);
  const size_t column = table.column(column_of(choice_.image_column, table), "image_column");
  for (Row& row : table.rows) {
    std::string file = file_of(table, row, column);
    row.cells[column] = {.kind = Cell::Kind::text, .text = std::move(file)};
  }
  for (std::string& name : table.columns) {
    if (name == kImageColumn) name.clear();  // another column than the one that was asked for
  }
  table.columns[column] = kImageColumn;
  return table;
}

/// Labels match as values: 7, 7.0 and "7" are one. What is predicted needs no labels, and is not chosen by them.
Table ImageTables::chosen(Table table, Split split) const {
  if (choice_.only_labels.empty() || split == Split::test) return table;
  const std::string& asked = options_.label_column;
  const size_t column = table.column(asked.empty() ? "label" : asked, "label_column");
  const auto label_of = [&](const Row& row) { return canonical_label(row.cell(column).text); };
  std::set<std::string> known, wanted;
  for (const Row& row : table.rows) known.insert(label_of(row));
  for (const std::string& label : choice_.only_labels) wanted.insert(canonical_label(label));
  const auto refuse = [&](const std::string& what) {
    throw Error({.id = "data.no-such-label",
                 .what = what,
                 .where = fmt::format("{}, key 'only_labels'", table.file.string()),
                 .fix = "name labels that are there: " + listed({known.begin(), known.end()})});
  };
  for (const std::string& label : wanted) {
    if (split == Split::train && !known.contains(label)) refuse(fmt::format("no row has the label '{}'", label));
  }
  std::erase_if(table.rows, [&](const Row& row) { return !wanted.contains(label_of(row)); });
  if (table.rows.empty()) refuse(fmt::format("no row has the label {}", fmt::join(wanted, " or ")));
  return table;
}

}  // namespace deltaw::data
