// A SentencePiece model as the tokenizer.json that transformers would make of it.
#include <algorithm>
#include <iterator>
#include <limits>
#include <optional>
#include <unordered_map>

#include <fmt/format.h>

#include "text/convert/image_text.h"
#include "text/convert/sentencepiece_model.h"
#include "text/convert/vocabulary_files.h"
#include "text/tokenizer/parts.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text {
namespace {

using PieceType = SentencePieceModel::PieceType;

constexpr const char* kXlmRoberta = "XLMRobertaTokenizer";

std::string to_base64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve(bytes.size() / 3 * 4 + 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - at);
    uint32_t bits = 0;
    for (size_t i = 0; i < 3; ++i) bits = bits << 8 | (i < count ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    for (size_t i = 0; i < 4; ++i) result.push_back(i <= count ? kDigits[bits >> (18 - 6 * i) & 63] : '=');
  }
  return result;
}

TokenizerJson replace(TokenizerJson pattern, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", std::move(pattern)}, {"content", content}};
}

TokenizerJson plain(const std::string& text) {
  return {{"String", text}};
}

TokenizerJson metaspace(const std::string& scheme, bool split) {
  return {{"type", "Metaspace"}, {"replacement", kBlank}, {"prepend_scheme", scheme}, {"split", split}};
}

TokenizerJson sequence(const char* of, TokenizerJson steps) {
  return {{"type", "Sequence"}, {of, std::move(steps)}};
}

/// SentencePiece puts its blank before a text that begins with blanks too; one Metaspace alone does not.
TokenizerJson dummy_prefix(const std::string& scheme) {
  TokenizerJson prepend = metaspace(scheme, false);
  prepend["replacement"] = " ";
  return sequence("pretokenizers", {metaspace("never", false), std::move(prepend), metaspace("never", false)});
}

// Real vocabularies have two or three ways to join two pieces to a third.
constexpr size_t kMostWays = 64, kFreeWays = 4096;

/// The pieces that joining may make, the first to be made first: the user's own, which are cut out of a text as a
/// whole, then by score. Pieces of one rank stand together; equal scores are one rank.
std::vector<std::vector<const SentencePieceModel::Piece*>> ranked(const SentencePieceModel& model) {
  std::vector<const SentencePieceModel::Piece*> pieces;
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    const bool joins =
        piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined || piece.type == PieceType::kUnused;
    if (joins) pieces.push_back(&piece);
  }
  const auto score = [](const SentencePieceModel::Piece* piece) {
    return piece->type == PieceType::kUserDefined ? std::numeric_limits<float>::infinity() : piece->score;
  };
  std::stable_sort(pieces.begin(), pieces.end(), [&](auto* a, auto* b) { return score(a) > score(b); });
  std::vector<std::vector<const SentencePieceModel::Piece*>> ranks;
  for (const SentencePieceModel::Piece* piece : pieces) {
    if (ranks.empty() || score(ranks.back().front()) != score(piece)) ranks.emplace_back();
    ranks.back().push_back(piece);
  }
  return ranks;
}

/// Every way to join two pieces to a third, by rank, and the ranks beside them: within one, the library takes the first
/// place in the text. Where a file cannot say that, the shorter left part comes first.
struct MergeList {
  TokenizerJson pairs = TokenizerJson::array();
  TokenizerJson ranks = TokenizerJson::array();
};

MergeList merges_of(const SentencePieceModel& model, const std::string& where) {
  std::unordered_map<std::string_view, PieceType> types;
  for (const SentencePieceModel::Piece& piece : model.pieces) types.emplace(piece.text, piece.type);
  // A piece of the user's own joins with nothing but to another one (runs of blanks).
  const auto joins = [&](std::string_view part, PieceType to) {
    const auto found = types.find(part);
    if (found == types.end()) return false;
    return found->second == PieceType::kNormal || found->second == PieceType::kUnused ||
           (found->second == PieceType::kUserDefined && to == PieceType::kUserDefined);
  };
  MergeList merges;
  int64_t rank = 0;
  for (const auto& pieces : ranked(model)) {
    for (const SentencePieceModel::Piece* piece : pieces) {
      const std::string_view text = piece->text;
      for (size_t at = 0; at < text.size();) {
        at += width(text[at]);
        if (at >= text.size()) break;
        const std::string_view left = text.substr(0, at), right = text.substr(at);
        if (!joins(left, piece->type) || !joins(right, piece->type)) continue;
        merges.pairs.push_back(TokenizerJson::array({left, right}));
        merges.ranks.push_back(rank);
      }
      if (merges.pairs.size() <= kMostWays * model.pieces.size() + kFreeWays) continue;
      throw Error{
          {.id = "format.sentencepiece",
           .what = fmt::format("its {} pieces can be joined in more than {} ways each", model.pieces.size(), kMostWays),
           .where = where,
           .fix = "take the file from the checkpoint again"}};
    }
    ++rank;
  }
  return merges;
}

