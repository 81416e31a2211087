// Losses of images and captions that are compared with each other.
//
// Of n rows, row i has image i and caption i. An image is right for each caption that the rows give it: its own, those
// of other rows with the same image, and all that are equal to one of these. Where all images and all captions differ,
// these are the losses that transformers computes with return_loss.
#pragma once

#include <ATen/ATen.h>

namespace deltaw::contrastive {

using at::Tensor;

/// [n, n] bool: whether image i and caption j belong together. Equal numbers in image_ids or caption_ids [n] mean the
/// same image or caption.
Tensor positives(const Tensor& image_ids, const Tensor& caption_ids);

/// The mean of two cross entropies: of each image over the captions, and of each caption over the images. The target
/// is spread evenly over what is right (Radford et al. 2021, arXiv:2103.00020, where that is one; Khosla et al. 2020,
/// arXiv:2004.11362, L_out). logits [images, captions].
Tensor softmax_loss(const Tensor& logits, const Tensor& positives);

/// -log sigmoid(+logit) of what belongs together and -log sigmoid(-logit) of all else, summed over the captions; a mean
/// over the images (Zhai et al. 2023, arXiv:2303.15343).
Tensor sigmoid_loss(const Tensor& logits, const Tensor& positives);

}  // namespace deltaw::contrastive
