#include "tasks/token_cls/entities.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "core/suggest.h"
#include "deltaw/error.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::token_cls {
namespace {

constexpr const char* kOutside = "O";

struct Tag {
  char letter = 'O';
  std::string type = "_";
};

/// A letter and what stands behind the first "-".
Tag read(const std::string& tag) {
  if (tag.empty()) return {};
  const size_t width = std::min<size_t>(text::width(tag[0]), tag.size());
  std::string type = tag.substr(width);
  if (const size_t at = type.find('-'); at != std::string::npos) type.erase(0, at + 1);
  return {width == 1 ? tag[0] : '?', type.empty() ? "_" : type};
}

/// The same where a scheme reads the tag: without any "-" around the type.
Tag read_strictly(const std::string& tag) {
  const size_t begin = std::min(tag.find_first_not_of('-', 1), tag.size());
  const size_t end = tag.find_last_not_of('-') + 1;
  return {tag.empty() ? 'O' : tag[0], begin < end ? tag.substr(begin, end - begin) : "_"};
}

// ---- whatever the tags are ----

bool ends(const Tag& before, const Tag& tag) {
  if (before.letter == 'E' || before.letter == 'S') return true;
  const bool within = before.letter == 'B' || before.letter == 'I';
  if (within && (tag.letter == 'B' || tag.letter == 'S' || tag.letter == 'O')) return true;
  return before.letter != 'O' && before.letter != '.' && before.type != tag.type;
}

bool begins(const Tag& before, const Tag& tag) {
  if (tag.letter == 'B' || tag.letter == 'S') return true;
  const bool after_end = before.letter == 'E' || before.letter == 'S' || before.letter == 'O';
  if (after_end && (tag.letter == 'E' || tag.letter == 'I')) return true;
  return tag.letter != 'O' && tag.letter != '.' && before.type != tag.type;
}

std::vector<Entity> lenient(const Tags& tags) {
  std::vector<Entity> found;
  Tag before;
  int64_t begin = 0;
  for (size_t i = 0; i <= tags.size(); ++i) {
    const Tag tag = i < tags.size() ? read(tags[i]) : Tag();
    const auto place = static_cast<int64_t>(i);
    if (ends(before, tag)) found.push_back({before.type, begin, place});
    if (begins(before, tag)) begin = place;
    before = tag;
  }
  return found;
}

// ---- by the rules of a scheme ----

enum class Types { any, same, other };

/// Two neighbours: the letter before, the letter, and how their types are to each other.
struct Pair {
  const char* before;
  const char* letter;
  Types types;
};

struct Scheme {
  const char* name;
  const char* letters;
  std::vector<Pair> start;   // the second begins an entity
  std::vector<Pair> inside;  // and goes on with that of the first
  std::vector<Pair> end;     // the entity of the first is complete
};

const std::vector<Scheme>& schemes() {
  static const std::vector<Scheme> table = {
      {"IOB1",
       "IOB",
       {{"O", "I", Types::any}, {"I", "I", Types::other}, {"B", "I", Types::any}, {"IB", "B", Types::same}},
       {{"BI", "I", Types::same}},
       {{"I", "I", Types::other},
        {"I", "OB", Types::any},
        {"B", "O", Types::any},
        {"B", "I", Types::other},
        {"B", "B", Types::same}}},
      {"IOB2",
       "IOB",
       {{"IOB", "B", Types::any}},
       {{"BI", "I", Types::same}},
       {{"IB", "OB", Types::any}, {"IB", "I", Types::other}}},
      {"IOE1",
       "IOE",
       {{"OE", "I", Types::any}, {"I", "I", Types::other}, {"E", "E", Types::same}},
       {{"I", "IE", Types::same}},
       {{"I", "IE", Types::other}, {"I", "O", Types::any}, {"E", "IE", Types::same}}},
      {"IOE2",
       "IOE",
       {{"OE", "IE", Types::any}, {"I", "IE", Types::other}},
       {{"I", "IE", Types::same}},
       {{"E", "IOE", Types::any}}},
      {"IOBES", "IOBES", {{"IOBES", "BS", Types::any}}, {{"BI", "IE", Types::same}}, {{"SE", "IOBES", Types::any}}},
      {"BILOU", "BILOU", {{"BILOU", "BU", Types::any}}, {{"BI", "IL", Types::same}}, {{"UL", "BILOU", Types::any}}},
  };
  return table;
}

const Scheme& find_scheme(const std::string& name) {
  for (const Scheme& scheme : schemes()) {
    if (name == scheme.name) return scheme;
  }
  throw Error({.id = "config.scheme",
               .what = fmt::format("there is no scheme '{}'", name),
               .where = "key 'scheme'",
               .fix = fmt::format("one of {}", fmt::join(scheme_names(), ", "))});
}

bool holds(const std::vector<Pair>& rules, const Tag& before, const Tag& tag) {
  const bool same = before.type == tag.type;
  return std::any_of(rules.begin(), rules.end(), [&](const Pair& rule) {
    return std::string_view(rule.before).find(before.letter) != std::string_view::npos &&
           std::string_view(rule.letter).find(tag.letter) != std::string_view::npos &&
           (rule.types == Types::any || (rule.types == Types::same) == same);
  });
}

std::vector<Entity> strict(const Tags& tags, const Scheme& scheme) {
  std::vector<Tag> read;
  for (const std::string& tag : tags) read.push_back(read_strictly(tag));
  read.emplace_back();  // what ends the last one
  std::vector<Entity> found;
  Tag before;
  for (size_t i = 0; i < read.size();) {
    size_t end = i + 1;
    if (holds(scheme.start, before, read[i])) {
      while (end < read.size() && holds(scheme.inside, read[end - 1], read[end])) ++end;
      const bool complete = end < read.size() && holds(scheme.end, read[end - 1], read[end]);
      if (complete) found.push_back({read[i].type, static_cast<int64_t>(i), static_cast<int64_t>(end)});
    }
    before = read[end - 1];
    i = end;
  }
  return found;
}

double share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

}  // namespace

