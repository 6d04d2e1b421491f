#include <filesystem>

#include <absl/strings/str_format.h>

#include "checkpoint_info.hpp"
#include "commands.hpp"
#include "fgvl/losses/queue_owner.hpp"
#include "fgvl/train/checkpoint.hpp"
#include "memory_estimate.hpp"

namespace fgvl::app {
namespace {

constexpr std::int64_t kAssumedVocabulary = 30522;  // BERT's, for a configuration whose vocabulary is built from data
constexpr double kGiga = 1e9, kMega = 1 << 20;

void print(const train::RunConfig& config, const models::Model& model, const losses::Criterion& criterion) {
  const std::int64_t tokens = config.data.tokenizer.max_tokens;
  const models::ModelInfo info = models::describe(model, tokens);
  absl::PrintF("image size %d, %d visual tokens, embed dim %d, texts of up to %d tokens\n\nparameters\n", info.image_size, info.visual_tokens, info.embed_dim, tokens);
  std::int64_t total = info.total_parameters;
  for (const auto& [name, count] : info.parameters) absl::PrintF("  %-24s %12d\n", name, count);
  for (const std::string& name : criterion.names()) {
    const losses::LossTermPtr term = criterion.find(name);
    std::int64_t count = 0;
    for (const auto& parameter : term->parameters()) count += parameter.numel();
    total += count;
    absl::PrintF("  losses.%-17s %12d\n", name, count);
    const auto* owner = dynamic_cast<const losses::QueueOwner*>(term.get());
    if (owner != nullptr && owner->queue_rows() > 0) absl::PrintF("    %-22s %12d rows\n", "queue", owner->queue_rows());
  }
  absl::PrintF("  %-24s %12d\n\ncompute of one forward pass\n", "total", total);
  absl::PrintF("  an image                 %12.4f GFLOP\n  a text                   %12.4f GFLOP\n  a fused pair             %12.4f GFLOP\n", info.flops_per_image / kGiga, info.flops_per_text / kGiga,
               info.flops_per_pair / kGiga);
  const MemoryEstimate memory = estimate_memory(config, model, criterion);
  absl::PrintF("\nexpected memory in training\n  %-24s %12.1f MiB  weights, gradients, optimizer\n", "state", memory.state / kMega);
  absl::PrintF("  %-24s %12.1f MiB  of %d images and up to %d texts; an estimate (docs/guide.md)\n", "activations", memory.activations / kMega, memory.images, memory.texts);
  absl::PrintF("  %-24s %12.1f MiB\n", "together", (memory.state + memory.activations) / kMega);
}

/// A run's folder or one of its checkpoints; other folders are somebody else's weights.
bool holds_run(const std::filesystem::path& path) { return std::filesystem::exists(path / "manifest.json") || std::filesystem::exists(path / "checkpoints"); }

bool is_configuration(const std::filesystem::path& path) { return path.extension() == ".yaml" || path.extension() == ".yml"; }

absl::StatusOr<ExitCode> info(const std::string& path) {
  if (holds_run(path)) {
    FGVL_ASSIGN_OR_RETURN(const train::LoadedRun run, train::load_run(path, registries()));
    absl::PrintF("checkpoint %s, step %d, %d words\n", run.checkpoint, run.step, run.texts->tokenizer().size());
    print(run.config, *run.model, *run.criterion);
    return ExitCode::kOk;
  }
  if (!is_configuration(path)) return checkpoint_info(path);
  FGVL_ASSIGN_OR_RETURN(const train::RunConfig config, read_config(path, {}));
  const models::ModelPtr model = models::make_model(config.model, {.vocab_size = kAssumedVocabulary, .token_id = [](const std::string&) { return 0; }}, 0);  // which tokens there are does not matter here
  absl::PrintF("configuration %s; the vocabulary is taken as %d words\n", path, kAssumedVocabulary);
  print(config, *model, *losses::make_criterion(config.losses, model->spec(), data::stream_names(config.data)));
  return ExitCode::kOk;
}

}  // namespace

void add_info(CLI::App& app, Command& chosen) {
  auto path = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("info", "Parameters by module, compute and memory; of a checkpoint of any kind, what it is");
  command->add_option("PATH", *path, "Folder of a checkpoint or run, a file or folder of weights (PyTorch, safetensors, Hugging Face), or a configuration (.yaml)")->required();
  command->callback([path, &chosen] { chosen = [path] { return info(*path); }; });
}

void add_config_reference(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("config-reference", "Print the configuration reference as Markdown");
  command->callback([&chosen] {
    chosen = []() -> absl::StatusOr<ExitCode> {
      train::RunConfig config(registries());
      absl::PrintF("# Configuration\n\nEvery key of a configuration file, made from the program itself by `fgvl config-reference`. Options of a `type` follow in their own tables.\n\n%s",
                   config::to_markdown([&](config::Visitor& visitor) { visit_fields(visitor, config); }));
      const auto tables = [](const char* section, const auto& registry) {
        for (const std::string& name : registry.names()) {
          auto options = registry.options(name);
          absl::PrintF("\n## %s, type `%s`\n\n%s", section, name, config::to_markdown([&](config::Visitor& visitor) { options->visit(visitor); }));
        }
      };
      tables("losses", *config.registries.terms);
      tables("model.vision", *models::builtin_vision_encoders());
      tables("model.text", *models::builtin_text_encoders());
      tables("model.fusion", *models::builtin_fusion_encoders());
      tables("data.dataset", *config.registries.datasets);
      tables("data.tokenizer", *data::builtin_tokenizers());
      tables("probes", *config.registries.probes);
      return ExitCode::kOk;
    };
  });
}

}  // namespace fgvl::app
