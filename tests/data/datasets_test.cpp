#include <set>

#include <unistd.h>

#include <torch/torch.h>

#include "data/files.hpp"
#include "fgvl/data/data_config.hpp"
#include "fgvl/data/tokenizers.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace fgvl::data {
namespace {

std::string voc(const std::string& picture, const std::string& objects) { return "<annotation><filename>" + picture + "</filename>" + objects + "</annotation>"; }
std::string object(const std::string& name, int x1, int y1, int x2, int y2) {
  const auto tag = [](const char* key, int value) { return std::string("<") + key + ">" + std::to_string(value) + "</" + key + ">"; };
  return "<object><name>" + name + "</name><bndbox>" + tag("xmin", x1) + tag("ymin", y1) + tag("xmax", x2) + tag("ymax", y2) + "</bndbox></object>";
}

TEST_CASE("voc: corners are 1-based and inclusive, labels choose and describe, every n-th file is held out", "[datasets]") {
  const auto root = test::fresh_folder("voc");
  std::filesystem::create_directories(root / "JPEGImages");
  for (int i = 0; i < 10; ++i) test::write(root / "Annotations" / ("f" + std::to_string(i) + ".xml"), voc("f.jpg", object("A", 1, 1, 10, 20) + object("B", 3, 3, 4, 4) + object("C", 1, 1, 9, 9)));
  VocOptions options;
  options.labels = {{"A", "an apple"}, {"B", "a berry"}};
  options.min_side_pixels = 2;
  const auto train = open_dataset(options, {root.string(), Split::kTrain}), held_out = open_dataset(options, {root.string(), Split::kHeldOut});
  REQUIRE(train.ok());
  CHECK((*train)->size() == 8);
  CHECK((*held_out)->size() == 2);
  const Record record = *(*train)->get(0);
  CHECK(record.key == "f1");
  REQUIRE(record.regions.size() == 1);  // B's sides are 2 pixels, both corners counted; C is not wanted
  CHECK(record.regions[0].box == PixelBox{0, 0, 10, 20});
  CHECK(record.regions[0].texts == std::vector<std::string>{"an apple"});
  test::write(root / "Annotations" / "f1.xml", "");
  CHECK_THAT(std::string((*train)->get(0).status().message()), Catch::Contains("f1.xml") && Catch::Contains("empty"));
  test::write(root / "Annotations" / "f1.xml", voc("f.jpg", "<object><name>A</name><bndbox><xmin>x</xmin></bndbox></object>"));
  CHECK_THAT(std::string((*train)->get(0).status().message()), Catch::Contains("not a number"));
}

TEST_CASE("voc: min_side_pixels counts both corners, and hides no box that is upside down", "[datasets]") {
  const auto root = test::fresh_folder("voc_small");
  std::filesystem::create_directories(root / "JPEGImages");
  test::write(root / "JPEGImages" / "f.png", to_png(test::plain_image(30, 30, 90)));
  test::write(root / "Annotations" / "f.xml", voc("f.png", object("A", 3, 3, 5, 9) + object("A", 3, 3, 4, 9) + object("A", 9, 9, 3, 3) + object("A", 5, 5, 5, 5)));
  VocOptions options;
  options.min_side_pixels = 2;
  const Record record = *open_dataset(options, {root.string(), Split::kAll}).value()->get(0);
  REQUIRE(record.regions.size() == 2);  // 3 pixels wide, and the inverted one; 2 and 1 pixel wide are left out
  CHECK(record.regions[0].box == PixelBox{2, 2, 5, 9});
  const TextPipeline texts(make_tokenizer(WordPieceOptions{}, build_vocabulary({"a"})).value(), TextOptions{});
  const Sample sample = make_sample(record, {}, {}, texts, {});
  REQUIRE(sample.problems.size() == 1);
  CHECK(sample.problems[0].cause == "box_without_area");
}

TEST_CASE("voc: a folder of annotations that may not be read ends with exit code 3", "[datasets]") {
  const auto root = test::fresh_folder("voc_forbidden");
  std::filesystem::create_directories(root / "JPEGImages");
  test::write(root / "Annotations" / "f.xml", voc("f.png", object("A", 3, 3, 5, 9)));
  for (auto path = root; path != path.root_path() && path != std::filesystem::temp_directory_path(); path = path.parent_path()) std::filesystem::permissions(path, std::filesystem::perms(0755));
  std::filesystem::permissions(root / "Annotations", std::filesystem::perms(0111));
  const bool is_root = geteuid() == 0;  // who may read everything: be somebody else for a moment
  if (is_root) REQUIRE(seteuid(65534) == 0);
  const absl::Status status = open_dataset(VocOptions{}, {root.string(), Split::kTrain}).status();
  if (is_root) REQUIRE(seteuid(0) == 0);
  std::filesystem::permissions(root / "Annotations", std::filesystem::perms(0755));
  CHECK(exit_code(status) == ExitCode::kData);
  CHECK_THAT(std::string(status.message()), Catch::Contains("Annotations") && Catch::Contains("cannot be read: Permission denied"));
}

/// Records by hand.
class Listed final : public Dataset {
 public:
  Listed(std::vector<std::string> captions, bool closed = false) : captions_(std::move(captions)), closed_(closed) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(captions_.size()); }
  absl::StatusOr<Record> get(std::int64_t index) const override {
    Record record;
    record.captions = {captions_[static_cast<std::size_t>(index)]};
    return record;
  }
  absl::StatusOr<std::vector<std::string>> texts() const override {
    if (!closed_) return Dataset::texts();
    return std::vector<std::string>{"the closed list"};
  }
  bool has_closed_texts() const override { return closed_; }

