#include <fstream>
#include <map>
#include <set>

#include <torch/torch.h>

#include "data/files.hpp"
#include "fgvl/core/config.hpp"
#include "fgvl/data/data_config.hpp"
#include "support/catch.hpp"
#include "support/folders.hpp"

namespace fgvl::data {
namespace {

/// Grey pictures whose regions bear these labels, one picture a list.
class Labelled final : public Dataset {
 public:
  explicit Labelled(std::vector<std::vector<std::string>> labels) : labels_(std::move(labels)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(labels_.size()); }
  absl::StatusOr<Record> get(std::int64_t index) const override {
    Record record;
    record.key = std::to_string(index);
    record.image = to_tensor(test::plain_image(40, 40, 40));
    double x = 0;
    for (const std::string& label : labels_[static_cast<std::size_t>(index)]) {
      record.regions.push_back({{x, 2, x + 6, 10}, {label}, label, {}});
      x += 8;
    }
    return record;
  }

 private:
  std::vector<std::vector<std::string>> labels_;
};

struct Data {
  std::vector<Stream> streams;
  TextPipelinePtr texts;
};

Data animals() {
  SampleOptions regions;
  regions.captions_per_image = 0;
  const auto dataset = std::make_shared<Labelled>(std::vector<std::vector<std::string>>{{"cat", "dog", "dog", "dog"}, {"dog", "horse"}, {"dog", "cat"}});
  return {{{"all", dataset, 1.0, regions}}, std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary({"cat dog horse animal thing a red fox truck vehicle"})).value(), TextOptions{})};
}

std::set<std::pair<std::int64_t, std::int64_t>> pairs_of(const Tensor& implied) {
  std::set<std::pair<std::int64_t, std::int64_t>> pairs;
  for (std::int64_t row = 0; row < implied.size(0); ++row) pairs.emplace(implied[row][0].item<std::int64_t>(), implied[row][1].item<std::int64_t>());
  return pairs;
}

RegionBatch batch_with(const Data& data, const LabelOptions& options) {
  const auto labels = make_labels(options, *data.texts, data.streams);
  INFO(labels.status().message());
  REQUIRE(labels.ok());
  ImageOptions image;
  image.size = 32;
  RegionBatch batch = Loader::make(data.streams, image, data.texts, {.batch_size = 3, .workers = 0, .shuffle = false}, *labels).value()->next().value();
  batch.validate();
  return batch;
}

TEST_CASE("labels: a vocabulary stands in every batch, prepared and encoded as texts are, each label once", "[labels]") {
  const Data data = animals();
  const auto path = test::fresh_path("labels.txt");
  std::ofstream(path) << "Truck\r\n\n  \nDog\n";
  const RegionBatch batch = batch_with(data, {.negatives = {"A red fox", "dog"}, .negatives_file = path.string()});
  CHECK(at::equal(batch.label_key, torch::tensor({text_key("a red fox"), text_key("dog"), text_key("truck")}, torch::kLong)));
  for (std::int64_t row = 0; row < 3; ++row) {
    const std::vector<std::int64_t> ids = data.texts->encode(std::vector<std::string>{"a red fox", "dog", "truck"}[static_cast<std::size_t>(row)]);
    CHECK(batch.label_mask[row].sum().item<std::int64_t>() == static_cast<std::int64_t>(ids.size()));
    CHECK(at::equal(batch.label_ids[row].slice(0, 0, static_cast<std::int64_t>(ids.size())), torch::tensor(ids, torch::kLong)));
  }
  CHECK_FALSE(batch.text_weight.defined());
  CHECK_FALSE(batch.implied_keys.defined());
  // What a region bears has the same key as the label.
  CHECK((batch.text_key == text_key("dog")).sum().item<std::int64_t>() == 5);
}

