#include "io/tensor_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/printable.h"
#include "deltaw/error.h"
#include "deltaw/options.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "io/torch_file.h"

namespace deltaw::io {

// What is mapped where, for a signal's handler; begin is 0 where a place is free.
struct MappedPlace {
  std::atomic<uintptr_t> begin = 0, end = 0;
  std::atomic<const char*> path = nullptr;
};

namespace {

static_assert(std::endian::native == std::endian::little, "tensor data is little endian and used as it lies");

struct DtypeRow {
  Dtype dtype;
  const char* name;
  DtypeBlock block;
};

constexpr int64_t kSuperBlock = 256;  // numbers in a block of the K types
// The bytes of blocks as https://github.com/ggml-org/llama.cpp, ggml/src/ggml-common.h has them.
constexpr DtypeRow kDtypes[] = {
    {Dtype::f64, "F64", {1, 8}},
    {Dtype::f32, "F32", {1, 4}},
    {Dtype::f16, "F16", {1, 2}},
    {Dtype::bf16, "BF16", {1, 2}},
    {Dtype::i64, "I64", {1, 8}},
    {Dtype::i32, "I32", {1, 4}},
    {Dtype::i16, "I16", {1, 2}},
    {Dtype::i8, "I8", {1, 1}},
    {Dtype::u8, "U8", {1, 1}},
    {Dtype::boolean, "BOOL", {1, 1}},
    {Dtype::q4_0, "Q4_0", {32, 2 + 16}},
    {Dtype::q4_1, "Q4_1", {32, 2 + 2 + 16}},
    {Dtype::q5_0, "Q5_0", {32, 2 + 4 + 16}},
    {Dtype::q5_1, "Q5_1", {32, 2 + 2 + 4 + 16}},
    {Dtype::q8_0, "Q8_0", {32, 2 + 32}},
    {Dtype::q2_k, "Q2_K", {kSuperBlock, 16 + 64 + 2 + 2}},
    {Dtype::q3_k, "Q3_K", {kSuperBlock, 32 + 64 + 12 + 2}},
    {Dtype::q4_k, "Q4_K", {kSuperBlock, 2 + 2 + 12 + 128}},
    {Dtype::q5_k, "Q5_K", {kSuperBlock, 2 + 2 + 12 + 32 + 128}},
    {Dtype::q6_k, "Q6_K", {kSuperBlock, 128 + 64 + 16 + 2}},
};

const DtypeRow& row_of(Dtype dtype) {
  return *std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const DtypeRow& row) { return row.dtype == dtype; });
}

MappedPlace mapped_places[1024];

/// nullptr where all places are taken: then the file goes without a name.
MappedPlace* note_mapping(const void* data, size_t size, const char* path) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  for (MappedPlace& place : mapped_places) {
    uintptr_t nothing = 0;
    if (size == 0 || !place.begin.compare_exchange_strong(nothing, address)) continue;
    place.path = path;
    place.end = address + size;
    return &place;
  }
  return nullptr;
}

}  // namespace

const char* mapped_file(const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const MappedPlace& place : mapped_places) {
    const uintptr_t begin = place.begin;
    if (begin != 0 && at >= begin && at < place.end) return place.path;
  }
  return nullptr;
}

const char* dtype_name(Dtype dtype) {
  return row_of(dtype).name;
}
std::optional<Dtype> dtype_named(std::string_view name) {
  for (const DtypeRow& row : kDtypes) {
    if (name == row.name) return row.dtype;
  }
  return std::nullopt;
}
DtypeBlock dtype_block(Dtype dtype) {
  return row_of(dtype).block;
}
bool is_block_type(Dtype dtype) {
  return dtype_block(dtype).numbers > 1;
}
size_t dtype_size(Dtype dtype) {
  if (!is_block_type(dtype)) return dtype_block(dtype).bytes;
  throw Error({.id = "internal.dtype",
               .what = std::string("a number of the block type ") + dtype_name(dtype) + " has no size of its own",
               .where = "dtype_size",
               .fix = "report this as a bug"});
}
std::optional<uint64_t> stored_size(Dtype dtype, int64_t count) {
  const auto [numbers, bytes] = dtype_block(dtype);
  uint64_t size = 0;
  if (count < 0 || count % numbers != 0) return std::nullopt;
  if (__builtin_mul_overflow(static_cast<uint64_t>(count / numbers), bytes, &size)) return std::nullopt;
  return size;
}

int64_t TensorBytes::count() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

