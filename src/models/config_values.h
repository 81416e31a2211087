// Reads what a family takes from config.json; every complaint names the key and its value.
#pragma once

#include <string>
#include <utility>

#include "core/json_fields.h"

namespace deltaw {

class ConfigValues : public JsonFields {
 public:
  /// What is missing, of the wrong type or absurd throws config.bad-model.
  ConfigValues(Json json, std::string where) : JsonFields(std::move(json), std::move(where), "config.bad-model") {}

  /// A number of something: at least 1, and so small that products of a few of them can be counted.
  int64_t size(const char* key) const;
  int64_t size_or(const char* key, int64_t fallback) const { return has(key) ? size(key) : fallback; }
  /// The number of layers, of which each has a place in memory before the checkpoint is asked for its tensors.
  int64_t layers(const char* key) const;
  /// An id of the vocabulary, or a negative number, which counts from its end or stands for none.
  int64_t token(const char* key) const;
  /// What dropout takes: from 0, below 1.
  double dropout_or(const char* key, double fallback) const;
  /// A number from 0 on, such as the term that a norm adds below its root.
  double not_negative_or(const char* key, double fallback) const;
  double positive(const char* key) const;
  double positive_or(const char* key, double fallback) const { return has(key) ? positive(key) : fallback; }
  /// pad_token_id as a row of the word embeddings, negative numbers counted from their end; `where_silent` for a key
  /// that is missing, -1 for null or an id that is no row.
  int64_t padding_row(int64_t rows, int64_t where_silent) const;

  /// Throws config.unsupported for the key's value.
  [[noreturn]] void refuse(const char* key, const std::string& fix) const;
  /// Refuses any other value of the key; it may be missing or null.
  void accept_only(const char* key, const Json& value) const;
};

}  // namespace deltaw