TokenizerJson vocabulary_of(const SentencePieceModel& model, const std::string& where) {
  TokenizerJson vocabulary = TokenizerJson::object();
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (vocabulary.emplace(model.pieces[id].text, id).second) continue;
    throw Error{{.id = "format.sentencepiece",
                 .what = fmt::format("the piece \"{}\" is there twice", model.pieces[id].text),
                 .where = where,
                 .fix = "take the file from the checkpoint again"}};
  }
  return vocabulary;
}

enum class Family { kLlama, kGemma, kAlbert, kT5, kXlmRoberta, kDeberta, kSiglip };

/// The same pieces in fairseq's order: four of its own, those of the model behind its first three, and the mask.
SentencePieceModel in_fairseq_order(const SentencePieceModel& model) {
  SentencePieceModel result = model;
  result.pieces = {{"<s>", 0, PieceType::kControl},
                   {"<pad>", 0, PieceType::kControl},
                   {"</s>", 0, PieceType::kControl},
                   {"<unk>", 0, PieceType::kUnknown}};
  const auto first = model.pieces.begin() + std::min<std::ptrdiff_t>(3, std::ssize(model.pieces));
  result.pieces.insert(result.pieces.end(), first, model.pieces.end());
  result.pieces.push_back({"<mask>", 0, PieceType::kNormal});  // as what it is added, the configuration says
  result.unk_id = 3;
  result.unk_piece = "<unk>";
  return result;
}

Family family_of(const SentencePieceModel& model, const TokenizerJson& vocabulary, const TokenizerConfig& config,
                 const std::string& where) {
  const std::string name = tokenizer_class(config);
  const bool bpe = model.kind == SentencePieceModel::Kind::kBpe;
  const auto fits = [&](Family family, bool wants_bpe) {
    if (bpe == wants_bpe) return family;
    throw Error{{.id = "format.sentencepiece",
                 .what = fmt::format("{} takes a {} model", name, wants_bpe ? "BPE" : "unigram"),
                 .where = where,
                 .fix = "correct tokenizer_class in tokenizer_config.json"}};
  };
  if (name.starts_with("Llama") || name.starts_with("CodeLlama")) return fits(Family::kLlama, true);
  if (name.starts_with("Gemma")) return fits(Family::kGemma, true);
  if (name.starts_with("Albert")) return fits(Family::kAlbert, false);
  if (name.starts_with("T5")) return fits(Family::kT5, false);
  if (name == kXlmRoberta) return fits(Family::kXlmRoberta, false);
  if (name == "DebertaV2Tokenizer") return fits(Family::kDeberta, false);
  if (name == kSiglipTokenizer) return fits(Family::kSiglip, false);
  if (name.empty() || name.starts_with("PreTrainedTokenizer") || name == "TokenizersBackend") {
    if (bpe) return model.add_dummy_prefix ? Family::kLlama : Family::kGemma;
    const bool framed = vocabulary.contains("[CLS]") && vocabulary.contains("[SEP]");
    if (framed) return vocabulary.contains("[PAD]") ? Family::kDeberta : Family::kAlbert;
    if (vocabulary.contains("</s>")) return Family::kT5;
  }
  throw Error{{.id = "format.unsupported",
               .what = fmt::format("\"{}\" needs a tokenizer.json; from a SentencePiece model LlamaTokenizer, "
                                   "GemmaTokenizer, AlbertTokenizer, T5Tokenizer, XLMRobertaTokenizer, "
                                   "DebertaV2Tokenizer and SiglipTokenizer can be built",
                                   name),
               .where = where,
               .fix = "save the tokenizer with transformers' save_pretrained, which writes tokenizer.json"}};
}

