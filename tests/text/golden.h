// Results of the reference library (oracle/make_tokenizers.py) and ours in the same form.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "deltaw/tokenizer.h"
#include "support/data.h"

namespace deltaw::test {

inline nlohmann::json read_fixture(const std::string& name) {
  std::ifstream in(fixture("text/fixtures/" + name));
  return nlohmann::json::parse(in);
}

inline const std::vector<std::string>& golden_lines() {
  static const std::vector<std::string> lines = [] {
    std::vector<std::string> result;
    std::ifstream in(fixture("text/fixtures/lines.jsonl"));
    for (std::string line; std::getline(in, line);) result.push_back(nlohmann::json::parse(line).get<std::string>());
    return result;
  }();
  return lines;
}

inline std::string crc(std::string_view text) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> result{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
      result[i] = value;
    }
    return result;
  }();
  uint32_t value = 0xFFFFFFFFu;
  for (const char c : text) value = table[(value ^ static_cast<unsigned char>(c)) & 0xFF] ^ value >> 8;
  char text_of[9];
  std::snprintf(text_of, sizeof(text_of), "%08x", value ^ 0xFFFFFFFFu);
  return text_of;
}

/// One line per token: id, begin, end, type, special, token.
inline std::string canonical(const Encoding& encoding) {
  std::string result;
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    const auto& [begin, end] = encoding.offsets[i];
    for (const int64_t value :
         {encoding.ids[i], begin, end, encoding.type_ids[i], static_cast<int64_t>(encoding.special[i])}) {
      result += std::to_string(value) + ",";
    }
    result += encoding.tokens[i] + "\n";
  }
  return result;
}

inline std::vector<std::string> sums(const nlohmann::json& golden, const char* name) {
  std::istringstream in(golden.at(name).get<std::string>());
  std::vector<std::string> result;
  for (std::string sum; in >> sum;) result.push_back(sum);
  return result;
}

/// Compares `actual(i)` with every checksum under `name`, each of which is of `lines` lines from the i-th; shows the
/// first differences.
template <class Actual>
void expect_sums(const nlohmann::json& golden, const char* name, const Actual& actual, size_t lines = 1) {
  const std::vector<std::string> expected = sums(golden, name);
  ASSERT_FALSE(expected.empty());
  ASSERT_LE(expected.size() * lines, golden_lines().size());
  int64_t different = 0;
  std::string shown;
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::string text = actual(i * lines);
    if (crc(text) == expected[i]) continue;
    if (++different > 3) continue;
    for (size_t line = i * lines; line < (i + 1) * lines; ++line) {
      shown += "line " + std::to_string(line) + ": " + nlohmann::json(golden_lines()[line]).dump(-1, ' ', true) + "\n";
    }
    shown += text;
  }
  EXPECT_EQ(different, 0) << "of " << expected.size() << " results of \"" << name << "\"; the first:\n" << shown;
}

inline void expect_whole(const nlohmann::json& golden, const Tokenizer& tokenizer) {
  const nlohmann::json& whole = golden.at("whole");
  ASSERT_GE(whole.size(), 100u);
  for (size_t i = 0; i < whole.size(); ++i) {
    const Encoding ours = tokenizer.encode(golden_lines()[i]);
    std::vector<int64_t> offsets;
    for (const auto& [begin, end] : ours.offsets) offsets.insert(offsets.end(), {begin, end});
    EXPECT_EQ(ours.ids, whole[i].at("ids").get<std::vector<int64_t>>()) << "line " << i;
    EXPECT_EQ(ours.tokens, whole[i].at("tokens").get<std::vector<std::string>>()) << "line " << i;
    EXPECT_EQ(offsets, whole[i].at("offsets").get<std::vector<int64_t>>()) << "line " << i;
  }
}

/// Lines that share a checksum of what is decoded.
constexpr size_t kDecoded = 10;

/// The lengths that the pairs of the fixtures are cut to.
inline int64_t pair_length(size_t i) {
  return std::array<int64_t, 4>{8, 16, 32, 64}[i % 4];
}

inline void expect_encode_pair_decode(const nlohmann::json& golden, const Tokenizer& tokenizer) {
  const std::vector<std::string>& lines = golden_lines();
  expect_sums(golden, "encode", [&](size_t i) { return canonical(tokenizer.encode(lines[i])); });
  expect_sums(golden, "pair", [&](size_t i) {
    return canonical(tokenizer.encode(lines[i], lines[i + 1], {.max_length = pair_length(i)}));
  });
  const auto decoded = [&](size_t i) {
    std::string text;
    for (size_t line = i; line < i + kDecoded; ++line)
      text += tokenizer.decode(tokenizer.encode(lines[line]).ids) + "\n";
    return text;
  };
  expect_sums(golden, "decode", decoded, kDecoded);
}

inline void expect_golden(const nlohmann::json& golden, const Tokenizer& tokenizer) {
  expect_whole(golden, tokenizer);
  expect_encode_pair_decode(golden, tokenizer);
  expect_sums(golden, "plain",
              [&](size_t i) { return canonical(tokenizer.encode(golden_lines()[i], {.add_special_tokens = false})); });
  EXPECT_EQ(sums(golden, "encode").size(), 5000u);
  EXPECT_EQ(sums(golden, "decode").size() * kDecoded, 5000u);
}

}  // namespace deltaw::test
