#include "ops/attention/attention_kernel.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "core/mix_seed.h"
#include "ops/attention/distance_term.h"
#include "ops/dropout_mask.h"
#include "ops/operand.h"
#include "ops/turn.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

constexpr int64_t kLanes = kTileColumns;
constexpr int64_t kQueries = 64;  // of a block

// Of a row of scores: the scale that they still lack, the greatest of them with it, and what exponentials are
// multiplied by.
struct Normaliser {
  float scale, greatest, factor;
};

// scores <- factor e^(scale scores - greatest). Rows here and below are whole tiles long, so that no loop has an end of
// its own.
DELTAW_VECTORISED
void exponentials(float* __restrict scores, int64_t width, Normaliser by) {
  constexpr float kLowest = -87;
  for (int64_t j = 0; j < width; j += kLanes) {
    for (int64_t lane = j; lane < j + kLanes; ++lane) {
      const float x = by.scale * scores[lane] - by.greatest;
      const float e = exp_negative(x < kLowest ? kLowest : x);
      scores[lane] = x < kLowest ? 0 : by.factor * e;
    }
  }
}

DELTAW_VECTORISED
float sum_of(const float* __restrict x, int64_t width) {
  return total(width / kLanes * kLanes, [&](int64_t j) DELTAW_INLINE { return x[j]; });
}

DELTAW_VECTORISED
float greatest_of(const float* __restrict x, int64_t width) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < width; j += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = x[j + lane] > lanes[lane] ? x[j + lane] : lanes[lane];
  }
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) {
      lanes[lane] = lanes[half + lane] > lanes[lane] ? lanes[half + lane] : lanes[lane];
    }
  }
  return lanes[0];
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

constexpr float kHidden = std::numeric_limits<float>::lowest();

// Of documents other than `own`, but for those of all.
DELTAW_VECTORISED
void hide_other_documents(float* __restrict scores, const int32_t* __restrict documents, int32_t own, int64_t n) {
  constexpr auto kEvery = static_cast<int32_t>(CausalKeys::kEveryDocument);
  for (int64_t j = 0; j < n; ++j) scores[j] = documents[j] == own || documents[j] == kEvery ? scores[j] : kHidden;
}

DELTAW_VECTORISED
void hide_before(float* __restrict scores, const int32_t* __restrict places, int32_t first, int64_t n) {
  for (int64_t j = 0; j < n; ++j) scores[j] = places[j] < first ? kHidden : scores[j];
}

// dp <- p (dp - sum of p dp)
DELTAW_VECTORISED
void softmax_gradient(const float* __restrict p, float* __restrict dp, int64_t n) {
  const float mean = total(n, [&](int64_t j) DELTAW_INLINE { return p[j] * dp[j]; });
  for (int64_t j = 0; j < n; ++j) dp[j] = p[j] * (dp[j] - mean);
}

// Rows [n, width] of one head, in any float type.
template <class Scalar>
struct Head {
  Scalar* data;
  int64_t stride, width;

  Head(const Tensor& x, int64_t row, int64_t head)
      : data(x.data_ptr<Scalar>() + row * x.stride(0) + head * x.stride(1)), stride(x.stride(2)), width(x.size(3)) {}

