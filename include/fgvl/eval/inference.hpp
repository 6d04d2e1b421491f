#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fgvl/data/image.hpp"
#include "fgvl/eval/grounding.hpp"
#include "fgvl/train/checkpoint.hpp"
#include "fgvl/train/probe.hpp"

namespace fgvl::losses {
class PairScorer;
class TemperatureSource;
class WordPredictor;
}  // namespace fgvl::losses

namespace fgvl::eval {

struct InferenceOptions {
  std::int64_t batch_size = 32;  ///< pictures, texts or pairs computed at once: a matter of speed and memory, not of results
  std::string contrast{};        ///< the contrastive term whose temperature is used; empty: the first that has one
  std::string matching{};        ///< the matching term; empty: the first
  std::string masked_language{}; ///< the masked_language term that reads position tokens, in models that predict boxes so; empty: the first
};

/// N pictures, encoded once, on the model's device.
struct EncodedImages {
  ImageFeatures features{};  ///< embeds [N, 1 + P, Dv], features [N, E]
  std::int64_t size() const { return features.features.defined() ? features.features.size(0) : 0; }
};

/// M texts, each with a place behind it for the model to fill in: "@@ [MASK] [MASK] [MASK] [MASK] ##" (PEVL, arXiv 2205.11169).
struct AskedPlaces {
  Tensor ids{};        ///< [M, L] int64; undefined: the model predicts boxes otherwise, or not at all
  Tensor mask{};       ///< [M, L] bool
  Tensor positions{};  ///< [M, 4] int64: where x1, y1, x2 and y2 stand
};

/// M texts, encoded once, on the model's device.
struct EncodedTexts {
  std::vector<std::string> texts{};        ///< as they were given
  Tensor ids{};                            ///< [M, L] int64
  TextFeatures features{};                 ///< embeds [M, L, D], features [M, E], mask [M, L]
  std::vector<bool> has_unknown_words{};   ///< the vocabulary lacks some of its words
  AskedPlaces places{};                    ///< of encode_texts_to_ground(), where boxes are read from position tokens
  std::int64_t size() const { return static_cast<std::int64_t>(texts.size()); }
};

/// A picture that could not be read, and why.
struct Unreadable {
  std::string path, reason;
};
struct ReadImages {
  EncodedImages encoded{};              ///< of the readable ones, in order
  std::vector<std::size_t> paths{};     ///< which path each row is of
  std::vector<Unreadable> unreadable{};
};

/// Scores of N pictures and M texts; all [N, M] float64 on the CPU.
struct Scores {
  Tensor itc{};        ///< cosine of picture and text in [-1, 1]; undefined without a contrastive term
  Tensor itc_share{};  ///< softmax over the M texts of itc / temperature: of these texts, how much each is the picture's. A row sums to 1; undefined likewise
  Tensor itm{};        ///< probability that the text is true of the picture, which other texts do not change; undefined without a matching term
};

struct RankOptions {
  std::int64_t top_k = 16;  ///< of all by ITC, then ordered by ITM; 0: all, so that ITM alone decides
};
/// One place of a ranking.
struct Ranked {
  std::int64_t index = 0;          ///< of the text or picture
  std::optional<double> itc{}, itm{};  ///< as in Scores
};
/// For each query, its best first.
using Ranking = std::vector<std::vector<Ranked>>;

/// Which tokens of a text a map is the mean of.
enum class MapTokens {
  kText,   ///< all of them, [CLS] included: ALBEF's maps for grounding (Grounding.py, 91de3c1), which X-VLM's weakly supervised grounding uses too; those are also weighted by gradients
  kFirst,  ///< [CLS] alone, from which box and match are computed
};

struct GroundOptions {
  bool region_itc = true;      ///< encodes every picture once more, with the predicted boxes as its regions
  bool map = false;
  std::int64_t map_layer = -1; ///< fusion layer, 0 the first, -1 the last
  MapTokens map_tokens = MapTokens::kText;
};

/// A trained model, used: scores, rankings and boxes of pictures and texts. Pictures and texts are encoded once each, in batches; everything else starts from the
/// encodings. No gradients, evaluation mode; whatever mode the model was in comes back. Throws c10::Error for a caller's mistake.
///
/// ```cpp
/// FGVL_ASSIGN_OR_RETURN(const eval::Inference inference, eval::Inference::open("runs/mine"));
/// FGVL_ASSIGN_OR_RETURN(const eval::EncodedTexts texts, inference.encode_texts({"a cat", "a dog"}));
/// const eval::ReadImages pictures = inference.encode_files({"one.jpg", "two.jpg"});
/// const eval::Scores scores = inference.score(pictures.encoded, texts);
/// ```
class Inference {
 public:
  /// A checkpoint's folder or a run's, with all that it needs: tokenizer, text preparation, picture size and normalisation stand in the folder. `overrides` on the saved
  /// configuration, for example "device=cpu". `registries`: what that configuration may name; absent: ours. Exit code 4 for a checkpoint that cannot be used; InvalidArgument for a term of `options` that the run does not have.
  static absl::StatusOr<Inference> open(const std::string& path, const InferenceOptions& options = {}, const std::vector<std::string>& overrides = {},
                                        const std::optional<train::RunRegistries>& registries = std::nullopt);
  /// Of a model in memory; everything must outlive it. InvalidArgument for a term of `options` that the criterion does not have.
  static absl::StatusOr<Inference> make(const train::ProbeInput& model, const data::TextPipeline& pipeline, const data::ImageOptions& image, const InferenceOptions& options = {});

