#include <algorithm>

#include <absl/strings/str_cat.h>
#include <torch/torch.h>

#include "train/inference_scope.hpp"
#include "fgvl/core/config.hpp"
#include "fgvl/eval/probes.hpp"
#include "fgvl/eval/query.hpp"
#include "fgvl/losses/matching.hpp"

namespace fgvl::eval {
namespace {

constexpr std::int64_t kBatch = 100;  // pairs; two texts each

/// Pairs made once, ready for the model.
struct Prepared {
  Tensor images;                     ///< [N, 3, S, S]
  std::vector<data::SkillPair> pairs;
};

/// Shares of pairs whose true text scores strictly above its foil.
struct Shares {
  double own = 0;       ///< on the pair's own picture
  double shuffled = 0;  ///< on another pair's; 0 when not asked for
};

/// The options of a synthetic dataset, read back from what it would be saved as: a Choice keeps them behind one type.
absl::StatusOr<data::SyntheticOptions> scenes_of(const data::DatasetChoice& dataset) {
  FGVL_ASSIGN_OR_RETURN(const config::Document document, config::Document::parse(config::to_yaml(dataset), "data.dataset"));
  std::string type;
  data::SyntheticOptions scenes;
  FGVL_RETURN_IF_ERROR(document.read([&](config::Visitor& visitor) {
    visitor("type", type, "");
    visitor("options", scenes, "");
  }));
  return scenes;
}

class SkillsProbe final : public train::Probe {
 public:
  SkillsProbe(const SkillsOptions& options, const data::SyntheticOptions& scenes, const train::ProbeContext& context)
      : options_(options), scenes_(scenes), image_(context.data->image), texts_(context.texts) {}

  absl::StatusOr<train::Metrics> run(const train::ProbeInput& input) override {
    const train::InferenceScope scope(input.model, input.criterion);
    const losses::LossTermPtr term = input.criterion.find(options_.matching);
    auto* scorer = dynamic_cast<losses::PairScorer*>(term.get());
    if (scorer == nullptr) return absl::InvalidArgumentError(absl::StrCat("skills: there is no matching term named '", options_.matching, "' to score with"));
    train::Metrics metrics;
    for (const std::string& skill : data::synthetic_skills()) {
      const std::string name = absl::StrCat("skills/", skill, "/");
      const Prepared& seen = prepared(skill, options_.pairs, false);
      FGVL_ASSIGN_OR_RETURN(const Shares shares, score(seen, options_.shuffled, input, *scorer));
      metrics.emplace_back(name + "accuracy", shares.own);
      metrics.emplace_back(name + "n", static_cast<std::int64_t>(seen.pairs.size()));
      if (options_.shuffled) metrics.emplace_back(name + "shuffled_accuracy", shares.shuffled);
      // A text that only counts names no colour, so that it cannot name an unseen pair.
      if (options_.unseen_pairs > 0 && scenes_.unseen_pairs > 0 && skill != "counting") {
        const Prepared& unseen = prepared(skill, options_.unseen_pairs, true);
        FGVL_ASSIGN_OR_RETURN(const Shares unseen_shares, score(unseen, false, input, *scorer));
        metrics.emplace_back(name + "unseen_accuracy", unseen_shares.own);
        metrics.emplace_back(name + "unseen_n", static_cast<std::int64_t>(unseen.pairs.size()));
      }
    }
    return metrics;
  }

 private:
  const Prepared& prepared(const std::string& skill, std::int64_t count, bool unseen) {
    auto [found, is_new] = prepared_.try_emplace(skill + (unseen ? "/unseen" : ""));
    if (is_new) {
      found->second.pairs = data::synthetic_skill_pairs(scenes_, skill, count, unseen);
      std::vector<Tensor> images;
      for (const data::SkillPair& pair : found->second.pairs) images.push_back(data::model_input(data::from_tensor(pair.image), image_));
      found->second.images = at::stack(images);
    }
    return found->second;
  }