  template <class Operand>
  void read(int64_t first, int64_t count, Operand& to) const {
    to.read(data + first * stride, stride, count);
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
  int64_t span;              // keys that a block of queries sees at most
  int64_t lanes, key_lanes;  // width and span, padded
  int64_t turned_row;        // all keys, with room for a block that ends with them

  Sizes(const AttentionInput& in, int64_t window)
      : batch(in.q.size(0)),
        heads(in.q.size(1)),
        key_heads(in.k.size(1)),
        group(heads / key_heads),
        queries(in.q.size(2)),
        keys(in.k.size(2)),
        width(in.q.size(3)),
        span(window > 0 ? std::min(keys, kQueries + 2 * window) : keys),
        lanes(padded(width)),
        key_lanes(row_stride(span)),
        turned_row(row_stride(keys + kTileColumns)) {}
};

// What one thread works with for one key head and the query heads that it serves, block of queries by block. Products
// are of Operands: Floats or Pairs.
template <class Scalar, class Operand>
class Worker {
 public:
  Worker(const AttentionInput& in, const AttentionSettings& settings, float* normalisers, bool backward)
      : in_(in),
        settings_(settings),
        s_(in, settings.window),
        normalisers_(normalisers),
        keys_(s_.span, s_.width, {.along_rows = backward, .turned = true}),
        values_(s_.span, s_.width, {.along_rows = !backward, .turned = backward}),
        query_(kQueries, s_.width, {.along_rows = backward}),
        p_(kQueries, s_.span, {.left = !backward, .along_rows = backward}),
        dout_(backward ? kQueries : 0, s_.width, {.along_rows = true}),
        ds_(backward ? kQueries : 0, s_.span, {.along_rows = true}) {
    const auto room = [](std::vector<float>& buffer, int64_t rows, int64_t columns) {
      buffer.assign(static_cast<size_t>(rows * columns), 0);
    };
    if (in.to_keys.defined()) to_keys_.emplace(in.to_keys, s_.queries, s_.keys, backward);
    if (in.to_queries.defined()) to_queries_.emplace(in.to_queries, s_.keys, kQueries, backward);
    room(scores_, kQueries, s_.key_lanes);
    room(out_, kQueries, s_.lanes);
    if (settings.dropout > 0) room(mask_, 1, kQueries * s_.key_lanes);
    if (!backward) return;
    room(dscores_, kQueries, s_.key_lanes);
    room(turned_dkeys_, s_.lanes, s_.turned_row);
    room(turned_dvalues_, s_.lanes, s_.turned_row);
    if (to_queries_) room(dkeys_, s_.keys, s_.lanes);
  }

  void forward(int64_t row, int64_t key_head, const Tensor& mixed) {
    for_each_block(row, key_head, [&](const Block& b) {
      const float lacking = form_scores(b);
      if (settings_.dropout > 0) draw_mask(b);
      for (int64_t i = 0; i < b.queries; ++i) {
        float* own = scores_.data() + i * s_.key_lanes;
        const float greatest = lacking * greatest_of(own, b.width);
        exponentials(own, b.width, {.scale = lacking, .greatest = greatest, .factor = 1});
        normalisers_of(b, i)[0] = greatest;
        normalisers_of(b, i)[1] = 1 / sum_of(own, b.width);
        if (settings_.dropout > 0) multiply_row(own, mask_of(b, i), b.width);
        p_.take_row(own, i, b.width);
      }
      p_.taken(scores_.data(), s_.key_lanes, b.queries, b.width);
      add_product(p_.left(), values_.right(), out_.data(), s_.lanes, Operand::whole_rows(b.queries),
                  in_vectors(s_.width), Operand::whole_depth(b.keys), Into::fresh);
      for (int64_t i = 0; i < b.queries; ++i) {
        scale_row(out_.data() + i * s_.lanes, normalisers_of(b, i)[1], s_.width);
      }
      Head<Scalar>(mixed, row, b.head).write(b.first, b.queries, out_.data(), s_.lanes);
    });
  }

