#include "fgvl/data/loader.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "data/mixture.hpp"
#include "data/order.hpp"
#include "fgvl/data/labels.hpp"

namespace fgvl::data {
namespace {

constexpr std::int64_t kJudgeAfter = 100;  // records seen before the share of skipped ones means anything

}  // namespace

config::EnumNames<Mix> enum_names(Mix) { return {{Mix::kBatches, "batches"}, {Mix::kRows, "rows"}}; }

struct Loader::Impl {
  /// One sample on its way.
  struct Slot {
    std::size_t stream = 0;
    std::int64_t position = 0, record = 0;
    bool done = false;
    Sample sample;
    std::string key, place;
    std::exception_ptr error{};  ///< what the thread threw while it made the sample
  };
  using SlotPtr = std::shared_ptr<Slot>;

  struct StreamState {
    Stream stream;
    Order order;
    FoilRulesPtr rules{};       ///< null: no foil is to be made
    std::int64_t consumed = 0;  ///< positions handed out or skipped
    std::int64_t requested = 0; ///< positions in flight end here
    std::deque<SlotPtr> in_flight{};
  };

  Impl(std::vector<Stream> sources, const ImageOptions& image_options, TextPipelinePtr pipeline, const LoaderOptions& loader_options, LabelsPtr known_labels, std::vector<FoilRulesPtr> rules)
      : image(image_options), texts(std::move(pipeline)), options(loader_options), labels(std::move(known_labels)), mixture(weights_of(sources), loader_options) {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      Stream& stream = sources[i];
      Order order(options.seed, stream.name, stream.dataset->size(), options.shuffle);
      streams.push_back({std::move(stream), std::move(order), rules[i]});
    }
    for (std::int64_t i = 0; i < options.workers; ++i) {
      threads.emplace_back([this] { work(); });
    }
  }

  static std::vector<Schedule> weights_of(const std::vector<Stream>& sources) {
    std::vector<Schedule> weights;
    for (const Stream& stream : sources) weights.push_back(stream.weight);
    return weights;
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
      queue.clear();
    }
    wake.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void work() {
    std::unique_lock lock(mutex);
    for (;;) {
      wake.wait(lock, [&] { return stopping || !queue.empty(); });
      if (stopping) return;
      const SlotPtr slot = queue.front();
      queue.pop_front();
      lock.unlock();
      // An exception that leaves a thread ends the program: whoever asks for the sample gets it instead.
      try {
        load(*slot);
      } catch (...) {
        slot->error = std::current_exception();
      }
      lock.lock();
      slot->done = true;
      finished.notify_all();
    }
  }

  void load(Slot& slot) const {
    const Stream& stream = streams[slot.stream].stream;
    const std::int64_t size = stream.dataset->size();
    const absl::StatusOr<Record> record = stream.dataset->get(slot.record);
    if (!record.ok()) {
      slot.key = absl::StrCat(slot.record);
      slot.place = stream.dataset->place(slot.record);
      slot.sample.problems.push_back({"unreadable_record", std::string(record.status().message()), true});
      return;
    }
    slot.key = record->key;
    slot.place = record->place;
    const std::string purpose = "sample:" + stream.name;
    slot.sample = make_sample(*record, stream.sample, image, *texts,
                              {.seed = options.seed, .epoch = static_cast<std::uint64_t>(slot.position / size), .sample = static_cast<std::uint64_t>(slot.position % size), .purpose = purpose},
                              streams[slot.stream].rules.get());
  }

  /// Keeps enough samples of a stream on their way.
  void request(std::size_t index) {
    StreamState& state = streams[index];
    const double share = mixture.shares(batches)[index], prefetched = static_cast<double>(options.prefetch) * share;
    const bool own_batches = options.mix == Mix::kBatches && share > 0;
    const double ahead = own_batches ? std::max(1.0, prefetched) : prefetched;
    const auto wanted = static_cast<std::int64_t>(ahead * static_cast<double>(options.batch_size)) + 1;
    std::vector<SlotPtr> added;
    while (static_cast<std::int64_t>(state.in_flight.size()) < (threads.empty() ? 1 : wanted)) {
      auto slot = std::make_shared<Slot>();
      slot->stream = index;
      slot->position = state.requested++;
      slot->record = state.order.record(slot->position);
      state.in_flight.push_back(slot);
      added.push_back(slot);
    }
    if (added.empty() || threads.empty()) return;
    {
      const std::lock_guard lock(mutex);
      queue.insert(queue.end(), added.begin(), added.end());
    }
    wake.notify_all();
  }

