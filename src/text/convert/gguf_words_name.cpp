// Which of llama.cpp's names of pre-tokenizers a tokenizer has. Its converter tells them by a checksum of the tokens of
// a text (convert_hf_to_gguf.py), and so knows the vocabularies of releases alone; how words are cut is compared behind
// that.
#include <algorithm>
#include <iterator>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/hub/checksum.h"
#include "text/convert/gguf_tokenizer.h"
#include "text/convert/gguf_values.h"

namespace deltaw::text {
namespace {

struct Row {
  const char* checksum;
  const char* name;
};

/// Of those that gguf_words() knows.
constexpr Row kRows[] = {
    {"b0a6b1c0bd5998ebd9df08611efde34a4ff03faed45ae09c43e6b31ebd4b94cf", "a.x-4.0"},
    {"7b3e7548e4308f52a76e8229e4e6cc831195d0d1df43aed21ac6c93da05fec5f", "codeshell"},
    {"a8594e3edff7c29c003940395316294b2c623e09894deebbc65f33f1515df79e", "dbrx"},
    {"347715f544604f9118bb75ed199f68779f423cabb20db6de6f31b908d04d7821", "deepseek-coder"},
    {"b3f499bb4255f8ca19fccd664443283318f2fd2414d5e0b040fbdd0cc195d6c5", "deepseek-r1-qwen"},
    {"877081d19cf6996e2c4ff0e1236341e9b7bde288f5311a56a937f0afbbb3aeb5", "deepseek-v3"},
    {"4e2b24cc4770243d65a2c9ec19770a72f08cffc161adbb73fcbb6b7dd45a0aae", "exaone"},
    {"2085e1638f6c377a0aa4ead21b27bb4cb941bf800df86ed391011769c1758dfb", "exaone4"},
    {"8aeee3860c56296a157a1fe2fad249ec40aa59b1bb5709f4ade11c4e6fe652ed", "falcon"},
    {"9d032fcbd5501f4a38150912590928bfb36091efb5df11b8e2124b0390e3fb1e", "falcon3"},
    {"ad851be1dba641f2e3711822f816db2c265f788b37c63b4e1aeacb9ee92de8eb", "gigachat"},
    {"0fe1cf6eda062318a1af7270f3331a85c539a01778ff948e24388e949c5282f4", "gpt-2"},
    {"3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454", "gpt-2"},
    {"ccc2ef013c104be7bae2965776d611e1d7a8a2a9c547dd93a682c9a9fc80352e", "gpt-4o"},
    {"b53802fb28e26d645c3a310b34bfe07da813026ec7c7716883404d5e0f8b1901", "jais"},
    {"e4d54df1ebc1f2b91acd986c5b51aa50837d5faf7c7398e73c1f9e9ee5d19869", "kanana2"},
    {"169bf0296a13c4d9b7672313f749eb36501d931022de052aad6e36f2bf34dd51", "lfm2"},
    {"9e454714343b69b99b71795c1d27a68c2a1d15dab111f4d353109f966af29da7", "lfm2"},
    {"0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5", "llama-bpe"},
    {"d353350c764d8c3b39c763113960e4fb4919bea5fbf208a0e3b22e8469dc7406", "llama4"},
    {"d4c8f286ea6b520b3d495c4455483cfa2302c0cfcd4be05d781b6a8a0a7cdaf1", "megrez"},
    {"a1e163ecab2e718a4c829d1148b6e86824ec36163bb71941c3dca9cd5ac25756", "mellum"},
    {"9dcf830ee9990cdbf78cc523a5f7bd9ad8f3f9890c2d3581d2785ad10f07049d", "mellum2"},
    {"f6791d196f87ce6b56a7d234be618e0d58f8cda3549416635b2bebcd22cd95c4", "midm-2.0"},
    {"1431a23e583c97432bc230bff598d103ddb5a1f89960c8f1d1051aaa944d0b35", "minerva-7b"},
    {"b6dc8df998e1cfbdc4eac8243701a65afe638679230920b50d6f17d81c098166", "olmo"},
    {"fcace8b9cac38ce847670c970cd5892031a753a1ef381abd1d9af00f713da085", "phi-2"},
    {"0e9433cbbb161f89e264eb32e8e64bfe69e834973ffca5d41d3948a604a3e2a3", "pixtral"},
    {"d4540891389ea895b53b399da6ac824becc30f2fba0e9ddbb98f92e55ca0e97c", "qwen2"},
    {"e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea", "qwen2"},
    {"1444df51289cfa8063b96f0e62b1125440111bc79a52003ea14b6eac7016fd5f", "qwen35"},
    {"d30d75d9059f1aa2c19359de71047b3ae408c70875e8a3ccf8c5fba56c9d8af4", "qwen35"},
    {"6221ad2852e85ce96f791f476e0b390cf9b474c9e3d1362f53a24a06dc8220ff", "refact"},
    {"d5f1dd6f980fec569fb218a81a7658ac45fc56b38c5a0adeb1c232fbe04ef5ec", "seed-coder"},
    {"c136ed14d01c2745d4f60a9596ae66800e2b61fa45643e72436041855ad4089d", "smaug-bpe"},
    {"855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249", "smollm"},
    {"32d85c31273f8019248f2559fed492d929ea28b17e51d81d3bb36fff23ca72b3", "stablelm2"},
    {"35d91631860c815f952d711435f48d356ebac988362536bed955d43bfa436e34", "starcoder"},
    {"63b97e4253352e6f357cc59ea5b583e3a680eaeaf2632188c2b952de2588485e", "tekken"},
    {"1994ffd01900cfb37395608534236ecd63f2bd5995d6cb1004dda1af50240f15", "trillion"},
};

/// Where several names stand for one way, the one that is written; a way that other names have may be missing.
constexpr const char* kUsualNames[] = {"gpt-2",       "smollm",           "llama-bpe", "dbrx",      "qwen2",
                                       "stablelm2",   "qwen35",           "gpt-4o",    "tekken",    "deepseek-coder",
                                       "deepseek-v3", "deepseek-r1-qwen", "falcon",    "seed-coder"};

std::optional<std::string> by_checksum(const Tokenizer& tokenizer) {
  io::hub::Checksum checksum(std::string(64, '0'), 0);  // as long as a sha256
  checksum.add(fmt::format("[{}]", fmt::join(tokenizer.encode(kCheckedText).ids, ", ")));
  const std::string found = checksum.digits();
  const auto* row =
      std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& each) { return each.checksum == found; });
  return row == std::end(kRows) ? std::nullopt : std::optional<std::string>(row->name);
}

