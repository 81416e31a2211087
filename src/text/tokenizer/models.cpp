#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

constexpr PartKind<Model> kKinds[] = {
    {"BPE", make_bpe},
    {"Unigram", make_unigram},
    {"WordLevel", make_wordlevel},
    {"WordPiece", make_wordpiece},
};

}  // namespace

std::unique_ptr<Model> make_model(const TokenizerValue& part) {
  // Files of early versions do not say the type.
  if (!part.has("type") && part.has("merges")) return make_bpe(part);
  if (!part.has("type") && part.has("continuing_subword_prefix")) return make_wordpiece(part);
  if (!part.has("type") && part.has("vocab") && part.at("vocab").json().is_object()) return make_wordlevel(part);
  return make_part(part, "model", kKinds);
}

}  // namespace deltaw::text
