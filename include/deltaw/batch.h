// Rows on their way to a model: where they come from, and what goes through it at once.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace deltaw {

using at::Tensor;

/// Where a run stands when it asks for a batch. What is random in a batch follows from this and from nothing else, so
/// that a resumed run draws what an undisturbed one does.
struct Draw {
  uint64_t seed = 0;
  int64_t epoch = 0;
  int64_t step = 0;
  int64_t micro_step = 0;
};

/// Tensors by the names of transformers' inputs ("input_ids"), and what the host knows of the rows, so that nobody
/// reads it back from a tensor.
struct Batch {
  int64_t rows = 0;
  std::map<std::string, Tensor, std::less<>> tensors = {};
  std::vector<int64_t> positions = {};  // [rows]: of each row in its source
  std::vector<int64_t> costs = {};      // [rows]: RowSource::cost

  /// Throws data.no-tensor where there is none of that name.
  const Tensor& operator[](std::string_view name) const;
  /// An undefined tensor where there is none.
  Tensor get(std::string_view name) const;
  /// attention_mask stays on the host, where models ask it what is padding.
  Batch to(at::Device device) const;
};

/// The rows of all batches as one batch. Tensors whose rows do not fit together (padded to other lengths) are left out,
/// as are those that only some batches have.
Batch joined(const std::vector<Batch>& batches);

/// Rows that a model can take, known by number and cost before any of them is made.
class RowSource {
 public:
  virtual ~RowSource() = default;

  virtual int64_t size() const = 0;
  /// What a row costs a model, in its own unit: tokens of a text.
  virtual int64_t cost(int64_t row) const = 0;
  /// A text that is another one where the rows are: a run is only resumed with its own rows.
  virtual std::string fingerprint() const = 0;
  /// The rows at these positions, in this order. May be called from any thread; whatever is random follows from `draw`.
  virtual Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const = 0;
};

/// cost() of every row.
std::vector<int64_t> costs_of(const RowSource& rows);

}  // namespace deltaw
