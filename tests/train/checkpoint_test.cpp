#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "fgvl/core/files.hpp"
#include "fgvl/core/safetensors.hpp"
#include "fgvl/models/interpolate.hpp"
#include "fgvl/train/checkpoint.hpp"
#include "fgvl/train/trainer.hpp"
#include "support/catch.hpp"
#include "train/checkpoint_files.hpp"
#include "train/event_file.hpp"
#include "train/tiny_run.hpp"

namespace fgvl::train {
namespace {

namespace fs = std::filesystem;

/// Trains a few steps into a fresh folder.
std::string trained(const std::string& name, const std::vector<std::string>& overrides = {"train.steps=8"}) {
  const std::string out = test::fresh_run(name);
  auto trainer = Trainer::make(test::tiny_run(overrides), {.out = out});
  INFO(trainer.status().ToString());
  REQUIRE(trainer.ok());
  REQUIRE((*trainer)->run().ok());
  return out;
}

TEST_CASE("the newest valid checkpoint wins, and a damaged one is named", "[checkpoint]") {
  const std::string out = trained("damaged");
  CHECK(find_checkpoint(out).value() == out + "/checkpoints/step_8");
  std::fstream(out + "/checkpoints/step_8/model.safetensors", std::ios::in | std::ios::out | std::ios::binary).seekp(500).put('x');
  std::vector<std::string> notes;
  CHECK(find_checkpoint(out, &notes).value() == out + "/checkpoints/step_4");
  REQUIRE(notes.size() == 1);
  CHECK_THAT(notes[0], Catch::Contains("step_8/model.safetensors") && Catch::Contains("manifest.json"));
  fs::remove_all(out + "/checkpoints/step_4");
  const absl::Status none = find_checkpoint(out).status();
  CHECK(exit_code(none) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(none.message()), Catch::Contains("all of its 1 are damaged"));
}

/// Changes one byte of a checkpoint's weights.
void damage(const std::string& checkpoint) { std::fstream(checkpoint + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary).seekp(500).put('x'); }

TEST_CASE("a run whose checkpoints are all damaged is not started anew: exit code 4, and its log stays", "[checkpoint]") {
  const std::string out = trained("all_damaged");
  for (const char* step : {"step_4", "step_8"}) damage(out + "/checkpoints/" + step);
  const std::string log = read_file(out + "/metrics.jsonl").value();
  const auto resumed = Trainer::make(test::tiny_run(), {.out = out, .resume = true});
  CHECK(exit_code(resumed.status()) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(resumed.status().message()), Catch::Contains("damaged"));
  CHECK(read_file(out + "/metrics.jsonl").value() == log);
  // Without any checkpoint there is nothing to lose.
  fs::remove_all(out + "/checkpoints");
  CHECK(Trainer::make(test::tiny_run(), {.out = out, .resume = true}).ok());
}

TEST_CASE("a resumed run drops damaged checkpoints of later steps, and never the one it just wrote", "[checkpoint]") {
  const std::string out = trained("later_damaged");
  damage(out + "/checkpoints/step_8");
  const auto keep_one = test::tiny_run({"train.steps=6", "train.keep_checkpoints=1"});
  {
    auto trainer = Trainer::make(keep_one, {.out = out, .resume = true});
    REQUIRE(trainer.ok());
    CHECK_FALSE(fs::exists(out + "/checkpoints/step_8"));
    // One that appears while the run goes on, too.
    fs::create_directories(out + "/checkpoints/step_100");
    REQUIRE((*trainer)->run().ok());
  }
  CHECK(find_checkpoint(out).value() == out + "/checkpoints/step_6");
}

TEST_CASE("resuming with another vocabulary or another number of records is refused with exit code 4", "[checkpoint]") {
  const std::string out = trained("vocabulary"), words = test::fresh_path("words.txt").string();
  const std::string text = read_file(out + "/checkpoints/step_8/vocab.txt").value();
  const auto resumed = [&] { return Trainer::make(test::tiny_run({"data.tokenizer.vocabulary=" + words}), {.out = out, .resume = true}).status(); };
  std::ofstream(words) << text;
  CHECK(resumed().ok());
  // The same words in another order: no shape would tell.
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  const std::string last = lines.back(), before = lines[lines.size() - 2];
  std::swap(lines.back(), lines[lines.size() - 2]);
  std::ofstream changed(words);
  for (const std::string& line : lines) changed << line << "\n";
  changed.close();
  CHECK(exit_code(resumed()) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(resumed().message()), Catch::Contains("the vocabulary has changed") && Catch::Contains("was \"" + before + "\" and is \"" + last + "\""));
  const absl::Status grown = Trainer::make(test::tiny_run({"data.dataset.options.scenes=50"}), {.out = out, .resume = true}).status();
  CHECK(exit_code(grown) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(grown.message()), Catch::Contains("had 40 records") && Catch::Contains("has 50"));
}

TEST_CASE("a finished run that is resumed measures the end once more and writes it once; fewer steps than it has are refused with exit code 2", "[checkpoint]") {
  const std::string out = trained("finished");
  const auto lines = [&](const char* what) {
    const std::string text = read_file(out + "/metrics.jsonl").value();
    std::int64_t count = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
    return count;
  };
  const std::string before = read_file(out + "/metrics.jsonl").value();
  auto trainer = Trainer::make(test::tiny_run({"train.steps=8"}), {.out = out, .resume = true});
  REQUIRE(trainer.ok());
  const auto result = (*trainer)->run();
  REQUIRE(result.ok());
  CHECK_FALSE(result->interrupted);
  CHECK(metric(result->metrics, "norm", -1) > 0);
  CHECK(read_file(out + "/metrics.jsonl").value() == before);
  CHECK(lines("\"probe\"") == 2);  // step 5 and the end
  const absl::Status fewer = Trainer::make(test::tiny_run({"train.steps=7"}), {.out = out, .resume = true}).status();
  CHECK(exit_code(fewer) == ExitCode::kUsage);
  CHECK_THAT(std::string(fewer.message()), Catch::Contains("train.steps is 7") && Catch::Contains("stands at step 8"));
}

TEST_CASE("a manifest or state of wrong JSON types is an error of the checkpoint, not the end of the program", "[checkpoint]") {
  const std::string out = trained("types"), last = out + "/checkpoints/step_8";
  const std::string manifest = read_file(last + "/manifest.json").value();
  for (const char* text : {"[]", "{\"format\": \"one\", \"step\": 8, \"files\": {}}", "{\"format\": 1, \"step\": 8, \"files\": {\"vocab.txt\": 3}}", "{\"format\": 2, \"step\": 8, \"files\": {}}", "nonsense"}) {
    INFO(text);
    std::ofstream(last + "/manifest.json") << text;
    const absl::Status status = verify_checkpoint(last);
    CHECK(exit_code(status) == ExitCode::kCheckpoint);
    CHECK_THAT(std::string(status.message()), Catch::Contains("step_8/manifest.json"));
  }
  // A state that the manifest vouches for, but that this build did not write.
  const std::string state = "{\"step\": \"eight\", \"loader\": {}}";
  std::ofstream(last + "/state.json") << state;
  auto changed = nlohmann::json::parse(manifest);
  changed["files"]["state.json"] = {{"size", state.size()}, {"xxh64", hash_bytes(state)}};
  std::ofstream(last + "/manifest.json") << changed.dump();
  const absl::Status status = Trainer::make(test::tiny_run(), {.out = out, .resume = true}).status();
  CHECK(exit_code(status) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(status.message()), Catch::Contains("not a trainer's state"));
}

TEST_CASE("a full disk under any file of a run ends it with exit code 4 and names the file", "[checkpoint]") {
  for (const char* file : {"metrics.jsonl", "events.out", "config.yaml"}) {
    const std::string out = test::fresh_run("full_disk");
    setenv("FGVL_FAULT", (std::string("enospc:") + file).c_str(), 1);
    auto trainer = Trainer::make(test::tiny_run({"train.steps=2"}), {.out = out});
    const absl::Status status = trainer.ok() ? (*trainer)->run().status() : trainer.status();
    unsetenv("FGVL_FAULT");
    INFO(file << ": " << status.ToString());
    CHECK(exit_code(status) == ExitCode::kCheckpoint);
    CHECK_THAT(std::string(status.message()), Catch::Contains(file) && Catch::Contains("No space left on device") && Catch::Contains("free some space"));
  }
}

TEST_CASE("a stop during the last probes leaves the run saved and resumable", "[checkpoint]") {
  const std::string out = test::fresh_run("stop_at_end");
  std::atomic<bool> stop{false};
  class Stopper final : public Progress {
   public:
    explicit Stopper(std::atomic<bool>& stop) : stop_(stop) {}
    void on_step(const Step& step) override { stop_ = step.step == step.steps; }

   private:
    std::atomic<bool>& stop_;
  } stopper(stop);
  auto trainer = Trainer::make(test::tiny_run({"train.steps=4"}), {.out = out, .stop = &stop, .progress = &stopper});
  REQUIRE(trainer.ok());
  const auto result = (*trainer)->run();
  REQUIRE(result.ok());
  CHECK(result->interrupted);
  CHECK(find_checkpoint(out).value() == out + "/checkpoints/step_4");
  auto resumed = Trainer::make(test::tiny_run({"train.steps=4"}), {.out = out, .resume = true});
  REQUIRE(resumed.ok());
  CHECK_FALSE((*resumed)->run().value().interrupted);
}

TEST_CASE("a loaded run scores as the trained one, and another model's checkpoint is refused", "[checkpoint]") {
  const std::string out = trained("loaded");
  const auto loaded = load_run(out + "/checkpoints/step_8/", test::tiny_registries());  // a slash at the end changes nothing
  INFO(loaded.status().ToString());
  REQUIRE(loaded.ok());
  CHECK(loaded->step == 8);
  CHECK(loaded->texts->tokenizer().size() > 20);
  const auto other = load_run(out, test::tiny_registries(), {"model.text.options.layers=2"});
  CHECK(exit_code(other.status()) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(other.status().message()), Catch::Contains("another model"));
}

TEST_CASE("init_from starts from the weights of another run, strictly, and saves the table", "[checkpoint]") {
  const std::string source = trained("init_source"), weights = source + "/checkpoints/step_8/model.safetensors";
  const NamedTensors expected = read_safetensors(weights).value();
  for (const std::string& from : {source, weights}) {
    const std::string out = test::fresh_run("init_target");
    auto trainer = Trainer::make(test::tiny_run({"seed=77", "init_from=" + from}), {.out = out});
    INFO(trainer.status().ToString());
    REQUIRE(trainer.ok());
    const NamedTensors own = checkpoint_weights((*trainer)->model(), (*trainer)->criterion());
    const std::map<std::string, Tensor> found(own.begin(), own.end());
    REQUIRE(found.size() == expected.size());
    for (const auto& [name, tensor] : expected) CHECK(at::equal(found.at(name), tensor));
    CHECK_THAT(read_file(out + "/init_from.txt").value(), Catch::Contains("safetensors, names of X-VLM") && Catch::Contains("loaded"));
  }
}

TEST_CASE("init_from starts a model of another image size: position tables are interpolated and the table says so", "[checkpoint]") {
  const std::vector<std::string> deit = {"model.vision={type: deit, options: {image_size: 32, patch_size: 8, width: 16, layers: 1, heads: 2, local_attn_depth: 1}}", "train.steps=2"};
  const std::string source = trained("init_small", deit), out = test::fresh_run("init_larger");
  std::vector<std::string> larger = deit;
  larger.insert(larger.end(), {"model.vision.options.image_size=48", "data.image.size=48", "init_from=" + source});
  auto trainer = Trainer::make(test::tiny_run(larger), {.out = out});
  INFO(trainer.status().ToString());
  REQUIRE(trainer.ok());
  const NamedTensors before = read_safetensors(find_checkpoint(source).value() + "/model.safetensors").value();
  const auto stored = std::find_if(before.begin(), before.end(), [](const auto& entry) { return entry.first == "vision_encoder.pos_embed"; });
  REQUIRE(stored != before.end());
  for (const auto& [name, tensor] : run_weights((*trainer)->model(), (*trainer)->criterion())) {
    if (name == "model." + stored->first) CHECK(at::equal(tensor, models::interpolate_position_embedding(stored->second, 6)));
  }
  CHECK_THAT(read_file(out + "/init_from.txt").value(), Catch::Contains("reshaped") && Catch::Contains("[1, 17, 16] in the checkpoint, [1, 37, 16] in the model"));
}

TEST_CASE("init_from at another image size keeps the model's own table of sine and cosine, which does not train", "[checkpoint]") {
  const std::string vit = "model.vision.options.position=sincos";
  const std::string source = trained("init_sincos", {vit, "train.steps=2"});
  const std::vector<std::string> larger = {vit, "model.vision.options.image_size=48", "data.image.size=48"};
  const auto table = [](Trainer& trainer) {
    for (const auto& buffer : trainer.model().named_buffers()) {
      if (buffer.key() == "vision_encoder.pos_embed") return buffer.value().clone();
    }
    FAIL("no table");
    return Tensor();
  };
  std::vector<std::string> from = larger;
  from.push_back("init_from=" + source);
  auto fresh = Trainer::make(test::tiny_run(larger), {.out = test::fresh_run("init_sincos_fresh")});
  auto started = Trainer::make(test::tiny_run(from), {.out = test::fresh_run("init_sincos_larger")});
  INFO(started.status().ToString());
  REQUIRE((fresh.ok() && started.ok()));
  CHECK(at::equal(table(**fresh), table(**started)));
}

TEST_CASE("init_from refuses weights that do not fit with exit code 4 before a folder is made, and globs allow the difference", "[checkpoint]") {
  const std::string source = trained("init_misfit"), out = test::fresh_run("init_refused");
  const auto refused = [&](const std::vector<std::string>& overrides) {
    auto trainer = Trainer::make(test::tiny_run(overrides), {.out = out});
    CHECK(exit_code(trainer.status()) == ExitCode::kCheckpoint);
    CHECK_FALSE(fs::exists(out));
    return std::string(trainer.status().message());
  };
  CHECK_THAT(refused({"init_from=" + source, "model.text.options.layers=2"}), Catch::Contains("MISSING") && Catch::Contains("model.text_encoder.layer.1.") && Catch::Contains("init_allow_missing"));
  CHECK_THAT(refused({"init_from=" + source, "losses.mlm=null"}), Catch::Contains("UNEXPECTED") && Catch::Contains("text_encoder.cls.predictions.bias"));
  CHECK_THAT(refused({"init_from=" + source, "model.embed_dim=4"}), Catch::Contains("UNFIT") && Catch::Contains("[8, 16] in the checkpoint, [4, 16] in the model"));
  CHECK_THAT(refused({"init_from=/absent.th"}), Catch::Contains("/absent.th: cannot open"));
  auto trainer = Trainer::make(test::tiny_run({"init_from=" + source, "model.text.options.layers=2", "losses.mlm=null", "init_allow_missing=[model.text_encoder.layer.1.*]", "init_allow_unexpected=[losses.mlm.*]"}), {.out = out});
  INFO(trainer.status().ToString());
  REQUIRE(trainer.ok());
  CHECK_THAT(read_file(out + "/init_from.txt").value(), Catch::Contains("missing, allowed") && Catch::Contains("unexpected, allowed"));
}

TEST_CASE("a run that is loaded without one of its losses is refused: its weights would be left out silently", "[checkpoint]") {
  const auto loaded = load_run(trained("surplus"), test::tiny_registries(), {"losses.mlm=null"});
  CHECK(exit_code(loaded.status()) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(loaded.status().message()), Catch::Contains("UNEXPECTED") && Catch::Contains("text_encoder.cls.predictions.bias"));
}

TEST_CASE("a checkpoint holds its weights under the official names, and what they do not know or would share under ours", "[checkpoint]") {
  const std::string folder = find_checkpoint(trained("names", {"train.steps=2", "losses.second={type: matching, options: {temperature: itc}}"})).value();
  const NamedTensors saved = read_safetensors(folder + "/model.safetensors").value();
  const std::map<std::string, Tensor> found(saved.begin(), saved.end());
  for (const char* name : {"vision_proj.weight", "text_encoder.bert.embeddings.word_embeddings.weight", "text_encoder.bert.encoder.layer.0.attention.self.query.weight",
                           "text_encoder.bert.encoder.layer.1.crossattention.self.query.weight", "text_encoder.cls.predictions.bias", "temp", "losses.itm.itm_head.0.weight", "losses.second.itm_head.0.weight"}) {
    INFO(name);
    CHECK(found.count(name) == 1);
  }
  CHECK(load_run(folder, test::tiny_registries()).ok());
}

TEST_CASE("a run into a folder that exists is refused without resume; on a full disk it ends with exit code 4 and keeps the last checkpoint", "[checkpoint]") {
  const std::string out = trained("again");
  const auto again = Trainer::make(test::tiny_run(), {.out = out});
  CHECK(exit_code(again.status()) == ExitCode::kUsage);
  CHECK_THAT(std::string(again.status().message()), Catch::Contains("--resume latest"));
  auto more = Trainer::make(test::tiny_run({"train.steps=12"}), {.out = out, .resume = true});
  REQUIRE(more.ok());
  setenv("FGVL_FAULT", "enospc:step_12", 1);
  const auto result = (*more)->run();
  unsetenv("FGVL_FAULT");
  CHECK(exit_code(result.status()) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(result.status().message()), Catch::Contains("No space left on device"));
  CHECK(find_checkpoint(out).value() == out + "/checkpoints/step_8");
  for (const auto& entry : fs::directory_iterator(out + "/checkpoints")) CHECK(entry.path().extension() != ".tmp");
}

TEST_CASE("wrong configurations stop before a folder is made", "[checkpoint]") {
  for (const auto& [override, part] : std::vector<std::pair<std::string, std::string>>{{"losses.itm.options.temperature=nothing", "nothing"},
                                                                                       {"data.image.size=64", "must be equal"},
                                                                                       {"data.tokenizer.max_tokens=41", "more than model.text.options.max_tokens = 40"},
                                                                                       {"model.fusion.options.heads=3", "expected a divisor of the text width"},
                                                                                       {"device=cuda:7", "cuda:7"}}) {
    const std::string out = test::fresh_run("wrong");
    auto trainer = Trainer::make(test::tiny_run({override}), {.out = out});
    std::string message = std::string(trainer.status().message());
    INFO(override << ": " << message);
    CHECK_FALSE(trainer.ok());
    CHECK_THAT(message, Catch::Contains(part));
    CHECK_FALSE(fs::exists(out));
  }
}

TEST_CASE("a loss that stays not finite stops the run with exit code 5", "[checkpoint]") {
  auto trainer = Trainer::make(test::tiny_run({"train.optimizer.lr=1.0e+30", "train.clip_norm=0", "train.max_non_finite=3"}), {.out = test::fresh_run("nan")});
  REQUIRE(trainer.ok());
  const auto result = (*trainer)->run();
  CHECK(exit_code(result.status()) == ExitCode::kNumerical);
  CHECK_THAT(std::string(result.status().message()), Catch::Contains("3 steps in a row"));
}

TEST_CASE("crc32c equals the check value of RFC 3720", "[checkpoint]") {
  CHECK(crc32c("123456789") == 0xE3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
}

TEST_CASE("a run on all of its data says that its probes score what it trains on, and another does not", "[checkpoint]") {
  struct Messages final : Progress {
    std::string all;
    void on_message(const std::string& message) override { all += message + "\n"; }
  };
  for (const bool all : {false, true}) {
    Messages messages;
    auto trainer = Trainer::make(test::tiny_run({all ? "data.split=all" : "data.split=train"}), {.out = test::fresh_run("split"), .progress = &messages});
    INFO(trainer.status().ToString());
    REQUIRE(trainer.ok());
    CHECK((messages.all.find("data.split is all") != std::string::npos) == all);
  }
}

TEST_CASE("bf16 trains, near fp32", "[checkpoint]") {
  const auto total = [](const std::string& precision) {
    const std::string out = test::fresh_run("precision_" + precision);
    auto trainer = Trainer::make(test::tiny_run({"train.steps=3", "train.precision=" + precision}), {.out = out});
    REQUIRE(trainer.ok());
    REQUIRE((*trainer)->run().ok());
    const std::string text = read_file(out + "/metrics.jsonl").value();
    const std::size_t at = text.rfind("\"total\":") + 8;
    return std::stod(text.substr(at));
  };
  CHECK(total("bf16") == Approx(total("fp32")).epsilon(0.02));
}

}  // namespace
}  // namespace fgvl::train
