// What llama.cpp's names of pre-tokenizers stand for: the patterns are those of the tokenizer.json of the models they
// are named after; which model has which, and what else differs, is from llama.cpp's src/llama-vocab.cpp.
#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "text/convert/gguf_tokenizer.h"

namespace deltaw::text {
namespace {

// GPT-2's; in a ByteLevel pre-tokenizer it is there already.
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                                R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                                R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Chinese and Japanese letters; Chinese letters and, as DeepSeek has it, most scripts between.
constexpr const char* kHanAndKana = "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+";
constexpr const char* kHanAndMore = "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+";

TokenizerJson byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

TokenizerJson sequence(TokenizerJson steps) {
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

/// One pattern after the other, then bytes.
TokenizerJson splits(std::initializer_list<const char*> patterns) {
  TokenizerJson steps = TokenizerJson::array();
  for (const char* pattern : patterns) {
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  steps.push_back(byte_level(false));
  return sequence(std::move(steps));
}

TokenizerJson gpt2() {
  return byte_level(true);
}
TokenizerJson digits_first() {
  return sequence({{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)});
}
TokenizerJson llama3() {
  return splits({kLlama3});
}
TokenizerJson qwen2() {
  return splits({kQwen2});
}
TokenizerJson qwen35() {
  return splits({kQwen35});
}
TokenizerJson gpt4o() {
  return splits({kGpt4o});
}
TokenizerJson tekken() {
  return splits({kTekken});
}
TokenizerJson seed_coder() {
  return splits({kSeedCoder});
}
TokenizerJson deepseek_coder() {
  return splits({R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kHanAndMore, R"(\p{N})"});
}
TokenizerJson deepseek3() {
  return splits({R"(\p{N}{1,3})", kHanAndKana, kDeepSeek3});
}
TokenizerJson falcon() {
  return splits({R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2, "[0-9][0-9][0-9]"});
}
/// llama.cpp's own, for files that name none.
TokenizerJson unnamed() {
  return splits({R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"});
}

struct Row {
  const char* name;
  TokenizerJson (*pre_tokenizer)();
  unsigned more = 0;
};

constexpr unsigned kComposed = 1;  // NFC first
constexpr unsigned kWhole = 2;     // GgufWords::whole_words
constexpr unsigned kBos = 4;       // GgufWords::begins_with_bos

constexpr Row kRows[] = {
    {"a.x-4.0", gpt2},
    {"codeshell", digits_first},
    {"dbrx", llama3},
    {"deepseek-coder", deepseek_coder},
    {"deepseek-r1-qwen", qwen2, kComposed},
    {"deepseek-v3", deepseek3},
    {"default", unnamed},
    {"exaone", digits_first},
    {"exaone4", gpt2},
    {"falcon", falcon},
    {"falcon3", llama3, kWhole | kBos},
    {"gigachat", gpt2},
    {"gpt-2", gpt2},
    {"gpt-4o", gpt4o},
    {"jais", gpt2},
    {"kanana2", gpt4o},
    {"lfm2", llama3, kWhole | kBos},
    {"llama-bpe", llama3, kWhole | kBos},
    {"llama-v3", llama3, kWhole | kBos},
    {"llama3", llama3, kWhole | kBos},
    {"llama4", gpt4o},
    {"megrez", qwen2},
    {"mellum", gpt2},
    {"mellum2", digits_first},
    {"midm-2.0", llama3, kWhole | kBos},
    {"minerva-7b", digits_first},
    {"mpt", gpt2},
    {"olmo", gpt2},
    {"phi-2", gpt2},
    {"pixtral", llama3, kWhole | kBos},
    {"qwen2", qwen2, kComposed},
    {"qwen35", qwen35, kComposed},
    {"refact", digits_first},
    {"seed-coder", seed_coder},
    {"smaug-bpe", llama3},
    {"smollm", digits_first},
    {"stablelm2", qwen2},
    {"starcoder", digits_first},
    {"tekken", tekken, kWhole | kBos},
    {"trillion", gpt2},
};

}  // namespace

GgufWords gguf_words(const std::string& name, const std::string& where) {
  const auto row =
      std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& other) { return name == other.name; });
  if (row != std::end(kRows)) {
    return {.pre_tokenizer = row->pre_tokenizer(),
            .normalizer = (row->more & kComposed) != 0 ? TokenizerJson{{"type", "NFC"}} : TokenizerJson(),
            .whole_words = (row->more & kWhole) != 0,
            .begins_with_bos = (row->more & kBos) != 0};
  }
  std::string known;
  for (const Row& other : kRows) known += (known.empty() ? "" : ", ") + std::string(other.name);
  throw Error{{.id = "format.unsupported",
               .what = fmt::format("the pre-tokenizer \"{}\" is not known; known are {}", name, known),
               .where = where,
               .fix = "give the folder of the model's Hugging Face checkpoint as 'tokenizer', which says how words are "
                      "cut"}};
}

}  // namespace deltaw::text
