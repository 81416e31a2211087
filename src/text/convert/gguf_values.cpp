#include "text/convert/gguf_values.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "core/files.h"
#include "core/log.h"
#include "core/text_file.h"
#include "text/convert/gguf_tokenizer.h"
#include "text/convert/sentencepiece_model.h"
#include "text/tokenizer/tokenizer_files.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text {
namespace {

namespace fs = std::filesystem;
using io::GgufType;
using PieceType = SentencePieceModel::PieceType;  // GGUF's numbers are the same

// As the converter has them, of tokens that stand beside the vocabulary and of places without a token.
constexpr float kScoreOfAdded = -1000, kScoreOfFiller = -10000;

struct Token {
  std::string text;
  float score = kScoreOfFiller;
  PieceType type = PieceType::kUnused;
};

// GGUF's words for transformers' special tokens; "seperator" is its own spelling.
constexpr std::pair<const char*, const char*> kSpecialIds[] = {
    {"bos", "bos"},     {"eos", "eos"}, {"unk", "unknown"}, {"sep", "seperator"},
    {"pad", "padding"}, {"cls", "cls"}, {"mask", "mask"},
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// Some releases do not mark as special what ends a turn.
bool looks_special(const std::string& token) {
  constexpr const char* kBar = "\xEF\xBD\x9C";  // DeepSeek's
  for (const char* name : {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}) {
    if (token == name) return true;
  }
  return (token.starts_with("<|") && token.ends_with("|>")) ||
         (token.starts_with(std::string("<") + kBar) && token.ends_with(std::string(kBar) + ">")) ||
         (token.starts_with("<unused") && token.ends_with(">"));
}

bool has_byte_level(const TokenizerJson& part) {
  if (!part.is_object()) return false;
  if (part.value("type", "") == "ByteLevel") return true;
  const auto steps = part.find("pretokenizers");
  return steps != part.end() && std::any_of(steps->begin(), steps->end(), has_byte_level);
}

/// Both parts of a merge, whichever way a file writes it.
std::pair<std::string, std::string> parts_of(const TokenizerJson& merge) {
  if (merge.is_array()) return {merge.at(0).get<std::string>(), merge.at(1).get<std::string>()};
  const auto& text = merge.get_ref<const std::string&>();
  const size_t blank = text.find(' ');
  return {text.substr(0, blank), blank == std::string::npos ? "" : text.substr(blank + 1)};
}

bool is_heading(const TokenizerJson& merge) {
  return merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version");
}

class Writer {
 public:
  explicit Writer(const TokenizerToWrite& wanted)
      : wanted_(wanted),
        config_(read_tokenizer_config(wanted.folder)),
        source_(read_tokenizer_source(wanted.folder, config_)),
        tokenizer_(Tokenizer::from_folder(wanted.folder)) {
    tokens_.resize(static_cast<size_t>(wanted.rows));
    for (size_t id = 0; id < tokens_.size(); ++id) tokens_[id].text = fmt::format("[PAD{}]", id);
  }

  GgufTokenizer write() {
    const bool bytes = is_bytes();
    put("model", bytes ? "gpt2" : "llama");
    put("pre", !wanted_.pre_tokenizer.empty() ? wanted_.pre_tokenizer
               : bytes                        ? gguf_words_name(tokenizer_, source_.json, source_.name)
                                              : "default");
    bytes ? take_vocabulary() : take_pieces();
    take_added(bytes);
    put_tokens(!bytes);
    if (bytes) put_merges();
    put_ids();
    put("add_bos_token", tokenizer_.prepends_bos());
    put("add_eos_token", tokenizer_.appends_eos());
    if (!bytes && !begins_with_blank()) put("add_space_prefix", false);
    put_chat_templates();
    GgufTokenizer result{.values = std::move(values_)};
    for (const std::string& text : texts()) result.ids.push_back(tokenizer_.encode(text).ids);
    return result;
  }

  static std::vector<std::string> texts() {
    return {kCheckedText,
            "On 29/11/2026 it wasn't 12345.678 but  twice as much;\n\tso   they'd SAY: na\u00efve \u4E2D\u6587?"};
  }

 private:
  void put(const std::string& name, const Json& value) {
    const GgufType type = value.is_boolean()          ? GgufType::boolean
                          : value.is_number_integer() ? GgufType::u32
                                                      : GgufType::text;
    values_.push_back({.key = "tokenizer.ggml." + name, .type = type, .value = value});
  }
  void put_list(const std::string& key, Json list, GgufType items) {
    values_.push_back({.key = key, .type = GgufType::list, .value = std::move(list), .items = items});
  }

  [[noreturn]] void refuse(const std::string& what, const std::string& fix) const {
    throw Error{{.id = "config.unsupported", .what = what, .where = source_.name, .fix = fix}};
  }

  const TokenizerJson& model() const { return source_.json.at("model"); }
  TokenizerValue model_reader() const { return TokenizerValue(source_.json, source_.name).at("model"); }

  bool is_bytes() const {
    const std::string kind = model_reader().text("type", "BPE");
    const bool bytes = has_byte_level(source_.json.value("pre_tokenizer", TokenizerJson()));
    if (kind == "BPE" && (bytes || model_reader().flag("byte_fallback", false))) return bytes;
    refuse(
        fmt::format("llama.cpp's language models have BPE over bytes or SentencePiece's BPE, and this tokenizer is {}",
                    kind == "BPE" ? "another BPE" : kind),
        "write a folder (--to hf), and run it with transformers or deltaw");
  }

  Token& place(const std::string& text, int64_t id) {
    if (id >= 0 && id < wanted_.rows) return tokens_[static_cast<size_t>(id)];
    throw Error{{.id = "format.vocabulary",
                 .what = fmt::format("token {} is \"{}\", and the model has {} rows of word embeddings", id, text,
                                     wanted_.rows),
                 .where = source_.name,
                 .fix = "take the tokenizer that belongs to the model"}};
  }

  void take_vocabulary() {
    for (const auto& [text, id] : model().at("vocab").items()) {
      place(text, id.get<int64_t>()) = {text, 0, PieceType::kNormal};
    }
  }

  /// A SentencePiece model beside the tokenizer.json, where its pieces are those of the vocabulary.
  std::optional<SentencePieceModel> sentencepiece() const {
    const bool own = fs::exists(wanted_.folder / "tokenizer.model");
    const fs::path file = (own ? wanted_.folder : wanted_.pieces) / "tokenizer.model";
    if (!fs::exists(file)) return std::nullopt;
    SentencePieceModel found = read_sentencepiece(file);
    if (found.kind != SentencePieceModel::Kind::kBpe) return std::nullopt;
    const TokenizerJson& vocabulary = model().at("vocab");
    for (size_t id = 0; id < found.pieces.size(); ++id) {
      const auto place = vocabulary.find(found.pieces[id].text);
      if (place == vocabulary.end() || *place != id) return std::nullopt;
    }
    return found;
  }

  void take_pieces() {
    if (const auto found = sentencepiece()) {
      for (size_t id = 0; id < found->pieces.size(); ++id) {
        const SentencePieceModel::Piece& piece = found->pieces[id];
        const bool own = piece.type == PieceType::kUserDefined;  // matched in a text before it is normalised
        place(piece.text, static_cast<int64_t>(id)) = {own ? replaced(piece.text, kBlank, " ") : piece.text,
                                                       piece.score, piece.type};
      }
      return;
    }
    take_vocabulary();
    const std::string unknown = model_reader().text("unk_token", "");
    float score = 0;
    std::unordered_map<std::string, float> scores;
    for (const TokenizerJson& merge : model().at("merges")) {
      const auto [left, right] = parts_of(merge);
      if (scores.emplace(left + right, score).second) score -= 1;
    }
    for (Token& token : tokens_) {
      if (token.type != PieceType::kNormal) continue;
      const auto found = scores.find(token.text);
      const bool byte = token.text.size() == 6 && token.text.starts_with("<0x") && token.text.ends_with(">");
      token.score = byte ? 0 : found != scores.end() ? found->second : score--;
      if (byte) token.type = PieceType::kByte;
      if (token.text == unknown) token = {token.text, 0, PieceType::kUnknown};
    }
  }

  void take_added(bool bytes) {
    const bool listed = config_.has_decoder();  // there the converter looks, and at nothing that has a type otherwise
    const auto added = source_.json.find("added_tokens");
    if (added == source_.json.end()) return;
    for (const TokenizerJson& entry : *added) {
      const auto content = entry.at("content").get<std::string>();
      Token& token = place(content, *tokenizer_.token_to_id(content));
      const bool typed = token.type == PieceType::kUnknown || token.type == PieceType::kControl ||
                         token.type == PieceType::kUserDefined;
      if (!bytes && typed && !listed) continue;
      const bool special = TokenizerValue(entry, source_.name).flag("special", false) || looks_special(content);
      token = {special || bytes ? content : replaced(content, kBlank, " "), kScoreOfAdded,
               special ? PieceType::kControl : PieceType::kUserDefined};
    }
  }

  void put_tokens(bool scored) {
    Json texts = Json::array(), scores = Json::array(), types = Json::array();
    for (const Token& token : tokens_) {
      texts.push_back(token.text);
      scores.push_back(token.score);
      types.push_back(static_cast<int64_t>(token.type));
    }
    put_list("tokenizer.ggml.tokens", std::move(texts), GgufType::text);
    if (scored) put_list("tokenizer.ggml.scores", std::move(scores), GgufType::f32);
    put_list("tokenizer.ggml.token_type", std::move(types), GgufType::i32);
  }

  void put_merges() {
    Json list = Json::array();
    for (const TokenizerJson& merge : model().at("merges")) {
      if (is_heading(merge)) continue;
      const auto [left, right] = parts_of(merge);
      const std::string blank = "\u0120";  // which bytes have for it
      list.push_back(replaced(left, " ", blank) + " " + replaced(right, " ", blank));
    }
    put_list("tokenizer.ggml.merges", std::move(list), GgufType::text);
  }

  /// What the tokenizer takes a special token to be, by usual names too.
  std::optional<int64_t> own_id(const std::string& name) const {
    if (name == "bos") return tokenizer_.bos_id();
    if (name == "eos") return tokenizer_.eos_id();
    if (name == "pad") return tokenizer_.pad_id();
    return name == "mask" ? tokenizer_.mask_id() : std::nullopt;
  }

  /// By the tokenizer's files, for what it puts around a text by itself, else by config.json, whose end may be a list.
  std::optional<int64_t> special_id(const std::string& name) const {
    if (const auto token = config_.token(name + "_token")) {
      if (const auto id = tokenizer_.token_to_id(*token)) return id;
    }
    const bool around = (name == "bos" && tokenizer_.prepends_bos()) || (name == "eos" && tokenizer_.appends_eos());
    if (around) return own_id(name);
    Json id = wanted_.config.value(name + "_token_id", Json());
    if (id.is_array() && !id.empty()) id = Json(id[0]);
    const bool right = id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < wanted_.rows;
    return right ? std::optional(id.get<int64_t>()) : own_id(name);
  }

  void put_ids() {
    for (const auto& [name, key] : kSpecialIds) {
      if (const auto id = special_id(name)) put(fmt::format("{}_token_id", key), *id);
    }
  }

  bool begins_with_blank() const {
    const Encoding text = tokenizer_.encode("a", {.add_special_tokens = false});
    return !text.tokens.empty() && text.tokens.front().starts_with(kBlank);
  }

  void put_chat_templates() {
    const std::string key = "tokenizer.chat_template";
    const auto put_text = [&](const std::string& name, const std::string& text) {
      values_.push_back({.key = name, .type = GgufType::text, .value = text});
    };
    const fs::path jinja = wanted_.folder / "chat_template.jinja";
    if (fs::exists(jinja)) return put_text(key, read_utf8(jinja));
    const TokenizerJson given = config_.config.value("chat_template", TokenizerJson());
    if (given.is_string()) return put_text(key, given.get<std::string>());
    Json names = Json::array();
    for (const TokenizerJson& entry : given.is_array() ? given : TokenizerJson::array()) {
      const auto part = [&](const char* key) {
        return entry.is_object() ? entry.value(key, TokenizerJson()) : TokenizerJson();
      };
      if (!part("name").is_string() || !part("template").is_string()) continue;
      const auto name = part("name").get<std::string>(), text = part("template").get<std::string>();
      if (name == "default") {
        put_text(key, text);
      } else {
        names.push_back(name);
        put_text(key + "." + name, text);
      }
    }
    if (!names.empty()) put_list("tokenizer.chat_templates", std::move(names), GgufType::text);
  }

  const TokenizerToWrite& wanted_;
  TokenizerConfig config_;
  TokenizerSource source_;
  Tokenizer tokenizer_;
  std::vector<Token> tokens_;  // by id
  std::vector<io::GgufValue> values_;
};

bool is_known(const std::string& words) {
  try {
    gguf_words(words, words);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

GgufTokenizer gguf_tokenizer(const TokenizerToWrite& wanted) {
  return Writer(wanted).write();
}

void check_gguf_tokenizer(const fs::path& file, const GgufTokenizer& tokenizer) {
  const auto words = std::find_if(tokenizer.values.begin(), tokenizer.values.end(),
                                  [](const io::GgufValue& value) { return value.key == "tokenizer.ggml.pre"; });
  const std::string name = words->value;
  if (!is_known(name)) {
    return log().warn("how \"{}\" cuts words is not known here: whether it is what the tokenizer does was not checked",
                      name);
  }
  const Tokenizer written = Tokenizer::from_file(file);
  const std::vector<std::string> texts = Writer::texts();
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<int64_t> ids = written.encode(texts[i]).ids;
    if (ids == tokenizer.ids[i]) continue;
    const auto [ours, theirs] = std::mismatch(tokenizer.ids[i].begin(), tokenizer.ids[i].end(), ids.begin(), ids.end());
    const auto token = [&](auto at, const std::vector<int64_t>& list) {
      return at == list.end() ? "nothing" : fmt::format("\"{}\"", written.id_to_token(*at).value_or("?"));
    };
    throw Error{
        {.id = "config.unsupported",
         .what = fmt::format("llama.cpp would make other tokens of a text: its token {} is {}, and {} in the file",
                             ours - tokenizer.ids[i].begin(), token(ours, tokenizer.ids[i]), token(theirs, ids)),
         .where = fmt::format("tokenizer.ggml.pre \"{}\"", name),
         .fix = "give --pre_tokenizer another of llama.cpp's names, or write a folder (--to hf)"}};
  }
}

}  // namespace deltaw::text
