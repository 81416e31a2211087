#include "text/vocabulary.h"

#include <algorithm>

#include <fmt/format.h>

namespace deltaw::text {
namespace {

[[noreturn]] void bad_vocabulary(const PartReader& part, std::string what) {
  throw Error{{.id = "format.vocabulary",
               .what = std::move(what),
               .where = part.where(),
               .fix = "take the tokenizer's files from the checkpoint again"}};
}

}  // namespace

Vocabulary::Vocabulary(const PartReader& part) {
  if (!part.json().is_object()) part.fail(fmt::format("expected an object, found {}", part.json().type_name()));
  if (part.json().empty()) bad_vocabulary(part, "the vocabulary is empty");
  const size_t limit = part.json().size();
  pieces_.resize(limit);
  std::vector<bool> present(limit);
  for (const auto& [piece, id] : part.json().items()) {
    // A negative number is a huge one when unsigned.
    if (!id.is_number_integer() || id.get<uint64_t>() >= limit) {
      bad_vocabulary(part, fmt::format("the piece \"{}\" has the id {}; a vocabulary of {} pieces has the ids 0 to {}",
                                       piece, id.dump().substr(0, 40), limit, limit - 1));
    }
    const auto index = id.get<size_t>();
    if (present[index]) {
      bad_vocabulary(part, fmt::format("the pieces \"{}\" and \"{}\" share the id {}", pieces_[index], piece, index));
    }
    present[index] = true;
    pieces_[index] = piece;
  }
  index();
}

Vocabulary::Vocabulary(std::vector<std::string> pieces, const PartReader& part) : pieces_(std::move(pieces)) {
  if (pieces_.empty()) bad_vocabulary(part, "the vocabulary is empty");
  index();
}

void Vocabulary::index() {
  ids_.reserve(pieces_.size());
  for (size_t id = 0; id < pieces_.size(); ++id) {
    ids_.insert_or_assign(pieces_[id], static_cast<int32_t>(id));
    longest_ = std::max(longest_, pieces_[id].size());
  }
}

}  // namespace deltaw::text
