#include <cmath>
#include <map>

#include <torch/torch.h>

#include "fgvl/core/boxes.hpp"
#include "fgvl/losses/foil_matching.hpp"
#include "losses/scenes.hpp"
#include "support/catch.hpp"

namespace fgvl::losses {
namespace {

using test::NamedTerm;
using test::random_scene;
using test::Scene;

/// Value of "term", or of its parts one after the other; empty when there was nothing to compute.
std::vector<double> means_of(const NamedTerm& named, const Scene& scene) {
  std::vector<double> means;
  for (const LossReport::Value& value : test::criterion_of(named)->forward(*scene.pass()).values) {
    if (value.name.rfind("term", 0) == 0) means.push_back(value.mean.item<double>());
  }
  return means;
}

void check_equal(const std::vector<double>& a, const std::vector<double>& b, double tolerance = 1e-12) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a[i] - b[i]) <= tolerance * std::max(1.0, std::abs(a[i])));
}

/// Every value and every gradient that a term makes of a scene is a number.
void check_finite(const NamedTerm& named, Scene scene, std::vector<std::int64_t> streams = {}) {
  for (Tensor* leaf : scene.leaves()) *leaf = leaf->detach().clone().requires_grad_();
  const auto criterion = test::criterion_of(named, std::move(streams));
  const LossReport report = criterion->forward(*scene.pass());
  REQUIRE(report.total.requires_grad());
  report.total.backward();
  CHECK(std::isfinite(report.total.item<double>()));
  for (const LossReport::Value& value : report.values) CHECK(std::isfinite(value.mean.item<double>()));
  std::vector<Tensor> leaves = criterion->parameters();
  for (const Tensor* leaf : scene.leaves()) leaves.push_back(*leaf);
  for (const Tensor& leaf : leaves) CHECK((!leaf.grad().defined() || leaf.grad().isfinite().all().item<bool>()));
}

Tensor permutation(std::int64_t count, std::uint64_t seed) {
  at::Generator generator = Generator({.seed = seed, .purpose = "permutation"}).torch_generator(at::kCPU);
  return torch::randperm(count, generator, torch::kLong);
}

/// Negatives are drawn by place in the batch, so that another order draws others: they are given instead.
NamedTerm with_given_negatives(const Tensor& visual_for_text, const Tensor& text_for_visual) {
  MatchingOptions options;
  options.given = {visual_for_text, text_for_visual};
  return {"matching", [options] { return make_term(options, test::kSceneSpec); }};
}

bool draws(const NamedTerm& named) { return named.name.rfind("matching", 0) == 0; }

TEST_CASE("every term: the order of texts and of images changes nothing", "[properties]") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Scene scene = random_scene(seed, {.labels = seed % 2 == 0});
    const std::int64_t texts = scene.batch.text_count(), images = scene.batch.image_count();
    const Tensor order = permutation(texts, seed), image_order = permutation(images, seed + 100);
    const Scene by_text = test::reordered(scene, order);
    Scene by_image = scene;
    by_image.batch.images = scene.batch.images.index_select(0, image_order);
    by_image.batch.text_to_image = image_order.argsort().index_select(0, scene.batch.text_to_image);
    for (const NamedTerm& named : test::every_term()) {
      INFO(named.name << ", seed " << seed);
      const std::vector<double> before = means_of(named, scene);
      check_equal(before, means_of(named, by_image));
      if (!draws(named)) check_equal(before, means_of(named, by_text));
    }
    const Tensor negatives = permutation(texts, seed + 200), others = permutation(texts, seed + 300), place = order.argsort();
    check_equal(means_of(with_given_negatives(negatives, others), scene),
                means_of(with_given_negatives(place.index_select(0, negatives.index_select(0, order)), place.index_select(0, others.index_select(0, order))), by_text));
  }
}

