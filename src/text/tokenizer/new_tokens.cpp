// Tokens added to a tokenizer after it was read, and the files that keep them.
#include <algorithm>

#include <fmt/format.h>

#include "core/files.h"
#include "deltaw/error.h"
#include "text/convert/image_text.h"
#include "text/tokenizer/tokenizer_impl.h"

namespace deltaw {

int64_t Tokenizer::add_tokens(const std::vector<std::string>& tokens, bool special) {
  int64_t added = 0;
  for (const std::string& content : tokens) {
    if (content.empty() || repaired(content) != content) {
      throw Error{{.id = "config.token",
                   .what = content.empty() ? "a new token is empty" : "a new token is not UTF-8",
                   .where = "the tokens to add",
                   .fix = "name tokens of at least one character"}};
    }
    const bool is_new = !token_to_id(content);
    const AddedToken* known = is_new ? nullptr : impl_->added->find(*token_to_id(content));
    AddedToken token = known != nullptr ? *known : AddedToken{.content = content, .normalized = !special};
    token.special = token.special || special;
    impl_->added->add(token, is_new ? impl_->next_id() : *token_to_id(content), impl_->normalizer.get());
    impl_->more.push_back(std::move(token));
    added += is_new;
  }
  return added;
}

/// The number that the tokenizers library gives a new token.
int64_t Tokenizer::Impl::next_id() const {
  const int64_t next = std::max(model->vocabulary().size(), added->bound());
  if (!model->vocabulary().has(next)) return next;
  throw Error{{.id = "config.token",
               .what = fmt::format("a new token would get the id {}, which is that of \"{}\": the vocabulary leaves "
                                   "ids out, and new tokens are numbered from the count of its pieces",
                                   next, model->vocabulary().piece(next)),
               .where = "the tokens to add",
               .fix = "use a tokenizer whose ids have no gaps"}};
}

namespace {

/// What SentencePiece and Python do and tokenizer.json has no key for.
void erase_own_keys(TokenizerJson& json) {
  for (const char* key : {kMergeRanks, kBehind}) json["model"].erase(key);
  if (json["post_processor"].is_object()) json["post_processor"].erase(kOnce);
  const auto erase_from = [](TokenizerJson& step) {
    if (!step.is_object()) return;
    for (const char* key : {kLongestEntries, kAtBeginning, kFinalSigma}) step.erase(key);
  };
  TokenizerJson& normalizer = json["normalizer"];
  erase_from(normalizer);
  if (!normalizer.is_object() || !normalizer.contains("normalizers")) return;
  for (TokenizerJson& step : normalizer["normalizers"]) erase_from(step);
}

}  // namespace

void Tokenizer::save(const std::filesystem::path& folder) const {
  const std::filesystem::path& home = impl_->home;
  TokenizerConfig config = read_tokenizer_config(home);
  config.model_folder = impl_->model_folder;
  const std::filesystem::path name = files().empty() ? std::filesystem::path() : files().front().filename();
  const bool lone_file = name.extension() == ".json" && name != "tokenizer.json" && name != "vocab.json";
  TokenizerJson json = lone_file ? read_tokenizer_json(files().front()) : read_tokenizer_source(home, config).json;
  json["version"] = "1.0";
  erase_own_keys(json);
  TokenizerJson& list = json["added_tokens"];
  if (!list.is_array()) list = TokenizerJson::array();
  for (const AddedToken& token : impl_->more) {
    const TokenizerJson entry = {{"id", *token_to_id(token.content)},
                                 {"content", token.content},
                                 {"single_word", token.single_word},
                                 {"lstrip", token.lstrip},
                                 {"rstrip", token.rstrip},
                                 {"normalized", token.normalized},
                                 {"special", token.special}};
    const auto known = std::find_if(list.begin(), list.end(), [&](const TokenizerJson& other) {
      return other.is_object() && other.value("content", TokenizerJson()) == token.content;
    });
    if (known != list.end()) {
      *known = entry;
    } else {
      list.push_back(entry);
    }
  }
  // transformers' SiglipTokenizer reads no tokenizer.json; what config.json said is lost where the files go alone.
  const std::string kind = tokenizer_class(config);
  if (kind == kSiglip2Tokenizer) {
    config.config["tokenizer_class"] = kind;
  } else if (!config.config.contains("tokenizer_class") || kind == kSiglipTokenizer) {
    config.config["tokenizer_class"] = "PreTrainedTokenizerFast";
  }
  for (const auto& [name, id] :
       {std::pair{"bos_token", bos_id()}, std::pair{"eos_token", eos_id()}, std::pair{"pad_token", pad_id()}}) {
    if (id && !config.token(name)) config.config[name] = *id_to_token(*id);
  }
  std::filesystem::create_directories(folder);
  write_file(folder / "tokenizer.json", json.dump(2) + "\n");
  write_file(folder / "tokenizer_config.json", config.config.dump(2) + "\n");
  if (!config.special_tokens.empty()) {
    write_file(folder / "special_tokens_map.json", config.special_tokens.dump(2) + "\n");
  }
}

}  // namespace deltaw
