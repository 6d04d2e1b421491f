#include "integration/program.hpp"

#include <array>
#include <fstream>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/files.hpp"
#include "support/catch.hpp"

namespace fgvl::test {
namespace {

constexpr char kConfig[] = R"(
device: cpu
threads: 1
model:
  embed_dim: 8
  vision: {type: vit, options: {image_size: 32, patch_size: 8, width: 16, layers: 1, heads: 2, mlp_ratio: 2}}
  text: {type: bert, options: {width: 16, layers: 1, heads: 2, mlp_width: 32, max_tokens: 40, dropout: 0}}
  fusion: {type: bert, options: {layers: 1, heads: 2, mlp_width: 32, dropout: 0}}
losses:
  itc: {type: contrastive}
  itm: {type: matching}
  box: {type: box_regression}
data:
  root: pictures
  dataset: {type: voc, options: {held_out_every: 4}}
  image: {size: 32}
  batch_size: 4
  max_skipped_fraction: 0.2
  streams: {all: {captions_per_image: 0}}
train: {steps: 6, log_every: 1, checkpoint_every: 3}
probes: {boxes: {type: boxes}, regions: {type: regions, options: {window_pixels: 16}}}
)";

}  // namespace

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

Process::Process(const fs::path& folder, const Arguments& arguments, const Surroundings& surroundings) : output(folder / "output.txt") {
  if (surroundings.terminal) {
    terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE((terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0));
  }
  pid = fork();
  if (pid != 0) return;
  if (chdir(folder.c_str()) != 0) _exit(99);
  if (!surroundings.fault.empty()) setenv("FGVL_FAULT", surroundings.fault.c_str(), 1);
  if (surroundings.memory_bytes > 0) {
    const rlimit limit{surroundings.memory_bytes, surroundings.memory_bytes};
    setrlimit(RLIMIT_AS, &limit);
  }
  const int file = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  dup2(file, 1);
  dup2(terminal >= 0 ? open(ptsname(terminal), O_RDWR | O_NOCTTY) : file, 2);
  std::vector<char*> argv = {const_cast<char*>(FGVL_PROGRAM)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(FGVL_PROGRAM, argv.data());
  _exit(98);
}

int Process::wait() const {
  int status = 0;
  if (terminal >= 0) {
    // A terminal's other end reads until nobody holds it open any more.
    std::ofstream copy(output, std::ios::binary | std::ios::app);
    std::array<char, 4096> buffer{};
    for (ssize_t count = 0; (count = ::read(terminal, buffer.data(), buffer.size())) > 0;) copy.write(buffer.data(), count);
    close(terminal);
  }
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

Outcome fgvl(const fs::path& folder, const Arguments& arguments, const Surroundings& surroundings) {
  const Process process(folder, arguments, surroundings);
  const int code = process.wait();
  return {code, read(process.output)};
}

fs::path project(const std::string& name) {
  const fs::path folder = fresh_folder("cli_" + name);
  write(folder / "config.yaml", kConfig);
  for (int i = 0; i < 16; ++i) {
    const std::string stem = "p" + std::to_string(10 + i);
    write(folder / "pictures" / "JPEGImages" / (stem + ".png"), data::to_png(plain_image(40, 40, static_cast<std::uint8_t>(10 * i))));
    write(folder / "pictures" / "Annotations" / (stem + ".xml"),
                "<annotation><filename>" + stem + ".png</filename><object><name>" + (i % 2 == 0 ? "cat" : "dog") +
                    "</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>" + std::to_string(15 + i) + "</xmax><ymax>20</ymax></bndbox></object></annotation>");
  }
  return folder;
}

}  // namespace fgvl::test
