#include "core/pcre.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace deltaw {
namespace {

// PCRE2's own default, whatever the one at hand was built with: under a second.
constexpr uint32_t kMostSteps = 10'000'000;
constexpr uint32_t kMostMemory = 256 * 1024;  // KiB; PCRE2's default is 20 GiB

std::string message(int code) {
  unsigned char text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

/// What matching needs of its own in each thread.
struct Room {
  static constexpr uint32_t kPairs = 32;  // of begins and ends: the whole match and its groups
  pcre2_match_data* data = pcre2_match_data_create(kPairs, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);

  Room() {
    pcre2_set_match_limit(context, kMostSteps);
    pcre2_set_heap_limit(context, kMostMemory);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  ~Room() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

}  // namespace

struct Pcre::Code {
  pcre2_code* code = nullptr;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

namespace {

const Room& room() {
  thread_local const Room own;
  return own;
}

/// Leaves what it found in the thread's room.
bool matches(const pcre2_code* code, std::string_view text, size_t from, uint32_t options) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = pcre2_match(code, subject, text.size(), from, options, room().data, room().context);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(code, subject, text.size(), from, options | PCRE2_NO_JIT, room().data, room().context);
  }
  if (found < 0 && found != PCRE2_ERROR_NOMATCH) throw PcreFault{message(found)};
  return found >= 0;
}

}  // namespace

Pcre::Pcre(std::string_view expression, uint32_t options, bool fast) {
  auto compiled = std::make_shared<Code>();
  int error = 0;
  size_t offset = 0;
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(), options, &error,
                                 &offset, nullptr);
  if (compiled->code == nullptr) throw PcreFault{message(error), offset};
  if (fast) pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE);
  code_ = std::move(compiled);
}

std::optional<std::pair<size_t, size_t>> Pcre::search(std::string_view text, size_t from, uint32_t options) const {
  if (!matches(code_->code, text, from, options)) return std::nullopt;
  const size_t* vector = pcre2_get_ovector_pointer(room().data);
  return std::pair(vector[0], vector[1]);
}

std::optional<std::string> Pcre::group(std::string_view text, const std::string& name) const {
  PCRE2_UCHAR* held = nullptr;
  PCRE2_SIZE length = 0;
  if (!matches(code_->code, text, 0, 0) ||
      pcre2_substring_get_byname(room().data, reinterpret_cast<PCRE2_SPTR>(name.c_str()), &held, &length) != 0) {
    return std::nullopt;
  }
  std::string result(reinterpret_cast<const char*>(held), length);
  pcre2_substring_free(held);
  return result;
}

}  // namespace deltaw
