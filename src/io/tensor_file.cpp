#include "io/tensor_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "deltaw/error.h"
#include "io/safetensors.h"
#include "io/torch_file.h"

namespace deltaw::io {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor data is little endian and used as it lies");

struct DtypeRow {
  Dtype dtype;
  const char* name;
  size_t size;
};

constexpr DtypeRow kDtypes[] = {
    {Dtype::f64, "F64", 8}, {Dtype::f32, "F32", 4},      {Dtype::f16, "F16", 2}, {Dtype::bf16, "BF16", 2},
    {Dtype::i64, "I64", 8}, {Dtype::i32, "I32", 4},      {Dtype::i16, "I16", 2}, {Dtype::i8, "I8", 1},
    {Dtype::u8, "U8", 1},   {Dtype::boolean, "BOOL", 1},
};

const DtypeRow& row_of(Dtype dtype) {
  return *std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const DtypeRow& row) { return row.dtype == dtype; });
}

}  // namespace

const char* dtype_name(Dtype dtype) {
  return row_of(dtype).name;
}
std::optional<Dtype> dtype_named(std::string_view name) {
  for (const DtypeRow& row : kDtypes) {
    if (name == row.name) return row.dtype;
  }
  return std::nullopt;
}
size_t dtype_size(Dtype dtype) {
  return row_of(dtype).size;
}

int64_t TensorBytes::count() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

size_t TensorBytes::size() const {
  return static_cast<size_t>(count()) * dtype_size(dtype);
}

bool TensorBytes::is_aligned() const {
  return reinterpret_cast<uintptr_t>(data) % dtype_size(dtype) == 0;
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

class TensorFile::Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path) {
    // Opening a pipe would wait for its writer.
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) fail(path, std::string("cannot open the file: ") + std::strerror(errno), errno == ENOENT);
    struct stat status = {};
    const bool known = ::fstat(file, &status) == 0;
    const bool regular = known && S_ISREG(status.st_mode);
    size_ = regular ? static_cast<size_t>(status.st_size) : 0;
    if (size_ > 0) data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    const int code = errno;
    ::close(file);
    if (!regular) fail(path, S_ISDIR(status.st_mode) ? "this is a folder, not a file" : "this is no regular file");
    if (data_ == MAP_FAILED) fail(path, std::string("cannot map the file: ") + std::strerror(code));
  }
  ~Mapping() {
    if (size_ > 0 && data_ != MAP_FAILED) ::munmap(data_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }

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

  size_t size_ = 0;
  void* data_ = nullptr;
};

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
  return SafetensorsFile(path);
}

TensorFile open_adapter(const std::filesystem::path& folder) {
  const bool old = !std::filesystem::exists(folder / "adapter_model.safetensors") &&
                   std::filesystem::exists(folder / "adapter_model.bin");
  return open_tensors(folder / (old ? "adapter_model.bin" : "adapter_model.safetensors"));
}

}  // namespace deltaw::io