TEST_CASE("contrastive: which of the rows with one text carries which encoding of it changes nothing", "[properties]") {
  // Dropout makes two encodings of one text differ. All of them are positives of all visuals with that text.
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Scene scene = random_scene(seed, {.different_texts = 3, .labels = false});
    scene.text = test::unit_rows(scene.batch.text_count(), test::kEmbed, seed + 1000);
    Scene exchanged = scene;
    exchanged.text = scene.text.clone();
    const Tensor rows = (scene.batch.text_key == scene.batch.text_key[0]).nonzero().squeeze(1);
    exchanged.text.index_copy_(0, rows, scene.text.index_select(0, rows.flip(0)));
    const NamedTerm named{"contrastive", [] { return make_term(ContrastiveOptions{}, test::kSceneSpec); }};
    INFO("seed " << seed);
    check_equal(means_of(named, scene), means_of(named, exchanged));
  }
}

TEST_CASE("every term: a batch of one, no region, regions alone, a picture of 200 regions and a stream without a row give numbers, and gradients that are numbers", "[properties]") {
  for (const NamedTerm& named : test::every_term()) {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      INFO(named.name << ", seed " << seed);
      const bool labels = seed % 2 == 0;
      check_finite(named, random_scene(seed, {.images = 1, .max_captions = 1, .max_regions = 0, .labels = labels}));
      check_finite(named, random_scene(seed, {.images = 1, .max_captions = 0, .max_regions = 1, .labels = labels}));
      check_finite(named, random_scene(seed, {.max_regions = 0, .labels = labels}));
      check_finite(named, random_scene(seed, {.max_captions = 0, .labels = labels}));
      check_finite(named, random_scene(seed, {.labels = labels}), {5});  // nothing of stream 5
    }
    Scene crowded = random_scene(1, {.images = 1, .max_captions = 1, .max_regions = 200});
    for (std::uint64_t seed = 2; crowded.batch.text_count() < 190; ++seed) crowded = random_scene(seed, {.images = 1, .max_captions = 1, .max_regions = 200});
    INFO(named.name << ", " << crowded.batch.text_count() << " texts");
    check_finite(named, crowded);
  }
}

TEST_CASE("every term: saturated logits, zero vectors, equal features and degenerate boxes give finite gradients", "[properties]") {
  for (const NamedTerm& named : test::every_term()) {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      INFO(named.name << ", seed " << seed);
      const Scene scene = random_scene(seed, {.labels = seed % 2 == 0});
      for (const double factor : {1e4, 1e-30, 0.0}) {
        Scene scaled = scene;
        scaled.visual = scene.visual * factor;
        scaled.text = scene.text * factor;
        scaled.foils = scene.foils * factor;
        scaled.labels = scene.labels * factor;
        check_finite(named, scaled);
      }
      Scene equal = scene;
      for (Tensor Scene::*field : {&Scene::visual, &Scene::text, &Scene::momentum_visual, &Scene::momentum_text}) equal.*field = (scene.*field).slice(0, 0, 1).expand_as(scene.*field);
      check_finite(named, equal);
      Scene boxes = scene;
      boxes.predicted = scene.predicted.clone();
      boxes.batch.boxes = scene.batch.boxes.clone();
      const std::vector<std::vector<double>> degenerate = {{0.5, 0.5, 0, 0}, {0.5, 0.5, 0.2, 0}, {0.5, 0.5, 0, 0.2}, {0.5, 0.5, -0.2, 0.3}, {0.5, 0.5, 1e-30, 1e-30}, {0.5, 0.5, 1e-200, 0}, {0, 0, 0, 0}};
      for (std::int64_t row = 0; row < boxes.batch.text_count(); ++row) {
        const Tensor box = torch::tensor(degenerate[static_cast<std::size_t>(row) % degenerate.size()], at::kDouble);
        boxes.predicted[row] = box;
        if (row % 3 == 0) boxes.batch.boxes[row] = box.to(at::kFloat);
      }
      // Reference box regression is NaN there, by definition; everything of ours is not.
      check_finite(named, boxes);
    }
  }
}

