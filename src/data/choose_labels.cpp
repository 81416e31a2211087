#include "data/choose_labels.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "core/ascii.h"
#include "data/labels.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

using Names = std::vector<std::string>;

// A JSON string is never a number, however it looks.
std::optional<double> number_of(const Cell& cell) {
  return cell.kind == Cell::Kind::text ? std::nullopt : parse_number(cell.text);
}

/// What a column holds: its labels, one for each value, in order.
struct Found {
  Names names;
  bool all_numbers = true;
  bool any_fraction = false;
};

Found labels_in(const Table& table, size_t column, bool multi_label) {
  Found found;
  std::set<std::string> spellings;
  const auto add = [&](const Cell& cell) {
    const std::string_view text = trimmed(cell.text);
    spellings.emplace(text);
    found.all_numbers = found.all_numbers && number_of(cell).has_value();
    found.any_fraction = found.any_fraction || text.find_first_of(".eE") != std::string_view::npos;
  };
  for (const Row& row : table.rows) {
    if (!multi_label) {
      add(label_cell(table, row, column));
      continue;
    }
    for (const Cell& cell : several_labels(table, row, column)) add(cell);
  }
  std::set<std::string> values;
  for (const std::string& name : spellings) {
    if (values.insert(canonical_label(name)).second) found.names.push_back(name);
  }
  if (found.all_numbers) {
    std::stable_sort(found.names.begin(), found.names.end(),
                     [](const auto& a, const auto& b) { return *parse_number(a) < *parse_number(b); });
  }
  return found;
}

/// Whether the two hold the same names, in whatever order and case.
bool are_permuted(const Names& a, const Names& b) {
  return a.size() == b.size() && std::is_permutation(a.begin(), a.end(), b.begin(), same_but_for_case);
}

/// Whether these are the numbers of all classes of `count`.
bool are_class_numbers(const Names& names, size_t count) {
  std::set<int64_t> numbers;
  for (const std::string& name : names) {
    const auto number = class_number(name);
    if (number && *number < static_cast<int64_t>(count)) numbers.insert(*number);
  }
  return names.size() == count && numbers.size() == count;
}

class Chooser {
 public:
  Chooser(const DataOptions& options, const GlueTask* task, const Table& table, size_t column, const HeadLabels& head)
      : options_(options),
        task_(task),
        table_(table),
        column_(column),
        head_(head),
        head_set_{.names = head.names},
        head_is_named_(!are_default_names(head.names)),
        multi_label_(task == nullptr && has_several()) {}

  ChosenLabels choose() {
    if (options_.problem_type == "regression") return {.labels = {.regression = true}};
    if (!options_.label_names.empty()) {
      set_names(given_names());
      if (auto sentence = order_warning(options_.label_names, head_)) result_.warnings.push_back(std::move(*sentence));
    } else if (task_ != nullptr && !task_->labels.empty()) {
      const bool heads_own = are_permuted(task_->labels, head_.names);
      set_names(heads_own ? head_.names : task_->labels);
      if (!heads_own && keeps_head()) warn_of_other_names();
    } else if (task_ != nullptr && options_.problem_type == "auto") {
      result_.labels.regression = true;
    } else {
      choose_from_column();
    }
    result_.labels.multi_label = multi_label_;
    return std::move(result_);
  }