 private:
  std::vector<std::string> captions_;
  bool closed_;
};

TEST_CASE("decorators: concat, subset and transform keep records, texts and places in step", "[datasets]") {
  using Texts = std::vector<std::string>;
  const auto caption = [](const DatasetPtr& dataset, std::int64_t index) { return dataset->get(index).value().captions[0]; };
  const DatasetPtr open = std::make_shared<Listed>(Texts{"one", "two", "three"}), closed = std::make_shared<Listed>(Texts{"four"}, true);
  const DatasetPtr both = concatenated({open, closed});
  CHECK(both->size() == 4);
  CHECK(caption(both, 2) == "three");
  CHECK(caption(both, 3) == "four");
  CHECK(both->texts().value() == Texts{"one", "two", "three", "the closed list"});
  CHECK_FALSE(both->has_closed_texts());
  CHECK(both->place(3) == "record 0");
  const DatasetPtr part = subset(open, {2, 0});
  CHECK(part->size() == 2);
  CHECK(caption(part, 0) == "three");
  CHECK(part->texts().value() == Texts{"three", "one"});  // not the words of what was left out
  CHECK(part->place(0) == "record 2");
  CHECK(subset(closed, {0})->texts().value() == Texts{"the closed list"});
  const DatasetPtr louder = transformed(open, [](Record record) -> absl::StatusOr<Record> {
    if (record.captions[0] == "two") return absl::DataLossError("two is not wanted");
    record.captions[0] += "!";
    return record;
  });
  CHECK(louder->size() == 3);
  CHECK(caption(louder, 0) == "one!");
  CHECK_FALSE(louder->get(1).ok());
  CHECK(louder->texts().value() == Texts{"one!", "three!"});
  CHECK_FALSE(transformed(closed, [](Record record) { return record; })->has_closed_texts());
  CHECK(louder->place(2) == "record 2");
}

TEST_CASE("a missing folder and an empty annotation file end with exit code 3 and name themselves", "[datasets]") {
  const auto root = test::fresh_folder("missing");
  const auto check = [](const absl::Status& status, const std::string& part) {
    CHECK(exit_code(status) == ExitCode::kData);
    CHECK_THAT(std::string(status.message()), Catch::Contains(part));
  };
  check(open_dataset(VocOptions{}, {"/nowhere/at/all", Split::kTrain}).status(), "/nowhere/at/all");
  check(open_dataset(VocOptions{}, {root.string(), Split::kTrain}).status(), "Annotations");
  check(open_dataset(XvlmJsonlOptions{}, {root.string(), Split::kTrain}).status(), "regions.jsonl");
  test::write(root / "regions.jsonl", "\n");
  check(open_dataset(XvlmJsonlOptions{}, {root.string(), Split::kTrain}).status(), "empty");
  std::filesystem::create_directories(root / "images");
  test::write(root / "instances.json", "");
  check(open_dataset(CocoOptions{}, {root.string(), Split::kTrain}).status(), "empty");
  test::write(root / "instances.json", "{\"images\": [{\"id\": 1, \"file_name\": \"a.jpg\"}], \"annotations\": [{\"image_id\": 2}]}");
  check(open_dataset(CocoOptions{}, {root.string(), Split::kTrain}).status(), "annotations[0]: image_id names no image");
}

