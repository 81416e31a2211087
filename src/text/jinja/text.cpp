#include "text/jinja/text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include <fmt/format.h>
#include <unicode/uchar.h>

#include "text/tokenizer/unicode.h"

namespace deltaw::text::jinja {
namespace {

bool printable(char32_t c) {
  if (c == ' ') return true;
  constexpr uint32_t kHidden = U_GC_C_MASK | U_GC_Z_MASK;
  return !(U_MASK(u_charType(static_cast<UChar32>(c))) & kHidden);
}

std::string quoted(const std::string& text) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const auto [c, bytes] = decode(text, at);
    if (c == '\\' || c == static_cast<char32_t>(quote)) {
      out += {'\\', static_cast<char>(c)};
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (printable(c)) {
      out.append(text, at, bytes);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
    at += bytes;
  }
  return out + quote;
}

void append_json_string(const std::string& text, bool ascii, std::string& out) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const auto [c, bytes] = decode(text, at);
    const auto unit = [&](uint32_t value) { out += fmt::format("\\u{:04x}", value); };
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (c >= 0x20 && (!ascii || c < 0x7F)) {
          out.append(text, at, bytes);
        } else if (c < 0x10000) {
          unit(c);
        } else {
          unit(0xD800 + ((c - 0x10000) >> 10));
          unit(0xDC00 + ((c - 0x10000) & 0x3FF));
        }
    }
    at += bytes;
  }
  out += '"';
}

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, Work& work) : style_(style), work_(work) {}

  void write(const Value& value, int level) {
    work_.charge();
    switch (value.kind()) {
      case Kind::none:
        out += "null";
        break;
      case Kind::boolean:
        out += value.as_bool() ? "true" : "false";
        break;
      case Kind::integer:
        out += std::to_string(value.as_integer());
        break;
      case Kind::real:
        out += real(value.as_real());
        break;
      case Kind::string:
        append_json_string(value.text(), style_.ascii, out);
        break;
      case Kind::list:
      case Kind::tuple:
        write_list(value.items(), level);
        break;
      case Kind::dict:
        write_dict(value.as<Dict>(), level);
        break;
      case Kind::undefined:
        fail_undefined(value);
      default:
        throw Problem{fmt::format("a value of type {} cannot be written as JSON", type_name(value))};
    }
    if (out.size() - charged_ > kChargeEvery) {
      work_.charge_text(out.size());
      charged_ = out.size();
    }
  }

  std::string out;

 private:
  static std::string real(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return real_repr(value);
  }

  void new_line(int level) {
    if (!style_.indented) return;
    out += '\n';
    for (int i = 0; i < level; ++i) out += style_.indent;
  }

  void write_list(const std::vector<Value>& items, int level) {
    out += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out += style_.between;
      new_line(level + 1);
      write(items[i], level + 1);
    }
    if (!items.empty()) new_line(level);
    out += ']';
  }

  void write_dict(const Dict& dict, int level) {
    std::vector<size_t> order(dict.entries.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (style_.sorted) {
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return compare(dict.entries[a].first, dict.entries[b].first, work_) < 0;
      });
    }
    out += '{';
    for (size_t i = 0; i < order.size(); ++i) {
      if (i) out += style_.between;
      new_line(level + 1);
      const auto& [key, value] = dict.entries[order[i]];
      if (key.is(Kind::string)) {
        append_json_string(key.text(), style_.ascii, out);
      } else {
        out += '"';
        write(key, 0);
        out += '"';
      }
      out += style_.after_key;
      write(value, level + 1);
    }
    if (!order.empty()) new_line(level);
    out += '}';
  }

  static constexpr size_t kChargeEvery = 64 << 10;

  const JsonStyle& style_;
  Work& work_;
  size_t charged_ = 0;
};

void append_repr(const Value& value, std::string& out, Work& work) {
  work.charge();
  const auto join = [&](const std::vector<Value>& items) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out += ", ";
      append_repr(items[i], out, work);
    }
  };
  switch (value.kind()) {
    case Kind::undefined:
      out += "Undefined";
      break;
    case Kind::none:
      out += "None";
      break;
    case Kind::boolean:
      out += value.as_bool() ? "True" : "False";
      break;
    case Kind::integer:
      out += std::to_string(value.as_integer());
      break;
    case Kind::real:
      out += real_repr(value.as_real());
      break;
    case Kind::string:
      if (value.safe()) throw Problem{"a text marked safe is not shown inside another value"};
      work.charge_text(value.text().size());
      out += quoted(value.text());
      break;
    case Kind::list:
      out += '[';
      join(value.items());
      out += ']';
      break;
    case Kind::tuple:
      out += '(';
      join(value.items());
      out += value.items().size() == 1 ? ",)" : ")";
      break;
    case Kind::view:
      out += value.as<Sequence>().name + "([";
      join(value.items());
      out += "])";
      break;
    case Kind::range:
      out += value.as<Sequence>().name;
      break;
    case Kind::dict: {
      out += '{';
      bool first = true;
      for (const auto& [key, item] : value.as<Dict>().entries) {
        if (!std::exchange(first, false)) out += ", ";
        append_repr(key, out, work);
        out += ": ";
        append_repr(item, out, work);
      }
      out += '}';
      break;
    }
    default:
      throw Problem{fmt::format("a value of type {} has no text", type_name(value))};
  }
}

}  // namespace

std::string real_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view shortest(buffer, static_cast<size_t>(end - buffer));
  const size_t e = shortest.find('e');
  const int exponent = std::stoi(std::string(shortest.substr(e + 1)));
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  std::string text(buffer, fixed);
  return text.find('.') == std::string::npos ? text + ".0" : text;
}

std::string to_text(const Value& value, Work& work) {
  if (value.is(Kind::string)) return value.text();
  return value.is(Kind::undefined) ? "" : repr(value, work);
}

std::string repr(const Value& value, Work& work) {
  std::string out;
  append_repr(value, out, work);
  work.charge_text(out.size());
  return out;
}

std::string dump_json(const Value& value, const JsonStyle& style, Work& work) {
  JsonWriter writer(style, work);
  writer.write(value, 0);
  return std::move(writer.out);
}

}  // namespace deltaw::text::jinja
