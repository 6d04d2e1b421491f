#include <cmath>

#include <torch/torch.h>

#include "eval/fake_model.hpp"
#include "fgvl/eval/inference.hpp"
#include "fgvl/eval/probes.hpp"
#include "models/small_model.hpp"
#include "support/catch.hpp"

using namespace fgvl;
using test::Subject;

namespace {

struct NoOptions {};
void visit_fields(config::Visitor&, NoOptions&) {}

class ListDataset final : public data::Dataset {
 public:
  explicit ListDataset(std::vector<data::Record> records) : records_(std::move(records)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(records_.size()); }
  absl::StatusOr<data::Record> get(std::int64_t index) const override { return records_[static_cast<std::size_t>(index)]; }

 private:
  std::vector<data::Record> records_;
};

using Records = std::vector<data::Record>;

/// Probes of `held_out` pictures, with `train` for the baselines; the model sees 40 x 40 pixels.
train::ProbeContext context_of(Records train, Records held_out) {
  auto registry = data::builtin_datasets();
  registry->add(
      "list",
      [train, held_out](const NoOptions&, const data::DatasetContext& context) -> absl::StatusOr<data::DatasetPtr> {
        return std::make_shared<ListDataset>(context.split == data::Split::kTrain ? train : held_out);
      },
      NoOptions{});
  auto config = std::make_shared<data::DataConfig>(registry);
  config->dataset = data::DatasetChoice(registry, "list");
  config->image = {.size = 40, .interpolation = data::Interpolation::kArea, .mean = {0, 0, 0}, .std = {1, 1, 1}};
  return {config, data::Split::kHeldOut, test::pipeline_of({"red", "green", "blue"})};
}

/// A black picture.
data::Record picture(std::int64_t height, std::int64_t width) {
  data::Record record;
  record.image = torch::zeros({3, height, width}, torch::kByte);
  return record;
}

/// Adds a region, and paints it in colour `painted` (0 red, 1 green, 2 blue).
void add_region(data::Record& record, const data::PixelBox& box, const std::string& label, int painted) {
  const auto at = [](double edge) { return static_cast<std::int64_t>(edge); };
  record.image[painted].slice(0, at(box[1]), at(box[3])).slice(1, at(box[0]), at(box[2])).fill_(255);
  record.regions.push_back({box, {label}, label, {}});
}

/// A region's feature is the mean colour inside its box.
Tensor mean_colours(const RegionBatch& batch) {
  std::vector<Tensor> rows;
  for (std::int64_t t = 0; t < batch.text_count(); ++t) {
    const Tensor box = batch.boxes[t] * 40;
    const double cx = box[0].item<double>(), cy = box[1].item<double>(), w = box[2].item<double>(), h = box[3].item<double>();
    const auto low = [](double edge) { return std::max<std::int64_t>(0, std::llround(edge)); };
    const Tensor inside = batch.images[batch.text_to_image[t].item<std::int64_t>()]
                              .slice(1, low(cy - h / 2), low(cy + h / 2))
                              .slice(2, low(cx - w / 2), low(cx + w / 2));
    rows.push_back(inside.mean({1, 2}));
  }
  return torch::nn::functional::normalize(torch::stack(rows));
}

/// A text's feature is the colour that it names.
std::function<Tensor(const RegionBatch&)> named_colours(const data::TextPipeline& texts) {
  Tensor ids = torch::tensor({texts.tokenizer().ids("red")[0], texts.tokenizer().ids("green")[0], texts.tokenizer().ids("blue")[0]});
  return [ids](const RegionBatch& batch) { return (batch.text_ids.select(1, 1).unsqueeze(1) == ids).to(torch::kFloat); };
}

}  // namespace