  void backward(int64_t row, int64_t key_head, const Tensor& dmixed, const AttentionInput& gradients) {
    for (auto* sum : {&turned_dkeys_, &turned_dvalues_, &dkeys_}) std::fill(sum->begin(), sum->end(), 0.0f);
    const int64_t wide = in_vectors(s_.width), tall = Operand::whole_rows(s_.width);
    for_each_block(row, key_head, [&](const Block& b) {
      const int64_t rows = Operand::whole_rows(b.queries), depth = Operand::whole_depth(b.queries);
      const float lacking = form_scores(b);
      Head<Scalar>(dmixed, row, b.head).read(b.first, b.queries, dout_);
      add_product(dout_.left(), values_.turned_right(), dscores_.data(), s_.key_lanes, rows, b.width,
                  Operand::whole_depth(s_.width), Into::fresh);
      if (settings_.dropout > 0) draw_mask(b);
      for (int64_t i = 0; i < b.queries; ++i) {
        float *p = scores_.data() + i * s_.key_lanes, *dp = dscores_.data() + i * s_.key_lanes;
        const float* normaliser = normalisers_of(b, i);
        exponentials(p, b.width, {.scale = lacking, .greatest = normaliser[0], .factor = normaliser[1]});
        if (settings_.dropout > 0) multiply_row(dp, mask_of(b, i), b.width);
        softmax_gradient(p, dp, b.width);
        if (settings_.dropout > 0) multiply_row(p, mask_of(b, i), b.width);
        p_.take_row(p, i, b.width);
        ds_.take_row(dp, i, b.width);
      }
      p_.taken(scores_.data(), s_.key_lanes, b.queries, b.width);
      ds_.taken(dscores_.data(), s_.key_lanes, b.queries, b.width);
      // Turned: so the great matrix stands on the right, as it is.
      add_product(dout_.turned_left(), p_.right(), turned_dvalues_.data() + b.from, s_.turned_row, tall, b.width,
                  depth);
      add_product(query_.turned_left(), ds_.right(), turned_dkeys_.data() + b.from, s_.turned_row, tall, b.width,
                  depth);
      add_product(ds_.left(), keys_.right(), out_.data(), s_.lanes, rows, wide, Operand::whole_depth(b.keys),
                  Into::fresh);
      if (in_.tells_distances()) go_back_by_distance(b);
      scale_row(out_.data(), scale(), b.queries * s_.lanes);
      Head<Scalar>(gradients.q, row, b.head).write(b.first, b.queries, out_.data(), s_.lanes);
    });
    write_turned(gradients.k, row, key_head, turned_dkeys_, dkeys_, scale());
    write_turned(gradients.v, row, key_head, turned_dvalues_, {}, 1);
  }

  /// The gradients of the terms by distance, summed over the rows that go back in `work`: `to` [parts, distances,
  /// heads, width].
  template <class Work>
  void sum_by_distance(int64_t part, int64_t head, const AttentionInput& to, const Work& work) {
    for (auto* term : {&to_keys_, &to_queries_}) {
      if (*term) (*term)->clear_gradient();
    }
    work();
    if (to_keys_) write_by_distance(*to_keys_, to.to_keys.select(0, part).select(1, head));
    if (to_queries_) write_by_distance(*to_queries_, to.to_queries.select(0, part).select(1, head));
  }

 private:
  struct Block {
    int64_t row, head;
    int64_t first, queries;     // query rows
    int64_t from, keys, width;  // from the first to the last key that any of them sees; their number, padded
    int64_t own;                // key of the first query in causal attention, else -1

    int64_t seen(int64_t i) const { return own < 0 ? keys : own + i + 1; }
  };

  // turned [width, keys] and, if there are any, `more` rows [keys, width], times `factor`, as rows of a head of `to`.
  void write_turned(const Tensor& to, int64_t row, int64_t head, const std::vector<float>& turned,
                    const std::vector<float>& more, float factor) {
    const Head<Scalar> rows(to, row, head);
    for (int64_t first = 0; first < s_.keys; first += kQueries) {
      const int64_t count = std::min(kQueries, s_.keys - first);
      turn(turned.data() + first, s_.turned_row, s_.lanes, in_vectors(count), out_.data(), s_.lanes);
      if (!more.empty()) add_row(out_.data(), more.data() + first * s_.lanes, count * s_.lanes);
      scale_row(out_.data(), factor, count * s_.lanes);
      rows.write(first, count, out_.data(), s_.lanes);
    }
  }

  void read_keys(int64_t row, int64_t key_head, int64_t from, int64_t count) {
    Head<Scalar>(in_.k, row, key_head).read(from, count, keys_);
    Head<Scalar>(in_.v, row, key_head).read(from, count, values_);
  }