/// Makes the parts of one model.
class Converter {
 public:
  Converter(const SentencePieceModel& model, const TokenizerConfig& config, const std::string& where)
      : model_(model),
        config_(config),
        settings_(config.config, "tokenizer_config.json"),
        where_(where),
        vocabulary_(vocabulary_of(model, where)),
        family_(family_of(model, vocabulary_, config, where)) {}

  TokenizerJson convert() {
    if (family_ == Family::kT5) add_sentinels();
    TokenizerJson defaults = {{"unk_token", model_.unk_piece}};
    if (family_ == Family::kAlbert || family_ == Family::kDeberta) {
      defaults.update({{"bos_token", "[CLS]"},
                       {"eos_token", "[SEP]"},
                       {"sep_token", "[SEP]"},
                       {"pad_token", family_ == Family::kAlbert ? "<pad>" : "[PAD]"},
                       {"cls_token", "[CLS]"},
                       {"mask_token", "[MASK]"}});
    } else if (family_ == Family::kXlmRoberta) {
      defaults.update({{"bos_token", "<s>"},
                       {"eos_token", "</s>"},
                       {"sep_token", "</s>"},
                       {"pad_token", "<pad>"},
                       {"cls_token", "<s>"},
                       {"mask_token", "<mask>"}});
    } else if (family_ == Family::kSiglip) {
      defaults = {{"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", "</s>"}};
    } else {
      defaults["eos_token"] = model_.eos_piece;
      if (family_ != Family::kT5) defaults["bos_token"] = model_.bos_piece;
      if (family_ != Family::kLlama) defaults["pad_token"] = "<pad>";
      if (family_ == Family::kGemma) defaults["mask_token"] = "<mask>";
    }
    for (auto token = defaults.begin(); model_.complete && token != defaults.end();) {
      token = vocabulary_.contains(token->get<std::string>()) ? std::next(token) : defaults.erase(token);
    }
    AddedList added(vocabulary_, config_);
    for (const SentencePieceModel::Piece& piece : model_.pieces) {
      const bool control = piece.type == PieceType::kControl && family_ != Family::kSiglip;
      if (!control && piece.type != PieceType::kUserDefined) continue;
      added.add({{"content", piece.text}, {"normalized", false}}, control);
    }
    for (const std::string& sentinel : sentinels_) added.add({{"content", sentinel}, {"normalized", false}}, true);
    const TokenizerJson ids = add_special_tokens(added, config_, defaults);
    TokenizerJson result = {{"added_tokens", added.take()}, {"post_processor", post_processor(ids, defaults)}};
    set_text_parts(result);
    result["model"] = model();
    return result;
  }

 private:
  /// <extra_id_99> to <extra_id_0>, after the pieces.
  void add_sentinels() {
    const int64_t count = settings_.has("extra_ids") ? settings_.count("extra_ids") : 100;
    if (count > 10000) settings_.at("extra_ids").fail("more than 10000 sentinel tokens");
    for (int64_t i = count - 1; i >= 0; --i) {
      const std::string name = fmt::format("<extra_id_{}>", i);
      if (vocabulary_.emplace(name, vocabulary_.size()).second) sentinels_.push_back(name);
    }
  }

