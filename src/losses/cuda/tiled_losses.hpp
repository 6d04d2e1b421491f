#pragma once
#include "fgvl/losses/tiled_contrastive.hpp"

struct CUstream_st;

/// tiled_contrastive and tiled_sigmoid on a GPU. The public functions check their arguments, ask `has_kernels`, and compute in ATen tiles where the answer is no.
namespace fgvl::losses::cuda {

/// Whether the kernels compute `input`: float32 or bfloat16 vectors of at least one component on a GPU, at least one query and one key. Everything else (float64, float16, nothing to compare) is for ATen tiles.
bool has_kernels(const ContrastiveInput& input);
bool has_kernels(const SigmoidInput& input);

/// Of checked arguments for which `has_kernels`; the losses are float32. cuBLAS computes a tile of products, float32 of bfloat16 vectors too, and our kernels make of it statistics in the forward pass and, in
/// the backward pass of softmaxes and the forward pass of sigmoids, the gradient of similarities, which is rounded to bfloat16 for its products with bfloat16 vectors. The same numbers on every run: no sum depends on the order in which threads finish.
ContrastiveLosses tiled_contrastive(const ContrastiveInput& input);
Tensor tiled_sigmoid(const SigmoidInput& input);

/// out [N, M] = a [N, K] b [K, M], or with `add` out += a b; out float32, a and b both float32 or both bfloat16 on the same GPU, each row-major or the transpose of a row-major matrix.
void multiply(const Tensor& out, const Tensor& a, const Tensor& b, bool add);

/// The stream that PyTorch computes on now, on the device of `on`.
CUstream_st* current_stream(const Tensor& on);

}  // namespace fgvl::losses::cuda
