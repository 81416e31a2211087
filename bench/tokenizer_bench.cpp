// Encodes the lines of a file again and again and prints the fastest round.
//   tokenizer_bench TOKENIZER_FOLDER TEXT_FILE [ROUNDS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "deltaw/tokenizer.h"

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "tokenizer_bench TOKENIZER_FOLDER TEXT_FILE [ROUNDS]\n");
    return 2;
  }
  const deltaw::Tokenizer tokenizer = deltaw::Tokenizer::from_folder(argv[1]);
  std::vector<std::string> lines;
  size_t bytes = 0;
  std::ifstream in(argv[2]);
  for (std::string line; std::getline(in, line);) {
    bytes += line.size();
    lines.push_back(line);
  }
  double best = std::numeric_limits<double>::infinity();
  size_t tokens = 0;
  for (int round = argc > 3 ? std::atoi(argv[3]) : 5; round > 0; --round) {
    tokens = 0;
    const auto start = std::chrono::steady_clock::now();
    for (const std::string& line : lines) tokens += tokenizer.encode(line).ids.size();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::printf("%zu tokens, %.3f s, %.2f MB/s\n", tokens, best, static_cast<double>(bytes) / best / 1e6);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
