// A dataset of your own: the printed-circuit-board defects of DeepPCB, whose list and boxes have a text format of their own.
// list.txt names "<picture>.jpg <boxes>.txt", but the pictures on disk are <picture>_test.jpg; a box is "x1 y1 x2 y2 type".
//   example_custom_dataset FOLDER
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include <fgvl/core/config.hpp>
#include <fgvl/data/data_config.hpp>

namespace mine {

namespace data = fgvl::data;

struct PcbOptions {
  std::string list = "list.txt";
  std::int64_t held_out_every = 5;
};
void visit_fields(fgvl::config::Visitor& visitor, PcbOptions& options) {
  visitor("list", options.list, "relative to root");
  visitor("held_out_every", options.held_out_every, "every n-th picture is held out; 0: none");
}

constexpr const char* kDefects[] = {"", "an open circuit", "a short circuit", "a mouse bite", "a spur", "a piece of spurious copper", "a pin hole"};

class PcbDataset final : public data::Dataset {
 public:
  PcbDataset(std::filesystem::path root, std::vector<std::pair<std::string, std::string>> files) : root_(std::move(root)), files_(std::move(files)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
  absl::StatusOr<data::Record> get(std::int64_t index) const override {
    const auto& [picture, boxes] = files_[static_cast<std::size_t>(index)];
    data::Record record;
    std::filesystem::path image = root_ / picture;
    image.replace_filename(image.stem().string() + "_test.jpg");
    record.image_path = image.string();
    record.place = (root_ / boxes).string();
    record.key = image.stem().string();
    std::ifstream stream(record.place);
    if (!stream) return absl::NotFoundError(record.place + ": cannot be opened");
    std::string line;
    for (int number = 1; std::getline(stream, line); ++number) {
      std::istringstream fields(line);
      data::Region region;
      std::size_t type = 0;
      if (!(fields >> region.box[0] >> region.box[1] >> region.box[2] >> region.box[3] >> type) || type == 0 || type >= std::size(kDefects)) {
        return absl::DataLossError(record.place + ":" + std::to_string(number) + ": expected x1 y1 x2 y2 and a type from 1 to 6");
      }
      region.texts = {kDefects[type]};
      region.label = kDefects[type];
      record.regions.push_back(std::move(region));
    }
    return record;
  }

 private:
  std::filesystem::path root_;
  std::vector<std::pair<std::string, std::string>> files_;
};

absl::StatusOr<data::DatasetPtr> open_dataset(const PcbOptions& options, const data::DatasetContext& context) {
  const std::filesystem::path list = std::filesystem::path(context.root) / options.list;
  std::ifstream stream(list);
  if (!stream) return fgvl::with_exit_code(absl::NotFoundError(list.string() + ": cannot be opened"), fgvl::ExitCode::kData);
  std::vector<std::pair<std::string, std::string>> all, chosen;
  for (std::string picture, boxes; stream >> picture >> boxes;) all.emplace_back(picture, boxes);
  for (const std::int64_t index : data::split_indices(static_cast<std::int64_t>(all.size()), context.split, options.held_out_every)) chosen.push_back(all[static_cast<std::size_t>(index)]);
  return std::make_shared<PcbDataset>(context.root, std::move(chosen));
}

}  // namespace mine

int main(int argc, char** argv) {
  if (argc != 2) return std::cerr << "usage: example_custom_dataset FOLDER" << std::endl, 2;
  // Registered, it works from a configuration file like the built-in ones.
  auto datasets = fgvl::data::builtin_datasets();
  datasets->add<mine::PcbOptions>("pcb", [](const mine::PcbOptions& options, const fgvl::data::DatasetContext& context) { return mine::open_dataset(options, context); });
  fgvl::data::DataConfig config(datasets);
  const auto document = fgvl::config::Document::parse("dataset: {type: pcb}\nimage: {size: 128}\nbatch_size: 1\nstreams: {boards: {captions_per_image: 0, max_regions: 100}}");
  if (!document.ok()) return std::cerr << document.status().message() << std::endl, 2;
  auto read = fgvl::config::read(*document, config);
  if (!read.ok()) return std::cerr << read.status().message() << std::endl, 2;
  read->root = argv[1];
  auto streams = fgvl::data::open_streams(*read, fgvl::data::Split::kAll);
  if (!streams.ok()) return std::cerr << streams.status().message() << std::endl, 3;
  const std::int64_t pictures = streams->front().dataset->size();
  auto texts = fgvl::data::make_text_pipeline(*read, *streams);
  if (!texts.ok()) return std::cerr << texts.status().message() << std::endl, 3;
  auto loader = fgvl::data::Loader::make(*streams, read->image, *texts, read->loader);
  if (!loader.ok()) return std::cerr << loader.status().message() << std::endl, 3;
  // Batches of one picture: an epoch ends with the last board, not in the middle of a batch that already holds boards of the next.
  std::int64_t regions = 0, images = 0;
  while (images < pictures) {
    const auto batch = (*loader)->next();
    if (!batch.ok()) return std::cerr << batch.status().message() << std::endl, 3;
    images += batch->image_count();
    regions += batch->text_count();
  }
  const fgvl::data::LoaderCounts counts = (*loader)->counts();
  std::cout << counts.records_used << " of " << pictures << " boards, " << regions << " defects, " << counts.skipped.size() << " causes of loss" << std::endl;
  return counts.records_used == pictures && counts.skipped.empty() ? 0 : 3;
}
