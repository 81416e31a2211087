#include "tasks/common/captions.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <utility>

#include "core/ascii.h"
#include "data/columns.h"
#include "data/image_tables.h"
#include "data/labels.h"
#include "deltaw/error.h"
#include "tasks/common/hypothesis_template.h"

namespace deltaw::tasks {
namespace {

constexpr const char* kLabel = "label";

/// The column of captions, or nothing.
std::optional<size_t> caption_column(const data::Table& table, const CaptionKeys& keys, const DataOptions& options) {
  if (!keys.caption_column.empty()) return table.column(keys.caption_column, "caption_column");
  if (!options.label_column.empty()) return std::nullopt;
  for (const char* name : {"caption", "captions", "text", "sentence", "sentences"}) {
    if (table.has(name)) return table.column(name, "caption_column");
  }
  return std::nullopt;
}

/// The column of classes, or nothing.
std::optional<size_t> label_column(const data::Table& table, const DataOptions& options) {
  if (!options.label_column.empty()) return table.column(options.label_column, "label_column");
  if (table.has(kLabel)) return table.column(kLabel, "label_column");
  return std::nullopt;
}

std::vector<std::string> captions_in(const data::Table& table, const data::Row& row, size_t column) {
  const data::Cell& cell = row.cell(column);
  if (cell.kind != data::Cell::Kind::list) return {data::text_of(table, row, column)};
  std::vector<std::string> captions;
  for (const data::Cell& item : cell.items) captions.push_back(item.text);
  if (!captions.empty()) return captions;
  throw Error({.id = "data.no-caption",
               .what = fmt::format("the list of captions in column '{}' is empty", table.columns[column]),
               .where = table.where(row),
               .fix = "give the image a caption, or leave the row out"});
}

/// A class as label_names call it.
std::string class_name(const data::Table& table, const data::Row& row, size_t column, const LabelSet& names) {
  const std::string label(trimmed(data::label_cell(table, row, column).text));
  if (names.names.empty()) return label;
  return names.names[static_cast<size_t>(data::label_value(names, table, row, column))];
}

}  // namespace

CaptionedImages captions_of(const data::Table& table, const CaptionKeys& keys, const DataOptions& options,
                            Captions use) {
  const size_t image = table.column(data::kImageColumn, "image_column");
  std::optional<size_t> caption, label;
  if (use != Captions::ignored) caption = caption_column(table, keys, options);
  if (use != Captions::ignored && !caption) label = label_column(table, options);
  if (!caption && !label && use == Captions::needed) {
    throw Error(
        {.id = "config.caption-column",
         .what = fmt::format("no column holds captions or classes; the columns are {}", fmt::join(table.columns, ", ")),
         .where = table.file.string(),
         .fix = "name that of the captions: --caption_column NAME"});
  }
  const LabelSet names{.names = options.label_names};
  CaptionedImages images{.file = table.file};
  for (const data::Row& row : table.rows) {
    Captioned& own = images.rows.emplace_back(
        Captioned{.image = data::text_of(table, row, image), .line = row.line, .id = data::id_of(table, row)});
    const auto lacks = [&](size_t column) {
      return use == Captions::wanted && row.cell(column).kind == data::Cell::Kind::missing;
    };
    if (caption && !lacks(*caption)) own.captions = captions_in(table, row, *caption);
    if (label && !lacks(*label)) own.captions = {filled(keys.sentence, class_name(table, row, *label, names))};
  }
  return images;
}

}  // namespace deltaw::tasks