TEST_CASE("labels: what a label implies is followed along chains, and a way back is refused with its stations", "[labels]") {
  const Data data = animals();
  const RegionBatch batch = batch_with(data, {.parents = {{"Dog", "animal"}, {"cat", "animal"}, {"animal", "thing"}}});
  const std::int64_t dog = text_key("dog"), cat = text_key("cat"), animal = text_key("animal"), thing = text_key("thing");
  CHECK(pairs_of(batch.implied_keys) == std::set<std::pair<std::int64_t, std::int64_t>>{{dog, animal}, {dog, thing}, {cat, animal}, {cat, thing}, {animal, thing}});
  const auto message = [&](const LabelOptions& options) { return std::string(make_labels(options, *data.texts, data.streams).status().message()); };
  CHECK_THAT(message({.parents = {{"truck", "vehicle"}, {"vehicle", "thing"}, {"thing", "Truck"}}}), Catch::Contains("data.labels.parents: truck -> vehicle -> thing -> truck leads back"));
  CHECK_THAT(message({.parents = {{"dog", "Dog"}}}), Catch::Contains("dog -> dog leads back"));
  CHECK_THAT(message({.parents = {{"dog", "animal"}, {"Dog", "thing"}}}), Catch::Contains("\"dog\" has two"));
}

TEST_CASE("labels: weights are given by label, or from how often regions bear a text", "[labels]") {
  const Data data = animals();
  const auto weight_of = [](const RegionBatch& batch, const char* text) {
    const Tensor weights = batch.text_weight.index({batch.text_key == text_key(text)});
    REQUIRE(weights.numel() > 0);
    CHECK((weights == weights[0]).all().item<bool>());
    return weights[0].item<double>();
  };
  const RegionBatch given = batch_with(data, {.weights = {{"Dog", "0.25"}, {"cat", "3"}}});
  CHECK(weight_of(given, "dog") == 0.25);
  CHECK(weight_of(given, "cat") == 3);
  CHECK(weight_of(given, "horse") == 1);
  // Eight regions: five dogs, two cats, one horse. Each text weighs 8 / 3 in all.
  const RegionBatch inverse = batch_with(data, {.inverse_frequency = true});
  CHECK(weight_of(inverse, "dog") == Approx(8.0 / 3 / 5));
  CHECK(weight_of(inverse, "cat") == Approx(8.0 / 3 / 2));
  CHECK(weight_of(inverse, "horse") == Approx(8.0 / 3));
  CHECK(inverse.text_weight.mean().item<double>() == Approx(1.0));
}

TEST_CASE("labels: inverse frequencies are those of what streams deliver: of a region one of its texts, or its label, and of a stream without regions nothing", "[labels]") {
  Data data = animals();
  // A dog may be called "animal" as well: of its two texts a visit draws one.
  data.streams[0].dataset = transformed(data.streams[0].dataset, [](Record record) -> absl::StatusOr<Record> {
    for (Region& region : record.regions) {
      if (region.texts[0] == "dog") region.texts.emplace_back("animal");
    }
    return record;
  });
  const auto weights = [&] { return make_labels({.inverse_frequency = true}, *data.texts, data.streams).value()->weight_of; };
  // Of eight regions two and a half deliver "animal", two and a half "dog", two "cat" and one "horse"; each of the four texts weighs 8 / 4 in all.
  CHECK(weights().at(text_key("animal")) == Approx(2.0 / 2.5));
  CHECK(weights().at(text_key("dog")) == Approx(2.0 / 2.5));
  CHECK(weights().at(text_key("horse")) == Approx(2.0));
  data.streams.push_back(data.streams[0]);
  data.streams[0].sample.labels_only = true;
  data.streams[1].sample.max_regions = 0;
  CHECK(weights().count(text_key("animal")) == 0);
  CHECK(weights().at(text_key("dog")) == Approx(8.0 / 3 / 5));
}

