#include <array>
#include <cmath>
#include <new>

#include <torch/torch.h>

#include "data/files.hpp"
#include "data/mixture.hpp"
#include "fgvl/data/data_config.hpp"
#include "fgvl/data/synthetic.hpp"
#include "fgvl/data/tokenizers.hpp"
#include "support/catch.hpp"

namespace fgvl::data {
namespace {

/// Every `bad_every`-th record cannot be read; 0: none.
class Damaged final : public Dataset {
 public:
  Damaged(DatasetPtr good, std::int64_t bad_every) : good_(std::move(good)), bad_every_(bad_every) {}
  std::int64_t size() const override { return good_->size(); }
  absl::StatusOr<Record> get(std::int64_t index) const override {
    if (bad_every_ > 0 && index % bad_every_ == 0) return absl::DataLossError("record " + std::to_string(index) + " is damaged");
    return good_->get(index);
  }
  std::string place(std::int64_t index) const override { return "shelf " + std::to_string(index); }

 private:
  DatasetPtr good_;
  std::int64_t bad_every_;
};

std::unique_ptr<Loader> make_loader(std::int64_t workers, Mix mix = Mix::kBatches, std::int64_t bad_every = 7, double max_skipped = 0.5) {
  const DatasetPtr scenes = open_dataset(SyntheticOptions{.scenes = 50}, {}).value();
  const auto dataset = std::make_shared<Damaged>(scenes, bad_every);
  SampleOptions captions, regions;
  captions.max_regions = 0;
  regions.captions_per_image = 0;
  regions.augment.min_crop_side = 0.8;
  std::vector<Stream> streams = {{"captions", dataset, 1.0, captions}, {"regions", dataset, 3.0, regions}};
  auto texts = std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary(scenes->texts().value())).value(), TextOptions{});
  ImageOptions image;
  image.size = 32;
  return Loader::make(streams, image, texts, {.batch_size = 4, .workers = workers, .seed = 3, .mix = mix, .max_skipped_fraction = max_skipped}).value();
}

bool equal(const RegionBatch& a, const RegionBatch& b) {
  return at::equal(a.images, b.images) && at::equal(a.masked_ids, b.masked_ids) && at::equal(a.boxes, b.boxes) && at::equal(a.text_ids, b.text_ids) && at::equal(a.text_stream, b.text_stream);
}

TEST_CASE("the same batches for any number of threads, with damaged records and mixed streams", "[loader]") {
  for (const Mix mix : {Mix::kBatches, Mix::kRows}) {
    auto alone = make_loader(0, mix), one = make_loader(1, mix), three = make_loader(3, mix);
    for (int i = 0; i < 30; ++i) {
      const RegionBatch batch = alone->next().value();
      batch.validate();
      CHECK(equal(batch, one->next().value()));
      CHECK(equal(batch, three->next().value()));
    }
    CHECK(alone->counts().records_seen == three->counts().records_seen);
    CHECK(alone->counts().records_seen == alone->counts().records_used + alone->counts().records_skipped);
    CHECK(alone->counts().records_skipped == alone->counts().skipped.at("unreadable_record"));
  }
}

TEST_CASE("every epoch meets each record once, in an order and with masks of its own", "[loader]") {
  constexpr std::int64_t kRecords = 20;
  const DatasetPtr scenes = open_dataset(SyntheticOptions{.scenes = kRecords}, {}).value();
  SampleOptions captions;
  captions.max_regions = 0;
  auto texts = std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary(scenes->texts().value())).value(), TextOptions{});
  ImageOptions image;
  image.size = 32;
  const auto two_epochs = [&](bool shuffle) {
    auto loader = Loader::make({{"all", scenes, 1.0, captions}}, image, texts, {.batch_size = kRecords, .workers = 0, .shuffle = shuffle}).value();
    const RegionBatch first = loader->next().value();
    return std::pair(first, loader->next().value());
  };
  const auto pictures = [](const RegionBatch& batch) { return std::get<0>(batch.images.to(torch::kDouble).sum({1, 2, 3}).sort()); };
  const auto [first, second] = two_epochs(true);
  CHECK_FALSE(at::equal(first.images, second.images));
  CHECK(at::allclose(pictures(first), pictures(second)));
  const auto [in_order, again] = two_epochs(false);
  CHECK_FALSE(at::equal(first.images, in_order.images));
  CHECK(at::allclose(pictures(first), pictures(in_order)));
  CHECK(at::equal(in_order.images, again.images));
  CHECK(at::equal(in_order.text_ids, again.text_ids));
  CHECK_FALSE(at::equal(in_order.masked_ids, again.masked_ids));
}

