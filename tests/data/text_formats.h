// Rows of text as a file holds them, and which parts of them are trained on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/bytes.h"
#include "data/files.h"

namespace deltaw::test {

class TextFormats : public Files {
 protected:
  TextDataset load(const std::string& name, std::string_view text, const ChatRenderer& render = render_turns,
                   const TextOptions& options = {}, const DataOptions& data = {}) const {
    return load_texts(write(name, text), data, options, render);
  }

  TextExample only(std::string_view row, const ChatRenderer& render = render_turns,
                   const TextOptions& options = {}) const {
    const TextDataset dataset = load("rows.jsonl", row, render, options);
    EXPECT_EQ(dataset.rows.size(), 1u);
    return dataset.rows.at(0);
  }

  void refuses(std::string_view text, const std::string& id, const std::vector<std::string>& words,
               const ChatRenderer& render = render_turns) const {
    expect_error([&] { load("rows.jsonl", text, render, {.max_bad_rows = 0}); }, id, words);
  }
};

/// The trained parts, a bar between them.
inline std::string trained(const TextExample& example) {
  std::string text;
  for (const auto& [begin, end] : example.trained) {
    text += (text.empty() ? "" : "|") + example.text.substr(begin, end - begin);
  }
  return text;
}

}  // namespace deltaw::test
