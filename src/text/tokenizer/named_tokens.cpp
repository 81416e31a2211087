#include "text/tokenizer/named_tokens.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "text/convert/vocabulary_files.h"

namespace deltaw::text {
namespace {

/// `token` is a text or an object that describes it.
NamedToken named(const TokenizerValue& token, bool special, std::optional<int64_t> id = {}) {
  const bool object = token.json().is_object();
  const auto flag = [&](const char* name, bool otherwise) { return object ? token.flag(name, otherwise) : otherwise; };
  special = flag("special", false) || special;
  return {.token = {{"content", object ? token.text("content") : token.text()},
                    {"single_word", flag("single_word", false)},
                    {"lstrip", flag("lstrip", false)},
                    {"rstrip", flag("rstrip", false)},
                    {"normalized", flag("normalized", !special)},
                    {"special", special}},
          .id = id,
          .where = token.where()};
}

int64_t id_of(const std::string& key, const TokenizerValue& token) {
  if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos) {
    token.fail("expected an id as key");
  }
  return std::stoll(key);
}

bool holds(const std::vector<NamedToken>& tokens, const std::string& content) {
  return std::any_of(tokens.begin(), tokens.end(), [&](const NamedToken& other) { return other.content() == content; });
}

/// The special tokens and those that go by other names, each once.
std::vector<NamedToken> by_name(const TokenizerConfig& config) {
  std::vector<NamedToken> result;
  const auto add = [&](const TokenizerValue& token) {
    NamedToken next = named(token, /*special=*/true);
    if (!next.content().empty() && !holds(result, next.content())) result.push_back(std::move(next));
  };
  for (const char* name : kSpecialNames) {
    if (const auto entry = config.entry(name)) add(*entry);
  }
  for (const TokenizerValue& token : config.other_names()) add(token);
  for (const char* list : {"extra_special_tokens", "additional_special_tokens"}) {
    const auto entry = config.entry(list);
    if (!entry || entry->json().is_object()) continue;  // an object gives names: see other_names()
    for (const TokenizerValue& token : entry->items()) add(token);
  }
  return result;
}

std::vector<NamedToken> by_id(const TokenizerConfig& config, const std::vector<NamedToken>& specials) {
  std::vector<NamedToken> result;
  if (config.has_decoder()) {
    for (const auto& [key, token] : config.reader().at("added_tokens_decoder").fields()) {
      result.push_back(named(token, /*special=*/false, id_of(key, token)));
      result.back().settles = true;
    }
  } else {
    for (const auto& [content, id] : TokenizerValue(config.added, config.path("added_tokens.json")).fields()) {
      const TokenizerJson token = content;
      result.push_back(named(TokenizerValue(token, id.file(), content), holds(specials, content), id.count()));
    }
  }
  std::stable_sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  std::erase_if(result, [](const NamedToken& token) { return token.content().empty(); });
  return result;
}

[[noreturn]] void refuse(const NamedToken& token, const std::string& what, const std::string& fix) {
  throw Error{{.id = "format.vocabulary",
               .what = fmt::format("the token \"{}\" {}", token.content(), what),
               .where = token.where,
               .fix = fix}};
}

/// The pieces of a tokenizer.json: an object from piece to id, or a list of pieces with scores.
class FilePieces {
 public:
  explicit FilePieces(const TokenizerJson& vocabulary) : vocabulary_(vocabulary) {}

  static bool readable(const TokenizerJson& vocabulary) { return vocabulary.is_object() || vocabulary.is_array(); }

  int64_t size() const { return static_cast<int64_t>(vocabulary_.size()); }

  std::optional<int64_t> id(const std::string& content) const {
    if (vocabulary_.is_object()) {
      const auto found = vocabulary_.find(content);
      return found != vocabulary_.end() && found->is_number_integer() ? std::optional(found->get<int64_t>())
                                                                      : std::nullopt;
    }
    for (size_t i = 0; i < vocabulary_.size(); ++i) {
      const TokenizerJson& entry = vocabulary_[i];
      if (entry.is_array() && !entry.empty() && entry[0] == content) return static_cast<int64_t>(i);
    }
    return std::nullopt;
  }

  /// Of a vocabulary that leaves ids out.
  std::optional<std::string> piece_of(int64_t id) const {
    if (!vocabulary_.is_object()) return std::nullopt;
    for (const auto& [piece, own] : vocabulary_.items()) {
      if (own == id) return piece;
    }
    return std::nullopt;
  }

 private:
  const TokenizerJson& vocabulary_;
};

bool is_entry(const TokenizerJson& token) {
  return token.is_object() && token.contains("content") && token["content"].is_string() && token.contains("id") &&
         token["id"].is_number_integer();
}

class AddedEntries {
 public:
  AddedEntries(TokenizerJson& list, const FilePieces& pieces) : list_(list), pieces_(pieces), next_(pieces.size()) {
    for (const TokenizerJson& token : list) next_ = std::max(next_, token["id"].get<int64_t>() + 1);
  }

  void add(const NamedToken& token) {
    const auto known = std::find_if(list_.begin(), list_.end(), [&](const TokenizerJson& other) {
      return other["content"] == token.token["content"];
    });
    if (known != list_.end()) {
      check_id(token, (*known)["id"].get<int64_t>());
      if (token.settles) known->update(token.token);
      return;
    }
    const auto of_piece = pieces_.id(token.content());
    const int64_t id = of_piece.value_or(next_);
    check_id(token, id);
    if (!of_piece) {
      if (const auto piece = pieces_.piece_of(id)) {
        refuse(token, fmt::format("has no id: the next one, {}, is that of the piece \"{}\"", id, *piece),
               "write it into the added_tokens of tokenizer.json, or use a tokenizer whose ids have no gaps");
      }
      ++next_;
    }
    list_.push_back(token.token);
    list_.back()["id"] = id;
  }

 private:
  TokenizerJson& list_;
  const FilePieces& pieces_;
  int64_t next_;
};

}  // namespace

std::vector<NamedToken> named_tokens(const TokenizerConfig& config) {
  std::vector<NamedToken> specials = by_name(config);
  std::vector<NamedToken> result = by_id(config, specials);
  for (NamedToken& token : specials) {
    if (!holds(result, token.content())) result.push_back(std::move(token));
  }
  return result;
}

void check_id(const NamedToken& named, int64_t id) {
  if (!named.id || *named.id == id) return;
  refuse(named, fmt::format("has the id {} there, but its place in the vocabulary is {}", *named.id, id),
         "ids must be dense: number added tokens on from the model's vocabulary, in order");
}

void add_named_tokens(TokenizerJson& json, const TokenizerConfig& config) {
  if (!json.is_object() || !json.contains("model") || !json["model"].is_object()) return;
  const TokenizerJson& model = json["model"];
  if (!model.contains("vocab") || !FilePieces::readable(model["vocab"])) return;
  TokenizerJson list = json.value("added_tokens", TokenizerJson());
  if (list.is_null()) list = TokenizerJson::array();
  if (!list.is_array() || !std::all_of(list.begin(), list.end(), is_entry)) return;
  const FilePieces pieces(model["vocab"]);
  AddedEntries entries(list, pieces);
  for (const NamedToken& token : named_tokens(config)) entries.add(token);
  std::stable_sort(list.begin(), list.end(),
                   [](const TokenizerJson& a, const TokenizerJson& b) { return a["id"] < b["id"]; });
  json["added_tokens"] = std::move(list);
}

}  // namespace deltaw::text