TEST_CASE("a record that cannot be read counts once, however many epochs meet it, and is listed with its place", "[loader]") {
  auto loader = make_loader(2);
  for (int i = 0; i < 100; ++i) REQUIRE(loader->next().ok());
  const LoaderCounts counts = loader->counts();
  // 8 of 50 records are damaged; two streams read them, several times each.
  CHECK(counts.records_seen == 2 * 50);
  CHECK(counts.skipped == std::map<std::string, std::int64_t>{{"unreadable_record", 2 * 8}});
  CHECK(counts.records_seen == counts.records_used + counts.records_skipped);
  CHECK(counts.visits > 400);
  CHECK(counts.visits_skipped > 2 * 8);
  const auto listed = loader->take_skipped();
  CHECK(listed.size() == 2 * 8);
  for (const Skipped& one : listed) CHECK(one.place == "shelf " + one.key);
  CHECK(loader->take_skipped().empty());
}

TEST_CASE("what a loader's thread throws reaches whoever asks for the batch", "[loader]") {
  class Throwing final : public Dataset {
   public:
    std::int64_t size() const override { return 8; }
    absl::StatusOr<Record> get(std::int64_t) const override { throw std::bad_alloc(); }
  };
  for (const std::int64_t workers : {0, 2}) {
    auto texts = std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary({})).value(), TextOptions{});
    auto loader = Loader::make({{"all", std::make_shared<Throwing>(), 1.0, {}}}, {}, texts, {.batch_size = 2, .workers = workers}).value();
    CHECK_THROWS_AS(loader->next(), std::bad_alloc);
  }
}

TEST_CASE("rows: quotas follow the weights, sum to the batch and are never negative, however uneven the weights", "[loader]") {
  const DatasetPtr scenes = open_dataset(SyntheticOptions{.scenes = 50}, {}).value();
  SampleOptions captions;
  captions.max_regions = 0;
  auto texts = std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary(scenes->texts().value())).value(), TextOptions{});
  ImageOptions image;
  image.size = 32;
  // 100 : 100 : 1 on 15 rows: rounding the first two up on their own would leave the third -1.
  auto loader = Loader::make({{"a", scenes, 100, captions}, {"b", scenes, 100, captions}, {"c", scenes, 1, captions}}, image, texts, {.batch_size = 15, .workers = 0, .mix = Mix::kRows}).value();
  std::array<std::int64_t, 3> rows{};
  for (int i = 0; i < 67; ++i) {  // 1005 rows = 5 x 201
    const RegionBatch batch = loader->next().value();
    CHECK(batch.image_count() == 15);
    for (std::int64_t t = 0; t < batch.text_count(); ++t) ++rows[static_cast<std::size_t>(batch.text_stream[t].item<std::int64_t>())];
  }
  CHECK(rows == std::array<std::int64_t, 3>{500, 500, 5});
}

TEST_CASE("a restored loader goes on with the very next batch", "[loader]") {
  auto loader = make_loader(2);
  for (int i = 0; i < 17; ++i) REQUIRE(loader->next().ok());
  const LoaderState state = loader->state();
  auto restored = make_loader(1);
  REQUIRE(restored->next().ok());
  REQUIRE(restored->restore(state).ok());
  for (int i = 0; i < 10; ++i) CHECK(equal(loader->next().value(), restored->next().value()));
  CHECK(loader->state() == restored->state());
  CHECK(loader->counts().skipped == restored->counts().skipped);
  // An order of other records means nothing here.
  LoaderState other = state;
  other["records:regions"] = 49;
  CHECK(exit_code(restored->restore(other)) == ExitCode::kCheckpoint);
}