size_t TensorBytes::size() const {
  const auto [numbers, bytes] = dtype_block(dtype);
  return static_cast<size_t>(count() / numbers) * bytes;
}

bool TensorBytes::is_plain() const {
  return !is_block_type(dtype) && !undo;
}

bool TensorBytes::is_aligned() const {
  return !is_block_type(dtype) && reinterpret_cast<uintptr_t>(data) % dtype_size(dtype) == 0;
}

std::optional<int64_t> element_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) return std::nullopt;
  }
  return count;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

bool is_utf8(std::string_view text) {
  try {
    return !Json(text).dump().empty();
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

class TensorFile::Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path) : path_(path.string()), shown_(printable(path_)) {
    // Opening a pipe would wait for its writer.
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file_ < 0) fail(path, std::string("cannot open the file: ") + std::strerror(errno), errno == ENOENT);
    struct stat status = {};
    const bool known = ::fstat(file_, &status) == 0;
    const bool regular = known && S_ISREG(status.st_mode);
    size_ = regular ? static_cast<size_t>(status.st_size) : 0;
    if (size_ > 0) data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file_, 0);
    const int code = errno;
    if (!regular || data_ == MAP_FAILED) ::close(file_);
    if (!regular) fail(path, S_ISDIR(status.st_mode) ? "this is a folder, not a file" : "this is no regular file");
    if (data_ == MAP_FAILED) fail(path, std::string("cannot map the file: ") + std::strerror(code));
    place_ = note_mapping(data_, size_, shown_.c_str());
  }
  ~Mapping() {
    if (place_ != nullptr) place_->begin = 0;
    if (size_ > 0) ::munmap(data_, size_);
    ::close(file_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }

  void check_length() const {
    struct stat status = {};
    if (::fstat(file_, &status) != 0 || static_cast<size_t>(status.st_size) >= size_) return;
    throw Error({.id = "io.file-cut",
                 .what = "the file had " + std::to_string(size_) + " bytes when it was opened and has " +
                         std::to_string(status.st_size) + " now",
                 .where = path_,
                 .fix = "fetch the file again, and leave it alone while it is in use"});
  }

  void release(const std::byte* data, size_t size) const {
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto address = reinterpret_cast<uintptr_t>(data), start = reinterpret_cast<uintptr_t>(data_);
    if (address < start || address + size > start + size_) return;
    const uintptr_t begin = (address + page - 1) / page * page, end = (address + size) / page * page;
    if (begin < end) ::madvise(static_cast<char*>(data_) + (begin - start), end - begin, MADV_DONTNEED);
  }

 private:
  [[noreturn]] static void fail(const std::filesystem::path& path, const std::string& what, bool absent = false) {
    throw Error({.id = absent ? "io.not-found" : "io.unreadable",
                 .what = what,
                 .where = path.string(),
                 .fix = absent ? "correct the path" : "give a file that you may read"});
  }

  std::string path_, shown_;
  int file_ = -1;
  size_t size_ = 0;
  void* data_ = nullptr;
  MappedPlace* place_ = nullptr;
};

void TensorFile::check_length() const {
  mapping_->check_length();
}

TensorFile::TensorFile(const std::filesystem::path& path)
    : path_(path),
      mapping_(std::make_shared<const Mapping>(path)),
      copies_(std::make_shared<std::deque<std::vector<std::byte>>>()) {}

std::string_view TensorFile::bytes() const {
  return mapping_->bytes();
}

void TensorFile::add(TensorBytes tensor) {
  index_[tensor.name] = tensors_.size();
  tensors_.push_back(std::move(tensor));
}

std::byte* TensorFile::allocate(size_t size) {
  return copies_->emplace_back(size).data();
}

void TensorFile::release(const TensorBytes& tensor) const {
  mapping_->release(tensor.data, tensor.size());
}

const TensorBytes* TensorFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

TensorFile open_tensors(const std::filesystem::path& path) {
  const std::string kind = path.extension().string();
  if (kind == ".bin" || kind == ".pt" || kind == ".pth") return TorchFile(path);
  if (kind != ".safetensors" && is_gguf(path)) return GgufFile(path);
  return SafetensorsFile(path);
}

TensorFile open_adapter(const std::filesystem::path& folder) {
  const bool old = !std::filesystem::exists(folder / "adapter_model.safetensors") &&
                   std::filesystem::exists(folder / "adapter_model.bin");
  return open_tensors(folder / (old ? "adapter_model.bin" : "adapter_model.safetensors"));
}

}  // namespace deltaw::io
