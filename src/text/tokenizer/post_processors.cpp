#include <utility>

#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

struct Mark {
  std::string token;
  int64_t id;
};

Mark read_mark(const TokenizerValue& part) {
  const std::vector<TokenizerValue> items = part.items();
  if (items.size() != 2) part.fail("expected a token and its id");
  return {items[0].text(), items[1].count()};
}

void add(Encoding& encoding, const Mark& mark, int64_t type_id) {
  encoding.ids.push_back(mark.id);
  encoding.type_ids.push_back(type_id);
  encoding.tokens.push_back(mark.token);
  encoding.offsets.emplace_back(0, 0);
  encoding.special.push_back(1);
  encoding.words.push_back(-1);
}

/// [CLS] A [SEP], then B [SEP] with type 1.
class BertProcessing final : public PostProcessor {
 public:
  explicit BertProcessing(const TokenizerValue& part)
      : sep_(read_mark(part.at("sep"))), cls_(read_mark(part.at("cls"))) {}

  int64_t added_tokens(bool is_pair) const override { return is_pair ? 3 : 2; }

  void process(std::vector<Encoding>& parts, bool add_special_tokens) const override {
    if (!add_special_tokens) return;
    for (size_t i = 0; i < parts.size(); ++i) {
      Encoding whole;
      if (i == 0) add(whole, cls_, 0);
      append(whole, parts[i]);
      add(whole, sep_, i == 0 ? 0 : 1);
      parts[i] = std::move(whole);
    }
  }

 private:
  Mark sep_;
  Mark cls_;
};

/// <s> A </s>, then </s> B </s>; every type is 0.
class RobertaProcessing final : public PostProcessor {
 public:
  explicit RobertaProcessing(const TokenizerValue& part)
      : sep_(read_mark(part.at("sep"))),
        cls_(read_mark(part.at("cls"))),
        trim_offsets_(part.flag("trim_offsets")),
        add_prefix_space_(part.flag("add_prefix_space")) {}

  int64_t added_tokens(bool is_pair) const override { return is_pair ? 4 : 2; }

  void process(std::vector<Encoding>& parts, bool add_special_tokens) const override {
    for (size_t i = 0; i < parts.size(); ++i) {
      if (trim_offsets_) trim_offsets(parts[i], add_prefix_space_);
      parts[i].type_ids.assign(parts[i].ids.size(), 0);
      if (!add_special_tokens) continue;
      Encoding whole;
      add(whole, i == 0 ? cls_ : sep_, 0);
      append(whole, parts[i]);
      add(whole, sep_, 0);
      parts[i] = std::move(whole);
    }
  }

 private:
  Mark sep_;
  Mark cls_;
  bool trim_offsets_;
  bool add_prefix_space_;
};

class ByteLevel final : public PostProcessor {
 public:
  explicit ByteLevel(const TokenizerValue& part)
      : trim_offsets_(part.flag("trim_offsets")), add_prefix_space_(part.flag("add_prefix_space")) {}

  int64_t added_tokens(bool) const override { return 0; }

  void process(std::vector<Encoding>& parts, bool) const override {
    if (!trim_offsets_) return;
    for (Encoding& part : parts) trim_offsets(part, add_prefix_space_);
  }

 private:
  bool trim_offsets_;
  bool add_prefix_space_;
};

class Sequence final : public PostProcessor {
 public:
  explicit Sequence(const TokenizerValue& part) {
    int templates = 0;
    for (const TokenizerValue& item : part.at("processors").items()) {
      if (item.text("type") == "TemplateProcessing" && ++templates > 1) {
        item.unsupported("a second TemplateProcessing in one sequence");
      }
      steps_.push_back(make_post_processor(item));
    }
  }

  int64_t added_tokens(bool is_pair) const override {
    int64_t sum = 0;
    for (const auto& step : steps_) sum += step->added_tokens(is_pair);
    return sum;
  }

  void process(std::vector<Encoding>& parts, bool add_special_tokens) const override {
    for (const auto& step : steps_) step->process(parts, add_special_tokens);
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> steps_;
};

template <class Kind>
std::unique_ptr<PostProcessor> make(const TokenizerValue& part) {
  return std::make_unique<Kind>(part);
}

constexpr PartKind<PostProcessor> kKinds[] = {
    {"BertProcessing", make<BertProcessing>},       {"ByteLevel", make<ByteLevel>},
    {"RobertaProcessing", make<RobertaProcessing>}, {"Sequence", make<Sequence>},
    {"TemplateProcessing", make_template},
};

}  // namespace

std::unique_ptr<PostProcessor> make_post_processor(const TokenizerValue& part) {
  return make_part(part, "post-processor", kKinds);
}

void append(Encoding& encoding, const Encoding& more) {
  const auto join = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  join(encoding.ids, more.ids);
  join(encoding.type_ids, more.type_ids);
  join(encoding.tokens, more.tokens);
  join(encoding.offsets, more.offsets);
  join(encoding.special, more.special);
  join(encoding.words, more.words);
}

}  // namespace deltaw::text