 private:
  void set_names(Names names) { result_.labels = label_set(options_, std::move(names)); }
  template <class... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) {
    result_.warnings.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  bool keeps_head() const {
    return head_.stored && head_is_named_ && head_.names.size() == result_.labels.names.size();
  }
  std::string where() const { return fmt::format("{}, column '{}'", table_.file.string(), table_.columns[column_]); }

  Names given_names() const {
    const Names& names = options_.label_names;
    std::set<std::string> distinct;
    for (const std::string& name : names) distinct.insert(canonical_label(name));
    if (distinct.size() == names.size() && distinct.size() > 1) return names;
    throw Error{{.id = "config.label-names",
                 .what = fmt::format("label_names needs two or more different names; it is {}", listed(names)),
                 .where = "label_names",
                 .fix = "List every class once, in the order of the logits."}};
  }

  void warn_of_other_names() {
    warn(
        "the checkpoint's head names its classes {}, and the data {}: its weights are trained on under the data's "
        "names in this order; label_names sets another one",
        listed(head_.names), listed(result_.labels.names));
  }

  bool has_several() const {
    if (options_.problem_type != "auto") return options_.problem_type == "multi_label_classification";
    return std::any_of(table_.rows.begin(), table_.rows.end(),
                       [&](const Row& row) { return row.cell(column_).kind == Cell::Kind::list; });
  }

  /// Whether every row has a list of as many zeros and ones: a decision on each class, and no names.
  bool has_decisions() const {
    const size_t count = table_.rows.at(0).cell(column_).items.size();
    return count > 1 && std::all_of(table_.rows.begin(), table_.rows.end(), [&](const Row& row) {
             const std::vector<Cell>& items = row.cell(column_).items;
             return items.size() == count && std::all_of(items.begin(), items.end(), [](const Cell& item) {
                      const auto number = number_of(item);
                      return number && (*number == 0 || *number == 1);
                    });
           });
  }

  void choose_from_column() {
    if (multi_label_ && has_decisions()) refuse_decisions();
    const Found found = labels_in(table_, column_, multi_label_);
    const bool several = found.names.size() > (multi_label_ ? 0 : 1);
    const bool covered = several && !head_.names.empty() &&
                         std::all_of(found.names.begin(), found.names.end(),
                                     [&](const std::string& name) { return head_set_.find_name(name).has_value(); });
    if (covered) return set_names(head_.names);
    if (options_.problem_type == "auto" && !multi_label_ && found.all_numbers && found.any_fraction) {
      result_.labels.regression = true;
      return;
    }
    if (!several) multi_label_ ? refuse_none() : refuse_one(found.names.at(0));
    const bool counted = head_.stored && head_is_named_ && are_class_numbers(found.names, head_.names.size()) &&
                         head_set_.find(found.names.at(0)).has_value();
    if (counted) return set_names(head_.names);  // rows that are read say so
    set_names(found.names);
    warn_of_case(found.names);
    if (head_.stored && head_is_named_) compare_with_head(found.names);
  }

  [[noreturn]] void refuse_decisions() const {
    throw Error{{.id = "data.several-labels",
                 .what = "every label is a list of zeros and ones, which names no classes",
                 .where = where(),
                 .fix = "List the classes that each row has, by name: [\"sport\", \"news\"]."}};
  }

  [[noreturn]] void refuse_none() const {
    throw Error{{.id = "data.one-label",
                 .what = "no row has a label",
                 .where = where(),
                 .fix = "Set label_column to another column, or list all classes in label_names."}};
  }

  [[noreturn]] void refuse_one(const std::string& name) const {
    throw Error{{.id = "data.one-label",
                 .what = fmt::format("every row has the same label, '{}'", clipped(name)),
                 .where = where(),
                 .fix = "Set label_column to another column, or list all classes in label_names."}};
  }

  void warn_of_case(const Names& names) {
    std::map<std::string, std::string> seen;
    for (const std::string& name : names) {
      std::string small = name;
      for (char& c : small) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      const auto [first, is_new] = seen.try_emplace(small, name);
      if (is_new) continue;
      warn("'{}' and '{}' differ in capitals alone and are two classes ({})", clipped(first->second), clipped(name),
           where());
      return;
    }
  }

  /// A head that knows none of the labels is trained on, as transformers does; one that knows some of them would begin
  /// with these at other places.
  void compare_with_head(const Names& names) {
    Names unknown;
    bool shares = false;
    for (const std::string& name : names) {
      if (!head_set_.find_name(name)) unknown.push_back(name);
      shares = shares || std::any_of(head_.names.begin(), head_.names.end(), [&](const std::string& own) {
                 return canonical_label(own) == canonical_label(name) || same_but_for_case(own, name);
               });
    }
    if (!shares && names.size() == head_.names.size()) return warn_of_other_names();
    if (head_.replaceable) {
      result_.new_head = true;
      warn("the checkpoint's head knows {} and not '{}': a new head is drawn for {}", listed(head_.names),
           clipped(unknown.at(0)), listed(names));
    } else if (shares) {
      refuse_unknown(unknown, names);
    }
  }

  [[noreturn]] void refuse_unknown(const Names& unknown, const Names& names) const {
    const std::string hint =
        nearest_names(unknown.at(0), head_.names).empty() ? "" : suggest_names(unknown.at(0), head_.names) + " ";
    throw Error{
        {.id = "config.head-labels",
         .what = fmt::format("'{}' is not a label of the checkpoint's head, which knows {}", clipped(unknown.at(0)),
                             listed(head_.names)),
         .where = where(),
         .fix = fmt::format("{}Mend the file; or name the classes in the order of the head's logits by label_names "
                            "(the file has {}); or draw a new head: --ignore_mismatched_sizes true",
                            hint, listed(names))}};
  }

  const DataOptions& options_;
  const GlueTask* task_;
  const Table& table_;
  size_t column_;
  const HeadLabels& head_;
  LabelSet head_set_;
  bool head_is_named_;
  bool multi_label_;
  ChosenLabels result_;
};

}  // namespace

ChosenLabels choose_labels(const DataOptions& options, const GlueTask* task, const Table& table, size_t column,
                           const HeadLabels& head) {
  return Chooser(options, task, table, column, head).choose();
}

}  // namespace deltaw::data

namespace deltaw {

std::optional<std::string> order_warning(const std::vector<std::string>& names, const HeadLabels& head) {
  if (!head.stored || names.size() != head.names.size() || data::are_default_names(head.names)) return std::nullopt;
  const LabelSet own{.names = head.names};
  for (size_t i = 0; i < names.size(); ++i) {
    const auto place = own.find_name(names[i]);
    if (!place || *place == static_cast<int64_t>(i)) continue;
    return fmt::format(
        "label_names has '{}' at place {}, and the head has it at {}: its weights go to other classes than those they "
        "were trained for; the head's order is {}",
        data::clipped(names[i]), i, *place, data::listed(head.names));
  }
  return std::nullopt;
}

LabelSet label_set(const DataOptions& options, std::vector<std::string> names) {
  LabelSet set{.names = std::move(names)};
  if (options.task_name.empty()) return set;
  const GlueTask& task = find_glue_task(options.task_name);
  if (data::are_permuted(task.labels, set.names)) set.task_names = task.labels;
  return set;
}

}  // namespace deltaw
