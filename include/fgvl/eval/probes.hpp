#pragma once
#include <optional>
#include <string>
#include <vector>

#include "fgvl/data/synthetic.hpp"
#include "fgvl/train/probe.hpp"

namespace fgvl::eval {

/// The six skills on pairs of generated scenes: the share where whole-image ITM (no box given) ranks the true text strictly above the foil; ties are
/// wrong. Metrics skills/<skill>/{accuracy, n, shuffled_accuracy, unseen_accuracy, unseen_n}; shuffled: with the pictures of other pairs, where texts
/// alone must not decide; unseen: the true text names a colour-shape pair that training never showed (no such pairs for counting, which names none).
/// Its scenes are those of the data section: other ones would show what "unseen" says training never showed, so that `scenes` that differ from a synthetic
/// data.dataset are refused, and they are required where that is not synthetic. All probes here score in evaluation mode without gradients, whatever mode the model is in, and leave it in that mode.
struct SkillsOptions {
  std::int64_t pairs = 1000;         ///< a skill
  std::int64_t unseen_pairs = 300;   ///< a skill; 0: none
  bool shuffled = true;
  std::string matching = "itm";      ///< the matching term that scores
  std::optional<data::SyntheticOptions> scenes{};  ///< absent: those of data.dataset, where that is synthetic
};
void visit_fields(config::Visitor& visitor, SkillsOptions& options);
absl::StatusOr<train::ProbePtr> make_probe(const SkillsOptions& options, const train::ProbeContext& context);

/// Boxes predicted from texts on whole pictures of the scored split: only texts that name one region of their picture. By the box head; without one by position tokens, as Inference::ground reads them, and then
/// box_without_room counts the regions that are not scored, because their texts leave no room for these. Metrics box_mean_iou, box_n and,
/// for up to `max_labels` labels, boxes/<label>/{mean_iou, hit_at_0.5, n, constant_box_iou}: the last is what the training split's mean box of that label gets.
/// It is null unless the held-out split is scored and there is a training split: a baseline fitted on what it is scored on would say nothing.
/// box_images of box_images_of pictures could be read. NotFound (exit code 3), when the probe is made, where no region can be scored.
struct BoxesOptions {
  std::int64_t max_images = 0;     ///< scored; 0: all
  std::int64_t max_labels = 32;    ///< more labels than this: only the mean over all
  std::vector<std::string> labels{};  ///< only these; empty: all
  std::string masked_language{};   ///< the masked_language term that predicts position tokens; empty: the first
};
void visit_fields(config::Visitor& visitor, BoxesOptions& options);
absl::StatusOr<train::ProbePtr> make_probe(const BoxesOptions& options, const train::ProbeContext& context);

/// Which label fits a region, by the similarity of region and text features: through its true box, and through a window of one fixed size centred on it,
/// because the size of a box alone can give the class away. Metrics regions/{true_box, fixed_window}/{balanced_accuracy, n, per_class/<label>/{accuracy, n}}
/// and regions/baselines/{majority, box_area} (balanced accuracy of always the commonest class, and of a classifier that sees the area only), both fitted on
/// the training split; null as above. region_images of region_images_of pictures could be read. Regions without a label are left out; NotFound (exit code 3), when
/// the probe is made, where none has one.
struct RegionsOptions {
  double window_pixels = 64;       ///< side of the fixed window, in pixels of the original picture
  std::int64_t max_images = 0;     ///< scored; 0: all
};
void visit_fields(config::Visitor& visitor, RegionsOptions& options);
absl::StatusOr<train::ProbePtr> make_probe(const RegionsOptions& options, const train::ProbeContext& context);

/// Ours: skills, boxes, regions.
std::shared_ptr<train::ProbeRegistry> builtin_probes();

}  // namespace fgvl::eval