  TokenizerJson post_processor(const TokenizerJson& ids, const TokenizerJson& defaults) const {
    const auto content = [&](const char* name) {
      return config_.token(name).value_or(defaults.value(name, std::string()));
    };
    const auto mark = [&](bool wanted, const char* name) -> Mark {
      if (!wanted || !ids.contains(name)) return std::nullopt;
      return std::pair{content(name), ids[name].get<int64_t>()};
    };
    switch (family_) {
      case Family::kXlmRoberta: {
        const std::string bos = content("bos_token"), eos = content("eos_token");
        TokenizerJson single = {place("SpecialToken", bos, 0), place("Sequence", "A", 0),
                                place("SpecialToken", eos, 0)};
        TokenizerJson pair = single;
        for (TokenizerJson step :
             {place("SpecialToken", eos, 0), place("Sequence", "B", 0), place("SpecialToken", eos, 0)}) {
          pair.push_back(std::move(step));
        }
        return {{"type", "TemplateProcessing"},
                {"single", std::move(single)},
                {"pair", std::move(pair)},
                {"special_tokens", marks({{bos, ids["bos_token"]}, {eos, ids["eos_token"]}})}};
      }
      case Family::kDeberta:
      case Family::kAlbert: {
        const std::string cls = content("cls_token");
        const std::string sep = content("sep_token");
        TokenizerJson single = {place("SpecialToken", cls, 0), place("Sequence", "A", 0),
                                place("SpecialToken", sep, 0)};
        TokenizerJson pair = single;
        pair.push_back(place("Sequence", "B", 1));
        pair.push_back(place("SpecialToken", sep, 1));
        return {{"type", "TemplateProcessing"},
                {"single", std::move(single)},
                {"pair", std::move(pair)},
                {"special_tokens", marks({{cls, ids["cls_token"]}, {sep, ids["sep_token"]}})}};
      }
      case Family::kT5: {
        TokenizerJson result = plain_template(std::nullopt, mark(true, "eos_token"));
        for (TokenizerJson& step : result["pair"]) step.begin().value()["type_id"] = 0;
        return result;
      }
      case Family::kSiglip: {
        TokenizerJson result = plain_template(std::nullopt, mark(true, "eos_token"));
        result[kOnce] = true;
        return result;
      }
      default:
        return plain_template(mark(settings_.flag("add_bos_token", true), "bos_token"),
                              mark(settings_.flag("add_eos_token", false), "eos_token"));
    }
  }

