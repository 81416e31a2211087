#include "ops/attention/attention_kernel.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/aligned.h"
#include "core/mix_seed.h"
#include "ops/attention/distance_term.h"
#include "ops/attention/head_rows.h"
#include "ops/attention/score_rows.h"
#include "ops/dropout_mask.h"
#include "ops/operand.h"
#include "ops/turn.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Queries of a block, and the keys that it takes at a time.
struct Part {
  int64_t queries, keys;
};
constexpr Part kWhole{64, kKeysAtOnce};
constexpr Part kOfMany{128, 256};

struct Sizes {
  int64_t batch, heads, key_heads, group, queries, keys, width;
  bool whole;                // a block of queries takes all keys that it sees at once
  int64_t block;             // queries
  int64_t span, tile;        // keys that a block sees at most, and takes at a time
  int64_t lanes, key_lanes;  // width and tile, padded
  int64_t turned_row;        // all keys, with room for a tile that ends with them

  static bool takes_whole(const AttentionInput& in, int64_t window) {
    const int64_t keys = in.k.size(2);
    return in.tells_distances() || (window > 0 ? std::min(keys, kWhole.queries + 2 * window) : keys) <= kWhole.keys;
  }

  Sizes(const AttentionInput& in, int64_t window)
      : batch(in.q.size(0)),
        heads(in.q.size(1)),
        key_heads(in.k.size(1)),
        group(heads / key_heads),
        queries(in.q.size(2)),
        keys(in.k.size(2)),
        width(in.q.size(3)),
        whole(takes_whole(in, window)),
        block(whole ? kWhole.queries : kOfMany.queries),
        span(window > 0 ? std::min(keys, block + 2 * window) : keys),
        tile(whole ? span : kOfMany.keys),
        lanes(padded(width)),
        key_lanes(row_stride(tile)),
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
        query_(s_.block, s_.width, {.along_rows = backward}),
        p_(s_.block, s_.tile, {.left = !backward, .along_rows = backward}),
        dout_(backward ? s_.block : 0, s_.width, {.along_rows = true}),
        ds_(backward ? s_.block : 0, s_.tile, {.along_rows = true}) {
    const auto room = [](AlignedVector<float>& buffer, int64_t rows, int64_t columns) {
      buffer.assign(static_cast<size_t>(rows * columns), 0);
    };
    if (in.to_keys.defined()) to_keys_.emplace(in.to_keys, s_.queries, s_.keys, backward);
    if (in.to_queries.defined()) to_queries_.emplace(in.to_queries, s_.keys, s_.block, backward);
    room(scores_, s_.block, s_.key_lanes);
    room(out_, s_.block, s_.lanes);
    if (settings.dropout > 0) room(mask_, 1, s_.block * s_.key_lanes);
    if (!backward) return;
    room(dscores_, s_.block, s_.key_lanes);
    if (!s_.whole) room(means_, 1, s_.block);
    room(turned_dkeys_, s_.lanes, s_.turned_row);
    room(turned_dvalues_, s_.lanes, s_.turned_row);
    if (to_queries_) room(dkeys_, s_.keys, s_.lanes);
  }

  void forward(int64_t row, int64_t key_head, const Tensor& mixed) {
    for_each_block(row, key_head, [&](const Block& b) {
      for_each_tile(b, [&](const Tile& t) {
        const float lacking = form_scores(b, t);
        if (settings_.dropout > 0) draw_mask(b, t);
        for (int64_t i = 0; i < b.queries; ++i) {
          float *own = scores_.data() + i * s_.key_lanes, *normaliser = normalisers_of(b, i);
          const float before = t.number == 0 ? -kInfinity : normaliser[0];
          const float greatest = std::max(before, lacking * greatest_of(own, t.width));
          exponentials(own, t.width, {.scale = lacking, .greatest = greatest, .factor = 1});
          const float kept = std::exp(before - greatest);  // of the tiles before, whose scores are smaller now
          normaliser[0] = greatest;
          normaliser[1] = (t.number == 0 ? 0 : kept * normaliser[1]) + sum_of(own, t.width);
          if (t.number > 0 && kept != 1) scale_row(out_.data() + i * s_.lanes, kept, s_.width);
          if (settings_.dropout > 0) multiply_row(own, mask_of(t, i), t.width);
          p_.take_row(own, i, t.width);
        }
        p_.taken(scores_.data(), s_.key_lanes, b.queries, t.width);
        add_product(p_.left(), below(values_.right(), t.at), out_.data(), s_.lanes, Operand::whole_rows(b.queries),
                    in_vectors(s_.width), Operand::whole_depth(t.keys), t.into());
      });
      for (int64_t i = 0; i < b.queries; ++i) {
        float* normaliser = normalisers_of(b, i);
        normaliser[1] = 1 / normaliser[1];
        scale_row(out_.data() + i * s_.lanes, normaliser[1], s_.width);
      }
      HeadRows<Scalar>(mixed, row, b.head).write(b.first, b.queries, out_.data(), s_.lanes);
    });
  }

