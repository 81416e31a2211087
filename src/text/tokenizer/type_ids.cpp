#include "text/tokenizer/type_ids.h"

#include <algorithm>
#include <string>

namespace deltaw::text {
namespace {

// Those with token_type_ids among their model_input_names; a name may end with "Fast".
constexpr const char* kClasses[] = {"BertTokenizer",
                                    "CanineTokenizer",
                                    "ConvBertTokenizer",
                                    "DPRContextEncoderTokenizer",
                                    "DebertaTokenizer",
                                    "DebertaV2Tokenizer",
                                    "DPRQuestionEncoderTokenizer",
                                    "ElectraTokenizer",
                                    "FNetTokenizer",
                                    "LayoutLMv2Tokenizer",
                                    "LxmertTokenizer",
                                    "MarkupLMTokenizer",
                                    "MobileBertTokenizer",
                                    "SqueezeBertTokenizer",
                                    "TapasTokenizer"};

bool class_gives(std::string name) {
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return std::find(std::begin(kClasses), std::end(kClasses), name) != std::end(kClasses);
}

}  // namespace

bool gives_type_ids(const TokenizerConfig& config, const std::filesystem::path& model_folder) {
  const TokenizerValue own(config.config, "tokenizer_config.json");
  if (own.has("model_input_names")) {
    const std::vector<TokenizerValue> names = own.at("model_input_names").items();
    return std::any_of(names.begin(), names.end(),
                       [](const TokenizerValue& name) { return name.text() == "token_type_ids"; });
  }
  if (own.has("tokenizer_class")) return class_gives(own.text("tokenizer_class"));
  const std::filesystem::path file = model_folder / "config.json";
  if (!std::filesystem::exists(file)) return true;
  const TokenizerJson json = read_tokenizer_json(file);
  if (!json.is_object()) return true;  // the model's reader says so
  const TokenizerValue model(json, file.string());
  if (model.has("tokenizer_class")) return class_gives(model.text("tokenizer_class"));
  // As transformers' AutoTokenizer, which takes BertTokenizer for this model_type.
  return !model.has("model_type") || model.text("model_type") == "bert";
}

}  // namespace deltaw::text
