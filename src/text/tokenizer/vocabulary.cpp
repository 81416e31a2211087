#include "text/tokenizer/vocabulary.h"

#include <algorithm>

#include <fmt/format.h>

namespace deltaw::text {
namespace {

// Some vocabularies leave ids out. A damaged file must not ask for more memory than the machine has.
constexpr size_t kMostIdsForAPiece = 16;

[[noreturn]] void bad_vocabulary(const TokenizerValue& part, std::string what) {
  throw Error{{.id = "format.vocabulary",
               .what = std::move(what),
               .where = part.where(),
               .fix = "take the tokenizer's files from the checkpoint again"}};
}

}  // namespace

Vocabulary::Vocabulary(const TokenizerValue& part) {
  if (!part.json().is_object()) part.fail(fmt::format("expected an object, found {}", part.json().type_name()));
  if (part.json().empty()) bad_vocabulary(part, "the vocabulary is empty");
  const size_t limit = kMostIdsForAPiece * part.json().size();
  for (const auto& [piece, id] : part.json().items()) {
    // A negative number is a huge one when unsigned.
    if (!id.is_number_integer() || id.get<uint64_t>() >= limit) {
      bad_vocabulary(part, fmt::format("the piece \"{}\" has the id {}; in a vocabulary of {} pieces the ids are less "
                                       "than {}",
                                       piece, id.dump().substr(0, 40), part.json().size(), limit));
    }
    const auto index = id.get<size_t>();
    if (has(static_cast<int64_t>(index))) {
      bad_vocabulary(part, fmt::format("the pieces \"{}\" and \"{}\" share the id {}", pieces_[index], piece, index));
    }
    if (index >= pieces_.size()) {
      pieces_.resize(index + 1);
      present_.resize(index + 1);
    }
    present_[index] = true;
    pieces_[index] = piece;
  }
  index();
}

Vocabulary::Vocabulary(std::vector<std::string> pieces, const TokenizerValue& part)
    : pieces_(std::move(pieces)), present_(pieces_.size(), true) {
  if (pieces_.empty()) bad_vocabulary(part, "the vocabulary is empty");
  index();
}

void Vocabulary::index() {
  ids_.reserve(pieces_.size());
  for (size_t id = 0; id < pieces_.size(); ++id) {
    if (!present_[id]) continue;
    ++size_;
    ids_.insert_or_assign(pieces_[id], static_cast<int32_t>(id));
    longest_ = std::max(longest_, pieces_[id].size());
  }
}

}  // namespace deltaw::text
