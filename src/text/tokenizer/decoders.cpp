#include <algorithm>
#include <array>
#include <utility>

#include "text/tokenizer/byte_pieces.h"
#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// Undoes what splitting at punctuation did to English texts.
void clean_up(std::string& text) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRules{{{" .", "."},
                                                                                         {" ?", "?"},
                                                                                         {" !", "!"},
                                                                                         {" ,", ","},
                                                                                         {" ' ", "'"},
                                                                                         {" n't", "n't"},
                                                                                         {" 'm", "'m"},
                                                                                         {" do not", " don't"},
                                                                                         {" 's", "'s"},
                                                                                         {" 've", "'ve"},
                                                                                         {" 're", "'re"}}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

class WordPiece final : public Decoder {
 public:
  explicit WordPiece(const TokenizerValue& part) : prefix_(part.text("prefix")), cleanup_(part.flag("cleanup")) {}

  void decode(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) {
        if (tokens[i].starts_with(prefix_)) {
          tokens[i].erase(0, prefix_.size());
        } else {
          tokens[i].insert(0, 1, ' ');
        }
      }
      if (cleanup_) clean_up(tokens[i]);
    }
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class BpeDecoder final : public Decoder {
 public:
  explicit BpeDecoder(const TokenizerValue& part) : suffix_(part.text("suffix")) {
    if (suffix_.empty()) part.unsupported("an empty suffix");
  }

  void decode(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
  }

 private:
  std::string suffix_;
};

class Replace final : public Decoder {
 public:
  explicit Replace(const TokenizerValue& part)
      : find_(make_finder(part.at("pattern"))), content_(part.text("content")) {}

  void decode(std::vector<std::string>& tokens) const override {
    std::vector<Stretch> stretches;
    for (std::string& token : tokens) {
      stretches.clear();
      find_(token, stretches);
      std::string result;
      for (const Stretch& stretch : stretches) {
        result += stretch.is_match ? content_ : token.substr(stretch.begin, stretch.end - stretch.begin);
        check_growth(result.size(), kMostGrowth + token.size());
      }
      token = std::move(result);
    }
  }

 private:
  Finder find_;
  std::string content_;
};

class Fuse final : public Decoder {
 public:
  explicit Fuse(const TokenizerValue&) {}

  void decode(std::vector<std::string>& tokens) const override {
    std::string whole;
    for (const std::string& token : tokens) whole += token;
    tokens.clear();
    tokens.push_back(std::move(whole));
  }
};

/// Removes up to `start` and `stop` times one character from the ends of each token.
class Strip final : public Decoder {
 public:
  explicit Strip(const TokenizerValue& part)
      : content_(part.text("content")), start_(part.count("start")), stop_(part.count("stop")) {
    if (count_code_points(content_) != 1) part.at("content").fail("expected one character");
  }

  void decode(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      size_t begin = 0;
      for (int64_t i = 0; i < start_ && token.compare(begin, content_.size(), content_) == 0; ++i) {
        begin += content_.size();
      }
      size_t end = token.size();
      for (int64_t i = 0; i < stop_ && end >= begin + content_.size() &&
                          token.compare(end - content_.size(), content_.size(), content_) == 0;
           ++i) {
        end -= content_.size();
      }
      token = token.substr(begin, end - begin);
    }
  }

 private:
  std::string content_;
  int64_t start_;
  int64_t stop_;
};

/// Joins runs of byte pieces to text; a run that is not UTF-8 becomes one U+FFFD for each byte.
class ByteFallback final : public Decoder {
 public:
  explicit ByteFallback(const TokenizerValue&) {}

  void decode(std::vector<std::string>& tokens) const override {
    std::vector<std::string> result;
    result.reserve(tokens.size());
    std::string run;
    const auto end_run = [&] {
      if (run.empty()) return;
      if (repaired(run) == run) {
        result.push_back(run);
      } else {
        result.insert(result.end(), run.size(), "\xEF\xBF\xBD");
      }
      run.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = byte_of_piece(token)) {
        run.push_back(*byte);
        continue;
      }
      end_run();
      result.push_back(std::move(token));
    }
    end_run();
    tokens = std::move(result);
  }

  bool settled(const std::vector<std::string>& tokens) const override {
    return tokens.empty() || !byte_of_piece(tokens.back());
  }
};

class Sequence final : public Decoder {
 public:
  explicit Sequence(const TokenizerValue& part) {
    for (const TokenizerValue& item : part.at("decoders").items()) steps_.push_back(make_decoder(item));
  }

  void decode(std::vector<std::string>& tokens) const override {
    for (const auto& step : steps_) step->decode(tokens);
  }

  bool settled(const std::vector<std::string>& tokens) const override {
    return std::all_of(steps_.begin(), steps_.end(), [&](const auto& step) { return step->settled(tokens); });
  }

 private:
  std::vector<std::unique_ptr<Decoder>> steps_;
};

template <class Kind>
std::unique_ptr<Decoder> make(const TokenizerValue& part) {
  return std::make_unique<Kind>(part);
}

constexpr PartKind<Decoder> kKinds[] = {
    {"BPEDecoder", make<BpeDecoder>},       {"ByteFallback", make<ByteFallback>},
    {"ByteLevel", make_byte_level_decoder}, {"Fuse", make<Fuse>},
    {"Metaspace", make_metaspace_decoder},  {"Replace", make<Replace>},
    {"Sequence", make<Sequence>},           {"Strip", make<Strip>},
    {"WordPiece", make<WordPiece>},
};

}  // namespace

std::unique_ptr<Decoder> make_decoder(const TokenizerValue& part) {
  return make_part(part, "decoder", kKinds);
}

}  // namespace deltaw::text
