// How much memory tensors take while something runs.
#pragma once

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstdint>
#include <mutex>

namespace deltaw::test {

/// Stands in for libtorch's allocator and counts what lives; buffers may outlive the count.
class CountingAllocator final : public c10::Allocator {
 public:
  static CountingAllocator& instance() {
    static CountingAllocator allocator;
    return allocator;
  }

  c10::DataPtr allocate(size_t bytes) override {
    auto* buffer = new Buffer{own_->allocate(bytes), static_cast<int64_t>(bytes)};
    add(buffer->bytes);
    return {buffer->data.get(), buffer, &release, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

  /// The most that lived at once while `run` ran, beyond what lived before, in bytes.
  template <class Run>
  int64_t most_during(const Run& run) {
    own_ = c10::GetCPUAllocator();
    live_ = most_ = 0;
    c10::SetCPUAllocator(this, /*priority=*/1);
    run();
    c10::SetCPUAllocator(own_, /*priority=*/1);
    return most_;
  }

 private:
  struct Buffer {
    c10::DataPtr data;
    int64_t bytes;
  };

  static void release(void* context) {
    auto* buffer = static_cast<Buffer*>(context);
    instance().add(-buffer->bytes);
    delete buffer;
  }
  void add(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    live_ += bytes;
    most_ = std::max(most_, live_);
  }

  c10::Allocator* own_ = nullptr;
  std::mutex mutex_;
  int64_t live_ = 0, most_ = 0;
};

}  // namespace deltaw::test
