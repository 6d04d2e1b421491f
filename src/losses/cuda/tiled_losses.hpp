#pragma once
#include "fgvl/losses/tiled_contrastive.hpp"

struct CUstream_st;

/// tiled_contrastive and tiled_sigmoid by our own CUDA kernels. The public functions check their arguments, ask `has_kernels`, and compute in ATen tiles where the answer is no.
namespace fgvl::losses::cuda {

/// Whether the kernels compute `input`: float32 or bfloat16 vectors of at least one component on a GPU, at least one query and one key. Everything else (float64, float16, nothing to compare) is for ATen tiles.
bool has_kernels(const ContrastiveInput& input);
bool has_kernels(const SigmoidInput& input);

/// Of checked arguments for which `has_kernels`; the losses are float32. bfloat16 vectors are multiplied on tensor cores and added in float32; the gradient of similarities is rounded to bfloat16 for its products
/// with the vectors. The same numbers on every run and every GPU of an architecture: no sum depends on the order in which threads finish.
ContrastiveLosses tiled_contrastive(const ContrastiveInput& input);
Tensor tiled_sigmoid(const SigmoidInput& input);

/// The stream that PyTorch computes on now, on the device of `on`.
CUstream_st* current_stream(const Tensor& on);

}  // namespace fgvl::losses::cuda