TEST_CASE("xvlm_jsonl: path or base64, text or list, attributes before the caption; a bad line names itself", "[datasets]") {
  const auto root = test::fresh_folder("jsonl");
  test::write(root / "regions.jsonl",
              "{\"image_rpath\": \"a.jpg\", \"caption\": [\"one\", \"two\"], \"elems\": [{\"caption\": \"dog\", \"bb\": [1, 2, 3, 4], \"attributes\": [\"big\", \"wet\"]}]}\n"
              "{\"binary\": \"QUJD\", \"elems\": [{\"caption\": \"cat\", \"bb\": [1, 2, 3]}]}\n{\"binary\": \"QUJD\", \"caption\": \"cat\"}\n");
  const auto dataset = open_dataset(XvlmJsonlOptions{}, {root.string(), Split::kAll}).value();
  const Record record = *dataset->get(0);
  CHECK(record.captions == std::vector<std::string>{"one", "two"});
  CHECK(record.regions[0].box == PixelBox{1, 2, 4, 6});
  CHECK(record.regions[0].texts == std::vector<std::string>{"big dog", "wet dog"});
  CHECK_THAT(std::string(dataset->get(1).status().message()), Catch::Contains("regions.jsonl:2") && Catch::Contains("3 numbers"));
  CHECK(dataset->get(2)->image_bytes == "ABC");
}

TEST_CASE("coco: instances and captions of one picture meet in one record, crowds are left out", "[datasets]") {
  const auto root = test::fresh_folder("coco");
  std::filesystem::create_directories(root / "images");
  test::write(root / "instances.json",
              "{\"images\": [{\"id\": 7, \"file_name\": \"a.jpg\"}], \"categories\": [{\"id\": 3, \"name\": \"dog\"}], \"annotations\": ["
              "{\"image_id\": 7, \"category_id\": 3, \"bbox\": [1, 2, 3, 4], \"iscrowd\": 0}, {\"image_id\": 7, \"category_id\": 3, \"bbox\": [0, 0, 9, 9], \"iscrowd\": 1}]}");
  test::write(root / "captions.json", "{\"images\": [{\"id\": 7, \"file_name\": \"a.jpg\"}], \"annotations\": [{\"image_id\": 7, \"caption\": \"a dog\"}]}");
  CocoOptions options;
  options.captions = "captions.json";
  const auto dataset = open_dataset(options, {root.string(), Split::kAll}).value();
  REQUIRE(dataset->size() == 1);
  const Record record = *dataset->get(0);
  CHECK(record.regions.size() == 1);
  CHECK(record.regions[0].box == PixelBox{1, 2, 4, 6});
  CHECK(record.captions == std::vector<std::string>{"a dog"});
}

TEST_CASE("coco: a label map describes the categories that it names and leaves the others out", "[datasets]") {
  const auto root = test::fresh_folder("coco_labels");
  std::filesystem::create_directories(root / "images");
  test::write(root / "instances.json",
              "{\"images\": [{\"id\": 7, \"file_name\": \"a.jpg\"}], \"categories\": [{\"id\": 3, \"name\": \"dog\"}, {\"id\": 4, \"name\": \"cat\"}], \"annotations\": ["
              "{\"image_id\": 7, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]}, {\"image_id\": 7, \"category_id\": 4, \"bbox\": [0, 0, 9, 9]}]}");
  CocoOptions options;
  options.labels = {{"dog", "a good dog"}};
  const Record record = *open_dataset(options, {root.string(), Split::kAll}).value()->get(0);
  REQUIRE(record.regions.size() == 1);
  CHECK(record.regions[0].label == "dog");
  CHECK(record.regions[0].texts == std::vector<std::string>{"a good dog"});
}

