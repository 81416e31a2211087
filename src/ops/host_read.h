// Where the host reads numbers out of tensors. On a device a read waits until all that was asked of it is done, so
// reads have one place and are counted: a step of training has two of them, its loss and the norm of its gradients.
//
// The kernels of CPUs, which walk the tensors that they compute with, read nothing in this sense.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace deltaw::ops {

/// How often the host has read since the program began, in all threads.
int64_t host_reads();

/// The number of a tensor that has one, of any type.
double host_number(const at::Tensor& tensor);
int64_t host_integer(const at::Tensor& tensor);
bool host_flag(const at::Tensor& tensor);

/// Whether both have the same shape and numbers; they are of one type.
bool host_equal(const at::Tensor& a, const at::Tensor& b);

/// All numbers, row by row, as T: double, float, int64_t or uint8_t.
template <class T>
std::vector<T> host_values(const at::Tensor& tensor);

/// Places in the flattened tensor of what is not zero: [n] int64. How many there are is what the host must know.
at::Tensor host_places(const at::Tensor& tensor);

/// The tensor, contiguous and where the host can walk it: the same one where it is both.
at::Tensor host_copy(const at::Tensor& tensor);

// What the host knows of a batch is a tensor that was made on the host and stays there (its attention_mask, see
// Batch::to): asking it waits for nothing and is not counted. These throw internal.device for any other tensor.

bool known_flag(const at::Tensor& tensor);
/// The least and the greatest number of integers.
std::pair<int64_t, int64_t> known_range(const at::Tensor& tensor);
/// As host_places.
at::Tensor known_places(const at::Tensor& tensor);

}  // namespace deltaw::ops
