#include "deltaw/memory.h"

#include <cstdlib>

#ifdef __GLIBC__
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <cstdint>
#include <cstring>
#include <new>
#endif

namespace deltaw {

#ifdef __GLIBC__
namespace {

// torch asks for aligned memory, and glibc looks for that much and the alignment more: a hole that a tensor left is
// then always too small for the next one of its size. Asked for the sum in the first place, it finds the hole.
class Reusing final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* const data = bytes == 0 ? nullptr : aligned(bytes);
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  static constexpr size_t kAlignment = 64;

  // What malloc gave stands before the data: there is room, since it is at addresses of 16 bytes itself.
  static void* aligned(size_t bytes) {
    void* const whole = std::malloc(bytes + kAlignment);
    if (!whole) throw std::bad_alloc();
    void* const data = static_cast<char*>(whole) + (kAlignment - reinterpret_cast<uintptr_t>(whole) % kAlignment);
    static_cast<void**>(data)[-1] = whole;
    return data;
  }
  static void release(void* data) {
    if (data) std::free(static_cast<void**>(data)[-1]);
  }
};

}  // namespace
#endif

void reuse_memory() {
  // oneDNN makes a kernel for each size of a product in bf16, and it and torch's binding keep the last thousand: most
  // of a gigabyte where every batch has a length of its own. A step meets some tens of them.
  setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64", /*overwrite=*/0);
  setenv("LRU_CACHE_CAPACITY", "64", /*overwrite=*/0);
#ifdef __GLIBC__
  // By default each large tensor is mapped, zeroed by the system page by page, and unmapped again.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  static Reusing allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
#endif
}

}  // namespace deltaw