  Block block(int64_t row, int64_t head, int64_t first) const {
    const int64_t count = std::min(kQueries, s_.queries - first), window = settings_.window;
    int64_t from = 0, end = s_.keys, own = -1;
    if (settings_.causal) {
      own = s_.keys - s_.queries + first;
      end = own + count;
    } else if (window > 0) {
      from = std::max<int64_t>(0, first - window);
      end = std::min(s_.keys, first + count + window);
    }
    return {row, head, first, count, from, end - from, padded(end - from), own};
  }

  // The keys are read once for all blocks, or for each those that it sees.
  template <class Use>
  void for_each_block(int64_t row, int64_t key_head, const Use& use) {
    const bool local = settings_.window > 0;
    if (!local) read_keys(row, key_head, 0, s_.keys);
    for (int64_t head = key_head * s_.group; head < (key_head + 1) * s_.group; ++head) {
      for (int64_t first = 0; first < s_.queries; first += kQueries) {
        const Block b = block(row, head, first);
        if (local) read_keys(row, key_head, b.from, b.keys);
        use(b);
      }
    }
  }

  float scale() const { return static_cast<float>(settings_.scale); }

  // q k^T into scores_, or scale q k^T + bias, and q into query_; what a query does not see is -infinity. Returns the
  // scale that they lack.
  float form_scores(const Block& b) {
    Head<Scalar>(in_.q, b.row, b.head).read(b.first, b.queries, query_);
    add_product(query_.left(), keys_.turned_right(), scores_.data(), s_.key_lanes, Operand::whole_rows(b.queries),
                b.width, Operand::whole_depth(s_.width), Into::fresh);
    if (in_.tells_distances()) add_by_distance(b);
    const bool adds_bias = !settings_.causal && settings_.bias.defined();
    if (adds_bias) {
      for (int64_t i = 0; i < b.queries; ++i) scale_row(scores_.data() + i * s_.key_lanes, scale(), b.width);
      add_bias(b, settings_.bias);
    }
    if (settings_.causal) {
      hide_keys(b, *settings_.causal);
    } else if (settings_.window > 0) {
      hide_far_keys(b);
    }
    for (int64_t i = 0; i < b.queries; ++i) {
      float* scores = scores_.data() + i * s_.key_lanes;
      std::fill(scores + b.seen(i), scores + b.width, -std::numeric_limits<float>::infinity());
    }
    return adds_bias ? 1 : scale();
  }

  void add_by_distance(const Block& b) {
    if (to_keys_) {
      to_keys_->choose(b.head);
      to_keys_->products(query_, {b.first, b.queries, 0, b.keys}, [&](int64_t i, const float* products) {
        add_row(scores_.data() + i * s_.key_lanes, products, b.keys);
      });
    }
    if (!to_queries_) return;
    to_queries_->choose(b.head);
    to_queries_->products(keys_, {0, b.keys, b.first, b.queries}, [&](int64_t j, const float* products) {
      for (int64_t i = 0; i < b.queries; ++i) scores_[i * s_.key_lanes + j] += products[i];
    });
  }

  // Adds to the gradients of the block's queries, in out_, and of all keys.
  void go_back_by_distance(const Block& b) {
    if (to_keys_) {
      const auto row = [&](int64_t i, float* to) { std::copy_n(dscores_.data() + i * s_.key_lanes, b.keys, to); };
      to_keys_->backward(query_, {b.first, b.queries, 0, b.keys}, row, out_.data());
    }
    if (!to_queries_) return;
    const auto column = [&](int64_t j, float* to) {
      for (int64_t i = 0; i < b.queries; ++i) to[i] = dscores_[i * s_.key_lanes + j];
    };
    to_queries_->backward(keys_, {0, b.keys, b.first, b.queries}, column, dkeys_.data());
  }