TEST_CASE("streams are mixed by weight", "[loader]") {
  auto batches = make_loader(0, Mix::kBatches, 0), rows = make_loader(0, Mix::kRows, 0);
  int of_regions = 0;
  constexpr int kBatches = 300;
  for (int i = 0; i < kBatches; ++i) {
    const RegionBatch batch = batches->next().value();
    of_regions += batch.text_stream[0].item<int>();
    CHECK((batch.text_stream == batch.text_stream[0]).all().item<bool>());
  }
  CHECK(std::abs(of_regions - 0.75 * kBatches) < 5 * std::sqrt(kBatches * 0.75 * 0.25));  // five standard deviations
  // By quota: one picture of captions and three of regions in every batch of four.
  const RegionBatch batch = rows->next().value();
  std::vector<bool> is_caption(4, false);
  for (std::int64_t t = 0; t < batch.text_count(); ++t) is_caption[batch.text_to_image[t].item<int>()] = batch.text_stream[t].item<int>() == 0;
  CHECK(std::count(is_caption.begin(), is_caption.end(), true) == 1);
  // Of three streams, which batch is whose.
  Mixture three({1.0, 2.0, 3.0}, {.batch_size = 4});
  std::array<std::int64_t, 3> drawn{};
  for (std::int64_t i = 0; i < 6000; ++i) {
    const std::vector<std::int64_t> quotas = three.quotas(i);
    for (std::size_t stream = 0; stream < 3; ++stream) drawn[stream] += quotas[stream] / 4;
  }
  for (std::size_t stream = 0; stream < 3; ++stream) CHECK(std::abs(static_cast<double>(drawn[stream]) - 1000.0 * static_cast<double>(stream + 1)) < 200);  // five standard deviations of 6000 draws
}

/// Two streams whose weights change, two batches a step.
std::unique_ptr<Loader> make_changing(Mix mix, const Schedule& captions_weight, const Schedule& regions_weight, std::int64_t workers) {
  const DatasetPtr scenes = open_dataset(SyntheticOptions{.scenes = 50}, {}).value();
  SampleOptions captions, regions;
  captions.max_regions = 0;
  regions.captions_per_image = 0;
  auto texts = std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary(scenes->texts().value())).value(), TextOptions{});
  ImageOptions image;
  image.size = 32;
  return Loader::make({{"captions", scenes, captions_weight, captions}, {"regions", scenes, regions_weight, regions}}, image, texts,
                      {.batch_size = 4, .workers = workers, .batches_per_step = 2, .seed = 3, .mix = mix})
      .value();
}

/// Pictures of the second stream in a batch.
std::int64_t of_second(const RegionBatch& batch) {
  std::vector<bool> second(static_cast<std::size_t>(batch.image_count()), false);
  for (std::int64_t t = 0; t < batch.text_count(); ++t) second[batch.text_to_image[t].item<std::int64_t>()] = batch.text_stream[t].item<int>() == 1;
  return std::count(second.begin(), second.end(), true);
}

TEST_CASE("streams whose weights change: a stream of weight 0 is not read, rows follow the shares, and nothing is caught up", "[loader]") {
  // Only captions for 10 steps (20 batches), then a third of captions.
  const Schedule early = Schedule::step({{0, 10}, {1, 0.5}}), late = Schedule::step({{0, 10}, {0, 1}});
  for (const Mix mix : {Mix::kBatches, Mix::kRows}) {
    auto loader = make_changing(mix, early, late, 0);
    for (int i = 0; i < 20; ++i) CHECK(of_second(loader->next().value()) == 0);
    std::int64_t rows = 0;
    for (int i = 0; i < 30; ++i) {
      const RegionBatch batch = loader->next().value();
      CHECK(batch.image_count() == 4);
      rows += of_second(batch);
    }
    if (mix == Mix::kRows) CHECK(rows == 80);  // two thirds of 120, to the row
    if (mix == Mix::kBatches) CHECK(std::abs(static_cast<double>(rows) - 80) < 4 * 5 * std::sqrt(30 * 2.0 / 9));  // five standard deviations
  }
  // A stream that is a row short when it begins to rest is not given it then.
  Mixture three({1.0, 1.0, Schedule::step({{0, 2}, {1, 0}})}, {.batch_size = 1, .mix = Mix::kRows});
  for (std::int64_t i = 0; i < 40; ++i) {
    const std::vector<std::int64_t> quotas = three.quotas(i);
    CHECK((i < 2 || quotas[2] == 0));
  }
  // A ramp: rows are the sum of the shares, batch by batch, within one row. Step s has share s / 20 of the second stream.
  auto ramp = make_changing(Mix::kRows, Schedule::linear({.from = 1, .to = 0, .steps = 20}), Schedule::linear({.from = 0, .to = 1, .steps = 20}), 0);
  double expected = 0, rows = 0;
  for (int batch = 0; batch < 50; ++batch) {
    expected += 4 * std::min(1.0, (batch / 2) / 20.0);
    rows += static_cast<double>(of_second(ramp->next().value()));
    CHECK(std::abs(rows - expected) <= 1.0);
  }
}

