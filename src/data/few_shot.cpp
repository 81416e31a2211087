#include "data/few_shot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/mix_seed.h"
#include "data/labels.h"
#include "data/shuffle.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

constexpr uint64_t kStream = 0x73686F74;  // apart from the streams of held-out rows and of the epochs

/// How many of `count` rows of a class are kept.
size_t shots_of(double asked, size_t count) {
  if (asked >= 1) return static_cast<size_t>(std::min(asked, static_cast<double>(count)));
  return std::max<size_t>(1, static_cast<size_t>(std::llround(asked * static_cast<double>(count))));
}

void check(double asked, const LabelSet& labels) {
  const char* const where = "key 'train_samples_per_class'";
  if (!labels.one_class()) {
    throw Error({.id = "config.conflict",
                 .what = fmt::format("rows of {} have not one class each to be counted by", labels.problem_type()),
                 .where = where,
                 .fix = "use max_train_samples"});
  }
  if (asked < 1 || asked == std::floor(asked)) return;
  throw Error({.id = "config.out-of-range",
               .what = fmt::format("train_samples_per_class is {}, which is neither a share nor a number", asked),
               .where = where,
               .fix = "give a share below 1, or a whole number"});
}

void keep_shots(Dataset& train, const LabelSet& labels, double asked, uint64_t seed,
                std::vector<std::string>& warnings) {
  std::vector<std::vector<size_t>> rows_of(labels.names.size());
  for (size_t i = 0; i < train.rows.size(); ++i) rows_of[static_cast<size_t>(train.rows[i].label)].push_back(i);
  std::vector<bool> kept(train.rows.size());
  std::vector<std::string> poor;
  for (size_t label = 0; label < rows_of.size(); ++label) {
    std::vector<size_t>& rows = rows_of[label];
    if (rows.empty()) continue;
    if (asked > static_cast<double>(rows.size())) poor.push_back(labels.names[label]);
    std::mt19937_64 engine(mix_seed(mix_seed(seed, kStream), label));
    shuffle(rows, engine);
    for (size_t i = 0; i < shots_of(asked, rows.size()); ++i) kept[rows[i]] = true;
  }
  size_t count = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i]) std::swap(train.rows[count++], train.rows[i]);
  }
  train.rows.resize(count);
  if (poor.empty()) return;
  warnings.push_back(fmt::format("train_samples_per_class is {:g}, and {} of {} classes have fewer rows: {}", asked,
                                 poor.size(), rows_of.size(), listed(poor)));
}

void repeat(Dataset& train, int64_t least) {
  const size_t count = train.rows.size();
  if (count == 0) return;
  const size_t wanted = (static_cast<size_t>(least) + count - 1) / count * count;
  train.rows.reserve(std::max(count, wanted));
  while (train.rows.size() < wanted) train.rows.push_back(train.rows[train.rows.size() - count]);
}

}  // namespace

void FewShot::fields(FieldVisitor& f) {
  f.field("train_samples_per_class", train_samples_per_class,
          "Train on so many rows of each class, drawn by the seed from those that max_train_samples leaves; below 1 it "
          "is the share of each class, 0 is all.",
          at_least(0));
  f.field("min_train_samples", min_train_samples,
          "Repeat the training rows until an epoch has at least so many, so that few rows make more than a few steps.",
          at_least(0));
}

void FewShot::apply(Dataset& train, const LabelSet& labels, uint64_t seed, std::vector<std::string>& warnings) const {
  if (train_samples_per_class > 0) {
    check(train_samples_per_class, labels);
    keep_shots(train, labels, train_samples_per_class, seed, warnings);
  }
  if (min_train_samples > 0) repeat(train, min_train_samples);
}

}  // namespace deltaw::data
