// Rows out of columns, as Dremel's levels put them together.
#include <fmt/format.h>

#include <deque>

#include "core/printable.h"
#include "deltaw/error.h"
#include "io/column_error.h"
#include "io/column_file.h"
#include "io/little_endian.h"
#include "io/parquet_column.h"

namespace deltaw::io {
namespace {

using Shape = ParquetNode::Shape;
using Repetition = ParquetNode::Repetition;

/// What is wrong with a column, with its name.
template <class Action>
auto in_column(const ParquetNode& leaf, const Action& action) {
  try {
    return action();
  } catch (const ColumnError& error) {
    throw ColumnError(fmt::format("column '{}': {}", leaf.path, error.what()), error.kind());
  }
}

class RowGroup {
 public:
  RowGroup(const FileBytes& file, const ParquetNode& root, const std::vector<const ParquetNode*>& leaves,
           const ThriftValue& group, Allowance& allowance)
      : root_(root), leaves_(leaves), allowance_(allowance) {
    const std::vector<ThriftValue>& chunks = group.list_at(1);
    if (chunks.size() != leaves.size()) {
      throw ColumnError(fmt::format("a row group has {} columns, and the file {}", chunks.size(), leaves.size()));
    }
    for (size_t i = 0; i < leaves.size(); ++i) {
      in_column(*leaves[i], [&] { columns_.emplace_back(file, *leaves[i], chunks[i]); });
    }
  }

  Json row() {
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (columns_[i].at_end()) refuse(i, "it has fewer rows than its row group");
      if (columns_[i].repetition() != 0) refuse(i, "a row begins inside a list");
    }
    return record(root_);
  }

  void check_end() const {
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (!columns_[i].at_end()) refuse(i, "it has more rows than its row group");
    }
  }

 private:
  [[noreturn]] void refuse(size_t column, const std::string& what) const {
    throw ColumnError(fmt::format("column '{}': {}", leaves_[column]->path, what));
  }

  /// A node in its place: null where it is optional and not there, a list where it repeats by itself.
  Json value(const ParquetNode& node) {
    if (node.repetition == Repetition::repeated) return repeated(node, [&] { return content(node); });
    if (node.repetition == Repetition::optional && is_absent(node)) {
      skip(node);
      return nullptr;
    }
    return content(node);
  }

  Json content(const ParquetNode& node) {
    switch (node.shape) {
      case Shape::leaf:
        return leaf(node);
      case Shape::record:
        return record(node);
      case Shape::list:
        return list(node);
      default:
        return map(node);
    }
  }

  Json leaf(const ParquetNode& node) {
    ParquetColumn& column = columns_[node.first];
    return in_column(node, [&] {
      if (column.at_end() || column.definition() != node.definition) {
        throw ColumnError("it has no value where its columns have one");
      }
      const RawValue raw = column.value();
      allowance_.spend(kValueBytes + raw.bytes.size());
      Json value = to_json(node.type, raw);
      column.advance();
      return value;
    });
  }

  Json record(const ParquetNode& node) {
    Json object = Json::object();
    for (const ParquetNode& child : node.children) {
      allowance_.spend(kValueBytes + child.name.size());
      object[child.name] = value(child);
    }
    return object;
  }

  /// An element is the repeated node's one child, but for files of old, which leave that level out.
  Json list(const ParquetNode& node) {
    const ParquetNode& item = node.children[0];
    const bool is_element = item.shape != Shape::record || item.children.size() != 1 || item.name == "array" ||
                            item.name == node.name + "_tuple";
    return repeated(item, [&] { return is_element ? content(item) : value(item.children[0]); });
  }

  /// An object where keys are texts, else a list of pairs.
  Json map(const ParquetNode& node) {
    const ParquetNode& entry = node.children[0];
    Json pairs = repeated(entry, [&] {
      Json key = value(entry.children[0]);
      Json held = value(entry.children[1]);
      return Json::array({std::move(key), std::move(held)});
    });
    Json object = Json::object();
    for (Json& pair : pairs) {
      if (!pair[0].is_string()) return pairs;
      object[pair[0].get<std::string>()] = pair[1];
    }
    return object;
  }

