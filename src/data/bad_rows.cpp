#include "data/bad_rows.h"

#include <cmath>

#include <fmt/format.h>

namespace deltaw::data {
namespace {

constexpr size_t kShown = 5;

/// The error with the row in its `where`: a template names itself alone.
Error at_row(const Error& error, const std::string& where) {
  ErrorParts parts = error.parts();
  if (!parts.where.starts_with(where)) parts.where = where + ", " + parts.where;
  return Error(std::move(parts));
}

}  // namespace

void BadRows::add(const Error& error, const std::string& where) {
  if (share_ <= 0) throw at_row(error, where);
  ++count_;
  if (!first_) first_ = at_row(error, where);
  if (reasons_.size() >= kShown) return;
  // A part of the row (a message of it) is named more closely than the row is.
  const std::string& place = error.parts().where.starts_with(where) ? error.parts().where : where;
  const size_t prefix = place.starts_with(file_ + ", ") ? file_.size() + 2 : 0;
  reasons_.push_back(fmt::format("{}: {}", place.substr(prefix), error.parts().what));
}

void BadRows::check(int64_t rows) const {
  const auto allowed = static_cast<int64_t>(std::ceil(share_ * static_cast<double>(rows) - 1e-9));
  if (!first_ || (count_ <= allowed && count_ < rows)) return;
  if (rows == 1) throw *first_;
  ErrorParts parts = first_->parts();
  const std::string others = count_ == 1 ? "" : fmt::format(" ({})", reasons_text(reasons_, count_));
  parts.what = count_ == rows
                   ? fmt::format("{}; nothing can be learned from any of {} rows{}", parts.what, rows, others)
                   : fmt::format("{}; nothing can be learned from {} of {} rows{}, and max_bad_rows {:g} leaves out {}",
                                 parts.what, count_, rows, others, share_, allowed);
  if (count_ < rows) parts.fix += " Or raise max_bad_rows.";
  throw Error(std::move(parts));
}

void share_field(FieldVisitor& f, double& max_bad_rows) {
  f.field("max_bad_rows", max_bad_rows,
          "Share of a file's rows that may be left out, rounded up to whole rows: texts without an answer or that the "
          "template refuses, questions without choices or without a label that is one of them. They are counted and "
          "shown; more are an error, and with 0 any.",
          between(0, 1));
}

std::string reasons_text(const std::vector<std::string>& reasons, int64_t all) {
  std::string text = fmt::format("{}", fmt::join(reasons, "; "));
  const int64_t more = all - static_cast<int64_t>(reasons.size());
  return more > 0 ? fmt::format("{}; and {} more", text, more) : text;
}

}  // namespace deltaw::data
