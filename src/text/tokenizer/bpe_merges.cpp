#include "text/tokenizer/bpe_merges.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <queue>

namespace deltaw::text {

void Merges::reserve(size_t count) {
  slots_.assign(std::bit_ceil(count * 2 + 16), {});
  mask_ = slots_.size() - 1;
}

void Merges::set(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = key_of(left, right);
  size_t i = hash(key) & mask_;
  while (slots_[i].merge.rank >= 0 && slots_[i].key != key) i = (i + 1) & mask_;
  slots_[i] = {key, merge};
}

namespace {

// Above this many characters the heap wins over scanning for the best pair.
constexpr size_t kScanLimit = 48;

void merge_by_scan(const Merges& merges, std::vector<WordToken>& symbols) {
  Merge best[kScanLimit];  // best[i] joins symbols i and i + 1
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i) best[i] = merges.find(symbols[i].id, symbols[i + 1].id);
  while (count > 1) {
    size_t at = count;
    for (size_t i = 0; i + 1 < count; ++i) {
      if (best[i].rank >= 0 && (at == count || best[i].rank < best[at].rank)) at = i;
    }
    if (at == count) break;
    symbols[at].id = best[at].id;
    symbols[at].end = symbols[at + 1].end;
    std::move(symbols.begin() + static_cast<long>(at) + 2, symbols.begin() + static_cast<long>(count),
              symbols.begin() + static_cast<long>(at) + 1);
    std::move(best + at + 1, best + count - 1, best + at);
    --count;
    if (at + 1 < count) best[at] = merges.find(symbols[at].id, symbols[at + 1].id);
    if (at > 0) best[at - 1] = merges.find(symbols[at - 1].id, symbols[at].id);
  }
  symbols.resize(count);
}

void merge_by_heap(const Merges& merges, std::vector<WordToken>& symbols) {
  struct Entry {
    int32_t rank;
    int32_t at;
    int32_t id;
    bool operator>(const Entry& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  struct Links {
    int32_t previous;
    int32_t next;
    bool alive;
  };
  const auto size = static_cast<int32_t>(symbols.size());
  std::vector<Links> links;
  links.reserve(symbols.size());
  for (int32_t i = 0; i < size; ++i) links.push_back({i - 1, i + 1 < size ? i + 1 : -1, true});
  const auto symbol = [&](int32_t i) -> WordToken& { return symbols[static_cast<size_t>(i)]; };
  const auto link = [&](int32_t i) -> Links& { return links[static_cast<size_t>(i)]; };

  std::vector<Entry> entries;
  const auto entry = [&](int32_t at) {
    const Merge merge = merges.find(symbol(at).id, symbol(link(at).next).id);
    return Entry{merge.rank, at, merge.id};
  };
  for (int32_t i = 0; i + 1 < size; ++i) {
    if (const Entry found = entry(i); found.rank >= 0) entries.push_back(found);
  }
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue(std::greater<>{}, std::move(entries));
  while (!queue.empty()) {
    const Entry top = queue.top();
    queue.pop();
    if (!link(top.at).alive || link(top.at).next < 0 || entry(top.at).id != top.id) continue;  // overtaken
    const int32_t right = link(top.at).next;
    symbol(top.at).id = top.id;
    symbol(top.at).end = symbol(right).end;
    link(right).alive = false;
    link(top.at).next = link(right).next;
    if (link(top.at).next >= 0) link(link(top.at).next).previous = top.at;
    for (const int32_t at : {link(top.at).previous, top.at}) {
      if (at < 0 || link(at).next < 0) continue;
      if (const Entry found = entry(at); found.rank >= 0) queue.push(found);
    }
  }
  size_t count = 0;
  for (int32_t i = 0; i < size; ++i) {
    if (link(i).alive) symbols[count++] = symbol(i);
  }
  symbols.resize(count);
}

}  // namespace

void merge_all(const Merges& merges, std::vector<WordToken>& symbols) {
  if (symbols.size() <= kScanLimit) {
    merge_by_scan(merges, symbols);
  } else {
    merge_by_heap(merges, symbols);
  }
}

}  // namespace deltaw::text
