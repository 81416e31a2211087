#include "core/other_kind.h"

namespace deltaw {

std::string other_kind(std::string_view bytes) {
  if (bytes.starts_with("version https://git-lfs")) return "this is a Git LFS pointer, not the file that it stands for";
  if (bytes.starts_with("GGUF")) return "this is a GGUF file";
  if (bytes.starts_with("<!DOCTYPE") || bytes.starts_with("<html")) return "this is a web page";
  return "";
}

}  // namespace deltaw