  void backward(int64_t row, int64_t key_head, const Tensor& mixed, const Tensor& dmixed,
                const AttentionInput& gradients) {
    for (auto* sum : {&turned_dkeys_, &turned_dvalues_, &dkeys_}) std::fill(sum->begin(), sum->end(), 0.0f);
    const int64_t wide = in_vectors(s_.width), tall = Operand::whole_rows(s_.width);
    for_each_block(row, key_head, [&](const Block& b) {
      const int64_t rows = Operand::whole_rows(b.queries), depth = Operand::whole_depth(b.queries);
      HeadRows<Scalar>(dmixed, row, b.head).read(b.first, b.queries, dout_);
      if (!s_.whole) take_means(b, mixed, dmixed);
      for_each_tile(b, [&](const Tile& t) {
        const float lacking = form_scores(b, t);
        add_product(dout_.left(), beside(values_.turned_right(), t.at), dscores_.data(), s_.key_lanes, rows, t.width,
                    Operand::whole_depth(s_.width), Into::fresh);
        if (settings_.dropout > 0) draw_mask(b, t);
        for (int64_t i = 0; i < b.queries; ++i) {
          float *p = scores_.data() + i * s_.key_lanes, *dp = dscores_.data() + i * s_.key_lanes;
          const float* normaliser = normalisers_of(b, i);
          exponentials(p, t.width, {.scale = lacking, .greatest = normaliser[0], .factor = normaliser[1]});
          if (settings_.dropout > 0) multiply_row(dp, mask_of(t, i), t.width);
          softmax_gradient(p, dp, s_.whole ? dot(p, dp, t.width) : means_[static_cast<size_t>(i)], t.width);
          if (settings_.dropout > 0) multiply_row(p, mask_of(t, i), t.width);
          p_.take_row(p, i, t.width);
          ds_.take_row(dp, i, t.width);
        }
        p_.taken(scores_.data(), s_.key_lanes, b.queries, t.width);
        ds_.taken(dscores_.data(), s_.key_lanes, b.queries, t.width);
        // Turned: so the great matrix stands on the right, as it is.
        add_product(dout_.turned_left(), p_.right(), turned_dvalues_.data() + t.from, s_.turned_row, tall, t.width,
                    depth);
        add_product(query_.turned_left(), ds_.right(), turned_dkeys_.data() + t.from, s_.turned_row, tall, t.width,
                    depth);
        add_product(ds_.left(), below(keys_.right(), t.at), out_.data(), s_.lanes, rows, wide,
                    Operand::whole_depth(t.keys), t.into());
        if (in_.tells_distances()) go_back_by_distance(b);
      });
      scale_row(out_.data(), scale(), b.queries * s_.lanes);
      HeadRows<Scalar>(gradients.q, row, b.head).write(b.first, b.queries, out_.data(), s_.lanes);
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
    int64_t first, queries;  // query rows
    int64_t from, keys;      // from the first to the last key that any of them sees
    int64_t own;             // key of the first query in causal attention, else -1
  };

  // Some keys of a block.
  struct Tile {
    int64_t number;
    int64_t from, keys, width;  // key rows; their number, padded
    int64_t at;                 // where they stand in keys_ and values_

    Into into() const { return number == 0 ? Into::fresh : Into::sum; }
  };

  // Of `t`, from its first one on.
  static int64_t seen(const Block& b, const Tile& t, int64_t i) {
    return b.own < 0 ? t.keys : std::clamp<int64_t>(b.own + i + 1 - t.from, 0, t.keys);
  }

  // turned [width, keys] and, if there are any, `more` rows [keys, width], times `factor`, as rows of a head of `to`.
  void write_turned(const Tensor& to, int64_t row, int64_t head, const AlignedVector<float>& turned,
                    const AlignedVector<float>& more, float factor) {
    const HeadRows<Scalar> rows(to, row, head);
    for (int64_t first = 0; first < s_.keys; first += s_.block) {
      const int64_t count = std::min(s_.block, s_.keys - first);
      turn(turned.data() + first, s_.turned_row, s_.lanes, in_vectors(count), out_.data(), s_.lanes);
      if (!more.empty()) add_row(out_.data(), more.data() + first * s_.lanes, count * s_.lanes);
      scale_row(out_.data(), factor, count * s_.lanes);
      rows.write(first, count, out_.data(), s_.lanes);
    }
  }

  void read_keys(int64_t row, int64_t key_head, int64_t from, int64_t count) {
    HeadRows<Scalar>(in_.k, row, key_head).read(from, count, keys_);
    HeadRows<Scalar>(in_.v, row, key_head).read(from, count, values_);
  }

  Block block(int64_t row, int64_t head, int64_t first) const {
    const int64_t count = std::min(s_.block, s_.queries - first), window = settings_.window;
    int64_t from = 0, end = s_.keys, own = -1;
    if (settings_.causal) {
      own = s_.keys - s_.queries + first;
      end = own + count;
    } else if (window > 0) {
      from = std::max<int64_t>(0, first - window);
      end = std::min(s_.keys, first + count + window);
    }
    return {row, head, first, count, from, end - from, own};
  }

  // The keys are read once for all blocks, or for each those that it sees.
  template <class Use>
  void for_each_block(int64_t row, int64_t key_head, const Use& use) {
    const bool local = settings_.window > 0;
    if (!local) read_keys(row, key_head, 0, s_.keys);
    for (int64_t head = key_head * s_.group; head < (key_head + 1) * s_.group; ++head) {
      for (int64_t first = 0; first < s_.queries; first += s_.block) {
        const Block b = block(row, head, first);
        if (local) read_keys(row, key_head, b.from, b.keys);
        HeadRows<Scalar>(in_.q, row, head).read(first, b.queries, query_);
        use(b);
      }
    }
  }

  template <class Use>
  void for_each_tile(const Block& b, const Use& use) {
    for (int64_t at = 0; at < b.keys; at += s_.tile) {
      const int64_t count = std::min(s_.tile, b.keys - at);
      use(Tile{at / s_.tile, b.from + at, count, padded(count), at});
    }
  }

  float scale() const { return static_cast<float>(settings_.scale); }

  // q k^T into scores_, or scale q k^T + bias; what a query does not see is -infinity. Returns the scale that they
  // lack.
  float form_scores(const Block& b, const Tile& t) {
    add_product(query_.left(), beside(keys_.turned_right(), t.at), scores_.data(), s_.key_lanes,
                Operand::whole_rows(b.queries), t.width, Operand::whole_depth(s_.width), Into::fresh);
    if (in_.tells_distances()) add_by_distance(b);
    const bool adds_bias = !settings_.causal && settings_.bias.defined();
    if (adds_bias) {
      for (int64_t i = 0; i < b.queries; ++i) scale_row(scores_.data() + i * s_.key_lanes, scale(), t.width);
      add_bias(b, t, settings_.bias);
    }
    if (settings_.causal) {
      hide_keys(b, t, *settings_.causal);
    } else if (settings_.window > 0) {
      hide_far_keys(b, t);
    }
    for (int64_t i = 0; i < b.queries; ++i) {
      float* scores = scores_.data() + i * s_.key_lanes;
      std::fill(scores + seen(b, t, i), scores + t.width, -kInfinity);
    }
    return adds_bias ? 1 : scale();
  }

  // Of each query the sum of p dp over all keys: the product of its output and that one's gradient.
  void take_means(const Block& b, const Tensor& mixed, const Tensor& dmixed) {
    const HeadRows<Scalar> out(mixed, b.row, b.head), dout(dmixed, b.row, b.head);
    for (int64_t i = 0; i < b.queries; ++i) {
      float *y = out_.data(), *dy = y + s_.lanes;
      out.read(b.first + i, y);
      dout.read(b.first + i, dy);
      means_[static_cast<size_t>(i)] = dot(y, dy, s_.width);
    }
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

  void add_bias(const Block& b, const Tile& t, const Tensor& bias) {
    const float* rows = bias.const_data_ptr<float>() + (bias.size(0) == 1 ? 0 : b.row * bias.stride(0)) +
                        (bias.size(1) == 1 ? 0 : b.head * bias.stride(1));
    for (int64_t i = 0; i < b.queries; ++i) {
      const float* own = rows + (bias.size(2) == 1 ? 0 : (b.first + i) * bias.stride(2));
      add_row(scores_.data() + i * s_.key_lanes, own + t.from, t.keys);
    }
  }

  void hide_far_keys(const Block& b, const Tile& t) {
    for (int64_t i = 0; i < b.queries; ++i) {
      float* scores = scores_.data() + i * s_.key_lanes;
      const int64_t place = b.first + i - t.from;
      std::fill_n(scores, std::clamp<int64_t>(place - settings_.window, 0, t.keys), kHidden);
      std::fill(scores + std::clamp<int64_t>(place + settings_.window + 1, 0, t.keys), scores + t.keys, kHidden);
    }
  }

  void hide_keys(const Block& b, const Tile& t, const CausalKeys& causal) {
    if (causal.all()) return;
    const auto numbers = [&](const Tensor& x) {
      return x.const_data_ptr<int32_t>() + (x.size(0) == 1 ? 0 : b.row * x.stride(0));
    };
    const int32_t* documents = causal.documents().defined() ? numbers(causal.documents()) : nullptr;
    const int32_t* places = numbers(causal.places());
    for (int64_t i = 0; i < b.queries; ++i) {
      float* scores = scores_.data() + i * s_.key_lanes;
      const int64_t key = b.own + i, count = seen(b, t, i);
      if (documents) hide_other_documents(scores, documents + t.from, documents[key], count);
      if (causal.window() == 0) continue;
      hide_before(scores, places + t.from, places[key] - static_cast<int32_t>(causal.window()) + 1, count);
    }
  }

  void draw_mask(const Block& b, const Tile& t) {
    const auto index = static_cast<uint64_t>((b.row * s_.heads + b.head) * s_.queries + b.first);
    const uint64_t key = mix_seed(settings_.key, index);
    fill_dropout_mask(mask_.data(), b.queries * t.width, settings_.dropout,
                      t.number == 0 ? key : mix_seed(key, static_cast<uint64_t>(t.number)));
  }
  const float* mask_of(const Tile& t, int64_t i) const { return mask_.data() + i * t.width; }

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
  AlignedVector<float> scores_, out_, mask_, dscores_;
  AlignedVector<float> means_;  // of the softmax's gradient, where a tile does not have them
  AlignedVector<float> turned_dkeys_, turned_dvalues_;
  AlignedVector<float> dkeys_;  // what distances give the keys
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

bool goes_back_from_output(const AttentionInput& input, const AttentionSettings& settings) {
  return !Sizes::takes_whole(input, settings.window);
}

AttentionInput attention_backward(const AttentionInput& input, const AttentionOutput& out, const Tensor& dmixed,
                                  const AttentionSettings& settings) {
  const AttentionInput in = with_rows(input);
  const Tensor dout = in_rows(dmixed);
  AttentionInput gradients{room_for(in.q), room_for(in.k), room_for(in.v)};
  with_worker(in.q, [&]<class Chosen>() {
    const auto work = [&](auto& worker, int64_t row, int64_t key_head) {
      worker.backward(row, key_head, out.mixed, dout, gradients);
    };
    in.tells_distances() ? for_each_part<Chosen>(in, settings, out.normalisers, gradients, work)
                         : for_each_key_head<Chosen>(in, settings, out.normalisers, true, work);
  });
  return gradients;
}

}  // namespace deltaw::ops
