#include "allocation.h"

#ifdef __GLIBC__
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#endif

namespace deltaw::cli {

#ifdef __GLIBC__
namespace {

// torch asks for aligned memory, and glibc looks for that much and the alignment more: a hole that a tensor left is
// then always too small for the next one of its size. Asked for the sum in the first place, it finds the hole.
class Reusing final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* const whole = bytes == 0 ? nullptr : std::malloc(bytes + kAlignment);
    if (bytes > 0 && !whole) throw std::bad_alloc();
    const auto address = reinterpret_cast<uintptr_t>(whole);
    void* const data = whole ? static_cast<char*>(whole) + (kAlignment - address % kAlignment) : nullptr;
    return {data, whole, &std::free, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }  // data and what is freed differ
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  static constexpr size_t kAlignment = 64;
};

}  // namespace
#endif

void keep_memory() {
#ifdef __GLIBC__
  // By default each large tensor is mapped, zeroed by the system page by page, and unmapped again.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  static Reusing allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
#endif
}

}  // namespace deltaw::cli
