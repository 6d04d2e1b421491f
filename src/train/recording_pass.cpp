#include "train/recording_pass.hpp"

#include <algorithm>

namespace fgvl::train {
namespace {

std::string pairs_of(const FusionQuery& query) {
  const char* text = query.text == TextInput::kMasked ? "masked texts" : query.text == TextInput::kFoil ? "foils" : "texts";
  return std::string(text) + " x " + (query.visual == VisualInput::kRegion ? "regions" : "pictures");
}

}  // namespace

void RecordingPass::begin_term(const std::string& term) {
  term_ = term;
  if (momentum_) momentum_->begin_term(term);
}

std::vector<StageRun> RecordingPass::runs() const {
  std::vector<StageRun> all = runs_;
  if (!momentum_) return all;
  const std::vector<StageRun> followed = momentum_->runs();
  all.insert(all.end(), followed.begin(), followed.end());
  return all;
}

StageRun& RecordingPass::run_of(const std::string& stage) {
  const std::string name = prefix_ + stage;
  auto found = std::find_if(runs_.begin(), runs_.end(), [&](const StageRun& run) { return run.stage == name; });
  if (found == runs_.end()) found = runs_.insert(runs_.end(), StageRun{name, 0, {}});
  if (std::find(found->terms.begin(), found->terms.end(), term_) == found->terms.end()) found->terms.push_back(term_);
  return *found;
}

void RecordingPass::once(const std::string& stage, std::int64_t rows) { run_of(stage).rows = rows; }
void RecordingPass::again(const std::string& stage, std::int64_t rows) { run_of(stage).rows += rows; }

void RecordingPass::texts(TextInput input) {
  switch (input) {
    case TextInput::kText:
    case TextInput::kAllRanks: return once("texts", batch().text_count());
    case TextInput::kMasked: return once("masked texts", batch().text_count());
    case TextInput::kFoil: return once("foils", batch().foil_ids.size(0));
  }
}

const ImageFeatures& RecordingPass::image() {
  pictures();
  return pass_.image();
}

const RegionFeatures& RecordingPass::regions() {
  pictures();
  return pass_.regions();
}

const TextFeatures& RecordingPass::text() {
  texts(TextInput::kText);
  return pass_.text();
}

const TextFeatures& RecordingPass::masked_text() {
  texts(TextInput::kMasked);
  return pass_.masked_text();
}

const TextFeatures& RecordingPass::foil_text() {
  texts(TextInput::kFoil);
  return pass_.foil_text();
}

const Tensor& RecordingPass::foil_features() {
  texts(TextInput::kFoil);
  return pass_.foil_features();
}

const TextFeatures& RecordingPass::label_text() {
  once("labels", batch().label_ids.size(0));
  return pass_.label_text();
}

ForwardPass& RecordingPass::momentum() {
  if (!momentum_) {
    momentum_ = std::make_unique<RecordingPass>(pass_.momentum(), "momentum " + prefix_);
    momentum_->begin_term(term_);
  }
  return *momentum_;
}

Tensor RecordingPass::fuse(const FusionQuery& query) {
  pictures();
  texts(query.text);
  Tensor fused = pass_.fuse(query);
  // What a pass kept of an equal query did not run again.
  const bool kept = query.text == TextInput::kMasked && masked_.defined() && fused.is_same(masked_);
  if (query.text == TextInput::kMasked) masked_ = fused;
  again("fusion: " + pairs_of(query), kept ? 0 : query.text_index.size(0));
  return fused;
}

const Tensor& RecordingPass::matched() {
  pictures();
  texts(TextInput::kText);
  once("fusion: true pairs", batch().text_count());
  return pass_.matched();
}

Tensor RecordingPass::predicted_boxes(const Tensor& text_index) {
  pictures();
  texts(TextInput::kText);
  again("fusion: boxes", text_index.size(0));
  return pass_.predicted_boxes(text_index);
}

Tensor RecordingPass::decoded(const FusionQuery& query) {
  pictures();
  again("decoder: " + pairs_of(query), query.text_index.size(0));
  return pass_.decoded(query);
}

}  // namespace fgvl::train
