#include <fstream>

#include <pugixml.hpp>

#include "data/files.hpp"
#include "fgvl/eval/report.hpp"
#include "support/catch.hpp"

namespace fgvl::eval {
namespace {

TEST_CASE("a report is one well-formed file without network, and says what it was given", "[report]") {
  const auto folder = test::fresh_folder("report");
  test::write(folder / "metrics.jsonl", "{\"step\":1,\"losses\":{\"itc\":2.5,\"total\":2.5}}\n{\"step\":2,\"losses\":{\"itc\":1.5,\"total\":1.5}}\n{\"step\":2,\"probe\":{\"skills\":{\"shape\":{\"accuracy\":0.75,\"n\":200}}}}\n");
  const History history = read_history((folder / "metrics.jsonl").string()).value();
  REQUIRE(history.losses.size() == 2);
  CHECK(history.losses[0].points.back() == std::pair<double, double>{2, 1.5});
  REQUIRE(history.probes.size() == 1);  // counts are no curves
  ReportContent content{.title = "A <title> & more", .introduction = "Intro."};
  content.arms = {{"captions", "only \"captions\"", history, {{"skills/shape/accuracy", 0.5}, {"skills/shape/n", std::int64_t{200}}}, 10, 20, {{"unreadable_image", 3}}, 100, 3, 250},
                  {"regions", "", history, {{"skills/shape/accuracy", 0.75}, {"skills/shape/shuffled_accuracy", 0.49}, {"skills/shape/n", std::int64_t{200}}, {"box_mean_iou", 0.625}}, 10, 20, {}}};
  content.pictures = {{test::plain_image(8, 8, 100), {{"text", "a red circle"}}}};
  content.settings = {{"regions", "seed: 1\n"}};
  const std::string html = render_report(content);
  pugi::xml_document document;
  const auto parsed = document.load_string(html.c_str());
  INFO(parsed.description() << " near " << html.substr(static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, parsed.offset - 40)), 120));
  CHECK(parsed);
  for (const char* forbidden : {"http://", "https://", "<script", "src=\"/", "<link"}) CHECK(html.find(forbidden) == std::string::npos);
  for (const char* expected : {"A &lt;title&gt; &amp; more", "75.0", "shuffled 49.0", "0.625", "3 × unreadable_image", "97 of 100 records were used, with 250 regions looked at", "counts once a stream", "a red circle", "seed: 1", "data:image/png;base64,"}) {
    INFO(expected);
    CHECK(html.find(expected) != std::string::npos);
  }
  test::write(folder / "bad.jsonl", "nonsense\n");
  CHECK_THAT(std::string(read_history((folder / "bad.jsonl").string()).status().message()), Catch::Contains("bad.jsonl:1"));
}

}  // namespace
}  // namespace fgvl::eval
