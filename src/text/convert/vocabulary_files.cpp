#include "text/convert/vocabulary_files.h"

#include <algorithm>

#include "text/tokenizer/named_tokens.h"

namespace deltaw::text {

AddedList::AddedList(const TokenizerJson& vocabulary, const TokenizerConfig& config) : vocabulary_(vocabulary) {
  next_ = static_cast<int64_t>(vocabulary.size());
  for (const NamedToken& token : named_tokens(config)) {
    if (token.id) check_id(token, add(token.token, false));
  }
  settle();
}

int64_t AddedList::add(const TokenizerJson& token, bool special, bool renew) {
  const TokenizerValue reader(token, "tokenizer_config.json");
  const std::string content = token.is_string() ? token.get<std::string>() : reader.text("content");
  const auto known = places_.find(content);
  const bool is_new = known == places_.end();
  if (!is_new && !(renew && known->second >= settled_)) return list_[known->second]["id"];
  const auto found = vocabulary_.find(content);
  const bool is_piece = found != vocabulary_.end() && found->is_number();
  const int64_t id = !is_new ? list_[known->second]["id"].get<int64_t>() : is_piece ? found->get<int64_t>() : next_++;
  const auto flag = [&](const char* name) { return token.is_object() && reader.flag(name, false); };
  special = special || flag("special");
  TokenizerJson entry = {{"id", id},
                         {"content", content},
                         {"single_word", flag("single_word")},
                         {"lstrip", flag("lstrip")},
                         {"rstrip", flag("rstrip")},
                         {"normalized", token.is_object() ? reader.flag("normalized", !special) : !special},
                         {"special", special}};
  if (is_new) {
    places_[content] = list_.size();
    list_.push_back(std::move(entry));
  } else {
    list_[known->second] = std::move(entry);
  }
  return id;
}

TokenizerJson AddedList::take() {
  std::stable_sort(list_.begin(), list_.end(),
                   [](const TokenizerJson& a, const TokenizerJson& b) { return a["id"] < b["id"]; });
  return std::move(list_);
}

TokenizerJson add_special_tokens(AddedList& added, const TokenizerConfig& config, const TokenizerJson& defaults) {
  TokenizerJson ids = TokenizerJson::object();
  added.settle();
  for (const char* name : kSpecialNames) {
    const auto entry = config.entry(name);
    if (!entry && !defaults.contains(name)) continue;
    ids[name] = added.add(entry ? entry->json() : defaults[name], true, /*renew=*/true);  // the last one tells
  }
  for (const NamedToken& token : named_tokens(config)) added.add(token.token, true);
  return ids;
}

TokenizerJson place(const char* kind, const std::string& id, int64_t type_id) {
  return {{kind, {{"id", id}, {"type_id", type_id}}}};
}

TokenizerJson marks(const std::vector<std::pair<std::string, TokenizerJson>>& tokens) {
  TokenizerJson result = TokenizerJson::object();
  for (const auto& [token, id] : tokens) {
    result[token] = {{"id", token}, {"ids", TokenizerJson::array({id})}, {"tokens", TokenizerJson::array({token})}};
  }
  return result;
}

TokenizerJson plain_template(const Mark& bos, const Mark& eos) {
  TokenizerJson single = TokenizerJson::array();
  TokenizerJson pair = TokenizerJson::array();
  const auto text = [&](const char* id, int64_t type_id, TokenizerJson& to) {
    if (bos) to.push_back(place("SpecialToken", bos->first, type_id));
    to.push_back(place("Sequence", id, type_id));
    if (eos) to.push_back(place("SpecialToken", eos->first, type_id));
  };
  text("A", 0, single);
  text("A", 0, pair);
  text("B", 1, pair);
  std::vector<std::pair<std::string, TokenizerJson>> tokens;
  for (const Mark* mark : {&bos, &eos}) {
    if (*mark) tokens.emplace_back((*mark)->first, (*mark)->second);
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", marks(tokens)}};
}

}  // namespace deltaw::text