TEST_CASE("decoding: a truncated JPEG is an error that names the file", "[datasets]") {
  const auto shared = test::shared_dir();
  FGVL_SKIP_UNLESS(!shared.empty(), "a real JPEG");
  const auto path = shared / "data" / "photos" / "images" / "CONCEPTUAL_01.jpg";
  std::ifstream stream(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  REQUIRE(decode_image(bytes, "whole.jpg").ok());
  const auto cut = decode_image(bytes.substr(0, bytes.size() / 2), "cut.jpg");
  REQUIRE_FALSE(cut.ok());
  CHECK_THAT(std::string(cut.status().message()), Catch::Contains("cut.jpg") && Catch::Contains("damaged JPEG"));
  CHECK_FALSE(decode_image("", "empty.jpg").ok());
  CHECK_FALSE(decode_image("neither", "text.txt").ok());
}

/// One epoch of everything, nothing augmented.
std::pair<LoaderCounts, std::int64_t> epoch_of(const DataConfig& config) {
  const auto streams = open_streams(config, Split::kAll);
  INFO(streams.status().ToString());
  REQUIRE(streams.ok());
  LoaderOptions options = config.loader;
  options.batch_size = streams->front().dataset->size();
  options.max_skipped_fraction = 0;
  const auto texts = make_text_pipeline(config, *streams);
  REQUIRE(texts.ok());
  auto loader = Loader::make(*streams, config.image, *texts, options).value();
  const auto batch = loader->next();
  INFO(batch.status().ToString());
  REQUIRE(batch.ok());
  return {loader->counts(), batch->is_region.sum().item<std::int64_t>()};
}

TEST_CASE("real photographs: both X-VLM files, all eight pictures and all 175 regions, with nothing skipped", "[datasets]") {
  const auto shared = test::shared_dir();
  FGVL_SKIP_UNLESS(!shared.empty(), "photographs");
  DataConfig config;
  config.root = (shared / "data" / "photos").string();
  for (const auto& [file, regions] : {std::pair<std::string, std::int64_t>{"xvlm/regions.jsonl", 175}, {"xvlm/captions.jsonl", 0}}) {
    auto registry = std::make_shared<DatasetRegistry>(*builtin_datasets());
    registry->add("photos", [](const XvlmJsonlOptions& options, const DatasetContext& context) { return open_dataset(options, context); }, XvlmJsonlOptions{.file = file});
    config.dataset = DatasetChoice(registry, "photos");
    StreamConfig stream(registry);
    stream.sample.max_regions = 1000;
    config.streams = {{"all", stream}};
    const auto [counts, delivered] = epoch_of(config);
    CHECK(counts.records_used == 8);
    CHECK(counts.skipped.empty());
    CHECK(delivered == regions);
  }
}

TEST_CASE("real blood cells: 240 pictures, 48 held out, 230 and 68 pictures with exactly one white cell and one platelet", "[datasets]") {
  const auto shared = test::shared_dir();
  FGVL_SKIP_UNLESS(!shared.empty(), "blood cells");
  const DatasetContext all{(shared / "data" / "bccd").string(), Split::kAll};
  const auto dataset = open_dataset(VocOptions{}, all).value();
  CHECK(dataset->size() == 240);
  CHECK(open_dataset(VocOptions{}, {all.root, Split::kHeldOut}).value()->size() == 48);
  int white = 0, platelets = 0;
  for (std::int64_t i = 0; i < dataset->size(); ++i) {
    const Record record = *dataset->get(i);
    const auto count = [&](const char* label) { return std::count_if(record.regions.begin(), record.regions.end(), [&](const Region& region) { return region.label == label; }); };
    white += count("WBC") == 1 ? 1 : 0;
    platelets += count("Platelets") == 1 ? 1 : 0;
  }
  CHECK(white == 230);
  CHECK(platelets == 68);
}

}  // namespace
}  // namespace fgvl::data
