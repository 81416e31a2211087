// Python's "%s" % values.
#include <cmath>
#include <cstdio>

#include <fmt/format.h>

#include "text/jinja/functions.h"
#include "text/jinja/text.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text::jinja {
namespace {

constexpr int kMaxWidth = 1000;

class Percent {
 public:
  Percent(const std::string& format, const Value& values, Work& work) : format_(format), values_(values), work_(work) {}

  std::string run() {
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        out_ += format_[at_++];
      } else {
        ++at_;
        field();
      }
    }
    if (values_.is(Kind::tuple) ? used_ < values_.items().size() : used_ == 0 && !values_.is(Kind::dict)) {
      throw Problem{"'%' has more values than places"};
    }
    return std::move(out_);
  }

 private:
  char peek() const { return at_ < format_.size() ? format_[at_] : '\0'; }

  int number() {
    int value = 0;
    while (peek() >= '0' && peek() <= '9') {
      value = value * 10 + (format_[at_++] - '0');
      if (value > kMaxWidth) throw Problem{fmt::format("'%' with a width beyond {}", kMaxWidth)};
    }
    return value;
  }

  Value take() {
    if (values_.is(Kind::tuple)) {
      if (used_ >= values_.items().size()) throw Problem{"'%' has fewer values than places"};
      return values_.items()[used_++];
    }
    if (used_++) throw Problem{"'%' has fewer values than places"};
    return values_;
  }

  void field() {
    if (peek() == '(') throw Problem{"'%(name)' in a format"};
    std::string flags;
    while (std::string_view("-+ 0#").find(peek()) != std::string_view::npos && peek()) flags += format_[at_++];
    const int width = number();
    int precision = -1;
    if (peek() == '.') {
      ++at_;
      precision = number();
    }
    const char kind = peek();
    ++at_;
    if (kind == '%') {
      out_ += '%';
    } else if (kind == 's' || kind == 'r') {
      const Value value = take();
      std::string text = kind == 's' ? joinable_text(value, work_) : repr(value, work_);
      if (precision >= 0) text = shortened(text, precision);
      pad(text, width, flags.find('-') != std::string::npos);
    } else if (kind == 'd' || kind == 'i' || kind == 'x' || kind == 'X' || kind == 'o') {
      whole(flags, width, precision, kind);
    } else if (kind == 'f' || kind == 'F' || kind == 'e' || kind == 'g') {
      real(flags, width, precision, kind);
    } else {
      throw Problem{fmt::format("'%{}' in a format", kind ? std::string(1, kind) : "")};
    }
  }

  static std::string shortened(const std::string& text, int characters) {
    size_t at = 0;
    for (; characters > 0 && at < text.size(); --characters) at += text::width(text[at]);
    return text.substr(0, at);
  }

  void pad(const std::string& text, int width, bool left) {
    const int64_t missing = width - count_code_points(text);
    const std::string spaces(static_cast<size_t>(std::max<int64_t>(missing, 0)), ' ');
    out_ += left ? text + spaces : spaces + text;
  }

  void whole(const std::string& flags, int width, int precision, char kind) {
    const Value value = take();
    if (!value.is_number() || (value.is(Kind::real) && (kind != 'd' && kind != 'i'))) {
      throw Problem{fmt::format("'%{}' of a {}", kind, type_name(value))};
    }
    if (value.is(Kind::real) && !(std::abs(value.as_real()) < 9e18)) throw Problem{"'%d' of a number beyond 64 bits"};
    const int64_t number = value.is_whole() ? value.as_integer() : static_cast<int64_t>(value.as_real());
    const bool decimal = kind == 'd' || kind == 'i';
    if (!decimal && number < 0) throw Problem{fmt::format("'%{}' of a negative number", kind)};
    print(flags, width, precision, decimal ? "lld" : std::string("ll") + kind, static_cast<long long>(number));
  }

  void real(const std::string& flags, int width, int precision, char kind) {
    const Value value = take();
    if (!value.is_number()) throw Problem{fmt::format("'%{}' of a {}", kind, type_name(value))};
    print(flags, width, precision, std::string(1, kind), value.as_real());
  }

  template <class Number>
  void print(const std::string& flags, int width, int precision, const std::string& kind, Number number) {
    const std::string format = fmt::format("%{}{}{}{}", flags, width ? std::to_string(width) : "",
                                           precision >= 0 ? fmt::format(".{}", precision) : "", kind);
    std::string buffer(2 * kMaxWidth + 400, '\0');
    const int size = std::snprintf(buffer.data(), buffer.size(), format.c_str(), number);
    buffer.resize(static_cast<size_t>(size));
    out_ += buffer;
  }

  const std::string& format_;
  const Value& values_;
  Work& work_;
  size_t at_ = 0;
  size_t used_ = 0;
  std::string out_;
};

}  // namespace

Value percent(const std::string& format, const Value& values, Work& work) {
  work.charge_text(format.size());
  std::string text = Percent(format, values, work).run();
  work.charge_text(text.size());
  return Value::string(std::move(text));
}

}  // namespace deltaw::text::jinja