TEST_CASE("labels: what cannot be meant is refused, and nothing said is nothing done", "[labels]") {
  const Data data = animals();
  const auto message = [&](const LabelOptions& options) { return std::string(make_labels(options, *data.texts, data.streams).status().message()); };
  CHECK_THAT(message({.negatives = {"!?"}}), Catch::Contains("data.labels.negatives: \"!?\""));
  CHECK_THAT(message({.negatives_file = "/no/such/file"}), Catch::Contains("data.labels.negatives_file") && Catch::Contains("/no/such/file"));
  for (const char* number : {"much", "-1", "nan", "inf", "1e", ""}) CHECK_THAT(message({.weights = {{"dog", number}}}), Catch::Contains("data.labels.weights: \"dog\": expected a number of at least 0"));
  CHECK_THAT(message({.weights = {{"dog", "1"}}, .inverse_frequency = true}), Catch::Contains("only one of them"));
  CHECK(make_labels({}, *data.texts, data.streams).value() == nullptr);
}

TEST_CASE("labels: what a label implies is no foil of it, nor is it one of what it implies", "[labels][foils]") {
  SampleOptions options;
  options.captions_per_image = 0;
  options.foils = true;
  options.foil_rules.kinds = {.given = 0, .noun = 1};
  const auto texts = std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary({"zorb oboe dax quokka"})).value(), TextOptions{});
  const std::vector<Stream> streams = {{"all", std::make_shared<Labelled>(std::vector<std::vector<std::string>>{{"zorb"}, {"oboe"}, {"dax"}, {"quokka"}}), 1.0, options}};
  const auto foils_with = [&](const LabelOptions& known) {
    ImageOptions image;
    image.size = 8;
    const auto loader = Loader::make(streams, image, texts, {.batch_size = 4, .workers = 0}, make_labels(known, *texts, streams).value()).value();
    std::set<std::string> found;
    for (int i = 0; i < 60; ++i) {
      const RegionBatch batch = loader->next().value();
      const auto word = [&](const Tensor& ids) { return texts->tokenizer().vocabulary()[static_cast<std::size_t>(ids[1].item<std::int64_t>())]; };
      for (std::int64_t foil = 0; foil < batch.foil_ids.size(0); ++foil) found.insert(word(batch.text_ids[batch.foil_to_text[foil].item<std::int64_t>()]) + " " + word(batch.foil_ids[foil]));
    }
    return found;
  };
  CHECK(foils_with({}).size() == 12);  // each for any other
  CHECK(foils_with({.parents = {{"Zorb", "oboe"}, {"oboe", "dax"}}}) == std::set<std::string>{"zorb quokka", "oboe quokka", "dax quokka", "quokka zorb", "quokka oboe", "quokka dax"});
}

TEST_CASE("labels: a configuration file names them, and a vocabulary made from the data knows their words", "[labels]") {
  auto document = config::Document::parse(R"(
dataset: {type: synthetic, options: {scenes: 10}}
labels:
  negatives: [a purple zebra]
  parents: {zebra: quadruped}
  weights: {red circle: 0.5}
)", "data.yaml");
  REQUIRE(document.ok());
  const auto config = config::read(*document, DataConfig());
  INFO(config.status().message());
  REQUIRE(config.ok());
  const auto streams = open_streams(*config, Split::kTrain).value();
  const auto texts = make_text_pipeline(*config, streams).value();
  for (const char* word : {"purple", "zebra", "quadruped"}) {
    const auto& vocabulary = texts->tokenizer().vocabulary();
    CHECK(std::find(vocabulary.begin(), vocabulary.end(), word) != vocabulary.end());
  }
  const LabelsPtr labels = make_labels(config->labels, *texts, streams).value();
  CHECK(labels->key.size(0) == 1);
  CHECK(labels->weight_of.at(text_key("red circle")) == 0.5f);
  const auto both = config::Document::parse("labels: {weights: {dog: 2}, inverse_frequency: true}", "data.yaml");
  CHECK_THAT(std::string(config::read(*both, DataConfig()).status().message()), Catch::Contains("only one of them"));
}

}  // namespace
}  // namespace fgvl::data
