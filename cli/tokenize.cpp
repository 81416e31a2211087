#include <fmt/format.h>

#include <fstream>
#include <iostream>

#include "deltaw/error.h"
#include "deltaw/tokenizer.h"
#include "io/checkpoint.h"
#include "options.h"
#include "output.h"

namespace deltaw::cli {
namespace {

struct Keys {
  std::string tokenizer;
  std::string model_name_or_path;
  std::string input_file;
  std::string output_file;
  bool text_pair = false;
  bool add_special_tokens = true;
  int64_t max_length = 0;

  void fields(FieldVisitor& f) {
    f.field("tokenizer", tokenizer, "A tokenizer.json, or a folder with one or with vocabulary files.");
    f.field("model_name_or_path", model_name_or_path, "The checkpoint whose tokenizer is meant.");
    f.field("input_file", input_file, "One text per line; default: standard input.");
    f.field("output_file", output_file, "Where the lines go; default: standard output.");
    f.field("text_pair", text_pair, "Each line holds two texts with a tab between them.");
    f.field("add_special_tokens", add_special_tokens, "Put the model's own tokens around the text.");
    f.field("max_length", max_length, "Tokens per line, special ones included; 0 is no limit.", at_least(0));
  }
};

const Usage kUsageText = {
    .verb = "tokenize",
    .what = "Turns each line of text into one JSON line with ids, tokens and offsets in code points.",
    .example =
        "  echo \"Hello world\" | deltaw tokenize --model_name_or_path MODEL\n"
        "  deltaw tokenize --tokenizer tokenizer.json --input_file texts.txt",
};

Tokenizer open_tokenizer(const Keys& keys) {
  if (!keys.tokenizer.empty() && std::filesystem::is_regular_file(keys.tokenizer)) {
    return Tokenizer::from_file(keys.tokenizer);
  }
  return Tokenizer::from_folder(io::resolve_model(keys.tokenizer.empty() ? keys.model_name_or_path : keys.tokenizer));
}

Encoding encode(const Tokenizer& tokenizer, const std::string& line, const Keys& keys, int64_t row) {
  const EncodeOptions options{.add_special_tokens = keys.add_special_tokens, .max_length = keys.max_length};
  if (!keys.text_pair) return tokenizer.encode(line, options);
  const size_t tab = line.find('\t');
  if (tab == std::string::npos) {
    throw Error({.id = "data.no-pair",
                 .what = "the line holds no tab, so there is no second text",
                 .where = fmt::format("{}, line {}", keys.input_file.empty() ? "standard input" : keys.input_file, row),
                 .fix = "put a tab between the two texts, or leave out --text_pair"});
  }
  return tokenizer.encode(std::string_view(line).substr(0, tab), std::string_view(line).substr(tab + 1), options);
}

}  // namespace

int tokenize(const Args& args) {
  const std::vector<Section> sections = {section_of<Keys>("Keys"), section_of<LogKeys>("Log")};
  const Invocation invocation = parse_args(kUsageText, sections, args);
  if (invocation.help) {
    print_help(kUsageText, sections);
    return kDone;
  }
  Keys keys;
  read_into(keys, invocation);
  if (keys.tokenizer.empty()) require("tokenizer or model_name_or_path", keys.model_name_or_path, kUsageText, "MODEL");

  const Tokenizer tokenizer = open_tokenizer(keys);
  std::ifstream file;
  if (!keys.input_file.empty()) {
    file.open(keys.input_file, std::ios::binary);
    if (!file) {
      throw Error({.id = "io.not-found",
                   .what = "the file cannot be opened",
                   .where = fmt::format("{}, key 'input_file'", keys.input_file),
                   .fix = "check the path"});
    }
  }
  std::istream& input = keys.input_file.empty() ? std::cin : file;
  LineWriter output(keys.output_file);
  int64_t row = 0;
  for (std::string line; std::getline(input, line);) {
    const Encoding encoding = encode(tokenizer, line, keys, ++row);
    Json offsets = Json::array();
    for (const auto& [begin, end] : encoding.offsets) offsets.push_back({begin, end});
    output.write(to_line({{"ids", encoding.ids}, {"tokens", encoding.tokens}, {"offsets", offsets}}));
  }
  output.finish();
  return kDone;
}

}  // namespace deltaw::cli
