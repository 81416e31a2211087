#include "core/unpack.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "deltaw/error.h"

namespace deltaw {
namespace {

constexpr size_t kStep = 1 << 16;

const char* name_of(Packing packing) {
  return packing == Packing::gzip ? "gzip" : "zstd";
}

/// The text as it comes, in room that grows with it.
class Output {
 public:
  Output(std::string_view packed, Packing packing, uint64_t most, const std::string& where)
      : packed_(packed), packing_(packing), most_(most), where_(where) {}

  char* room() {
    if (used_ == text_.size()) grow();
    return text_.data() + used_;
  }
  size_t room_size() const { return text_.size() - used_; }

  void took(size_t bytes) {
    used_ += bytes;
    if (used_ > most_) {
      fail(fmt::format("more than {} bytes come of {}", most_, packed_.size()),
           "a file like that is made to fill the memory; unpack it by hand if it is what you want");
    }
  }

  std::string take() {
    text_.resize(used_);
    return std::move(text_);
  }

  [[noreturn]] void fail_cut() const {
    fail(fmt::format("the {} data is cut short: it ends after {} bytes, and more should come", name_of(packing_),
                     packed_.size()),
         "copy or download the file again");
  }
  [[noreturn]] void fail_damaged(const std::string& detail) const {
    fail(fmt::format("the {} data is damaged: {}", name_of(packing_), detail), "copy or download the file again");
  }

 private:
  void grow() {
    // What is typical of text comes in one go; the rest as it comes.
    const size_t first = std::clamp<size_t>(4 * packed_.size(), kStep, 64 << 20);
    text_.resize(text_.empty() ? static_cast<size_t>(std::min<uint64_t>(first, most_ + 1))
                               : text_.size() + text_.size() / 2);
  }

  [[noreturn]] void fail(const std::string& what, const std::string& fix) const {
    throw Error({.id = "format.compressed", .what = what, .where = where_, .fix = fix});
  }

  std::string_view packed_;
  Packing packing_;
  uint64_t most_;
  const std::string& where_;
  std::string text_;
  size_t used_ = 0;
};

struct EndInflate {
  void operator()(z_stream* stream) const {
    inflateEnd(stream);
    delete stream;
  }
};

std::string unpack_gzip(std::string_view packed, Output& output) {
  constexpr int kGzipOrZlib = 15 + 32;
  const std::unique_ptr<z_stream, EndInflate> stream(new z_stream{});
  if (inflateInit2(stream.get(), kGzipOrZlib) != Z_OK) throw std::bad_alloc();
  size_t at = 0;
  while (at < packed.size()) {
    const auto step = static_cast<uInt>(std::min<size_t>(packed.size() - at, 1 << 30));
    stream->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data() + at));
    stream->avail_in = step;
    stream->next_out = reinterpret_cast<Bytef*>(output.room());
    stream->avail_out = static_cast<uInt>(std::min<size_t>(output.room_size(), 1 << 30));
    const uInt room = stream->avail_out;
    const int result = inflate(stream.get(), Z_NO_FLUSH);
    at += step - stream->avail_in;
    output.took(room - stream->avail_out);
    if (result == Z_STREAM_END) {
      // Another member may follow, or the zeros that some tools fill blocks with.
      if (packed.find_first_not_of('\0', at) == std::string_view::npos) return output.take();
      if (inflateReset(stream.get()) != Z_OK) output.fail_damaged("it cannot be read on");
      continue;
    }
    if (result == Z_BUF_ERROR && at == packed.size()) break;
    if (result != Z_OK && result != Z_BUF_ERROR) {
      output.fail_damaged(stream->msg != nullptr ? stream->msg : "its numbers do not agree");
    }
  }
  // All bytes are in; the rest of the text may still be to come.
  for (int result = Z_OK; result == Z_OK;) {
    stream->avail_in = 0;
    stream->next_out = reinterpret_cast<Bytef*>(output.room());
    stream->avail_out = static_cast<uInt>(std::min<size_t>(output.room_size(), 1 << 30));
    const uInt room = stream->avail_out;
    result = inflate(stream.get(), Z_NO_FLUSH);
    output.took(room - stream->avail_out);
    if (result == Z_STREAM_END) return output.take();
  }
  output.fail_cut();
}

struct FreeStream {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

std::string unpack_zstd(std::string_view packed, Output& output) {
  const std::unique_ptr<ZSTD_DStream, FreeStream> stream(ZSTD_createDStream());
  if (!stream) throw std::bad_alloc();
  ZSTD_inBuffer in = {packed.data(), packed.size(), 0};
  size_t hint = 1;  // 0 at the end of a frame
  while (true) {
    ZSTD_outBuffer out = {output.room(), output.room_size(), 0};
    const size_t before = in.pos;
    hint = ZSTD_decompressStream(stream.get(), &out, &in);
    if (ZSTD_isError(hint) != 0) output.fail_damaged(ZSTD_getErrorName(hint));
    output.took(out.pos);
    if (hint == 0 && in.pos == in.size) return output.take();
    if (in.pos == before && out.pos == 0) break;
  }
  output.fail_cut();
}

}  // namespace

Packing packing_of(std::string_view bytes) {
  if (bytes.starts_with("\x1F\x8B\x08")) return Packing::gzip;
  if (bytes.starts_with("\x28\xB5\x2F\xFD")) return Packing::zstd;
  return Packing::none;
}

uint64_t most_unpacked(uint64_t packed) {
  constexpr uint64_t kAlways = uint64_t{1} << 30;
  return packed > UINT64_MAX / 1000 ? UINT64_MAX - 1 : std::max(kAlways, 1000 * packed);
}

std::string unpack(std::string_view packed, Packing packing, uint64_t most, const std::string& where) {
  Output output(packed, packing, most, where);
  if (packing == Packing::none) return std::string(packed);
  return packing == Packing::gzip ? unpack_gzip(packed, output) : unpack_zstd(packed, output);
}

std::string unpacked(std::string bytes, const std::string& where) {
  const Packing packing = packing_of(bytes);
  if (packing == Packing::none) return bytes;
  return unpack(bytes, packing, most_unpacked(bytes.size()), where);
}

}  // namespace deltaw