TEST_CASE("streams whose weights change: the same batches for any number of threads, and after a restart", "[loader]") {
  const Schedule falling = Schedule::cosine({.from = 1, .to = 0, .steps = 12}), rising = Schedule::linear({.from = 0, .to = 1, .steps = 12, .start = 3});
  for (const Mix mix : {Mix::kBatches, Mix::kRows}) {
    auto alone = make_changing(mix, falling, rising, 0), threads = make_changing(mix, falling, rising, 2), restored = make_changing(mix, falling, rising, 1);
    for (int i = 0; i < 13; ++i) CHECK(equal(alone->next().value(), threads->next().value()));
    REQUIRE(restored->next().ok());
    REQUIRE(restored->restore(alone->state()).ok());
    for (int i = 0; i < 20; ++i) {
      const RegionBatch batch = alone->next().value();
      CHECK(equal(batch, threads->next().value()));
      CHECK(equal(batch, restored->next().value()));
    }
    CHECK(alone->state() == restored->state());
    // Back to an earlier batch.
    auto rewound = make_changing(mix, falling, rising, 0);
    for (int i = 0; i < 5; ++i) REQUIRE(rewound->next().ok());
    const LoaderState early = rewound->state();
    std::vector<RegionBatch> later;
    for (int i = 0; i < 10; ++i) later.push_back(rewound->next().value());
    REQUIRE(rewound->restore(early).ok());
    for (const RegionBatch& batch : later) CHECK(equal(batch, rewound->next().value()));
  }
}

TEST_CASE("streams whose weights change: steps without any stream are refused at the start", "[loader]") {
  const auto refused = [](const Schedule& first, const Schedule& second, std::int64_t steps = 0) {
    const DatasetPtr scenes = open_dataset(SyntheticOptions{.scenes = 5}, {}).value();
    auto texts = std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary({})).value(), TextOptions{});
    return std::string(Loader::make({{"first", scenes, first, {}}, {"second", scenes, second, {}}}, {}, texts, {.steps = steps}).status().message());
  };
  CHECK_THAT(refused(Schedule::step({{0, 5}, {1, 0}}), Schedule::linear({.from = 0, .to = 1, .steps = 5, .start = 7})), Catch::Contains("at step 5 no stream has a weight above 0"));
  CHECK_THAT(refused(1.0, 0.0), Catch::Contains("stream \"second\"") && Catch::Contains("positive at some step"));
  CHECK(refused(Schedule::linear({.from = 1, .to = 0, .steps = 5}), Schedule::linear({.from = 0, .to = 1, .steps = 5})).empty());
  // A run that ends before has steps 0 to 4.
  const Schedule ends = Schedule::step({{0, 5}, {1, 0}}), fades = Schedule::linear({.from = 1, .to = 0, .steps = 5});
  CHECK(refused(ends, fades, 5).empty());
  CHECK_THAT(refused(ends, fades, 6), Catch::Contains("at step 5") && Catch::Contains("train.steps"));
}

TEST_CASE("too many skipped records stop the run with exit code 3 and say why", "[loader]") {
  auto loader = make_loader(1, Mix::kBatches, 3, 0.1);
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) status = loader->next().status();
  REQUIRE_FALSE(status.ok());
  CHECK(exit_code(status) == ExitCode::kData);
  CHECK_THAT(std::string(status.message()), Catch::Contains("unreadable_record") && Catch::Contains("data.max_skipped_fraction") && Catch::Contains("is damaged"));
  CHECK_FALSE(loader->take_skipped().empty());
  auto nothing = make_loader(1, Mix::kBatches, 1, 1.0);
  CHECK(exit_code(nothing->next().status()) == ExitCode::kData);
}

}  // namespace
}  // namespace fgvl::data
