#include "ops/attention_kernel.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/random.h"
#include "ops/tiles.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

constexpr int64_t kLanes = kTileColumns;
constexpr int64_t kQueries = 64;  // of a block

constexpr int64_t padded(int64_t n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

// scores <- e^(scores - greatest), zero from `seen` to `width` on; answers their sum.
DELTAW_VECTORISED
float exponentials(float* __restrict scores, int64_t seen, int64_t width, float greatest) {
  constexpr float kLowest = -87;
  for (int64_t j = 0; j < seen; ++j) {
    const float x = scores[j] - greatest;
    const float e = exp_negative(x < kLowest ? kLowest : x);
    scores[j] = x < kLowest ? 0 : e;
  }
  for (int64_t j = seen; j < width; ++j) scores[j] = 0;
  return total(seen, [&](int64_t j) DELTAW_INLINE { return scores[j]; });
}

DELTAW_VECTORISED
float greatest_of(const float* __restrict x, int64_t n) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  }
  for (int64_t i = whole; i < n; ++i) lanes[i - whole] = x[i] > lanes[i - whole] ? x[i] : lanes[i - whole];
  return *std::max_element(lanes, lanes + kLanes);
}

DELTAW_VECTORISED
void scale_row(float* __restrict x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

DELTAW_VECTORISED
void add_row(float* __restrict x, const float* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

DELTAW_VECTORISED
void multiply_row(float* __restrict x, const float* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= y[i];
}

// dp <- p (dp - sum of p dp)
DELTAW_VECTORISED
void softmax_gradient(const float* __restrict p, float* __restrict dp, int64_t n) {
  const float mean = total(n, [&](int64_t j) DELTAW_INLINE { return p[j] * dp[j]; });
  for (int64_t j = 0; j < n; ++j) dp[j] = p[j] * (dp[j] - mean);
}

void transpose(const float* from, int64_t rows, int64_t columns, int64_t from_row, float* to, int64_t to_row) {
  constexpr int64_t kEdge = 16;
  for (int64_t i = 0; i < rows; i += kEdge) {
    for (int64_t j = 0; j < columns; j += kEdge) {
      for (int64_t ii = i; ii < std::min(i + kEdge, rows); ++ii) {
        for (int64_t jj = j; jj < std::min(j + kEdge, columns); ++jj) to[jj * to_row + ii] = from[ii * from_row + jj];
      }
    }
  }
}

// Rows [n, width] of one head, in any float type.
template <class Scalar>
struct Head {
  Scalar* data;
  int64_t stride, width;

  Head(const Tensor& x, int64_t row, int64_t head)
      : data(x.data_ptr<Scalar>() + row * x.stride(0) + head * x.stride(1)), stride(x.stride(2)), width(x.size(3)) {}

  // As floats, `to_row` apart; the columns behind `width` stay.
  void read(int64_t first, int64_t count, float* to, int64_t to_row) const {
    for (int64_t i = 0; i < count; ++i) {
      const Scalar* row = data + (first + i) * stride;
      if constexpr (std::is_same_v<Scalar, float>) {
        std::memcpy(to + i * to_row, row, static_cast<size_t>(width) * sizeof(float));
      } else {
        widen(row, to + i * to_row, width);
      }
    }
  }
  void write(int64_t first, int64_t count, const float* from, int64_t from_row) const {
    for (int64_t i = 0; i < count; ++i) {
      Scalar* row = data + (first + i) * stride;
      if constexpr (std::is_same_v<Scalar, float>) {
        std::memcpy(row, from + i * from_row, static_cast<size_t>(width) * sizeof(float));
      } else {
        narrow(from + i * from_row, row, width);
      }
    }
  }
};

struct Sizes {
  int64_t batch, heads, key_heads, group, queries, keys, width;
  int64_t lanes, key_lanes;  // width and keys, padded

  explicit Sizes(const AttentionInput& in)
      : batch(in.q.size(0)),
        heads(in.q.size(1)),
        key_heads(in.k.size(1)),
        group(heads / key_heads),
        queries(in.q.size(2)),
        keys(in.k.size(2)),
        width(in.q.size(3)),
        lanes(padded(width)),
        key_lanes(padded(keys)) {}
};

// What one thread works with for one key head and the query heads that it serves, block of queries by block.
template <class Scalar>
class Worker {
 public:
  Worker(const AttentionInput& in, const AttentionSettings& settings, float* normalisers, bool backward)
      : in_(in), settings_(settings), s_(in), normalisers_(normalisers) {
    const auto room = [](std::vector<float>& buffer, int64_t rows, int64_t columns) {
      buffer.assign(static_cast<size_t>(rows * columns), 0);
    };
    room(keys_, s_.keys, s_.lanes);
    room(values_, s_.keys, s_.lanes);
    room(turned_, s_.width, s_.key_lanes);
    room(query_, kQueries, s_.lanes);
    room(scores_, kQueries, s_.key_lanes);
    room(out_, kQueries, s_.lanes);
    if (settings.dropout > 0) room(mask_, 1, kQueries * s_.key_lanes);
    if (!backward) return;
    room(turned_values_, s_.width, s_.key_lanes);
    room(dscores_, kQueries, s_.key_lanes);
    room(dout_, kQueries, s_.lanes);
    room(dkeys_, s_.keys, s_.lanes);
    room(dvalues_, s_.keys, s_.lanes);
  }

  void forward(int64_t row, int64_t key_head, const Tensor& mixed) {
    read_keys(row, key_head);
    for_each_block(row, key_head, [&](const Block& b) {
      form_scores(b);
      std::vector<float>& p = scores_;
      for (int64_t i = 0; i < b.queries; ++i) {
        float* own = p.data() + i * s_.key_lanes;
        const int64_t seen = b.seen(i);
        const float greatest = greatest_of(own, seen);
        const float sum = exponentials(own, seen, b.width, greatest);
        normalisers_of(b, i)[0] = greatest;
        normalisers_of(b, i)[1] = 1 / sum;
      }
      if (settings_.dropout > 0) {
        draw_mask(b);
        apply_mask(b, p);
      }
      clear(out_, b.queries * s_.lanes);
      add_product({p.data(), s_.key_lanes, 1}, values_.data(), s_.lanes, out_.data(), s_.lanes, b.queries, s_.lanes,
                  b.keys);
      for (int64_t i = 0; i < b.queries; ++i) {
        scale_row(out_.data() + i * s_.lanes, normalisers_of(b, i)[1], s_.lanes);
      }
      Head<Scalar>(mixed, row, b.head).write(b.first, b.queries, out_.data(), s_.lanes);
    });
  }

  void backward(int64_t row, int64_t key_head, const Tensor& dmixed, const AttentionInput& gradients) {
    read_keys(row, key_head);
    transpose(values_.data(), s_.keys, s_.width, s_.lanes, turned_values_.data(), s_.key_lanes);
    clear(dkeys_, s_.keys * s_.lanes);
    clear(dvalues_, s_.keys * s_.lanes);
    for_each_block(row, key_head, [&](const Block& b) {
      form_scores(b);
      for (int64_t i = 0; i < b.queries; ++i) {
        float* own = scores_.data() + i * s_.key_lanes;
        exponentials(own, b.seen(i), b.width, normalisers_of(b, i)[0]);
        scale_row(own, normalisers_of(b, i)[1], b.width);
      }
      Head<Scalar>(dmixed, row, b.head).read(b.first, b.queries, dout_.data(), s_.lanes);
      for (int64_t i = 0; i < b.queries; ++i) std::fill_n(dscores_.data() + i * s_.key_lanes, b.width, 0.0f);
      add_product({dout_.data(), s_.lanes, 1}, turned_values_.data(), s_.key_lanes, dscores_.data(), s_.key_lanes,
                  b.queries, b.width, s_.width);
      if (settings_.dropout > 0) {
        draw_mask(b);
        apply_mask(b, dscores_);
      }
      for (int64_t i = 0; i < b.queries; ++i) {
        softmax_gradient(scores_.data() + i * s_.key_lanes, dscores_.data() + i * s_.key_lanes, b.width);
      }
      if (settings_.dropout > 0) apply_mask(b, scores_);
      // query_ holds scale q, so that dscores^T query_ is the whole gradient of the keys.
      add_product({scores_.data(), 1, s_.key_lanes}, dout_.data(), s_.lanes, dvalues_.data(), s_.lanes, b.keys,
                  s_.lanes, b.queries);
      add_product({dscores_.data(), 1, s_.key_lanes}, query_.data(), s_.lanes, dkeys_.data(), s_.lanes, b.keys,
                  s_.lanes, b.queries);
      clear(out_, b.queries * s_.lanes);
      add_product({dscores_.data(), s_.key_lanes, 1}, keys_.data(), s_.lanes, out_.data(), s_.lanes, b.queries,
                  s_.lanes, b.keys);
      scale_row(out_.data(), static_cast<float>(settings_.scale), b.queries * s_.lanes);
      Head<Scalar>(gradients.q, row, b.head).write(b.first, b.queries, out_.data(), s_.lanes);
    });
    Head<Scalar>(gradients.k, row, key_head).write(0, s_.keys, dkeys_.data(), s_.lanes);
    Head<Scalar>(gradients.v, row, key_head).write(0, s_.keys, dvalues_.data(), s_.lanes);
  }

 private:
  struct Block {
    int64_t row, head;
    int64_t first, queries;  // query rows
    int64_t keys, width;     // that any of them sees; the same, padded
    bool causal;

    int64_t seen(int64_t i) const { return causal ? first + i + 1 : keys; }
  };

  static void clear(std::vector<float>& buffer, int64_t n) { std::fill_n(buffer.begin(), n, 0.0f); }

  void read_keys(int64_t row, int64_t key_head) {
    Head<Scalar>(in_.k, row, key_head).read(0, s_.keys, keys_.data(), s_.lanes);
    Head<Scalar>(in_.v, row, key_head).read(0, s_.keys, values_.data(), s_.lanes);
    transpose(keys_.data(), s_.keys, s_.width, s_.lanes, turned_.data(), s_.key_lanes);
  }

  template <class Use>
  void for_each_block(int64_t row, int64_t key_head, const Use& use) {
    for (int64_t head = key_head * s_.group; head < (key_head + 1) * s_.group; ++head) {
      for (int64_t first = 0; first < s_.queries; first += kQueries) {
        const int64_t count = std::min(kQueries, s_.queries - first);
        const int64_t keys = settings_.causal ? first + count : s_.keys;
        use(Block{row, head, first, count, keys, padded(keys), settings_.causal});
      }
    }
  }

  // scale q k^T + bias into scores_, scale q into query_.
  void form_scores(const Block& b) {
    Head<Scalar>(in_.q, b.row, b.head).read(b.first, b.queries, query_.data(), s_.lanes);
    scale_row(query_.data(), static_cast<float>(settings_.scale), b.queries * s_.lanes);
    for (int64_t i = 0; i < b.queries; ++i) {
      float* own = scores_.data() + i * s_.key_lanes;
      std::fill_n(own, b.width, 0.0f);
    }
    add_product({query_.data(), s_.lanes, 1}, turned_.data(), s_.key_lanes, scores_.data(), s_.key_lanes, b.queries,
                b.width, s_.width);
    const Tensor& bias = settings_.bias;
    if (b.causal || !bias.defined()) return;
    const float* rows = bias.const_data_ptr<float>() + (bias.size(0) == 1 ? 0 : b.row * bias.stride(0));
    for (int64_t i = 0; i < b.queries; ++i) {
      const float* own = rows + (bias.size(2) == 1 ? 0 : (b.first + i) * bias.stride(2));
      add_row(scores_.data() + i * s_.key_lanes, own, b.keys);
    }
  }

  void draw_mask(const Block& b) {
    const auto index = static_cast<uint64_t>((b.row * s_.heads + b.head) * s_.queries + b.first);
    fill_dropout_mask(mask_.data(), b.queries * b.width, settings_.dropout, mix(settings_.key, index));
  }
  void apply_mask(const Block& b, std::vector<float>& p) const {
    for (int64_t i = 0; i < b.queries; ++i) {
      multiply_row(p.data() + i * s_.key_lanes, mask_.data() + i * b.width, b.width);
    }
  }

  float* normalisers_of(const Block& b, int64_t i) const {
    return normalisers_ + ((b.row * s_.heads + b.head) * s_.queries + b.first + i) * 2;
  }

  const AttentionInput& in_;
  const AttentionSettings& settings_;
  const Sizes s_;
  float* normalisers_;
  std::vector<float> keys_, values_, turned_, turned_values_;  // of the key head; turned: transposed
  std::vector<float> query_, scores_, out_, mask_;             // of the block
  std::vector<float> dscores_, dout_, dkeys_, dvalues_;
};

// [batch, heads, n, width] that lies in memory as [batch, n, heads, width].
Tensor room_for(const Tensor& x) {
  return at::empty({x.size(0), x.size(2), x.size(1), x.size(3)}, x.options()).transpose(1, 2);
}

Tensor in_rows(const Tensor& x) {
  return x.stride(3) == 1 ? x : x.contiguous();
}

// work(worker, row, key head) for each of them; what they add up is added within one call.
template <class Scalar, class Work>
void for_each_key_head(const AttentionInput& in, const AttentionSettings& settings, const Tensor& normalisers,
                       bool backward, const Work& work) {
  const int64_t key_heads = in.k.size(1);
  at::parallel_for(0, in.q.size(0) * key_heads, 1, [&](int64_t begin, int64_t end) {
    Worker<Scalar> worker(in, settings, normalisers.data_ptr<float>(), backward);
    for (int64_t task = begin; task < end; ++task) work(worker, task / key_heads, task % key_heads);
  });
}

template <class Use>
void by_type(const Tensor& x, const Use& use) {
  if (x.scalar_type() == at::kFloat) {
    use(float{});
  } else {
    use(at::BFloat16{});
  }
}

}  // namespace

AttentionOutput attention_forward(const AttentionInput& input, const AttentionSettings& settings) {
  const AttentionInput in{in_rows(input.q), in_rows(input.k), in_rows(input.v)};
  AttentionOutput out{room_for(in.q),
                      at::empty({in.q.size(0), in.q.size(1), in.q.size(2), 2}, in.q.options().dtype(at::kFloat))};
  by_type(in.q, [&](auto type) {
    for_each_key_head<decltype(type)>(
        in, settings, out.normalisers, false,
        [&](auto& worker, int64_t row, int64_t key_head) { worker.forward(row, key_head, out.mixed); });
  });
  return out;
}

AttentionInput attention_backward(const AttentionInput& input, const Tensor& normalisers, const Tensor& dmixed,
                                  const AttentionSettings& settings) {
  const AttentionInput in{in_rows(input.q), in_rows(input.k), in_rows(input.v)};
  const Tensor dout = in_rows(dmixed);
  const AttentionInput gradients{room_for(in.q), room_for(in.k), room_for(in.v)};
  by_type(in.q, [&](auto type) {
    for_each_key_head<decltype(type)>(
        in, settings, normalisers, true,
        [&](auto& worker, int64_t row, int64_t key_head) { worker.backward(row, key_head, dout, gradients); });
  });
  return gradients;
}

}  // namespace deltaw::ops
