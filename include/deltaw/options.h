// Options are plain structs. Each declares its fields once, in a member
//
//   void fields(FieldVisitor& f) { f.field("r", r, "Rank of the update.", at_least(1)); }
//
// and reading, writing, help, ranges and the nearest-name hints are derived from that one place.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace deltaw {

/// JSON that keeps the order of its keys.
using Json = nlohmann::ordered_json;

/// The values a field may take: checked on reading, printed in help.
struct Rule {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;   // low itself is not allowed
  bool high_open = false;  // high itself is not allowed
  std::vector<std::string> choices;
  /// The items of a list are paths: a text is one path, commas included, and a text that is a JSON list is several.
  bool paths = false;

  bool allows(double value) const;
  std::string text() const;  // ">= 1", "in [0, 1)", "one of: linear, cosine", or empty
};

Rule at_least(double low);
Rule above(double low);
Rule between(double low, double high);  // [low, high]
Rule fraction();                        // [0, 1)
Rule one_of(std::vector<std::string> choices);
Rule paths();

/// Sees every field of an options struct in turn. A Json field holds what has no single type: a list or a regular
/// expression, a map of patterns.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;
  virtual void field(const char* name, bool& value, const char* help, const Rule& rule = {}) = 0;
  virtual void field(const char* name, int64_t& value, const char* help, const Rule& rule = {}) = 0;
  virtual void field(const char* name, double& value, const char* help, const Rule& rule = {}) = 0;
  virtual void field(const char* name, std::string& value, const char* help, const Rule& rule = {}) = 0;
  virtual void field(const char* name, std::vector<std::string>& value, const char* help, const Rule& rule = {}) = 0;
  virtual void field(const char* name, Json& value, const char* help, const Rule& rule = {}) = 0;
};

/// The fields of one options struct, without its type.
using Fields = std::function<void(FieldVisitor&)>;

template <class Options>
Fields fields_of(Options& options) {
  return [&options](FieldVisitor& visitor) { options.fields(visitor); };
}

/// One field as help and documentation show it.
struct FieldInfo {
  std::string name;
  std::string type;  // "bool", "int", "float", "string", "list", "files", "json"
  Json default_value;
  std::string range;  // Rule::text()
  std::vector<std::string> choices;
  std::string help;
};

/// Sets every field that `values` holds; keys that are no field are left alone (see refuse_unknown_keys).
/// A string is accepted for any type and parsed ("1e-3", "true", "a,b", "{...}"), so that flags take the same way as
/// files; null leaves the default. Throws config.wrong-type and config.out-of-range, which name key and value;
/// `where` is the file or "command line".
void read_fields(const Fields& fields, const Json& values, const std::string& where);

/// Name and value of every field, in order.
Json write_fields(const Fields& fields);

std::vector<FieldInfo> describe_fields(const Fields& fields);

/// Throws config.unknown-key for the first key of `values` outside `known`, naming the nearest known ones.
void refuse_unknown_keys(const Json& values, const std::vector<std::string>& known, const std::string& where);

/// The up to three names nearest to `name` by edit distance, nearest first; empty when none is near.
std::vector<std::string> nearest_names(const std::string& name, const std::vector<std::string>& known);

/// "did you mean 'a' or 'b'?", or the whole list when nothing is near and the list is short.
std::string suggest_names(const std::string& name, const std::vector<std::string>& known);

}  // namespace deltaw
