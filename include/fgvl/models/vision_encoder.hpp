#pragma once
#include <memory>

#include "fgvl/core/registry.hpp"
#include "fgvl/core/tensor.hpp"
#include "fgvl/models/encoder.hpp"

namespace fgvl::models {

/// Where the texts of a batch look.
struct RegionRows {
  Tensor text_to_image{};  ///< [T] int64
  Tensor is_region{};      ///< [T] bool
  Tensor patch_mask{};     ///< [T, P] bool
};

class Dropout;

/// Visual tokens of the images and of the regions of one batch; one entry a distinct sequence.
struct VisualTokens {
  /// [S, 1 + P + K, Dv]; the first B are the whole images, [CLS] first, then the patches. K > 0 where regions share their image's sequence and
  /// each has a [CLS] of its own: those stand behind the patches, hidden from the image and from one another.
  Tensor sequences{};
  Tensor sequence_index{};  ///< [T] int64 in [0, S)
  Tensor first_token{};     ///< [T, Dv] what each text's visual is projected from: the region's [CLS], or the mean of its patches
  Tensor mask{};            ///< [T, 1 + P + K] bool, what fusion may look at
};

/// Images to visual tokens. Runs once a batch, however many regions the images have.
class VisionEncoder : public Encoder {
 public:
  virtual std::int64_t width() const = 0;        ///< Dv
  virtual std::int64_t image_size() const = 0;   ///< pixels a side
  virtual std::int64_t grid() const = 0;         ///< patches a side; P = grid^2
  /// `images`: [B, 3, H, W], H = W = image_size().
  virtual VisualTokens encode(const Tensor& images, const RegionRows& rows, Dropout& dropout) = 0;
  /// Draws parameters that are no layer's weight (class embedding, learned positions).
  virtual void initialize_embeddings(std::uint64_t) {}
  virtual double flops_per_image() const = 0;    ///< multiply-adds of one forward pass, times two
};
using VisionEncoderPtr = std::shared_ptr<VisionEncoder>;

using VisionEncoderRegistry = Registry<VisionEncoderPtr>;
/// Ours: vit, clip_vit, deit, swin, beit.
std::shared_ptr<VisionEncoderRegistry> builtin_vision_encoders();

}  // namespace fgvl::models
