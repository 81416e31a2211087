// Entities that the tags of words mark, and scores of them as the package seqeval counts them.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "deltaw/options.h"

namespace deltaw::token_cls {

using Tags = std::vector<std::string>;

struct Entity {
  std::string type;
  int64_t begin = 0, end = 0;  // words [begin, end)

  auto operator<=>(const Entity&) const = default;
};

/// The schemes whose rules can be asked for: "IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU".
const std::vector<std::string>& scheme_names();

/// The entities of one sentence. Without a scheme as conlleval takes them: whatever the tags are, an entity begins at B
/// and S, and where the type changes, and after what ends one (E, S, O). With one, as seqeval's strict mode: only what
/// follows the scheme's rules from the first tag to the last. A tag is a letter, "-" and a type; types are what stands
/// behind the first "-", or "_".
std::vector<Entity> entities_of(const Tags& tags, const std::string& scheme = {});

/// Whether these are tags of entities: "O", and letters of a scheme with types ("B-PER") or alone.
bool are_entity_tags(const Tags& names);

/// Throws config.scheme where one of the tags has no place in the scheme.
void check_scheme(const std::string& scheme, const Tags& names);

/// How often entities of a type were predicted, were there, and both.
struct EntityCounts {
  int64_t hits = 0, predicted = 0, labelled = 0;

  double precision() const;
  double recall() const;
  double f1() const;
  void add(const EntityCounts& more);
};

/// Adds up sentences: entities by their type, and words.
class EntityScores {
 public:
  explicit EntityScores(std::string scheme) : scheme_(std::move(scheme)) {}

  /// Two lists of equal length.
  void add(const Tags& predicted, const Tags& labels);

  const std::map<std::string, EntityCounts>& types() const { return types_; }
  EntityCounts all() const;  // micro
  int64_t words() const { return words_; }

  /// Every name of `names`: precision, recall and f1 of all entities, f1_macro over their types, accuracy of words. 0
  /// where there is nothing to divide by, as seqeval has it; null where there is no word or no type.
  Json metrics(const std::vector<std::string>& names) const;
  /// {"PER": {"precision", "recall", "f1", "number"}, ...}, as the metric of Hugging Face's evaluate.
  Json by_type() const;

 private:
  std::string scheme_;
  std::map<std::string, EntityCounts> types_;
  int64_t words_ = 0, right_words_ = 0;
};

/// The scores of tags of entities, the first of which chooses the best checkpoint; of other tags accuracy.
std::vector<std::string> metric_names(const Tags& names);

/// Throws config.unknown-metric for a name that is none of metric_names(), "f1_macro" or "loss".
void check_metric(const std::string& name, const Tags& names);

}  // namespace deltaw::token_cls
