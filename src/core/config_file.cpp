// Files of options: JSON, or YAML with the scalar types of YAML 1.2's core schema.
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <set>

#include "core/files.h"
#include "core/json.h"
#include "core/text_file.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

constexpr int kMaxDepth = 100;
constexpr size_t kMaxNodes = 1'000'000;

[[noreturn]] void refuse(const YAML::Mark& mark, const std::string& what, const std::string& where,
                         const std::string& id = "format.yaml", const std::string& fix = "correct the text there") {
  const std::string place =
      mark.is_null() ? "" : " at line " + std::to_string(mark.line + 1) + ", column " + std::to_string(mark.column + 1);
  throw Error({.id = id, .what = what + place, .where = where, .fix = fix});
}

bool one_of_words(const std::string& text, std::initializer_list<const char*> words) {
  for (const char* word : words) {
    if (text == word) return true;
  }
  return false;
}

bool all_in(std::string_view text, std::string_view digits) {
  return !text.empty() && text.find_first_not_of(digits) == std::string_view::npos;
}

/// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
bool looks_like_number(std::string_view text, bool& whole) {
  const std::string_view digits = "0123456789";
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  const size_t exponent = text.find_first_of("eE");
  whole = exponent == std::string_view::npos;
  if (!whole) {
    std::string_view power = text.substr(exponent + 1);
    if (!power.empty() && (power[0] == '-' || power[0] == '+')) power.remove_prefix(1);
    if (!all_in(power, digits)) return false;
    text = text.substr(0, exponent);
  }
  const size_t dot = text.find('.');
  if (dot == std::string_view::npos) return all_in(text, digits);
  whole = false;
  const std::string_view before = text.substr(0, dot), after = text.substr(dot + 1);
  if (before.empty()) return all_in(after, digits);
  return all_in(before, digits) && (after.empty() || all_in(after, digits));
}

template <class Number, class... Base>
bool parse_whole(std::string_view text, Number& value, Base... base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base...);
  return error == std::errc() && end == text.data() + text.size();
}

Json plain_scalar(const std::string& text) {
  if (one_of_words(text, {"", "~", "null", "Null", "NULL"})) return nullptr;
  if (one_of_words(text, {"true", "True", "TRUE"})) return true;
  if (one_of_words(text, {"false", "False", "FALSE"})) return false;
  const double infinity = std::numeric_limits<double>::infinity();
  if (one_of_words(text, {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"})) return infinity;
  if (one_of_words(text, {"-.inf", "-.Inf", "-.INF"})) return -infinity;
  if (one_of_words(text, {".nan", ".NaN", ".NAN"})) return std::numeric_limits<double>::quiet_NaN();

  const std::string_view view = text;
  int64_t integer = 0;
  if (view.starts_with("0x") && parse_whole(view.substr(2), integer, 16) && integer >= 0) return integer;
  if (view.starts_with("0o") && parse_whole(view.substr(2), integer, 8) && integer >= 0) return integer;

  bool whole = false;
  if (!looks_like_number(view, whole)) return text;
  const std::string_view digits = view[0] == '+' ? view.substr(1) : view;
  if (whole && parse_whole(digits, integer)) return integer;
  double real = 0;
  if (parse_whole(digits, real)) return real;
  return text;
}

class Converter {
 public:
  explicit Converter(const std::string& where) : where_(where) {}

  Json convert(const YAML::Node& node, int depth = 0) {
    if (depth > kMaxDepth) refuse(node.Mark(), "nested more than 100 levels deep", where_);
    if (++nodes_ > kMaxNodes) refuse(node.Mark(), "more than a million values, aliases unfolded", where_);
    switch (node.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null:
        return nullptr;
      case YAML::NodeType::Scalar:
        return scalar(node);
      case YAML::NodeType::Sequence: {
        Json list = Json::array();
        for (const auto& item : node) list.push_back(convert(item, depth + 1));
        return list;
      }
      case YAML::NodeType::Map:
        return map(node, depth);
    }
    return nullptr;
  }

 private:
  Json scalar(const YAML::Node& node) {
    const std::string& tag = node.Tag();
    const std::string& text = node.Scalar();
    if (tag == "?" || tag.empty()) return plain_scalar(text);
    if (tag == "!" || tag == "tag:yaml.org,2002:str") return text;
    const std::string family = "tag:yaml.org,2002:";
    for (const char* type : {"int", "float", "bool", "null"}) {
      if (tag == family + type) return plain_scalar(text);
    }
    refuse(node.Mark(), "the tag '" + tag + "' is not known", where_);
  }

  Json map(const YAML::Node& node, int depth) {
    Json object = Json::object();
    for (const auto& member : node) {
      if (!member.first.IsScalar()) refuse(member.first.Mark(), "a key is not a plain word", where_);
      const std::string& key = member.first.Scalar();
      if (object.contains(key)) {
        refuse(member.first.Mark(), "the key '" + key + "' stands twice in one mapping", where_, "format.duplicate-key",
               "remove one of the two");
      }
      object[key] = convert(member.second, depth + 1);
    }
    return object;
  }

  const std::string& where_;
  size_t nodes_ = 0;
};

Json read_yaml(const std::string& text, const std::string& where) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.empty()) return nullptr;
    if (documents.size() > 1) refuse(documents[1].Mark(), "a second document begins", where);
    return Converter(where).convert(documents[0]);
  } catch (const YAML::DeepRecursion& cause) {
    refuse(cause.mark, "nested too deep", where);
  } catch (const YAML::Exception& cause) {
    refuse(cause.mark, "not valid YAML: " + cause.msg, where);
  }
}

}  // namespace

Json read_config_file(const std::filesystem::path& path) {
  const std::string ending = path.extension().string();
  const std::string text = read_utf8(path);
  const bool yaml = ending == ".yaml" || ending == ".yml";
  Json values = yaml ? read_yaml(text, path.string()) : parse_json(text, path.string(), DuplicateKeys::refuse);
  if (yaml && values.is_null()) values = Json::object();
  if (values.is_object()) return values;
  throw Error({.id = "config.not-an-object",
               .what = std::string("a file of options holds keys and values, this one a ") + values.type_name(),
               .where = path.string(),
               .fix = yaml ? "write lines such as 'learning_rate: 1e-3'" : "write {\"learning_rate\": 1e-3}"});
}

}  // namespace deltaw
