#include <torch/torch.h>

#include <absl/strings/str_cat.h>

#include "fgvl/eval/grounding.hpp"
#include "fgvl/eval/probes.hpp"
#include "fgvl/losses/matching.hpp"

namespace fgvl::eval {
namespace {

constexpr std::int64_t kBatch = 100;

/// Pairs made once, ready for the model.
struct Prepared {
  Tensor images;                     ///< [N, 3, S, S]
  std::vector<data::SkillPair> pairs;
};

class SkillsProbe final : public train::Probe {
 public:
  SkillsProbe(const SkillsOptions& options, const train::ProbeContext& context) : options_(options), image_(context.data->image), texts_(context.texts) {}

  absl::StatusOr<train::Metrics> run(const train::ProbeInput& input) override {
    torch::NoGradGuard guard;
    const losses::LossTermPtr term = input.criterion.find(options_.matching);
    auto* scorer = dynamic_cast<losses::PairScorer*>(term.get());
    if (scorer == nullptr) return absl::InvalidArgumentError(absl::StrCat("skills: there is no matching term named '", options_.matching, "' to score with"));
    train::Metrics metrics;
    for (const std::string& skill : data::synthetic_skills()) {
      const std::string name = absl::StrCat("skills/", skill, "/");
      const Prepared& seen = prepared(skill, options_.pairs, false);
      FGVL_ASSIGN_OR_RETURN(const double accuracy, score(seen, 0, input, *scorer));
      metrics.emplace_back(name + "accuracy", accuracy);
      metrics.emplace_back(name + "n", static_cast<std::int64_t>(seen.pairs.size()));
      if (options_.shuffled) {
        FGVL_ASSIGN_OR_RETURN(const double shuffled, score(seen, static_cast<std::int64_t>(seen.pairs.size()) / 2, input, *scorer));
        metrics.emplace_back(name + "shuffled_accuracy", shuffled);
      }
      if (options_.unseen_pairs > 0 && options_.scenes.unseen_pairs > 0 && skill != "counting") {
        const Prepared& unseen = prepared(skill, options_.unseen_pairs, true);
        FGVL_ASSIGN_OR_RETURN(const double unseen_accuracy, score(unseen, 0, input, *scorer));
        metrics.emplace_back(name + "unseen_accuracy", unseen_accuracy);
        metrics.emplace_back(name + "unseen_n", static_cast<std::int64_t>(unseen.pairs.size()));
      }
    }
    return metrics;
  }

 private:
  const Prepared& prepared(const std::string& skill, std::int64_t count, bool unseen) {
    auto [found, is_new] = prepared_.try_emplace(skill + (unseen ? "/unseen" : ""));
    if (is_new) {
      found->second.pairs = data::synthetic_skill_pairs(options_.scenes, skill, count, unseen);
      std::vector<Tensor> images;
      for (const data::SkillPair& pair : found->second.pairs) images.push_back(data::model_input(data::from_tensor(pair.image), image_));
      found->second.images = at::stack(images);
    }
    return found->second;
  }

  /// Share of pairs whose true text scores strictly above its foil; pair i looks at the picture of pair i + shift.
  absl::StatusOr<double> score(const Prepared& prepared, std::int64_t shift, const train::ProbeInput& input, losses::PairScorer& scorer) const {
    const auto count = static_cast<std::int64_t>(prepared.pairs.size());
    std::int64_t right = 0;
    for (std::int64_t begin = 0; begin < count; begin += kBatch) {
      const std::int64_t end = std::min(count, begin + kBatch);
      std::vector<QueryText> texts;
      for (std::int64_t i = begin; i < end; ++i) {
        texts.push_back({.image = i - begin, .text = prepared.pairs[static_cast<std::size_t>(i)].text});
        texts.push_back({.image = i - begin, .text = prepared.pairs[static_cast<std::size_t>(i)].foil});
      }
      const Tensor which = at::remainder(at::arange(begin, end) + shift, count);
      FGVL_ASSIGN_OR_RETURN(RegionBatch batch, make_query(prepared.images.index_select(0, which), texts, *texts_));
      const auto pass = input.model.begin(batch.to(input.device));
      const Tensor logits = scorer.pair_logits(pass->matched());
      const Tensor scores = (logits.select(1, 1) - logits.select(1, 0)).view({-1, 2});
      right += (scores.select(1, 0) > scores.select(1, 1)).sum().item<std::int64_t>();
    }
    return static_cast<double>(right) / static_cast<double>(count);
  }

  SkillsOptions options_;
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
  visitor("scenes", options.scenes, "the scenes; as in the data section");
}

absl::StatusOr<train::ProbePtr> make_probe(const SkillsOptions& options, const train::ProbeContext& context) { return std::make_shared<SkillsProbe>(options, context); }

}  // namespace fgvl::eval