/// Without what changes no id: one step alone is no sequence, and offsets are no ids.
TokenizerJson essence(TokenizerJson part) {
  if (!part.is_object()) return part;
  part.erase("trim_offsets");
  for (const char* list : {"pretokenizers", "normalizers"}) {
    if (!part.contains(list) || !part[list].is_array()) continue;
    for (TokenizerJson& step : part[list]) step = essence(std::move(step));
    if (part[list].size() == 1) return part[list][0];
  }
  return part;
}

std::optional<std::string> by_parts(const TokenizerJson& json) {
  const auto part = [&](const char* name) { return essence(json.value(name, TokenizerJson())); };
  const TokenizerValue model = TokenizerValue(json, "tokenizer.json").at("model");
  for (const char* name : kUsualNames) {
    const GgufWords words = gguf_words(name, name);
    if (essence(words.pre_tokenizer) == part("pre_tokenizer") && essence(words.normalizer) == part("normalizer") &&
        words.whole_words == model.flag("ignore_merges", false)) {
      return name;
    }
  }
  return std::nullopt;
}

}  // namespace

const std::string kCheckedText =
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n\U0001F680 (normal) \U0001F636\u200D\U0001F32B"
    "\uFE0F (multiple emojis concatenated) \u2705 \U0001F999\U0001F999 3 33 333 3333 33333 333333 3333333"
    " 33333333 3.3 3..3 3...3 \u1780\u17B6\u1793\u17CB\u178F\u17C2\u1796\u17B7\u179F\u17C1\u179F\u17A2"
    "\u17B6\u1785\U0001F601 ?\u6211\u60F3\u5728apple\u5DE5\u4F5C1314151\u5929\uFF5E ------======= \u043D"
    "\u0435\u0449\u043E \u043D\u0430 \u0411\u044A\u043B\u0433\u0430\u0440\u0441\u043A\u0438 ''''''```````"
    "\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D yo"
    "u like some tea? We'Ve a'lL";

std::string gguf_words_name(const Tokenizer& tokenizer, const TokenizerJson& json, const std::string& where) {
  if (auto name = by_checksum(tokenizer)) return *std::move(name);
  if (auto name = by_parts(json)) return *std::move(name);
  throw Error{{.id = "config.unsupported",
               .what = "llama.cpp's name for how this tokenizer cuts words does not follow from it",
               .where = where + ", pre_tokenizer",
               .fix = fmt::format("--pre_tokenizer NAME, where llama.cpp has one that cuts so: {}",
                                  fmt::join(kUsualNames, ", "))}};
}

}  // namespace deltaw::text