  void set_text_parts(TokenizerJson& result) const {
    const bool bpe = family_ == Family::kLlama || family_ == Family::kGemma;
    const bool prefix = settings_.flag("add_prefix_space", bpe ? model_.add_dummy_prefix : true);
    TokenizerJson decoding = {replace(plain(kBlank), " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
    TokenizerJson charsmap;
    if (!model_.charsmap.empty()) {
      charsmap = {{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(model_.charsmap)}};
      // Other unigram models: as transformers makes their tokenizer.json.
      if (bpe || family_ == Family::kSiglip) charsmap[kLongestEntries] = true;
    }
    result["normalizer"] = nullptr;
    TokenizerJson cleaning = TokenizerJson::array();
    if (!charsmap.is_null()) cleaning.push_back(charsmap);
    if (model_.remove_extra_whitespaces) {
      cleaning.push_back(replace({{"Regex", fmt::format(R"(\A +|[ {}]+\z)", kBlank)}}, ""));
      cleaning.push_back(replace({{"Regex", " {2,}"}}, " "));
    }
    switch (family_) {
      case Family::kLlama: {
        // Where blanks are taken off the beginning, no place in the text tells the first part of it.
        const bool always = settings_.flag("legacy", false) || model_.remove_extra_whitespaces;
        if (!cleaning.empty()) result["normalizer"] = sequence("normalizers", std::move(cleaning));
        result["pre_tokenizer"] = prefix ? dummy_prefix(always ? "always" : "first") : metaspace("never", false);
        if (prefix) decoding.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
        result["decoder"] = sequence("decoders", decoding);
        return;
      }
      case Family::kGemma:
        cleaning.push_back(replace(plain(" "), kBlank));
        result["normalizer"] = cleaning.size() == 1 ? cleaning[0] : sequence("normalizers", std::move(cleaning));
        result["pre_tokenizer"] = {
            {"type", "Split"}, {"pattern", plain(" ")}, {"behavior", "MergedWithPrevious"}, {"invert", false}};
        result["decoder"] = sequence("decoders", decoding);
        return;
      case Family::kAlbert: {
        TokenizerJson steps = {replace(plain("``"), "\""), replace(plain("''"), "\"")};
        if (!settings_.flag("keep_accents", false)) {
          steps.push_back({{"type", "NFKD"}});
          steps.push_back({{"type", "StripAccents"}});
        }
        if (settings_.flag("do_lower_case", true)) steps.push_back({{"type", "Lowercase"}});
        if (!charsmap.is_null()) steps.push_back(charsmap);
        result["normalizer"] = sequence("normalizers", std::move(steps));
        break;
      }
      case Family::kDeberta: {
        TokenizerJson steps = TokenizerJson::array(), cuts = TokenizerJson::array();
        if (settings_.flag("do_lower_case", false)) steps.push_back({{"type", "Lowercase"}});
        steps.push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
        if (!charsmap.is_null()) steps.push_back(charsmap);
        steps.push_back(replace({{"Regex", " {2,}"}}, " "));
        result["normalizer"] = sequence("normalizers", std::move(steps));
        if (settings_.flag("split_by_punct", false)) {
          cuts.push_back({{"type", "Punctuation"}, {"behavior", "Isolated"}});
        }
        cuts.push_back(metaspace(prefix ? "always" : "never", true));
        result["pre_tokenizer"] = sequence("pretokenizers", std::move(cuts));
        result["decoder"] = metaspace(prefix ? "always" : "never", true);
        return;
      }
      case Family::kSiglip:
        result["normalizer"] = siglip_normalizer(config_, charsmap, model_.remove_extra_whitespaces);
        result["pre_tokenizer"] = metaspace("never", false);
        result["decoder"] = siglip_decoder();
        return;
      case Family::kXlmRoberta:
      case Family::kT5:
        if (!charsmap.is_null()) result["normalizer"] = charsmap;
        break;
    }
    const char* scheme = prefix ? "always" : "never";
    result["pre_tokenizer"] = sequence("pretokenizers", {{{"type", "WhitespaceSplit"}}, metaspace(scheme, true)});
    result["decoder"] = metaspace(scheme, true);
  }

  TokenizerJson model() {
    if (family_ == Family::kLlama || family_ == Family::kGemma) {
      MergeList merges = merges_of(model_, where_);
      return {{"type", "BPE"},
              {"unk_token", vocabulary_.contains(model_.unk_piece) ? TokenizerJson(model_.unk_piece) : TokenizerJson()},
              {"fuse_unk", true},
              {"byte_fallback", model_.byte_fallback},
              {"vocab", std::move(vocabulary_)},
              {"merges", std::move(merges.pairs)},
              {kMergeRanks, std::move(merges.ranks)}};
    }
    TokenizerJson scores = TokenizerJson::array();
    for (const SentencePieceModel::Piece& piece : model_.pieces) {
      scores.push_back(TokenizerJson::array({piece.text, static_cast<double>(piece.score)}));
    }
    for (const std::string& sentinel : sentinels_) scores.push_back(TokenizerJson::array({sentinel, 0.0}));
    TokenizerJson result = {{"type", "Unigram"},
                            {"unk_id", model_.unk_id},
                            {"byte_fallback", model_.byte_fallback},
                            {"vocab", std::move(scores)}};
    if (family_ == Family::kSiglip) result[kBehind] = behind();
    return result;
  }

  /// SiglipTokenizer asks the library for its unknown token and the text in one, so that the text's blanks stay.
  std::string behind() const {
    const bool prefix = model_.add_dummy_prefix && settings_.flag("legacy", true);
    return (prefix ? kBlank : "") + config_.token("unk_token").value_or("<unk>");
  }

  const SentencePieceModel& model_;
  const TokenizerConfig& config_;
  TokenizerValue settings_;
  const std::string& where_;
  TokenizerJson vocabulary_;
  Family family_;
  std::vector<std::string> sentinels_;
};

}  // namespace

TokenizerJson from_sentencepiece(const std::filesystem::path& file, const TokenizerConfig& config) {
  return from_sentencepiece(read_sentencepiece(file), config, file.string());
}

TokenizerJson from_sentencepiece(const SentencePieceModel& model, const TokenizerConfig& config,
                                 const std::string& where) {
  if (model.kind != SentencePieceModel::Kind::kBpe && model.kind != SentencePieceModel::Kind::kUnigram) {
    throw Error{{.id = "format.unsupported",
                 .what = "a word or character model; implemented are BPE and unigram",
                 .where = where,
                 .fix = "use a checkpoint with another tokenizer"}};
  }
  if (model.blank_is_suffix) {
    throw Error{{.id = "format.unsupported",
                 .what = "blanks behind the words (treat_whitespace_as_suffix)",
                 .where = where,
                 .fix = "use a checkpoint with another tokenizer"}};
  }
  if (tokenizer_class(config) == kXlmRoberta) return Converter(in_fairseq_order(model), config, where).convert();
  return Converter(model, config, where).convert();
}

}  // namespace deltaw::text