const std::vector<std::string>& scheme_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Scheme& scheme : schemes()) all.emplace_back(scheme.name);
    return all;
  }();
  return names;
}

std::vector<Entity> entities_of(const Tags& tags, const std::string& scheme) {
  return scheme.empty() ? lenient(tags) : strict(tags, find_scheme(scheme));
}

bool are_entity_tags(const Tags& names) {
  bool any = false;
  for (const std::string& name : names) {
    if (name == kOutside) continue;
    const bool letter = !name.empty() && std::string_view("BIESLU").find(name[0]) != std::string_view::npos;
    if (!letter || (name.size() > 1 && name[1] != '-')) return false;
    any = true;
  }
  return any;
}

void check_scheme(const std::string& scheme, const Tags& names) {
  if (scheme.empty()) return;
  const Scheme& rules = find_scheme(scheme);
  for (const std::string& name : names) {
    const bool known = !name.empty() && std::string_view(rules.letters).find(name[0]) != std::string_view::npos;
    if (known && are_entity_tags({"B", name})) continue;
    throw Error({.id = "config.scheme",
                 .what = fmt::format("the label '{}' is no tag of {}, whose letters are {}", name, scheme,
                                     fmt::join(std::string_view(rules.letters), ", ")),
                 .where = "key 'scheme'",
                 .fix = "name the scheme of the data, or leave it out: then entities are counted whatever it is"});
  }
}

double EntityCounts::precision() const {
  return share(hits, predicted);
}
double EntityCounts::recall() const {
  return share(hits, labelled);
}
double EntityCounts::f1() const {
  return share(2 * hits, predicted + labelled);
}

void EntityCounts::add(const EntityCounts& more) {
  hits += more.hits;
  predicted += more.predicted;
  labelled += more.labelled;
}

void EntityScores::add(const Tags& predicted, const Tags& labels) {
  const std::vector<Entity> there = entities_of(labels, scheme_), said = entities_of(predicted, scheme_);
  const std::set<Entity> right(there.begin(), there.end());
  for (const Entity& entity : there) types_[entity.type].labelled += 1;
  for (const Entity& entity : said) {
    types_[entity.type].predicted += 1;
    types_[entity.type].hits += right.contains(entity);
  }
  words_ += static_cast<int64_t>(labels.size());
  for (size_t i = 0; i < labels.size(); ++i) right_words_ += predicted[i] == labels[i];
}

EntityCounts EntityScores::all() const {
  EntityCounts sum;
  for (const auto& [type, counts] : types_) sum.add(counts);
  return sum;
}

Json EntityScores::metrics(const std::vector<std::string>& names) const {
  const EntityCounts sum = all();
  double macro = 0;
  for (const auto& [type, counts] : types_) macro += counts.f1() / static_cast<double>(types_.size());
  Json metrics = Json::object();
  for (const std::string& name : names) {
    if (name == "precision") metrics[name] = sum.precision();
    if (name == "recall") metrics[name] = sum.recall();
    if (name == "f1") metrics[name] = sum.f1();
    if (name == "f1_macro") metrics[name] = types_.empty() ? Json() : Json(macro);
    if (name == "accuracy") metrics[name] = words_ > 0 ? Json(share(right_words_, words_)) : Json();
  }
  return metrics;
}

Json EntityScores::by_type() const {
  Json types = Json::object();
  for (const auto& [type, counts] : types_) {
    types[type] = {{"precision", counts.precision()},
                   {"recall", counts.recall()},
                   {"f1", counts.f1()},
                   {"number", counts.labelled}};
  }
  return types;
}

std::vector<std::string> metric_names(const Tags& names) {
  if (!are_entity_tags(names)) return {"accuracy"};
  return {"f1", "precision", "recall", "accuracy"};
}

void check_metric(const std::string& name, const Tags& names) {
  std::vector<std::string> known = metric_names(names);
  if (known.size() > 1) known.push_back("f1_macro");
  known.push_back("loss");
  if (std::find(known.begin(), known.end(), name) != known.end()) return;
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("'{}' is no metric of a token classifier with these labels", name),
               .where = "key \"metric_for_best_model\"",
               .fix = suggest_names(name, known, fmt::format("one of: {}", fmt::join(known, ", ")))});
}

}  // namespace deltaw::token_cls
