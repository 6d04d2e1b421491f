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
  for (const char* absent : {"Who moves the weights", "from step"}) CHECK(html.find(absent) == std::string::npos);
  test::write(folder / "bad.jsonl", "nonsense\n");
  CHECK_THAT(std::string(read_history((folder / "bad.jsonl").string()).status().message()), Catch::Contains("bad.jsonl:1"));
}

TEST_CASE("a report of a run with stages marks where each begins, and shows what moves the weights", "[report]") {
  const auto folder = test::fresh_folder("report_stages");
  test::write(folder / "metrics.jsonl",
              "{\"step\":0,\"stage\":\"captions\"}\n{\"step\":1,\"losses\":{\"itc\":2.5}}\n{\"step\":2,\"losses\":{\"itc\":1.5}}\n{\"step\":2,\"gradient_shares\":{\"itc\":0.75,\"mlm\":null},\"gradient_norms\":{\"itc\":3}}\n"
              "{\"step\":2,\"stage\":\"regions <2>\"}\n{\"step\":4,\"losses\":{\"itc\":1.0}}\n");
  const History history = read_history((folder / "metrics.jsonl").string()).value();
  CHECK(history.stages == std::vector<std::pair<double, std::string>>{{0, "captions"}, {2, "regions <2>"}});
  REQUIRE(history.shares.size() == 1);
  CHECK(history.shares[0].points == std::vector<std::pair<double, double>>{{2, 0.75}});
  ReportContent content{.title = "staged", .introduction = ""};
  content.arms = {{"staged", "", history, {}, 10, 20, {}}};
  const std::string html = render_report(content);
  CHECK(pugi::xml_document().load_string(html.c_str()));
  CHECK_THAT(html, Catch::Contains("<title>regions &lt;2&gt;, from step 2 on</title>") && Catch::Contains("Who moves the weights"));
  CHECK(html.find("captions, from step 0") == std::string::npos);  // the whole chart is after it
}

}  // namespace
}  // namespace fgvl::eval