TEST_CASE("box losses: a degenerate box leaves the other rows' values and gradients as they are", "[properties]") {
  for (const BoxIou iou : {BoxIou::kGiou, BoxIou::kDiou, BoxIou::kCiou}) {
    const BoxRegressionOptions options{.iou = iou};
    const Tensor target = torch::tensor({{0.4, 0.5, 0.3, 0.2}, {0.5, 0.5, 0.2, 0.2}, {0.3, 0.3, 0.1, 0.4}}, at::kDouble);
    const auto run = [&](const std::vector<double>& second) {
      Tensor predicted = torch::tensor({{0.5, 0.4, 0.2, 0.3}, {0.0, 0.0, 0.0, 0.0}, {0.35, 0.3, 0.2, 0.2}}, at::kDouble);
      predicted[1] = torch::tensor(second, at::kDouble);
      predicted.requires_grad_();
      const Tensor each = box_losses(predicted, target, options).iou;
      each.sum().backward();
      CHECK(each.isfinite().all().item<bool>());
      CHECK(predicted.grad().isfinite().all().item<bool>());
      return torch::cat({each.detach().unsqueeze(1), predicted.grad()}, 1).index_select(0, torch::tensor({0, 2}));
    };
    const Tensor sound = run({0.5, 0.5, 0.3, 0.1});
    for (const std::vector<double>& broken : {std::vector<double>{0.5, 0.5, 0, 0}, {0.5, 0.5, -0.3, 0.2}, {0.5, 0.5, 0.2, 0.2}, {9, 9, 1e-200, 1e-200}, {0.5, 0.5, 1e-300, 0}}) CHECK(at::allclose(sound, run(broken), 1e-13, 1e-13));  // products of rows with a zero are differentiated in another order
  }
}

TEST_CASE("box_regression: the picture's size in pixels does not matter, also where its sides are stretched for themselves", "[properties]") {
  at::Generator generator = Generator({.seed = 3}).torch_generator(at::kCPU);
  const auto in_pixels = [&] { return torch::cat({torch::empty({50, 2}, at::kDouble).uniform_(20, 60, generator), torch::empty({50, 2}, at::kDouble).uniform_(5, 40, generator)}, 1); };
  const Tensor predicted = in_pixels(), target = in_pixels();
  for (const BoxIou iou : {BoxIou::kGiou, BoxIou::kDiou, BoxIou::kCiou}) {
    const BoxRegressionOptions options{.iou = iou};
    const auto loss = [&](double wider, double higher) {
      const Tensor sides = torch::tensor({80 * wider, 80 * higher, 80 * wider, 80 * higher}, at::kDouble), scale = torch::tensor({wider, higher, wider, higher}, at::kDouble);
      return box_regression(predicted * scale / sides, target * scale / sides, options).item<double>();
    };
    CHECK(loss(2, 2) == Approx(loss(1, 1)).epsilon(1e-12));
    CHECK(loss(0.3, 7) == Approx(loss(1, 1)).epsilon(1e-12));
  }
  // GIoU itself does not depend on the units either, whatever the two axes are scaled by.
  const Tensor a = cxcywh_to_xyxy(predicted), b = cxcywh_to_xyxy(target), stretch = torch::tensor({3.0, 0.2, 3.0, 0.2}, at::kDouble);
  CHECK(at::allclose(paired_giou(a, b), paired_giou(a * stretch, b * stretch), 1e-12, 1e-12));
  CHECK(at::allclose(paired_diou(a, b), paired_diou(a * 3, b * 3), 1e-12, 1e-12));
  CHECK(at::allclose(paired_ciou(a, b), paired_ciou(a * 3, b * 3), 1e-12, 1e-12));
}

/// Largest difference between autograd's gradient of f's sum, weighted at random, and central differences in float64.
double gradient_error(const std::function<Tensor(const std::vector<Tensor>&)>& f, const std::vector<Tensor>& at) {
  std::vector<Tensor> inputs;
  for (const Tensor& value : at) inputs.push_back(value.detach().clone().requires_grad_());
  const Tensor out = f(inputs);
  const Tensor weight = out.dim() == 0 ? torch::ones_like(out) : torch::arange(1, out.numel() + 1, out.options()).cos().view_as(out).detach();
  (out * weight).sum().backward();
  torch::NoGradGuard guard;
  constexpr double kStep = 1e-6;
  double largest = 0;
  for (std::size_t i = 0; i < at.size(); ++i) {
    std::vector<Tensor> moved;
    for (const Tensor& value : at) moved.push_back(value.detach().clone());
    double* place = moved[i].mutable_data_ptr<double>();
    const Tensor gradient = inputs[i].grad().contiguous();
    for (std::int64_t n = 0; n < moved[i].numel(); ++n) {
      const double before = place[n];
      place[n] = before + kStep;
      const double up = (f(moved) * weight).sum().item<double>();
      place[n] = before - kStep;
      const double down = (f(moved) * weight).sum().item<double>();
      place[n] = before;
      largest = std::max(largest, std::abs((up - down) / (2 * kStep) - gradient.const_data_ptr<double>()[n]));
    }
  }
  return largest;
}

