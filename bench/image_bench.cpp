// Reads images five times as a model sees them, in one thread, and prints the fastest round.
//   image_bench MODEL_FOLDER IMAGE...
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <limits>
#include <vector>

#include "deltaw/image.h"

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "image_bench MODEL_FOLDER IMAGE...\n");
    return 2;
  }
  const deltaw::ImageProcessor processor = deltaw::ImageProcessor::from_folder(argv[1]);
  const std::vector<std::filesystem::path> files(argv + 2, argv + argc);
  double best = std::numeric_limits<double>::infinity();
  int64_t pixels = 0;
  for (int round = 0; round < 5; ++round) {
    pixels = 0;
    const auto start = std::chrono::steady_clock::now();
    for (const std::filesystem::path& file : files) {
      const deltaw::Image image = deltaw::read_image(file);
      pixels += image.height * image.width;
      processor(image);
    }
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const auto count = static_cast<double>(files.size());
  std::printf("%zu images of %.0f pixels, %.3f s, %.0f images/s\n", files.size(), static_cast<double>(pixels) / count,
              best, count / best);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
