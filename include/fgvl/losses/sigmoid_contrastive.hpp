#pragma once
#include "fgvl/losses/contrastive.hpp"

namespace fgvl::losses {

/// Pairwise sigmoid loss of visuals and texts: SigLIP (arXiv 2303.15343; open_clip 89fb801, src/open_clip/loss.py, SigLipLoss). Every pair is judged by itself, so that no row needs the others' softmax.
/// The mean runs over rows, not over pairs: sum over pairs / number of rows of all ranks.
struct SigmoidContrastiveOptions {
  Rows rows = Rows::kAll;
  SameText same_text = SameText::kPositive;
  /// Of the logits, similarity / temperature + bias. `logit_scale` starts at ln 10, as the paper; open_clip's trainer keeps exp(logit_scale) in [1, 100].
  TemperatureOptions temperature{.kind = TemperatureKind::kLogScale, .init = 0.1, .learn = true, .min = 0.01, .max = 1.0};
  double bias = -10.0;     ///< at the start: nearly all pairs are negatives. Parameter `logit_bias`
  bool learn_bias = true;
  bool reference = false;  ///< as open_clip: every pair but a row's own is a negative
};
void visit_fields(config::Visitor& visitor, SigmoidContrastiveOptions& options);

/// Scalar: sum over all pairs of N visuals and N texts, unit rows [N, E], row n with row n, divided by N; N = 0 gives 0. -log sigmoid(y (similarity * scale + bias)), y = 1 for row n with row n, else -1.
Tensor sigmoid_contrastive(const Tensor& visual, const Tensor& text, const Tensor& scale, const Tensor& bias);

LossTermPtr make_term(const SigmoidContrastiveOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
