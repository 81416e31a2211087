// Reading tokenizer.json with errors that name the file and the part.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltaw/error.h"

namespace deltaw::text {

/// JSON with sorted keys: a vocabulary is an object of up to hundreds of thousands of keys.
using TokenizerJson = nlohmann::json;

/// One value of a tokenizer file and the way to it. A value that is missing or of a wrong type throws format.tokenizer.
class TokenizerValue {
 public:
  TokenizerValue(const TokenizerJson& value, std::string file, std::string path = {}, int depth = 0)
      : value_(&value), file_(std::move(file)), path_(std::move(path)), depth_(depth) {}

  const TokenizerJson& json() const { return *value_; }
  const std::string& file() const { return file_; }
  int depth() const { return depth_; }  // levels below the value that the file holds

  bool has(const std::string& key) const;  // present and not null
  TokenizerValue at(const std::string& key) const;
  std::vector<TokenizerValue> items() const;                           // of an array
  std::vector<std::pair<std::string, TokenizerValue>> fields() const;  // of an object, by key

  std::string text() const;
  bool flag() const;
  int64_t count() const;  // a whole number from 0 to 2^31 - 1

  std::string text(const std::string& key) const { return at(key).text(); }
  std::string text(const std::string& key, const std::string& otherwise) const;
  bool flag(const std::string& key) const { return at(key).flag(); }
  bool flag(const std::string& key, bool otherwise) const;
  int64_t count(const std::string& key) const { return at(key).count(); }

  std::string where() const;

  [[noreturn]] void fail(const std::string& what) const;         // format.tokenizer
  [[noreturn]] void unsupported(const std::string& what) const;  // format.unsupported

 private:
  const TokenizerJson* value_;
  std::string file_;
  std::string path_;
  int depth_;
};

}  // namespace deltaw::text
