#include <algorithm>
#include <map>
#include <utility>

#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

/// A place in a template: one of the texts, or marks that are always the same.
struct Place {
  int text;  // 0 or 1; -1 for marks
  int64_t type_id;
  Encoding marks;
};

using Marks = std::map<std::string, Encoding>;

// Templates add a handful. One mark of many tokens named at many places would fill the memory.
constexpr size_t kMostTokens = 4096;
constexpr int kMostUses = 16;

Marks read_marks(const TokenizerValue& part) {
  Marks marks;
  for (const auto& [name, mark] : part.fields()) {
    Encoding& encoding = marks[name];
    for (const TokenizerValue& id : mark.at("ids").items()) encoding.ids.push_back(id.count());
    for (const TokenizerValue& token : mark.at("tokens").items()) encoding.tokens.push_back(token.text());
    if (encoding.ids.size() != encoding.tokens.size()) {
      mark.fail("it has " + std::to_string(encoding.ids.size()) + " ids and " + std::to_string(encoding.tokens.size()) +
                " tokens");
    }
    encoding.offsets.assign(encoding.ids.size(), {0, 0});
    encoding.special.assign(encoding.ids.size(), 1);
    encoding.words.assign(encoding.ids.size(), -1);
  }
  return marks;
}

std::vector<Place> read_places(const TokenizerValue& part, int texts, const Marks& marks) {
  std::vector<Place> places;
  std::vector<int> uses(2, 0);
  size_t tokens = 0;
  for (const TokenizerValue& item : part.items()) {
    if (item.has("Sequence")) {
      const TokenizerValue sequence = item.at("Sequence");
      const std::string id = sequence.text("id");
      if (id != "A" && id != "B") sequence.at("id").fail("expected \"A\" or \"B\", found \"" + id + "\"");
      const int text = id == "A" ? 0 : 1;
      if (text >= texts) sequence.fail("the template for one text uses a second one");
      ++uses[static_cast<size_t>(text)];
      places.push_back({text, sequence.count("type_id"), {}});
    } else {
      const TokenizerValue special = item.at("SpecialToken");
      const std::string id = special.text("id");
      const auto found = marks.find(id);
      if (found == marks.end()) special.at("id").fail("\"" + id + "\" is not among special_tokens");
      tokens += found->second.ids.size();
      if (tokens > kMostTokens) part.fail("the template adds more than " + std::to_string(kMostTokens) + " tokens");
      Place place{-1, special.count("type_id"), found->second};
      place.marks.type_ids.assign(place.marks.ids.size(), place.type_id);
      places.push_back(std::move(place));
    }
  }
  for (int text = 0; text < texts; ++text) {
    if (uses[static_cast<size_t>(text)] == 0) part.fail("the template leaves out a text");
    if (uses[static_cast<size_t>(text)] > kMostUses) part.fail("the template repeats a text too often");
  }
  return places;
}

class TemplateProcessing final : public PostProcessor {
 public:
  explicit TemplateProcessing(const TokenizerValue& part) {
    const Marks marks = read_marks(part.at("special_tokens"));
    single_ = read_places(part.at("single"), 1, marks);
    pair_ = read_places(part.at("pair"), 2, marks);
    once_ = part.flag(kOnce, false);
  }

  int64_t added_tokens(bool is_pair) const override {
    int64_t sum = 0;
    for (const Place& place : is_pair ? pair_ : single_) sum += static_cast<int64_t>(place.marks.ids.size());
    return sum;
  }

  void process(std::vector<Encoding>& parts, bool add_special_tokens) const override {
    std::vector<Encoding> result;
    for (const Place& place : parts.size() == 2 ? pair_ : single_) {
      if (place.text < 0) {
        const bool there = once_ && !result.empty() && ends_with(result.back(), place.marks);
        if (add_special_tokens && !there) result.push_back(place.marks);
        continue;
      }
      result.push_back(parts[static_cast<size_t>(place.text)]);
      result.back().type_ids.assign(result.back().ids.size(), place.type_id);
    }
    parts = std::move(result);
  }

 private:
  static bool ends_with(const Encoding& text, const Encoding& marks) {
    const size_t count = marks.ids.size();
    return text.ids.size() >= count && std::equal(marks.ids.rbegin(), marks.ids.rend(), text.ids.rbegin());
  }

  std::vector<Place> single_;
  std::vector<Place> pair_;
  bool once_ = false;
};

}  // namespace

std::unique_ptr<PostProcessor> make_template(const TokenizerValue& part) {
  return std::make_unique<TemplateProcessing>(part);
}

}  // namespace deltaw::text