  bool has_contrast() const { return temperature_ != nullptr; }
  bool has_matching() const { return scorer_ != nullptr; }
  bool has_fusion() const { return model_.model.spec().fusion_width > 0; }  ///< without it (CLIP) there are no matching terms, and ground() throws
  bool has_box_head() const { return model_.model.spec().has_box_head; }
  /// Whether ground() reads boxes from position tokens: the model has no box head, its vocabulary has these tokens, and a masked_language term predicts words.
  bool has_position_tokens() const { return !has_box_head() && words_ != nullptr && model_.model.spec().first_position_id >= 0; }
  std::optional<double> temperature() const;  ///< of the contrastive term; absent without one
  const InferenceOptions& options() const { return options_; }
  const train::LoadedRun* run() const { return run_.get(); }  ///< null after make()

  EncodedImages encode_images(const std::vector<data::Image>& images) const;
  /// Reads a batch at a time, so that no more decoded pictures than that are in memory.
  ReadImages encode_files(const std::vector<std::string>& paths) const;
  /// InvalidArgument when there is no text, and for one of which preparation leaves nothing.
  absl::StatusOr<EncodedTexts> encode_texts(const std::vector<std::string>& texts) const;
  /// The same with what ground() needs beside: where has_position_tokens() holds, places, and InvalidArgument for a text that leaves no room for them or has position tokens of its own.
  absl::StatusOr<EncodedTexts> encode_texts_to_ground(const std::vector<std::string>& texts) const;

  Scores score(const EncodedImages& images, const EncodedTexts& texts) const;
  /// [K] float64 on the CPU: match probabilities of K pairs; `pairs` [K, 2] int64 on the CPU, (picture, text). Needs a matching term.
  Tensor match(const EncodedImages& images, const EncodedTexts& texts, const Tensor& pairs) const;

  /// For every picture its best texts. Only the top_k by ITC are fused. Equal scores keep the order of ITC, then of the list. Without a matching term ITC alone decides;
  /// InvalidArgument without a contrastive term unless all are kept, and without both.
  absl::StatusOr<Ranking> rank_texts(const EncodedImages& images, const EncodedTexts& texts, const RankOptions& options = {}) const;
  /// For every text its best pictures.
  absl::StatusOr<Ranking> rank_images(const EncodedImages& images, const EncodedTexts& texts, const RankOptions& options = {}) const;

  /// For every picture, where each text points: [N][M]. Boxes come from the box head (X-VLM). A model without one but with position tokens (PEVL) is asked for the four tokens behind the text, all masked: each is the
  /// likeliest of its kPositionBins bins, and stands for that bin's lower edge, as in PEVL's grounding; corners in the wrong order are exchanged. Throws c10::Error where has_box_head() and has_position_tokens() are false, and with the latter for texts that encode_texts() made.
  std::vector<std::vector<Grounding>> ground(const std::vector<data::Image>& images, const EncodedTexts& texts, const GroundOptions& options = {}) const;

 private:
  Inference(const train::ProbeInput& model, const data::TextPipeline& pipeline, const data::ImageOptions& image, const InferenceOptions& options);
  absl::Status find_terms();
  /// Pixels [S, 3, H, W] of up to `capacity` pictures, asked for until `next` gives an undefined one.
  EncodedImages encode(std::int64_t capacity, const std::function<Tensor()>& next) const;
  absl::StatusOr<Ranking> rank(const EncodedImages& images, const EncodedTexts& texts, const RankOptions& options, bool of_images) const;

  train::ProbeInput model_;
  const data::TextPipeline& pipeline_;
  data::ImageOptions image_;
  InferenceOptions options_;
  losses::TemperatureSource* temperature_ = nullptr;
  losses::PairScorer* scorer_ = nullptr;
  losses::WordPredictor* words_ = nullptr;
  std::shared_ptr<train::LoadedRun> run_{};
};

}  // namespace fgvl::eval
