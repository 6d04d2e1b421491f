#pragma once
#include <string>

#include "fgvl/losses/rows.hpp"
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

enum class Negatives { kHard, kUniform };  ///< drawn in proportion to softmax(similarity / temperature) + floor | all admissible pairs alike
config::EnumNames<Negatives> enum_names(Negatives);

enum class Similarity { kLive, kMomentum };  ///< of a pass's features to one another | to those of its momentum encoders, as ALBEF and BLIP (their ForwardPass::momentum())
config::EnumNames<Similarity> enum_names(Similarity);

/// Among whose texts and visuals negatives are drawn: this rank's own, as all references | those of all ranks. There, a pair of a text of rank A and a visual of rank B is computed by rank B, so that texts alone are
/// exchanged, and losses and gradients are those of one process with the whole batch.
enum class NegativesFrom { kRank, kAllRanks };
config::EnumNames<NegativesFrom> enum_names(NegativesFrom);

enum class MatchingHead { kMlp, kLinear };  ///< Linear(D, 2 D), LayerNorm, GELU, Linear(2 D, 2), as X-VLM | one Linear(D, 2), as ALBEF, BLIP and PEVL
config::EnumNames<MatchingHead> enum_names(MatchingHead);

/// Negatives chosen by the caller instead of drawn; undefined: drawn.
struct GivenNegatives {
  Tensor visual_for_text{};  ///< [T] int64: the text row whose visual is the negative of text t.
  Tensor text_for_visual{};  ///< [T] int64: the text row that is the negative of visual t.
};

/// Image-text matching (ITM) with in-batch negatives: ALBEF (arXiv 2107.07651, eq. 3), X-VLM (models/xvlm.py get_matching_loss).
/// Every row gives one true pair and, where an admissible one exists, one negative visual and one negative text.
struct MatchingOptions {
  Rows rows = Rows::kAll;            ///< true pairs of these texts, and negatives among them
  Negatives negatives = Negatives::kHard;
  std::string temperature = "0.07";  ///< of the sampling distribution: a number, or the name of a contrastive term, whose current temperature is used
  double floor = 1e-5;               ///< of the weights, added after the softmax: 1e-5 in X-VLM, 1e-4 in BLIP, 0 in ALBEF. Without one, similarities can be so sharp that a row has no weight but at its true pairs; it then gets no
                                     ///< negative (ALBEF's code fails there)
  Similarity similarity = Similarity::kLive;
  NegativesFrom negatives_from = NegativesFrom::kRank;
  bool foils = false;                ///< also every foil of these texts with the visual that it is false of, one negative pair each (NegCLIP's hard negatives, arXiv 2210.01936, in matching)
  bool reference = false;            ///< as X-VLM: only a row's own pair is excluded from its negatives
  MatchingHead head = MatchingHead::kMlp;
  GivenNegatives given{};            ///< not part of a configuration file
};
void visit_fields(config::Visitor& visitor, MatchingOptions& options);

/// What a matching head says of fused pairs; the matching term implements it, evaluation and foil matching use it.
class PairScorer {
 public:
  virtual ~PairScorer() = default;
  /// `first_token` [N, D] fused first tokens -> [N, 2] logits, column 1 = the text matches.
  virtual Tensor pair_logits(const Tensor& first_token) = 0;
};

/// [N] int64 column indices drawn per row in proportion to `weights` [N, M] >= 0 by inverse transform of `uniform` [N] in [0, 1),
/// and -1 for rows without weight (all zero or not finite).
Tensor draw_columns(const Tensor& weights, const Tensor& uniform);

/// Throws c10::Error for similarity kMomentum of a model without momentum encoders (FeatureSpec::momentum).
LossTermPtr make_term(const MatchingOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
