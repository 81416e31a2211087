#include "tasks/contrastive_image_text/captions.h"

#include <map>
#include <utility>

#include "data/hold_out.h"

namespace deltaw::contrastive {
namespace {

/// The same images, each once with all of its captions, in the order in which they come first.
CaptionedImages grouped(CaptionedImages images) {
  std::map<std::string, size_t> places;
  std::vector<Captioned> rows;
  for (Captioned& row : images.rows) {
    const auto [place, is_new] = places.emplace(row.image, rows.size());
    if (is_new) {
      rows.push_back(std::move(row));
      continue;
    }
    std::vector<std::string>& captions = rows[place->second].captions;
    captions.insert(captions.end(), row.captions.begin(), row.captions.end());
  }
  images.rows = std::move(rows);
  return images;
}

bool halves(const data::Tables& tables, const DataOptions& options) {
  return options.validation_split > 0 && !tables.has(Split::validation);
}

}  // namespace

CaptionedImages read_split(const data::Tables& tables, const CaptionKeys& keys, const DataOptions& options, Split split,
                           uint64_t seed) {
  const bool parted = halves(tables, options);
  const Split source = parted && split == Split::validation ? Split::train : split;
  CaptionedImages images = grouped(captions_of(tables.read(source), keys, options, Captions::needed));
  data::keep_split(images, options, split, seed, parted);
  return images;
}

bool has_validation(const data::Tables& tables, const DataOptions& options) {
  return options.validation_split > 0 || tables.has(Split::validation);
}

}  // namespace deltaw::contrastive
