// Open files, and what the system says of them.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

namespace deltaw {

/// A descriptor that closes itself; close() tells whether that went well.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }

  int number() const { return number_; }
  bool close() {
    const int number = number_;
    number_ = -1;
    return ::close(number) == 0;
  }

 private:
  int number_;
};

/// Of a system call that failed with `code` (errno): whether there was no room, and what to do.
bool is_full_disk(int code);
std::string advice(int code);

/// Throws the io.* error of one that was to write.
[[noreturn]] void fail_write(const std::filesystem::path& path, const std::string& doing, int code);

/// Makes a rename, or what was written to a file, survive a power cut.
void flush_to_disk(const std::filesystem::path& path);

}  // namespace deltaw
