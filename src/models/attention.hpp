#pragma once
#include <torch/torch.h>

#include "models/dropout.hpp"

namespace fgvl::models {

/// [N, L, D] -> [N, heads, L, D / heads].
inline Tensor split_heads(const Tensor& tokens, std::int64_t heads) {
  return tokens.view({tokens.size(0), tokens.size(1), heads, tokens.size(2) / heads}).transpose(1, 2);
}

/// [N, heads, L, d] -> [N, L, heads * d].
inline Tensor merge_heads(const Tensor& tokens) { return tokens.transpose(1, 2).flatten(2); }

/// [N, 1, 1, S] to be added to scores: 0 where `mask` [N, S] holds, -10000 elsewhere, as BERT and X-VLM do.
inline Tensor additive_mask(const Tensor& mask, at::ScalarType dtype) {
  return (1.0 - mask.to(dtype)).mul_(-10000.0).unsqueeze(1).unsqueeze(1);
}

/// [1, 1, L, L] to be added to scores: token l sees tokens 0 to l.
inline Tensor causal_mask(std::int64_t length, const at::TensorOptions& options) {
  return at::full({length, length}, -10000.0, options).triu_(1).unsqueeze(0).unsqueeze(0);
}

/// softmax(q k^T / sqrt(d) + mask) v for q [N, heads, L, d], k and v [N, heads, S, d]; `mask` additive or undefined. [N, heads, L, d].
inline Tensor attend_heads(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask) {
  return at::scaled_dot_product_attention(query, key, value, mask.defined() ? std::optional<Tensor>(mask.to(query.scalar_type())) : std::nullopt);
}

/// attend_heads() for q [N, L, D], k and v [N, S, D]. [N, L, D].
inline Tensor attend(const Tensor& query, const Tensor& key, const Tensor& value, std::int64_t heads, const Tensor& mask) {
  return merge_heads(attend_heads(split_heads(query, heads), split_heads(key, heads), split_heads(value, heads), mask));
}

/// softmax(q k^T / sqrt(d) + mask) for q [N, heads, L, d], k [N, heads, S, d]; `mask` additive, which may be learned, or undefined. [N, heads, L, S].
Tensor weights_of_heads(const Tensor& query, const Tensor& key, const Tensor& mask);

/// softmax(q k^T / sqrt(d) + bias) v for q, k, v [N, heads, L, d] and a bias that may be learned. LibTorch has no fused kernel for a learned one on CPUs, and what it computes instead scales queries and keys apart and looks
/// for rows that see nothing, which here there are none of.
inline Tensor attend_with_bias(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& bias) {
  const bool plain = bias.is_cpu() && bias.requires_grad() && !at::isReducedFloatingType(query.scalar_type());
  return plain ? at::matmul(weights_of_heads(query, key, bias), value) : at::scaled_dot_product_attention(query, key, value, bias);
}

/// attend_heads() with dropout of its weights. The fused kernels would draw it from the global generator, so that the weights are computed here when something is dropped.
inline Tensor attend_heads(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask, Dropout& dropout, double probability) {
  if (!dropout.drops(probability)) return attend_heads(query, key, value, mask);
  return at::matmul(dropout(weights_of_heads(query, key, mask), probability), value);
}

}  // namespace fgvl::models
