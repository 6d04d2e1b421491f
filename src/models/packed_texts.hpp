#pragma once
#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

struct Bundles;

/// The N texts [N, L] of a batch without their padding. Everything that treats a token by itself computes on the R real tokens alone, [R, D]; attention, to which texts matter, sees them padded.
class PackedTexts {
 public:
  /// `mask` [N, L] bool, true on real tokens. With `at_padding` nothing is left out.
  explicit PackedTexts(const Tensor& mask, bool at_padding = false);

  std::int64_t texts() const { return texts_; }    ///< N
  std::int64_t length() const { return length_; }  ///< L
  /// [R] int64: the place in its text of each token.
  Tensor place_in_text() const;

  /// [N, L, ...] -> [R, ...].
  Tensor pack(const Tensor& padded) const;
  /// [R, D] -> [N, L, D] for attention: padding repeats some real token. It must be hidden by a mask and its output dropped by pack(), because what gradient it gets is dropped too.
  Tensor pad(const Tensor& packed) const;
  /// pad() for attention by heads: [R, D] -> [N, heads, L, D / heads].
  Tensor pad_heads(const Tensor& packed, std::int64_t heads) const;
  /// [N, heads, L, d] -> [R, heads * d].
  Tensor pack_heads(const Tensor& padded) const;
  /// [R, D] -> [N, L, D], zero at padding, for whoever takes texts from here.
  Tensor spread(const Tensor& packed) const;

  /// The rows of `packed` [R, D] at token positions [N, M] -> [N * M, D], and how they lie; positions may repeat.
  Tensor at_positions(const Tensor& packed, const Tensor& positions) const;
  static PackedTexts of_positions(const Tensor& positions);

  /// The same tokens for attention a bundle at a time: [C, size * L, D], the texts of a bundle behind one another.
  PackedTexts bundled(const Bundles& bundles) const;

 private:
  PackedTexts(std::int64_t texts, std::int64_t length) : texts_(texts), length_(length) {}
  bool whole() const { return !rows_.defined(); }  ///< no padding: packed and padded are views of one another

  std::int64_t texts_ = 0, length_ = 0;
  Tensor rows_{};    ///< [R] int64 into [N * L]: where each real token stands; undefined: everywhere
  Tensor places_{};  ///< [N * L] int64 into [R]: what stands there
};

}  // namespace fgvl::models
