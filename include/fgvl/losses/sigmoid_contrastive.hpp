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

/// Scalar: the sum over all pairs (n, m) of -log sigmoid(y * (scale * <visual n, text m> + bias)), divided by N, with y = 1 where n = m and -1 elsewhere (SigLIP, arXiv 2303.15343, section 3.2 and algorithm 1).
/// `visual`, `text`: unit rows [N, E] of one floating dtype; N = 0 gives 0. `scale`, `bias`: scalars. All four get a gradient. `scale` multiplies as it is: the paper's t = exp(t'), open_clip's
/// logit_scale.exp(), 1 / temperature of the options above; the paper starts from t' = ln 10 and bias = -10.
/// Throws c10::Error for rows of other or unequal shapes, dtypes or devices, and for a `scale` or `bias` that is no scalar.
Tensor sigmoid_contrastive(const Tensor& visual, const Tensor& text, const Tensor& scale, const Tensor& bias);

LossTermPtr make_term(const SigmoidContrastiveOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