  SlotPtr take(std::size_t index) {
    request(index);
    StreamState& state = streams[index];
    const SlotPtr slot = state.in_flight.front();
    state.in_flight.pop_front();
    if (threads.empty()) {
      load(*slot);
    } else {
      std::unique_lock lock(mutex);
      finished.wait(lock, [&] { return slot->done; });
    }
    if (slot->error) std::rethrow_exception(slot->error);
    ++state.consumed;
    return slot;
  }

  static std::string with_place(const Slot& slot) {
    const std::string& detail = slot.sample.problems.back().detail;
    return absl::StartsWith(detail, slot.place) ? detail : absl::StrCat(slot.place, ": ", detail);
  }

  void count(const Slot& slot) {
    const Stream& stream = streams[slot.stream].stream;
    const bool used = slot.sample.image.defined();
    ++counts.visits;
    if (!used) ++counts.visits_skipped;
    if (!slot.sample.problems.empty()) last_problem = with_place(slot);
    if (slot.position >= stream.dataset->size()) return;  // met before
    ++counts.records_seen;
    ++(used ? counts.records_used : counts.records_skipped);
    counts.regions_seen += slot.sample.regions_seen;
    for (const Problem& problem : slot.sample.problems) {
      ++counts.skipped[problem.cause];
      skipped.push_back({stream.name, slot.key, slot.place, problem.cause, problem.detail});
    }
  }

  absl::Status check_skipped(std::size_t index) const {
    const StreamState& state = streams[index];
    const bool epoch_ended = state.consumed >= state.stream.dataset->size(), none_used = counts.visits_skipped == counts.visits;
    if (counts.visits < kJudgeAfter && !epoch_ended) return absl::OkStatus();
    const double fraction = static_cast<double>(counts.visits_skipped) / static_cast<double>(counts.visits);
    if (fraction <= options.max_skipped_fraction && !(none_used && epoch_ended)) return absl::OkStatus();
    std::vector<std::string> causes;
    for (const auto& [cause, number] : counts.skipped) causes.push_back(absl::StrCat(number, " ", cause));
    return with_exit_code(absl::DataLossError(absl::StrCat(counts.visits_skipped, " of ", counts.visits, " times a record could not be used (in the first epoch: ", absl::StrJoin(causes, ", "),
                                                           "), more than data.max_skipped_fraction = ", options.max_skipped_fraction, "; the last: ", last_problem,
                                                           ". skipped.jsonl lists them all; repair them, or raise the limit")),
                          ExitCode::kData);
  }

  ImageOptions image;
  TextPipelinePtr texts;
  LoaderOptions options;
  LabelsPtr labels;
  std::vector<StreamState> streams;
  Mixture mixture;
  std::int64_t batches = 0;
  LoaderCounts counts;
  std::string last_problem;
  std::vector<Skipped> skipped;

  std::mutex mutex;
  std::condition_variable wake, finished;
  std::deque<SlotPtr> queue;
  bool stopping = false;
  std::vector<std::thread> threads;
};

Loader::Loader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Loader::~Loader() = default;

absl::StatusOr<std::unique_ptr<Loader>> Loader::make(std::vector<Stream> streams, const ImageOptions& image, TextPipelinePtr texts, const LoaderOptions& options, LabelsPtr labels) {
  if (streams.empty()) return absl::InvalidArgumentError("loader: no stream");
  for (const Stream& stream : streams) {
    if (stream.weight.min() < 0 || stream.weight.max() <= 0) {
      return absl::InvalidArgumentError(absl::StrCat("loader: stream \"", stream.name, "\": the weight must be positive at some step and never negative, and is ", stream.weight.words()));
    }
    if (stream.dataset->size() == 0) return with_exit_code(absl::NotFoundError(absl::StrCat("loader: stream \"", stream.name, "\" has no record")), ExitCode::kData);
  }
  // Between two corners of all weights none begins or ends, so that where all are 0 between them all are 0 at the first as well.
  for (const Stream& corners : streams) {
    for (const std::int64_t step : corners.weight.corners()) {
      if (options.steps > 0 && step >= options.steps) continue;
      if (std::any_of(streams.begin(), streams.end(), [&](const Stream& stream) { return stream.weight.at(step) > 0; })) continue;
      return absl::InvalidArgumentError(absl::StrCat("data.streams: at step ", step, " no stream has a weight above 0, so that there is nothing to train on; raise one there (data.streams.<name>.weight, or stages.<name>.streams), or let the run end before (train.steps)"));
    }
  }
  if (options.batch_size <= 0) return absl::InvalidArgumentError("loader: batch_size must be positive");
  std::vector<FoilRulesPtr> rules;
  for (const Stream& stream : streams) {
    absl::StatusOr<FoilRulesPtr> opened = open_foil_rules(stream.sample, *stream.dataset, *texts, labels ? labels->implied : Implications());
    if (!opened.ok()) return annotate(opened.status(), absl::StrCat("data.streams.", stream.name, ".foil_rules.lexicon"));
    rules.push_back(std::move(*opened));
  }
  return std::unique_ptr<Loader>(new Loader(std::make_unique<Impl>(std::move(streams), image, std::move(texts), options, std::move(labels), std::move(rules))));
}