  // to [distances, width]
  void write_by_distance(const DistanceTerm<Scalar, Operand>& term, const Tensor& to) const {
    for (int64_t d = 0; d < to.size(0); ++d) {
      float* row = to.data_ptr<float>() + d * to.stride(0);
      std::copy_n(term.gradient() + d * s_.lanes, s_.width, row);
      scale_row(row, scale(), s_.width);
    }
  }

  void add_bias(const Block& b, const Tensor& bias) {
    const float* rows = bias.const_data_ptr<float>() + (bias.size(0) == 1 ? 0 : b.row * bias.stride(0)) +
                        (bias.size(1) == 1 ? 0 : b.head * bias.stride(1));
    for (int64_t i = 0; i < b.queries; ++i) {
      const float* own = rows + (bias.size(2) == 1 ? 0 : (b.first + i) * bias.stride(2));
      add_row(scores_.data() + i * s_.key_lanes, own + b.from, b.keys);
    }
  }

  void hide_far_keys(const Block& b) {
    for (int64_t i = 0; i < b.queries; ++i) {
      float* scores = scores_.data() + i * s_.key_lanes;
      const int64_t place = b.first + i - b.from, end = std::min(b.keys, place + settings_.window + 1);
      std::fill_n(scores, std::max<int64_t>(0, place - settings_.window), kHidden);
      std::fill(scores + end, scores + b.keys, kHidden);
    }
  }

  void hide_keys(const Block& b, const CausalKeys& causal) {
    if (causal.all()) return;
    const auto numbers = [&](const Tensor& x) {
      return x.const_data_ptr<int32_t>() + (x.size(0) == 1 ? 0 : b.row * x.stride(0));
    };
    const int32_t* documents = causal.documents().defined() ? numbers(causal.documents()) : nullptr;
    const int32_t* places = numbers(causal.places());
    for (int64_t i = 0; i < b.queries; ++i) {
      float* scores = scores_.data() + i * s_.key_lanes;
      const int64_t key = b.own + i;
      if (documents) hide_other_documents(scores, documents, documents[key], b.seen(i));
      if (causal.window() == 0) continue;
      hide_before(scores, places, places[key] - static_cast<int32_t>(causal.window()) + 1, b.seen(i));
    }
  }

  void draw_mask(const Block& b) {
    const auto index = static_cast<uint64_t>((b.row * s_.heads + b.head) * s_.queries + b.first);
    fill_dropout_mask(mask_.data(), b.queries * b.width, settings_.dropout, mix_seed(settings_.key, index));
  }
  const float* mask_of(const Block& b, int64_t i) const { return mask_.data() + i * b.width; }

  float* normalisers_of(const Block& b, int64_t i) const {
    return normalisers_ + ((b.row * s_.heads + b.head) * s_.queries + b.first + i) * 2;
  }