TEST_CASE("pure functions: gradients are what finite differences say, in float64", "[properties]") {
  using In = std::vector<Tensor>;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    INFO("seed " << seed);
    const Tensor a = test::unit_rows(5, 8, seed), b = test::unit_rows(5, 8, seed + 50), temperature = torch::tensor(0.2, at::kDouble);
    CHECK(gradient_error([](const In& in) { return contrastive(in[0], in[1], in[2]); }, {a, b, temperature}) < 1e-7);
    at::Generator generator = Generator({.seed = seed}).torch_generator(at::kCPU);
    const Tensor positive = (torch::rand({5, 7}, generator) < 0.3), ignored = (torch::rand({5, 7}, generator) < 0.3).logical_and(positive.logical_not());
    positive.select(1, 0).fill_(true);
    ignored.select(1, 0).fill_(false);
    const Tensor logits = torch::empty({5, 7}, at::kDouble).normal_(0, 2, generator);
    CHECK(gradient_error([&](const In& in) { return multi_positive_cross_entropy(in[0], {positive, ignored}); }, {logits}) < 1e-7);
    CHECK(gradient_error([](const In& in) { return ranking_loss(in[0], in[1]); }, {logits.select(1, 0).contiguous(), logits.select(1, 1).contiguous()}) < 1e-7);
    const auto boxes = [&] { return torch::cat({torch::empty({9, 2}, at::kDouble).uniform_(0.3, 0.7, generator), torch::empty({9, 2}, at::kDouble).uniform_(0.1, 0.6, generator)}, 1); };
    const Tensor predicted = boxes(), target = boxes();
    for (const BoxIou iou : {BoxIou::kGiou, BoxIou::kDiou}) {
      const BoxRegressionOptions options{.l1_weight = 0.7, .giou_weight = 1.3, .iou = iou};
      CHECK(gradient_error([&](const In& in) { return box_regression(in[0], in[1], options); }, {predicted, target}) < 1e-7);
    }
    for (const auto overlap : {paired_iou, paired_giou, paired_diou}) {
      CHECK(gradient_error([&](const In& in) { return overlap(cxcywh_to_xyxy(in[0]), cxcywh_to_xyxy(in[1])); }, {predicted, target}) < 1e-7);
    }
    CHECK(gradient_error([](const In& in) { return box_area(cxcywh_to_xyxy(in[0])); }, {predicted}) < 1e-7);
    // CIoU's alpha carries no gradient: differences are taken with the one that it has at the boxes themselves.
    const auto shape = [](const Tensor& p, const Tensor& t) {
      return 4 / (M_PI * M_PI) * (at::atan(t.select(1, 2) / t.select(1, 3)) - at::atan(p.select(1, 2) / p.select(1, 3))).square();
    };
    const Tensor v = shape(predicted, target), alpha = v / (1 - paired_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target)) + v);
    const auto ciou = [](const In& in) { return paired_ciou(cxcywh_to_xyxy(in[0]), cxcywh_to_xyxy(in[1])); };
    const auto by_hand = [&](const In& in) { return paired_diou(cxcywh_to_xyxy(in[0]), cxcywh_to_xyxy(in[1])) - alpha * shape(in[0], in[1]); };
    CHECK(at::allclose(ciou({predicted, target}), by_hand({predicted, target}), 1e-12, 1e-12));
    In ours{predicted.clone().requires_grad_(), target.clone().requires_grad_()}, theirs{predicted.clone().requires_grad_(), target.clone().requires_grad_()};
    ciou(ours).sum().backward();
    by_hand(theirs).sum().backward();
    for (std::size_t i = 0; i < 2; ++i) CHECK(at::allclose(ours[i].grad(), theirs[i].grad(), 1e-10, 1e-10));
    CHECK(gradient_error(by_hand, {predicted, target}) < 1e-7);
  }
}

}  // namespace
}  // namespace fgvl::losses
