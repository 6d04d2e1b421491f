// configs/ablations: the grid of objectives, rows and streams, each cell a file of a few lines.
#include <filesystem>
#include <map>
#include <set>

#include <torch/torch.h>

#include "fgvl/core/config.hpp"
#include "fgvl/data/labels.hpp"
#include "fgvl/eval/probes.hpp"
#include "fgvl/train/run_config.hpp"
#include "support/catch.hpp"

namespace fgvl::eval {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

const fs::path kFolder = fs::path(FGVL_SOURCE_DIR) / "configs" / "ablations";

train::RunConfig resolved(const std::string& name) {
  auto document = config::Document::load((kFolder / (name + ".yaml")).string());
  INFO(document.status().message());
  REQUIRE(document.ok());
  // Few pictures suffice; everything else as the file says.
  REQUIRE(document->override_with({"data.batch_size=12", "data.workers=0"}).ok());
  train::RunRegistries registries;
  registries.probes = builtin_probes();
  auto config = config::read(*document, train::RunConfig(registries));
  INFO(config.status().message());
  REQUIRE(config.ok());
  return *config;
}

/// Names of what one batch of the run computed, with the number of items each ran over; the run is built as training builds it.
std::map<std::string, double> computed(train::RunConfig config) {
  const auto streams = data::open_streams(config.data, config.data.split).value();
  const auto texts = data::make_text_pipeline(config.data, streams).value();
  const auto labels = data::make_labels(config.data.labels, *texts, streams).value();
  const auto loader = data::Loader::make(streams, config.data.image, texts, config.data.loader, labels).value();
  const models::ModelPtr model = models::make_model(config.model, train::text_context(texts->tokenizer()), 1);
  const auto criterion = losses::make_criterion(config.losses, model->spec(), data::stream_names(config.data));
  const RegionBatch batch = loader->next().value();
  torch::NoGradGuard guard;
  std::map<std::string, double> counts;
  for (const losses::LossReport::Value& value : criterion->forward(*model->begin(batch)).values) counts[value.name] = value.count;
  return counts;
}

Names names(const std::map<std::string, double>& counts) {
  Names names;
  for (const auto& [name, count] : counts) names.insert(name);
  return names;
}

Names without(Names names, const Names& removed) {
  for (const std::string& name : removed) CHECK(names.erase(name) == 1);
  return names;
}

TEST_CASE("configs/ablations: the paper's grid by YAML alone: every file builds, and computes what it names and nothing else", "[ablations]") {
  const Names image = {"itc", "itm", "mlm"}, region = {"region_itc", "region_itm", "region_mlm"}, box = {"box.giou", "box.l1"};
  Names all = image;
  all.insert(region.begin(), region.end());
  all.insert(box.begin(), box.end());
  Names plain = image;
  plain.insert(box.begin(), box.end());
  const std::map<std::string, Names> expected = {
      {"xvlm", all},
      {"albef", image},
      {"albef_vma", without(all, box)},
      {"albef_box", without(all, region)},
      {"no_region_contrast", without(all, {"region_itc"})},
      {"no_region_matching", without(all, {"region_itm"})},
      {"no_region_words", without(all, {"region_mlm"})},
      {"regions_alone", without(all, image)},
      {"no_object_labels", all},
      {"no_region_descriptions", all},
      {"boxes_from_objects", all},
      {"all_ranks", all},
      {"captions_only", image},
      {"no_box", image},
      {"no_region_text", plain},
      {"region_rows_only", plain},
      {"image_rows_and_boxes", plain},
      {"curriculum", plain},
  };
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    const std::string name = entry.path().stem().string();
    INFO(name);
    ++files;
    REQUIRE(expected.count(name) == 1);  // a new file says here what it computes
    CHECK(names(computed(resolved(name))) == expected.at(name));
  }
  CHECK(files == expected.size());
}

TEST_CASE("configs/ablations: terms on rows and streams count those alone", "[ablations]") {
  // Twelve pictures by quota: four of each stream. A caption a picture; objects and descriptions give regions, up to three a picture.
  const std::map<std::string, double> all = computed(resolved("xvlm")), boxes = computed(resolved("boxes_from_objects")), objects = computed(resolved("no_region_descriptions"));
  CHECK(all.at("itc") == 4);
  CHECK(all.at("region_itc") > 4);
  CHECK(boxes.at("region_itc") < all.at("region_itc"));
  CHECK(boxes.at("box.l1") < all.at("box.l1"));
  CHECK(boxes.at("itc") == 4);
  CHECK(objects.at("itc") == 6);  // two streams left
}

}  // namespace
}  // namespace fgvl::eval
