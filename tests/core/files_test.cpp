#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>
#include <stdexcept>

#include <torch/torch.h>

#include "fgvl/core/device.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/core/safetensors.hpp"
#include "support/catch.hpp"
#include "support/folders.hpp"

namespace fgvl {
namespace {

std::string folder() {
  static const std::string path = test::fresh_folder("files").string();
  return path;
}

TEST_CASE("safetensors: what is written reads back, and equal tensors give equal bytes", "[files]") {
  const NamedTensors tensors = {{"b", torch::randn({2, 3})}, {"a", torch::arange(4)}, {"empty", torch::zeros({0, 5})}, {"half", torch::ones({3}, torch::kBFloat16)}, {"flag", torch::tensor({true, false})}};
  const std::string bytes = to_safetensors(tensors, {{"k", "v"}}).value();
  CHECK(bytes == to_safetensors(tensors, {{"k", "v"}}).value());
  const std::string path = folder() + "/round.safetensors";
  REQUIRE(write_file_atomically(path, bytes).ok());
  std::map<std::string, std::string> metadata;
  const NamedTensors read = read_safetensors(path, &metadata).value();
  CHECK(metadata["k"] == "v");
  REQUIRE(read.size() == tensors.size());
  for (std::size_t i = 0; i < read.size(); ++i) {
    CHECK(read[i].first == tensors[i].first);
    CHECK(at::equal(read[i].second, tensors[i].second));
  }
}

TEST_CASE("safetensors: a damaged file is refused, and says how", "[files]") {
  const std::string good = to_safetensors({{"a", torch::zeros({4})}}).value(), path = folder() + "/bad.safetensors";
  const auto refused = [&](const std::string& bytes) {
    REQUIRE(write_file_atomically(path, bytes).ok());
    const auto read = read_safetensors(path);
    REQUIRE_FALSE(read.ok());
    CHECK(exit_code(read.status()) == ExitCode::kCheckpoint);
    return std::string(read.status().message());
  };
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string bytes = good;
    return bytes.replace(bytes.find(from), from.size(), to);
  };
  CHECK_THAT(refused(good.substr(0, good.size() - 4)), Catch::Contains("outside"));
  CHECK_THAT(refused(good + "xxxx"), Catch::Contains("belong to no tensor"));
  CHECK_THAT(refused(changed("F32", "Q99")), Catch::Contains("dtype"));
  CHECK_THAT(refused(changed("[4]", "[9]")), Catch::Contains("needs 36 bytes"));
  CHECK_THAT(refused("short"), Catch::Contains("only 5 bytes"));
  CHECK_THAT(refused(std::string(8, '\xff')), Catch::Contains("header of"));
}

TEST_CASE("write_file_atomically: on a full disk the old content stays and nothing is left beside it", "[files]") {
  const std::string path = folder() + "/atomic.txt";
  REQUIRE(write_file_atomically(path, "old").ok());
  setenv("FGVL_FAULT", "enospc:atomic.txt", 1);
  const absl::Status status = write_file_atomically(path, "new");
  unsetenv("FGVL_FAULT");
  CHECK(absl::IsResourceExhausted(status));
  CHECK_THAT(std::string(status.message()), Catch::Contains("No space left"));
  CHECK(read_file(path).value() == "old");
  for (const auto& entry : std::filesystem::directory_iterator(folder())) CHECK(entry.path().filename().string().find(".tmp-") == std::string::npos);
}

TEST_CASE("append_to_file: adds to the end, and says so when the disk is full", "[files]") {
  const std::string path = folder() + "/log.txt";
  REQUIRE(append_to_file(path, "one\n").ok());
  REQUIRE(append_to_file(path, "two\n").ok());
  CHECK(read_file(path).value() == "one\ntwo\n");
  setenv("FGVL_FAULT", "enospc:log.txt", 1);
  const absl::Status full = append_to_file(path, "three\n");
  unsetenv("FGVL_FAULT");
  CHECK(absl::IsResourceExhausted(full));
  CHECK(read_file(path).value() == "one\ntwo\n");
  CHECK_FALSE(append_to_file(folder() + "/nowhere/log.txt", "one").ok());
}

TEST_CASE("is_out_of_memory: what the CPU allocator throws, and nothing else", "[files]") {
  const auto thrown = [](auto&& work) {
    try {
      work();
    } catch (const std::exception& error) {
      return is_out_of_memory(error);
    }
    return false;
  };
  CHECK(thrown([] { torch::empty({std::int64_t{1} << 50}); }));
  CHECK(thrown([] { throw std::bad_alloc(); }));
  CHECK_FALSE(thrown([] { torch::ones({2}).view({3}); }));
  CHECK_FALSE(thrown([] { throw std::runtime_error("DefaultCPUAllocator: "); }));
}

}  // namespace
}  // namespace fgvl
