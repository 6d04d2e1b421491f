#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fgvl/core/batch.hpp"
#include "fgvl/core/schedule.hpp"
#include "fgvl/core/status.hpp"
#include "fgvl/data/dataset.hpp"
#include "fgvl/data/sample.hpp"

namespace fgvl::data {

/// One source of samples with its mixing weight: several streams in one Loader are the way to mix datasets.
struct Stream {
  std::string name;
  DatasetPtr dataset;
  Schedule weight = 1.0;  ///< over optimizer steps, never negative; while it is 0 nothing is read from it
  SampleOptions sample{};
};

enum class Mix { kBatches, kRows };  ///< fill each batch from one stream, drawn by weight | by quota from all
config::EnumNames<Mix> enum_names(Mix);

struct LoaderOptions {
  std::int64_t batch_size = 32;  ///< images a batch
  std::int64_t workers = 1;      ///< threads; the batches are the same for any number. 0: load in the calling thread
  std::int64_t prefetch = 4;     ///< batches made ahead
  std::int64_t batches_per_step = 1;  ///< batches of one optimizer step, for weights that change: batch n belongs to step n / this
  std::int64_t steps = 0;             ///< optimizer steps of the run: what weights are from there on does not matter; 0: without end
  std::uint64_t seed = 0;
  bool shuffle = true;
  Mix mix = Mix::kBatches;
  double max_skipped_fraction = 0.01;  ///< of the visits; above it (once 100 were made, or an epoch ended) next() fails with exit code 3
};

/// A record or region that was left out, and why.
struct Skipped {
  std::string stream, key, place, cause, detail;
};

/// Distinct records and regions of each stream, counted in its first epoch: a picture that cannot be read counts once, however often it is met.
/// records_seen = records_used + records_skipped.
struct LoaderCounts {
  std::int64_t records_seen = 0, records_used = 0, records_skipped = 0, regions_seen = 0;
  std::map<std::string, std::int64_t> skipped{};  ///< by cause, records and regions
  std::int64_t visits = 0, visits_skipped = 0;    ///< of records in all epochs: what max_skipped_fraction is about
};

/// Where a loader stands: enough to go on with the very next batch after a restart. Plain numbers by name, to be saved as they are.
using LoaderState = std::map<std::string, std::int64_t>;

struct Labels;
using LabelsPtr = std::shared_ptr<const Labels>;

/// Batches without end, in an order that is a pure function of (seed, weights, batch number): each stream is walked epoch after epoch, shuffled anew each time.
/// Threads are inside. Not thread-safe itself.
class Loader {
 public:
  /// Fails for no stream, an empty dataset, a stream that never has a weight, and steps (before LoaderOptions::steps) at which no stream has one. `labels` (data/labels.hpp) add to every batch what is known of its texts; null: nothing.
  static absl::StatusOr<std::unique_ptr<Loader>> make(std::vector<Stream> streams, const ImageOptions& image, TextPipelinePtr texts, const LoaderOptions& options, LabelsPtr labels = nullptr);
  ~Loader();

  /// The next batch. Errors: too many skipped records (exit code 3). What a thread inside threw (out of memory, say) is thrown here.
  absl::StatusOr<RegionBatch> next();

  std::int64_t epoch() const;                  ///< of stream 0, as of the last batch handed out
  LoaderState state() const;                   ///< as of the last batch handed out
  absl::Status restore(const LoaderState& state);
  LoaderCounts counts() const;                 ///< of the batches handed out
  std::vector<Skipped> take_skipped();         ///< those since the last call, of the batches handed out, in order; each record and region once an epoch

 private:
  struct Impl;
  explicit Loader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fgvl::data