  template <class Element>
  Json repeated(const ParquetNode& node, const Element& element) {
    Json items = Json::array();
    if (is_absent(node)) {
      skip(node);
      return items;
    }
    do {
      allowance_.spend(kValueBytes);
      items.push_back(element());
    } while (goes_on(node));
    return items;
  }

  bool is_absent(const ParquetNode& node) const {
    const ParquetColumn& column = columns_[node.first];
    return !column.at_end() && column.definition() < node.definition;
  }

  /// Whether the list goes on, in which all columns below it must agree.
  bool goes_on(const ParquetNode& node) const {
    const bool first = columns_[node.first].repetition() == node.repeats;
    for (size_t i = node.first; i < node.last; ++i) {
      if (columns_[i].repetition() > node.repeats || (columns_[i].repetition() == node.repeats) != first) {
        refuse(i, "it has another number of items than the columns beside it");
      }
    }
    return first;
  }

  /// One entry of each column below a node that is not there.
  void skip(const ParquetNode& node) {
    allowance_.spend(kValueBytes);
    for (size_t i = node.first; i < node.last; ++i) {
      if (columns_[i].at_end() || columns_[i].definition() >= node.definition) {
        refuse(i, "it has a value where the columns beside it have none");
      }
      in_column(*leaves_[i], [&] { columns_[i].advance(); });
    }
  }

  const ParquetNode& root_;
  const std::vector<const ParquetNode*>& leaves_;
  Allowance& allowance_;
  std::deque<ParquetColumn> columns_;
};

std::string description_of(const FileBytes& file) {
  constexpr uint64_t kEnds = 12;  // a mark, and the length of the description with another
  if (file.size() < kEnds || file.read(0, 4) != "PAR1") {
    if (file.size() >= 4 && file.read(0, 4) == "PARE") {
      throw ColumnError("it is encrypted", ColumnError::Kind::unsupported);
    }
    throw ColumnError("it does not begin as a Parquet file does");
  }
  const std::string end = file.read(file.size() - 8, 8);
  if (!end.ends_with("PAR1")) throw ColumnError("it does not end as a Parquet file does: it is cut short, perhaps");
  const auto size = load<uint32_t>(end);
  if (size > file.size() - kEnds) throw ColumnError("its description is longer than the file");
  return file.read(file.size() - 8 - size, size);
}

void read_rows(const FileBytes& file, const TakeColumnRow& take, int64_t& number) {
  const std::string bytes = description_of(file);
  std::string_view rest = bytes;
  const ThriftValue description = read_thrift(rest);
  if (description.record_at(8) != nullptr) throw ColumnError("it is encrypted", ColumnError::Kind::unsupported);
  const ParquetNode root = read_parquet_schema(description);
  const std::vector<const ParquetNode*> leaves = leaves_of(root);
  Allowance allowance(file.size());
  for (const ThriftValue& group : description.list_at(4)) {
    const int64_t rows = group.integer_at(3, -1);
    if (rows < 0) throw ColumnError("a row group does not say how many rows it has");
    if (rows == 0) continue;  // its columns stand nowhere
    ++number;                 // whose first row is at fault where the group cannot be opened
    RowGroup columns(file, root, leaves, group, allowance);
    --number;
    for (int64_t i = 0; i < rows; ++i) {
      ++number;
      Json row = columns.row();
      take(row, number);
    }
    columns.check_end();
  }
  const int64_t said = description.integer_at(3, number);
  if (said != number) throw ColumnError(fmt::format("it has {} rows, and its description says {}", number, said));
}

}  // namespace

void each_parquet_row(const std::filesystem::path& path, const TakeColumnRow& take) {
  const FileBytes file(path);
  int64_t number = 0;
  try {
    read_rows(file, take, number);
  } catch (const ColumnError& error) {
    throw column_file_error(error, {.id = "format.parquet", .name = "Parquet file", .path = path, .row = number});
  }
}

}  // namespace deltaw::io