  const AttentionInput& in_;
  const AttentionSettings& settings_;
  const Sizes s_;
  float* normalisers_;
  Operand keys_, values_;          // of the key head
  Operand query_, p_, dout_, ds_;  // of the block; p: the probabilities
  std::optional<DistanceTerm<Scalar, Operand>> to_keys_, to_queries_;
  std::vector<float> scores_, out_, mask_, dscores_;
  std::vector<float> turned_dkeys_, turned_dvalues_;
  std::vector<float> dkeys_;  // what distances give the keys
};

// [batch, heads, n, width] that lies in memory as [batch, n, heads, width].
Tensor room_for(const Tensor& x) {
  return at::empty({x.size(0), x.size(2), x.size(1), x.size(3)}, x.options()).transpose(1, 2);
}

Tensor in_rows(const Tensor& x) {
  return x.stride(-1) == 1 ? x : x.contiguous();
}

AttentionInput with_rows(const AttentionInput& in) {
  const auto whole = [](const Tensor& x) { return x.defined() ? in_rows(x) : x; };
  return {in_rows(in.q), in_rows(in.k), in_rows(in.v), whole(in.to_keys), whole(in.to_queries)};
}

// work(worker, row, key head) for each of them; what they add up is added within one call.
template <class Chosen, class Work>
void for_each_key_head(const AttentionInput& in, const AttentionSettings& settings, const Tensor& normalisers,
                       bool backward, const Work& work) {
  const int64_t key_heads = in.k.size(1), rows = in.q.size(0);
  const bool by_head = in.tells_distances();  // whose vectors are read once then
  at::parallel_for(0, rows * key_heads, 1, [&](int64_t begin, int64_t end) {
    Chosen worker(in, settings, normalisers.data_ptr<float>(), backward);
    for (int64_t task = begin; task < end; ++task) {
      by_head ? work(worker, task % rows, task / rows) : work(worker, task / key_heads, task % key_heads);
    }
  });
}

// work(worker, row, head) for each of them. Gradients of the terms by distance are sums over rows, taken in a few parts
// that follow from the sizes alone.
template <class Chosen, class Work>
void for_each_part(const AttentionInput& in, const AttentionSettings& settings, const Tensor& normalisers,
                   AttentionInput& gradients, const Work& work) {
  constexpr int64_t kParts = 8;
  const int64_t rows = in.q.size(0), heads = in.q.size(1), parts = std::min(kParts, rows);
  const auto room = [&](const Tensor& x) {
    if (!x.defined()) return Tensor();
    return at::empty({parts, x.size(0), heads, x.size(2)}, x.options().dtype(at::kFloat));
  };
  const AttentionInput sums{.to_keys = room(in.to_keys), .to_queries = room(in.to_queries)};
  at::parallel_for(0, heads * parts, 1, [&](int64_t begin, int64_t end) {
    Chosen worker(in, settings, normalisers.data_ptr<float>(), /*backward=*/true);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / parts, part = task % parts;
      worker.sum_by_distance(part, head, sums, [&] {
        for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; ++row) work(worker, row, head);
      });
    }
  });
  if (sums.to_keys.defined()) gradients.to_keys = sums.to_keys.sum(0);
  if (sums.to_queries.defined()) gradients.to_queries = sums.to_queries.sum(0);
}

// use.template operator()<a Worker>() for the type and the processor.
template <class Use>
void with_worker(const Tensor& x, const Use& use) {
  if (x.scalar_type() == at::kFloat) return use.template operator()<Worker<float, Floats>>();
#if defined(DELTAW_BF16_UNITS)
  if (has_bf16_units()) return use.template operator()<Worker<at::BFloat16, Pairs>>();
#endif
  use.template operator()<Worker<at::BFloat16, Floats>>();
}

}  // namespace

AttentionOutput attention_forward(const AttentionInput& input, const AttentionSettings& settings) {
  const AttentionInput in = with_rows(input);
  AttentionOutput out{room_for(in.q),
                      at::empty({in.q.size(0), in.q.size(1), in.q.size(2), 2}, in.q.options().dtype(at::kFloat))};
  with_worker(in.q, [&]<class Chosen>() {
    for_each_key_head<Chosen>(in, settings, out.normalisers, false, [&](auto& worker, int64_t row, int64_t key_head) {
      worker.forward(row, key_head, out.mixed);
    });
  });
  return out;
}

AttentionInput attention_backward(const AttentionInput& input, const Tensor& normalisers, const Tensor& dmixed,
                                  const AttentionSettings& settings) {
  const AttentionInput in = with_rows(input);
  const Tensor dout = in_rows(dmixed);
  AttentionInput gradients{room_for(in.q), room_for(in.k), room_for(in.v)};
  with_worker(in.q, [&]<class Chosen>() {
    const auto work = [&](auto& worker, int64_t row, int64_t key_head) {
      worker.backward(row, key_head, dout, gradients);
    };
    in.tells_distances() ? for_each_part<Chosen>(in, settings, normalisers, gradients, work)
                         : for_each_key_head<Chosen>(in, settings, normalisers, true, work);
  });
  return gradients;
}

}  // namespace deltaw::ops