TEST_CASE("regions: shares per class, balanced accuracy and both baselines are those counted by hand", "[eval]") {
  // Areas tell green (400) from the rest, but not red (16) from blue (16): the first of the two in alphabetical order, blue, is chosen.
  data::Record learned = picture(40, 40);
  for (int i = 0; i < 3; ++i) add_region(learned, {4.0 * i, 0, 4.0 * i + 4, 4}, "red", 0);
  add_region(learned, {0, 10, 4, 14}, "blue", 2);
  add_region(learned, {20, 20, 40, 40}, "green", 1);
  // Held out: one red as painted, one red painted blue; green whose middle, all that a window of 4 pixels sees, is blue; blue as painted.
  data::Record first = picture(40, 40);
  add_region(first, {0, 0, 4, 4}, "red", 0);
  add_region(first, {8, 0, 12, 4}, "red", 2);
  add_region(first, {30, 0, 34, 4}, "blue", 2);
  data::Record second = picture(40, 40);
  add_region(second, {10, 10, 30, 30}, "green", 1);
  second.image[1].slice(0, 16, 24).slice(1, 16, 24).fill_(0);
  second.image[2].slice(0, 16, 24).slice(1, 16, 24).fill_(255);
  second.regions.push_back({{0, 0, 4, 4}, {"red"}, "", {}});  // without a label: not scored

  const train::ProbeContext context = context_of({learned}, {first, second});
  Subject subject;
  subject.model.answers.region_features = mean_colours;
  subject.model.answers.text_features = named_colours(*context.texts);
  const train::Metrics metrics = eval::make_probe(eval::RegionsOptions{.window_pixels = 4}, context).value()->run(subject.input()).value();
  CHECK(
      train::to_json(metrics) ==
      R"({"regions":{"true_box":{"balanced_accuracy":0.8333333333333334,"n":4,"per_class":{"blue":{"accuracy":1.0,"n":1},"green":{"accuracy":1.0,"n":1},"red":{"accuracy":0.5,"n":2}}},)"
      R"("fixed_window":{"balanced_accuracy":0.5,"n":4,"per_class":{"blue":{"accuracy":1.0,"n":1},"green":{"accuracy":0.0,"n":1},"red":{"accuracy":0.5,"n":2}}},)"
      R"("baselines":{"majority":0.3333333333333333,"box_area":0.6666666666666666}},"region_images":2,"region_images_of":2})");
  CHECK(subject.model.is_training());
  CHECK_FALSE(subject.model.ever_in_training);
}

TEST_CASE("boxes: overlaps, hits and the constant box are those computed by hand, and texts that name two regions are left out", "[eval]") {
  // The training boxes of "red" are the left half and the whole of a 40 x 20 picture; their mean is its left three quarters: centre (0.375, 0.5),
  // size (0.75, 1).
  data::Record left = picture(20, 40), whole = picture(20, 40);
  add_region(left, {0, 0, 20, 20}, "red", 0);
  add_region(whole, {0, 0, 40, 20}, "red", 0);
  // Held out: "red" is the left half of one picture and the right quarter of another; a third has two of them.
  data::Record half = picture(20, 40), quarter = picture(20, 40), two = picture(20, 40);
  add_region(half, {0, 0, 20, 20}, "red", 0);
  add_region(quarter, {30, 0, 40, 20}, "red", 0);
  add_region(two, {0, 0, 10, 10}, "red", 0);
  add_region(two, {20, 0, 30, 10}, "red", 0);
  data::Record unreadable;
  unreadable.image_bytes = "not a picture";
  const train::ProbeContext context = context_of({left, whole}, {half, quarter, two, unreadable});
  Subject subject;
  // Always the left half: IoU 1 with the first, 0 with the second.
  subject.model.answers.boxes = [](const RegionBatch& batch) { return torch::tensor({0.25f, 0.5f, 0.5f, 1.0f}).expand({batch.text_count(), 4}); };
  const train::Metrics metrics = eval::make_probe(eval::BoxesOptions{}, context).value()->run(subject.input()).value();
  const auto value = [&](const std::string& name) { return train::metric(metrics, name, -1); };
  CHECK(value("box_mean_iou") == Approx(0.5));
  CHECK(value("boxes/red/mean_iou") == Approx(0.5));
  CHECK(value("boxes/red/hit_at_0.5") == Approx(0.5));
  CHECK(value("boxes/red/n") == 2);
  CHECK(value("boxes/red/constant_box_iou") == Approx((2.0 / 3 + 0.0) / 2));
  CHECK(value("box_images") == 3);
  CHECK(value("box_images_of") == 4);
}

TEST_CASE("boxes: an overlap of exactly one half is a hit, and a label list limits what is told apart", "[eval]") {
  data::Record record = picture(20, 40);
  add_region(record, {0, 0, 20, 20}, "red", 0);
  add_region(record, {20, 0, 30, 20}, "green", 1);
  const train::ProbeContext context = context_of({record}, {record});
  Subject subject;
  // The whole picture: twice the red box (IoU 1/2), four times the green one.
  subject.model.answers.boxes = [](const RegionBatch& batch) { return torch::tensor({0.5f, 0.5f, 1.0f, 1.0f}).expand({batch.text_count(), 4}); };
  const train::Metrics metrics = eval::make_probe(eval::BoxesOptions{.labels = {"red"}}, context).value()->run(subject.input()).value();
  CHECK(train::metric(metrics, "boxes/red/hit_at_0.5", -1) == 1.0);
  CHECK(train::metric(metrics, "boxes/green/n", -1) == -1);
  CHECK(train::metric(metrics, "box_mean_iou", -1) == Approx((0.5 + 0.25) / 2));
}

