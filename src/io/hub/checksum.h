// The checksums that the hub gives, by OpenSSL.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace deltaw::io::hub {

/// Takes a file's bytes as they come.
class Checksum {
 public:
  /// `etag` tells the kind: 64 digits are a sha256, 40 git's sha1 of a blob of `size` bytes.
  Checksum(std::string_view etag, int64_t size);

  void add(std::string_view bytes);
  std::string digits();  // hexadecimal; ends it

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace deltaw::io::hub