  /// Both shares from one encoding of each picture and each text: only the fusion runs twice.
  absl::StatusOr<Shares> score(const Prepared& prepared, bool shuffled, const train::ProbeInput& input, losses::PairScorer& scorer) const {
    const auto count = static_cast<std::int64_t>(prepared.pairs.size());
    const std::int64_t batches = (count + kBatch - 1) / kBatch;
    std::int64_t right = 0, right_shuffled = 0;
    // Batches of nearly equal size: none has a single picture, which could not be exchanged for another.
    for (std::int64_t b = 0; b < batches; ++b) {
      const std::int64_t begin = count * b / batches, end = count * (b + 1) / batches;
      std::vector<QueryText> texts;
      for (std::int64_t i = begin; i < end; ++i) {
        texts.push_back({.image = i - begin, .text = prepared.pairs[static_cast<std::size_t>(i)].text});
        texts.push_back({.image = i - begin, .text = prepared.pairs[static_cast<std::size_t>(i)].foil});
      }
      FGVL_ASSIGN_OR_RETURN(RegionBatch batch, make_query(prepared.images.slice(0, begin, end), texts, *texts_));
      batch = batch.to(input.device);
      const auto pass = input.model.begin(batch);
      right += true_above_foil(scorer.pair_logits(pass->matched()));
      if (!shuffled) continue;
      const Tensor other = at::remainder(batch.text_to_image + 1, end - begin), rows = at::arange(batch.text_count(), batch.text_to_image.options());
      const Tensor fused = pass->fuse({.text_index = rows, .visual = VisualInput::kImage, .visual_index = other, .positions = at::zeros({batch.text_count(), 1}, rows.options())});
      right_shuffled += true_above_foil(scorer.pair_logits(fused.select(1, 0)));
    }
    return Shares{static_cast<double>(right) / static_cast<double>(count), static_cast<double>(right_shuffled) / static_cast<double>(count)};
  }

  /// `logits` [2N, 2]: true text and foil of each pair in turn. Ties, and scores that are not numbers, are wrong.
  static std::int64_t true_above_foil(const Tensor& logits) {
    const Tensor scores = (logits.select(1, 1) - logits.select(1, 0)).view({-1, 2});
    return (scores.select(1, 0) > scores.select(1, 1)).sum().item<std::int64_t>();
  }

  SkillsOptions options_;
  data::SyntheticOptions scenes_;
  data::ImageOptions image_;
  data::TextPipelinePtr texts_;
  std::map<std::string, Prepared> prepared_;
};

}  // namespace

void visit_fields(config::Visitor& visitor, SkillsOptions& options) {
  visitor("pairs", options.pairs, "a skill", {2, 1e9});
  visitor("unseen_pairs", options.unseen_pairs, "a skill, of colour-shape pairs that training never showed; 0: none", config::kNonNegative);
  visitor("shuffled", options.shuffled, "also with the pictures of other pairs");
  visitor("matching", options.matching, "the matching term that scores");
  visitor("scenes", options.scenes, "the scenes; null: those of data.dataset, where that is synthetic");
}

absl::StatusOr<train::ProbePtr> make_probe(const SkillsOptions& options, const train::ProbeContext& context) {
  if (context.data->dataset.type() != "synthetic") {
    if (!options.scenes) return absl::InvalidArgumentError("skills: data.dataset is not synthetic; say with `scenes` which scenes are scored");
    return std::make_shared<SkillsProbe>(options, *options.scenes, context);
  }
  FGVL_ASSIGN_OR_RETURN(const data::SyntheticOptions scenes, scenes_of(context.data->dataset));
  if (options.scenes && config::to_yaml(*options.scenes) != config::to_yaml(scenes)) {
    return absl::InvalidArgumentError("skills: `scenes` differ from data.dataset.options, so that \"unseen\" pairs would not be those that training never showed; leave `scenes` out");
  }
  return std::make_shared<SkillsProbe>(options, scenes, context);
}

}  // namespace fgvl::eval