TEST_CASE("regions and boxes: a split with nothing to score is a data error when the probe is made, before any training", "[eval]") {
  data::Record twice = picture(40, 40);
  add_region(twice, {0, 0, 10, 10}, "", 0);
  add_region(twice, {20, 0, 30, 10}, "", 0);
  for (const Records& held_out : {Records{}, Records{picture(40, 40)}, Records{twice}}) {
    const train::ProbeContext context = context_of({twice}, held_out);
    for (const bool boxes : {false, true}) {
      const auto probe = boxes ? eval::make_probe(eval::BoxesOptions{}, context) : eval::make_probe(eval::RegionsOptions{}, context);
      REQUIRE_FALSE(probe.ok());
      CHECK(exit_code(probe.status()) == ExitCode::kData);
    }
  }
}

TEST_CASE("baselines are null where the training split is among what is scored, or empty", "[eval]") {
  data::Record record = picture(40, 40);
  add_region(record, {0, 0, 20, 20}, "red", 0);
  Subject subject;
  subject.model.answers.region_features = mean_colours;
  subject.model.answers.boxes = [](const RegionBatch& batch) { return torch::tensor({0.25f, 0.25f, 0.5f, 0.5f}).expand({batch.text_count(), 4}); };
  for (const auto& [train, split, expected] : std::vector<std::tuple<Records, data::Split, bool>>{
           {{record}, data::Split::kHeldOut, true}, {{}, data::Split::kHeldOut, false}, {{record}, data::Split::kAll, false}, {{record}, data::Split::kTrain, false}}) {
    train::ProbeContext context = context_of(train, {record});
    context.split = split;
    subject.model.answers.text_features = named_colours(*context.texts);
    const auto regions = eval::make_probe(eval::RegionsOptions{}, context).value()->run(subject.input()).value();
    const auto boxes = eval::make_probe(eval::BoxesOptions{}, context).value()->run(subject.input()).value();
    for (const char* name : {"regions/baselines/majority", "regions/baselines/box_area"}) CHECK((train::metric(regions, name, -1) >= 0) == expected);
    CHECK((train::metric(boxes, "boxes/red/constant_box_iou", -1) >= 0) == expected);
    // There, and null: a reader finds the key.
    CHECK((train::to_json(boxes).find("\"constant_box_iou\":null") != std::string::npos) != expected);
    CHECK((train::to_json(regions).find("\"majority\":null") != std::string::npos) != expected);
  }
}

TEST_CASE("a label with a slash, a percent sign or bytes that are no text stays one label", "[eval]") {
  data::Record record = picture(40, 40);
  add_region(record, {0, 0, 20, 20}, "red/100%", 0);
  add_region(record, {20, 20, 40, 40}, "gr\xffn", 1);
  const train::ProbeContext context = context_of({record}, {record});
  Subject subject;
  subject.model.answers.boxes = [](const RegionBatch& batch) { return torch::tensor({0.25f, 0.25f, 0.5f, 0.5f}).expand({batch.text_count(), 4}); };
  const auto metrics = eval::make_probe(eval::BoxesOptions{}, context).value()->run(subject.input()).value();
  const std::string json = train::to_json(metrics);
  CHECK(json.find("\"boxes\":{\"gr\xEF\xBF\xBDn\":{") != std::string::npos);  // U+FFFD
  CHECK(json.find("\"red/100%\":{\"mean_iou\":1.0,") != std::string::npos);
}

TEST_CASE("boxes: mean IoU of a constant prediction equals the overlap by hand, over texts that name one region", "[eval]") {
  auto config = std::make_shared<data::DataConfig>();
  config->image.size = 32;
  const auto texts = data::make_text_pipeline(*config, data::open_streams(*config, data::Split::kTrain).value()).value();
  Subject subject;
  subject.model.answers.boxes = [](const RegionBatch& batch) { return torch::tensor({0.5f, 0.5f, 0.5f, 0.5f}).expand({batch.text_count(), 4}); };
  const auto metrics = eval::make_probe(eval::BoxesOptions{.max_images = 20}, {config, data::Split::kHeldOut, texts}).value()->run(subject.input()).value();
  const auto dataset = data::open_data(*config, data::Split::kHeldOut).value();
  double sum = 0;
  int count = 0;
  for (std::int64_t i = 0; i < 20; ++i) {
    const data::Record record = *dataset->get(i);
    for (const data::Region& region : record.regions) {
      if (std::count_if(record.regions.begin(), record.regions.end(), [&](const data::Region& other) { return other.texts == region.texts; }) != 1) continue;
      // Against the middle half of the picture, (16, 16)-(48, 48).
      const double w = std::max(0.0, std::min(48.0, region.box[2]) - std::max(16.0, region.box[0])), h = std::max(0.0, std::min(48.0, region.box[3]) - std::max(16.0, region.box[1]));
      const double area = (region.box[2] - region.box[0]) * (region.box[3] - region.box[1]);
      sum += w * h / (area + 1024 - w * h);
      ++count;
    }
  }
  CHECK(train::metric(metrics, "box_n", 0) == count);
  CHECK(train::metric(metrics, "box_mean_iou", 0) == Approx(sum / count).epsilon(1e-5));
}

