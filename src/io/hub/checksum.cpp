#include "io/hub/checksum.h"

#include <openssl/evp.h>

#include "deltaw/error.h"

namespace deltaw::io::hub {
namespace {

[[noreturn]] void fail_openssl() {
  throw Error({.id = "io.checksum",
               .what = "OpenSSL offers no checksum of this kind",
               .where = "libcrypto",
               .fix = "check the configuration of OpenSSL (openssl list -digest-algorithms)"});
}

}  // namespace

struct Checksum::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Checksum::Checksum(std::string_view etag, int64_t size) : state_(std::make_shared<State>()) {
  const bool git = etag.size() == 40;
  if (!state_->context || EVP_DigestInit_ex(state_->context, git ? EVP_sha1() : EVP_sha256(), nullptr) != 1) {
    fail_openssl();
  }
  if (git) add("blob " + std::to_string(size) + std::string(1, '\0'));
}

void Checksum::add(std::string_view bytes) {
  if (EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) != 1) fail_openssl();
}

std::string Checksum::digits() {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(state_->context, bytes, &size) != 1) fail_openssl();
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += "0123456789abcdef"[bytes[i] >> 4];
    text += "0123456789abcdef"[bytes[i] & 15];
  }
  return text;
}

}  // namespace deltaw::io::hub
