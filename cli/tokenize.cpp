#include <fmt/format.h>

#include <functional>
#include <iostream>
#include <iterator>
#include <sstream>

#include "core/text_file.h"
#include "deltaw/data.h"
#include "deltaw/error.h"
#include "deltaw/tokenizer.h"
#include "io/resolve_model.h"
#include "options.h"
#include "output.h"
#include "run/claim.h"

namespace deltaw::cli {
namespace {

struct Keys {
  std::string tokenizer;
  std::string model_name_or_path;
  std::string input_file;
  std::string output_file;
  std::string encoding = "utf-8";
  bool text_pair = false;
  bool add_special_tokens = true;
  int64_t max_length = 0;

  void fields(FieldVisitor& f) {
    f.field("tokenizer", tokenizer, "A tokenizer.json, or a folder with one or with vocabulary files.");
    f.field("model_name_or_path", model_name_or_path, "The checkpoint whose tokenizer is meant.");
    f.field("input_file", input_file, "One text per line; default: standard input.");
    f.field("output_file", output_file, "Where the lines go; default: standard output.");
    f.field("encoding", encoding, kEncodingHelp);
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
    .needs = {{.name = "tokenizer or model_name_or_path",
               .any_of = {"tokenizer", "model_name_or_path"},
               .fix = "add --tokenizer FILE or --model_name_or_path MODEL"}},
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

/// Calls `take` with every line, which ends in \n: a tokenizer may have something to say of a carriage return. UTF-8 is
/// taken from standard input as it comes.
void each_text(const Keys& keys, const std::function<void(const std::string& line, int64_t row)>& take) {
  int64_t row = 0;
  if (keys.input_file.empty() && keys.encoding == Keys().encoding) {
    for (std::string line; std::getline(std::cin, line);) {
      ++row;
      take(to_utf8(std::move(line), keys.encoding, "standard input", row), row);
    }
    return;
  }
  std::istringstream lines(keys.input_file.empty()
                               ? to_utf8({std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()},
                                         keys.encoding, "standard input")
                               : read_text(keys.input_file, keys.encoding));
  for (std::string line; std::getline(lines, line);) take(line, ++row);
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

  run::Inputs inputs = run::inputs_of(keys.model_name_or_path, {keys.tokenizer}, {}, {}, invocation.file_name);
  inputs.push_back({run::Input::Kind::file, "input_file", keys.input_file});
  run::refuse_input("output_file", keys.output_file, inputs);
  const Tokenizer tokenizer = open_tokenizer(keys);
  LineWriter output(keys.output_file);
  int64_t rows = 0, cut = 0;
  each_text(keys, [&](const std::string& line, int64_t row) {
    const Encoding encoding = encode(tokenizer, line, keys, row);
    rows = row;
    cut += encoding.truncated ? 1 : 0;
    Json offsets = Json::array();
    for (const auto& [begin, end] : encoding.offsets) offsets.push_back({begin, end});
    output.write(to_line({{"ids", encoding.ids}, {"tokens", encoding.tokens}, {"offsets", offsets}}));
  });
  output.finish();
  if (cut > 0) warning(truncation_warning(cut, rows, keys.max_length));
  return kDone;
}

}  // namespace deltaw::cli