absl::StatusOr<RegionBatch> Loader::next() {
  const std::vector<std::int64_t> quotas = impl_->mixture.quotas(impl_->batches);
  std::vector<Sample> samples;
  std::vector<std::int64_t> streams;
  for (std::size_t i = 0; i < quotas.size(); ++i) {
    for (std::int64_t taken = 0; taken < quotas[i];) {
      const Impl::SlotPtr slot = impl_->take(i);
      impl_->count(*slot);
      FGVL_RETURN_IF_ERROR(impl_->check_skipped(i));
      if (!slot->sample.image.defined()) continue;
      samples.push_back(std::move(slot->sample));
      streams.push_back(static_cast<std::int64_t>(i));
      ++taken;
    }
    if (quotas[i] > 0) impl_->request(i);
  }
  ++impl_->batches;
  RegionBatch batch = collate(samples, streams, impl_->texts->tokenizer().pad_id());
  if (impl_->labels) impl_->labels->add_to(batch);
  return batch;
}

std::int64_t Loader::epoch() const { return impl_->streams[0].consumed / impl_->streams[0].stream.dataset->size(); }

LoaderState Loader::state() const {
  const LoaderCounts& counts = impl_->counts;
  LoaderState state = {{"batches", impl_->batches}, {"records_seen", counts.records_seen}, {"records_used", counts.records_used}, {"records_skipped", counts.records_skipped},
                       {"regions_seen", counts.regions_seen}, {"visits", counts.visits}, {"visits_skipped", counts.visits_skipped}};
  for (const Impl::StreamState& stream : impl_->streams) {
    state["consumed:" + stream.stream.name] = stream.consumed;
    state["records:" + stream.stream.name] = stream.stream.dataset->size();
  }
  for (const auto& [cause, number] : counts.skipped) state["skipped:" + cause] = number;
  return state;
}

absl::Status Loader::restore(const LoaderState& state) {
  for (const Impl::StreamState& stream : impl_->streams) {
    const std::string& name = stream.stream.name;
    const auto records = state.find("records:" + name);
    if (state.count("consumed:" + name) == 0 || records == state.end()) {
      return with_exit_code(absl::InvalidArgumentError(absl::StrCat("loader: the checkpoint knows no stream \"", name, "\"")), ExitCode::kCheckpoint);
    }
    // The order is a function of the number of records: with another one a place in it means nothing.
    if (records->second != stream.stream.dataset->size()) {
      return with_exit_code(absl::FailedPreconditionError(absl::StrCat("loader: stream \"", name, "\" had ", records->second, " records when the checkpoint was written and has ", stream.stream.dataset->size(),
                                                                       " now; resume on the data it was trained on")),
                            ExitCode::kCheckpoint);
    }
  }
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->queue.clear();
  }
  const auto number = [&](const char* name) { return state.count(name) > 0 ? state.at(name) : 0; };
  impl_->batches = number("batches");
  impl_->counts = {number("records_seen"), number("records_used"), number("records_skipped"), number("regions_seen"), {}, number("visits"), number("visits_skipped")};
  impl_->skipped.clear();
  for (const auto& [name, value] : state) {
    if (name.rfind("skipped:", 0) == 0) impl_->counts.skipped[name.substr(8)] = value;
  }
  for (Impl::StreamState& stream : impl_->streams) {
    stream.in_flight.clear();
    stream.consumed = stream.requested = state.at("consumed:" + stream.stream.name);
  }
  return absl::OkStatus();
}

LoaderCounts Loader::counts() const { return impl_->counts; }

std::vector<Skipped> Loader::take_skipped() { return std::exchange(impl_->skipped, {}); }

}  // namespace fgvl::data