TEST_CASE("boxes: a model with position tokens is scored by the boxes that ground() reads from them, and texts that leave no room for them are counted", "[eval]") {
  const data::TokenizerPtr tokenizer = data::make_tokenizer(data::WordPieceOptions{.position_tokens = true}, data::build_vocabulary({"red green blue box"})).value();
  data::TextOptions text_options;
  text_options.max_tokens = 10;  // with [CLS], "@@", four places and "##" there is room for three words
  const models::ModelPtr model = models::make_region_vlm({make_vision_encoder(models::VitOptions{.image_size = models::kImage, .patch_size = models::kPatch, .width = models::kWidth, .layers = 1, .heads = 2, .mlp_ratio = 2}),
                                                          make_text_encoder(models::BertOptions{.width = models::kWidth, .layers = 1, .heads = 2, .mlp_width = 32, .max_tokens = 10}, {.vocab_size = tokenizer->size()}),
                                                          make_fusion_encoder(models::BertFusionOptions{.layers = 2, .heads = 2, .mlp_width = 32}, {.text_width = models::kWidth, .vision_width = models::kWidth})},
                                                         {.embed_dim = 8, .initializer_range = std::nullopt, .box_head = false, .first_position_id = tokenizer->ids("[pos_0]")[0]}, /*seed=*/3);
  losses::Criterion criterion(model->spec());
  criterion.add("mlm", losses::MaskedLanguageOptions{});

  Records held_out;
  std::vector<data::Image> pictures;
  const std::vector<std::string> texts = {"red box", "green", "blue blue box"};
  for (int i = 0; i < 4; ++i) {
    data::Record record = picture(40, 40);
    if (i > 0) record.image[i - 1].fill_(255);  // no two pictures alike, so that the boxes of another one would be others
    for (int k = 0; k < 3; ++k) record.regions.push_back({{0, 3.0 * k, 30, 40 - 5.0 * i}, {texts[static_cast<std::size_t>(k)]}, "", {}});
    if (i == 2) record.regions.push_back({{0, 0, 20, 20}, {"red red red red"}, "", {}});
    const Tensor rows = record.image.permute({1, 2, 0}).contiguous();
    data::Image decoded{.width = 40, .height = 40};
    decoded.pixels.assign(rows.const_data_ptr<std::uint8_t>(), rows.const_data_ptr<std::uint8_t>() + rows.numel());
    pictures.push_back(std::move(decoded));
    held_out.push_back(std::move(record));
  }
  train::ProbeContext context = context_of({}, held_out);
  auto config = std::make_shared<data::DataConfig>(*context.data);
  config->image = {.size = models::kImage, .mean = {0.5, 0.5, 0.5}, .std = {0.1, 0.1, 0.1}};
  context.data = config;
  context.texts = std::make_shared<data::TextPipeline>(tokenizer, text_options);

  const eval::Inference inference = eval::Inference::make({*model, criterion, torch::kCPU}, *context.texts, config->image).value();
  const auto found = inference.ground(pictures, inference.encode_texts_to_ground(texts).value());
  double sum = 0;
  for (std::size_t i = 0; i < held_out.size(); ++i) {
    for (std::size_t k = 0; k < texts.size(); ++k) sum += eval::box_iou(found[i][k].box, held_out[i].regions[k].box);
  }
  REQUIRE(sum > 0.1);  // boxes that meet none would say nothing

  const auto probe = eval::make_probe(eval::BoxesOptions{}, context).value();
  const train::Metrics metrics = probe->run({*model, criterion, torch::kCPU}).value();
  CHECK(train::metric(metrics, "box_mean_iou", -1) == Approx(sum / 12).epsilon(1e-5));
  CHECK(train::metric(metrics, "box_n", -1) == 12);
  CHECK(train::metric(metrics, "box_without_room", -1) == 1);

  losses::Criterion empty(model->spec());
  CHECK_THAT(std::string(probe->run({*model, empty, torch::kCPU}).status().message()), Catch::Contains("no box head") && Catch::Contains("masked_language"));
  CHECK_THAT(std::string(eval::make_probe(eval::BoxesOptions{.masked_language = "other"}, context).value()->run({*model, criterion, torch::kCPU}).status().message()), Catch::Contains("'other'"));
}
