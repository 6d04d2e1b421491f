#pragma once
/// The official X-VLM's fixtures as our models, batches and criteria, made the way a user makes them: make_region_vlm, begin, Criterion.
#include <map>

#include <torch/torch.h>

#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/models/region_vlm.hpp"
#include "fgvl/models/swin.hpp"
#include "golden/fixtures.hpp"

namespace fgvl::test {

using Tensors = std::map<std::string, Tensor>;

Tensors read_tensors(const std::filesystem::path& path);
/// Entries "<prefix>name" as "name".
Tensors with_prefix(const Tensors& tensors, const std::string& prefix);

/// A fixture of one model: its configuration, and weights and scenarios beside it.
struct OfficialModel {
  std::filesystem::path folder;
  nlohmann::json json;

  std::string name() const { return json["name"]; }
  /// "xvlm clip", "xvlm swin", ..., or the family's folder: "albef", "blip", "pevl".
  std::string kind() const;
  std::int64_t text_layers() const { return json["config"]["text"]["fusion_layer"]; }
  /// Under official names.
  Tensors weights() const;
  /// "in.", "out." and "grad." tensors.
  Tensors scenario(const std::string& name) const;
};
/// Every model below the golden folder.
std::vector<OfficialModel> official_models();

models::SwinOptions swin_options(const nlohmann::json& config);
models::VisionEncoderPtr make_vision(const nlohmann::json& config);
models::ModelPtr make_model(const OfficialModel& official);

/// A model with the official weights, the batch of a scenario, and the losses that the official code takes of it.
struct OfficialRun {
  models::ModelPtr model;
  std::shared_ptr<losses::Criterion> criterion;
  RegionBatch batch;
  losses::GivenNegatives negatives;  ///< what the matching term uses: write new indices into these tensors
  std::unique_ptr<ForwardPass> pass;
  losses::LossReport report;

  /// Computes `pass` and `report` with the weights as they are now.
  void forward();
};
OfficialRun prepare(const OfficialModel& official, const Tensors& scenario, at::ScalarType dtype);

}  // namespace fgvl::test
