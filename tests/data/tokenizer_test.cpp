#include <algorithm>
#include <map>
#include <thread>

#include <unicode/regex.h>

#include "data/files.hpp"
#include "data/tokenizer_gpt2_words.hpp"
#include "data/tokenizer_strings.hpp"
#include "fgvl/core/config.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/data/text_pipeline.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace fgvl::data {
namespace {

using Ids = std::vector<std::int64_t>;
using Tokens = std::vector<std::string>;

const std::filesystem::path kFixtures = std::filesystem::path(FGVL_SOURCE_DIR) / "tests" / "reference" / "tokenizers";

TokenizerPtr small_wordpiece() { return open_tokenizer(WordPieceOptions{}, {.vocabulary = (kFixtures / "wordpiece" / "vocab.txt").string()}).value(); }
TokenizerPtr small_byte_bpe(bool prefix_space = false) {
  return open_tokenizer(ByteBpeOptions{.prefix_space = prefix_space}, {.vocabulary = (kFixtures / "byte_bpe" / "vocab.json").string()}).value();
}
TokenizerPtr small_clip() { return open_tokenizer(ClipBpeOptions{}, {.vocabulary = (kFixtures / "clip_bpe" / "bpe_small_vocab.txt.gz").string()}).value(); }

Tokens bert_words(std::initializer_list<const char*> more) {
  Tokens words = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::vector<std::string> strings_of(const std::string& kind) {
  std::ifstream stream(kFixtures / kind / "strings.jsonl");
  std::vector<std::string> texts;
  std::string line;
  for (std::getline(stream, line); std::getline(stream, line);) texts.push_back(nlohmann::json::parse(line)["text"]);
  REQUIRE(texts.size() > 100);
  return texts;
}

TEST_CASE("tokenizers: the committed strings get the ids of the Python packages", "[tokenizer]") {
  CHECK(compare_strings(kFixtures / "wordpiece" / "strings.jsonl", *small_wordpiece(), true).equal > 130);
  CHECK(compare_strings(kFixtures / "byte_bpe" / "strings.jsonl", *small_byte_bpe(), false).equal > 130);
  CHECK(compare_strings(kFixtures / "byte_bpe" / "strings.jsonl", *small_byte_bpe(true), false, "ids_with_prefix_space").equal > 130);
  CHECK(compare_strings(kFixtures / "clip_bpe" / "strings.jsonl", *small_clip(), false).equal > 130);
}

TEST_CASE("wordpiece: words are cut into the longest known pieces, or unknown as a whole", "[tokenizer]") {
  const TokenizerPtr tokenizer = make_tokenizer(WordPieceOptions{}, bert_words({"un", "##know", "##n", "##knowable", "knowable", ".", "a", "##a"})).value();
  CHECK(tokenizer->tokens("Unknowable. UNKNOWN unknowing") == Tokens{"un", "##knowable", ".", "un", "##know", "##n", "[UNK]"});
  CHECK(tokenizer->tokens("") == Tokens{});
  CHECK(tokenizer->tokens(std::string(100, 'a')).size() == 100);
  CHECK(tokenizer->tokens(std::string(101, 'a')) == Tokens{"[UNK]"});
  CHECK(tokenizer->tokens("a[MASK]a [mask]") == Tokens{"a", "[MASK]", "a", "[UNK]", "[UNK]", "[UNK]"});
}

TEST_CASE("wordpiece: case, accents and control characters do not matter, CJK characters are words", "[tokenizer]") {
  const TokenizerPtr tokenizer = make_tokenizer(WordPieceOptions{}, bert_words({"cafe", "中", "文", "σας", "σασ"})).value();
  CHECK(tokenizer->tokens("CAFÉ cafe\u0301 c\u200Da\u0001fé") == Tokens{"cafe", "cafe", "cafe"});
  CHECK(tokenizer->tokens("中文café") == Tokens{"中", "文", "cafe"});
  // The reference lower-cases before it knows words: no final sigma.
  CHECK(tokenizer->tokens("ΣΑΣ") == Tokens{"σασ"});
  CHECK(tokenizer->tokens("caf\xC3 \xFF") == Tokens{"[UNK]"});
}

TEST_CASE("wordpiece: a vocabulary that cannot work is refused by name", "[tokenizer]") {
  const auto message = [](Tokens words) { return std::string(make_tokenizer(WordPieceOptions{}, std::move(words)).status().message()); };
  CHECK_THAT(message({"[PAD]", "[UNK]", "[CLS]", "[SEP]"}), Catch::Contains("[MASK] is missing"));
  CHECK_THAT(message(bert_words({"a", "a"})), Catch::Contains("line 7: \"a\" is there twice"));
  CHECK_THAT(message({"a", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}), Catch::Contains("first token must be [PAD]"));
  CHECK_THAT(std::string(open_tokenizer(WordPieceOptions{}, {.vocabulary = "/nowhere/vocab.txt"}).status().message()), Catch::Contains("/nowhere/vocab.txt"));
  CHECK_THAT(std::string(open_tokenizer(WordPieceOptions{}, {.vocabulary = "v", .merges = "m"}).status().message()), Catch::Contains("merges"));
}

TEST_CASE("wordpiece: position tokens replace the unused lines, or come last", "[tokenizer]") {
  Tokens with_unused = bert_words({"dog", "@", "#", "[", "]", "_", "pos", "3", "##3"});
  const std::size_t first = with_unused.size();
  for (int i = 200; i < 714; ++i) with_unused.push_back("[unused" + std::to_string(i) + "]");
  with_unused.push_back("cat");
  const WordPieceOptions options{.position_tokens = true};
  const TokenizerPtr replaced = make_tokenizer(options, with_unused).value();
  CHECK(replaced->size() == static_cast<std::int64_t>(with_unused.size()));
  CHECK(replaced->ids("dog @@ [pos_0] [pos_511] ## cat")[2] == static_cast<std::int64_t>(first + 1));
  CHECK(replaced->tokens("dog @@ [pos_3] ## cat") == Tokens{"dog", "@@", "[pos_3]", "##", "cat"});
  // Only as words of their own, and only with the option.
  CHECK(replaced->tokens("dog@@ [pos_3]3") == Tokens{"dog", "@", "@", "[", "pos", "_", "3", "]", "3"});
  CHECK(make_tokenizer(WordPieceOptions{}, with_unused).value()->tokens("@@") == Tokens{"@", "@"});

  const TokenizerPtr appended = make_tokenizer(options, bert_words({"dog"})).value();
  CHECK(appended->size() == 6 + 514);
  CHECK(appended->ids("dog @@ [pos_511] ##") == Ids{5, 6, 6 + 512, 6 + 513});
  // A vocabulary that was written with them is read again as it is.
  CHECK(make_tokenizer(options, appended->vocabulary()).value()->vocabulary() == appended->vocabulary());
  CHECK_THAT(std::string(make_tokenizer(options, bert_words({"@@"})).status().message()), Catch::Contains("1 of the 514 position tokens"));
}

TEST_CASE("tokenizers: whole words are told from the tokens", "[tokenizer]") {
  const auto words = [](const Tokenizer& tokenizer, const std::string& text) {
    Ids ids = tokenizer.ids(text);
    ids.insert(ids.begin(), tokenizer.cls_id());
    std::int64_t count = 0;
    for (std::size_t i = 1; i < ids.size(); ++i) count += tokenizer.continues_word(ids[i - 1], ids[i]) ? 0 : 1;
    return count;
  };
  const std::string text = "unrecognisable skateboarders zqxj";
  CHECK(small_byte_bpe()->ids(text).size() > 5);
  CHECK(words(*small_byte_bpe(), text) == 3);
  CHECK(words(*small_byte_bpe(true), text) == 3);
  CHECK(small_clip()->ids(text).size() > 5);
  CHECK(words(*small_clip(), text) == 3);
  const TokenizerPtr wordpiece = make_tokenizer(WordPieceOptions{}, bert_words({"a", "##a", "##b"})).value();
  CHECK(words(*wordpiece, "aab a") == 2);
}

TEST_CASE("byte_bpe: every text comes back from its ids, byte for byte", "[tokenizer]") {
  const TokenizerPtr tokenizer = small_byte_bpe();
  std::int64_t compared = 0;
  for (const std::string& text : strings_of("byte_bpe")) {
    const Ids ids = tokenizer->ids(text);
    if (std::any_of(ids.begin(), ids.end(), [](std::int64_t id) { return id < 5; })) continue;  // special tokens are left out
    CHECK(tokenizer->decode(ids) == text);
    ++compared;
  }
  CHECK(compared > 50);
  CHECK(tokenizer->decode({tokenizer->cls_id(), tokenizer->ids("dog")[0], tokenizer->sep_id()}) == tokenizer->decode({tokenizer->ids("dog")[0]}));
}

TEST_CASE("tokenizers: decode gives words with single spaces", "[tokenizer]") {
  CHECK(small_wordpiece()->decode(small_wordpiece()->ids("[CLS] A Dog,  standing [SEP]")) == "a dog , standing");
  CHECK(small_clip()->decode(small_clip()->ids("<start_of_text>A  Dog, café<end_of_text>")) == "a dog , café");
}

TEST_CASE("byte_bpe: words are cut as GPT-2's regular expression cuts them", "[tokenizer]") {
  UErrorCode error = U_ZERO_ERROR;
  const icu::UnicodeString pattern = icu::UnicodeString::fromUTF8("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+");
  std::int64_t words = 0;
  std::vector<std::string> texts = strings_of("byte_bpe");
  for (const char* text : {"", " ", "  ", "a  b", " a", "\t\ta", "  \n  x", "don't 'tis'll''s", "x\u00A0 y ", "12ab 3\u00B2", "!! ?a", "\u3000\u3000", "'", " '", "'s's"}) texts.emplace_back(text);
  for (const std::string& text : texts) {
    std::vector<std::string> ours, theirs;
    each_gpt2_word(text, [&](std::string_view word) { ours.emplace_back(word); });
    const icu::UnicodeString wide = icu::UnicodeString::fromUTF8(text);
    icu::RegexMatcher matcher(pattern, wide, 0, error);
    REQUIRE(U_SUCCESS(error));
    while (matcher.find()) {
      theirs.emplace_back();
      matcher.group(error).toUTF8String(theirs.back());
    }
    INFO(text);
    CHECK(ours == theirs);
    words += static_cast<std::int64_t>(ours.size());
  }
  CHECK(words > 500);
}

TEST_CASE("byte-pair encodings: files that do not fit together are refused, with the line or the token", "[tokenizer]") {
  const auto folder = test::fresh_folder("bpe_files");
  const std::string merges = read_file((kFixtures / "byte_bpe" / "merges.txt").string()).value();
  const nlohmann::ordered_json vocabulary = nlohmann::ordered_json::parse(read_file((kFixtures / "byte_bpe" / "vocab.json").string()).value());
  const auto message = [&](const std::string& json, const std::string& pairs) {
    test::write(folder / "vocab.json", json);
    test::write(folder / "merges.txt", pairs);
    return std::string(open_tokenizer(ByteBpeOptions{}, {.vocabulary = (folder / "vocab.json").string()}).status().message());
  };
  CHECK(message(vocabulary.dump(), merges).empty());
  CHECK_THAT(message("[1, 2]", merges), Catch::Contains("expected one JSON object"));
  CHECK_THAT(message("{\"a\": 1", merges), Catch::Contains("vocab.json"));
  CHECK_THAT(message(vocabulary.dump(), "#version: 0.2\nq z j\n"), Catch::Contains("merges.txt:2"));
  CHECK_THAT(message(vocabulary.dump(), "#version: 0.2\nq zj\n"), Catch::Contains("\"zj\" is not in the vocabulary"));
  nlohmann::ordered_json changed = vocabulary;
  changed["!"] = 99999;
  CHECK_THAT(message(changed.dump(), merges), Catch::Contains("no gap"));
  changed = vocabulary;
  changed["!"] = changed["#"];
  CHECK_THAT(message(changed.dump(), merges), Catch::Contains("twice"));
  std::string renamed = vocabulary.dump();
  renamed.replace(renamed.find("\"<s>\""), 5, "\"<x>\"");
  CHECK_THAT(message(renamed, merges), Catch::Contains("neither <s>"));
  renamed = vocabulary.dump();
  renamed.replace(renamed.find("\"!\""), 3, "\"!!!!!\"");
  CHECK_THAT(message(renamed, merges), Catch::Contains("the token of byte 33, is missing"));

  const std::string packed = read_file((kFixtures / "clip_bpe" / "bpe_small_vocab.txt.gz").string()).value();
  test::write(folder / "cut.txt.gz", packed.substr(0, packed.size() / 2));
  CHECK_THAT(std::string(open_tokenizer(ClipBpeOptions{}, {.vocabulary = (folder / "cut.txt.gz").string()}).status().message()), Catch::Contains("cut.txt.gz: damaged or cut"));
}

TEST_CASE("clip_bpe: texts are cleaned as open_clip cleans them", "[tokenizer]") {
  CHECK(clean_clip_text("  A  Dog\t\nruns ") == "a dog runs");
  CHECK(clean_clip_text("P&EACUTE;REZ &amp;lt; \u201Cﬁne\u201D") == "pérez < \"fine\"");
  CHECK(clean_clip_text("<b>&eacute;</b>") == "<b>é</b>");                 // by html.unescape, which does not mind the tag
  CHECK(clean_clip_text("<b> &EACUTE;") == "<b> &eacute;");                // by ftfy alone, which leaves lines with tags as they are
  CHECK(clean_clip_text("\x1B[36;44mblue\x1B[0m ＬＯＵＤ") == "blue loud");
  CHECK(clean_clip_text("ΟΔΟΣ") == "οδος");                                // final sigma
  CHECK(clean_clip_text("it\xC2\x92s") == "it's");                         // a Windows-1252 quote
  CHECK(clean_clip_text("cafe\u0301") == "café");                          // NFC
  CHECK(clean_clip_text("cafÃ©") == "cafã©");                              // wrongly decoded text is not repaired
}

TEST_CASE("tokenizers: what a checkpoint keeps is opened again as the same tokenizer", "[tokenizer]") {
  const std::map<std::string, TokenizerPtr> all = {{"wordpiece", small_wordpiece()}, {"byte_bpe", small_byte_bpe()}, {"clip_bpe", small_clip()}};
  for (const auto& [kind, tokenizer] : all) {
    INFO(kind);
    const auto folder = test::fresh_folder("reopen_" + kind);
    for (const auto& [name, content] : tokenizer->files()) test::write(folder / name, content);
    const TokenizerPtr again = reopen_tokenizer(TokenizerChoice(builtin_tokenizers(), kind), folder.string()).value();
    CHECK(again->vocabulary() == tokenizer->vocabulary());
    CHECK(again->mask_id() == tokenizer->mask_id());
    for (const std::string& text : strings_of(kind)) CHECK(again->ids(text) == tokenizer->ids(text));
  }
}

TEST_CASE("tokenizers: threads that share one get the ids that one thread gets", "[tokenizer]") {
  for (const TokenizerPtr& tokenizer : {small_wordpiece(), small_byte_bpe(), small_clip()}) {
    const std::vector<std::string> texts = strings_of("clip_bpe");
    std::vector<Ids> alone;
    for (const std::string& text : texts) alone.push_back(tokenizer->ids(text));
    std::vector<std::vector<Ids>> shared(4);
    std::vector<std::thread> threads;
    for (auto& results : shared) {
      threads.emplace_back([&] {
        for (const std::string& text : texts) results.push_back(tokenizer->ids(text));
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& results : shared) CHECK(results == alone);
  }
}

TEST_CASE("prepare_caption: each style is that of its model", "[tokenizer]") {
  // golden values of the five official pre_caption functions.
  const std::string text = "A dog's ball-park (old), isn't <person>/man!\n";
  const auto prepared = [&](CaptionStyle style) { return prepare_caption(text, 30, style).value(); };
  CHECK(prepared(CaptionStyle::kXvlm) == "a dogs ball park old isnt person man");
  CHECK(prepared(CaptionStyle::kAlbef) == "a dogs ball park old isnt person man");
  CHECK(prepared(CaptionStyle::kPevl) == "a dogs ball park old isnt person man");
  CHECK(prepared(CaptionStyle::kX2vlm) == "a dog s ball park old isn t person man");
  CHECK(prepared(CaptionStyle::kBlip) == "a dog's ball-park old , isn't <person>/man");
  CHECK(prepared(CaptionStyle::kNone) == text);
  CHECK(prepare_caption("#1 dog", 30, CaptionStyle::kPevl).value() == "#1 dog");
  CHECK(prepare_caption("#1 dog", 30, CaptionStyle::kAlbef).value() == "1 dog");
  CHECK(prepare_caption("one two three", 2, CaptionStyle::kBlip).value() == "one two");
  for (const CaptionStyle style : {CaptionStyle::kXvlm, CaptionStyle::kAlbef, CaptionStyle::kPevl, CaptionStyle::kX2vlm, CaptionStyle::kBlip}) CHECK_FALSE(prepare_caption(" .! ", 5, style).ok());
  CHECK_FALSE(prepare_caption("", 5, CaptionStyle::kNone).ok());
}

TEST_CASE("tokenizer section: old configurations stay valid, and each kind opens from its keys", "[tokenizer]") {
  const auto read = [](const std::string& yaml) { return config::read(config::Document::parse(yaml).value(), TextOptions{}); };
  const std::string folder = kFixtures.string();
  CHECK(open_tokenizer(read("{vocabulary: " + folder + "/wordpiece/vocab.txt, max_tokens: 12}").value()).value()->vocabulary() == small_wordpiece()->vocabulary());
  CHECK(open_tokenizer(read("{type: byte_bpe, options: {prefix_space: true}, vocabulary: " + folder + "/byte_bpe/vocab.json}").value()).value()->ids("a dog") == small_byte_bpe(true)->ids("a dog"));
  const std::string clip = "type: clip_bpe\nvocabulary: " + folder + "/clip_bpe/bpe_small_vocab.txt.gz\nprepare: none\nadd_sep: true\n";
  CHECK_THAT(std::string(open_tokenizer(read(clip).value()).status().message()), Catch::Contains("masking.probability"));
  const TextOptions options = read(clip + "masking: {probability: 0}\nmax_tokens: 4\n").value();
  const TextPipeline pipeline(open_tokenizer(options).value(), options);
  const Ids ids = pipeline.encode("A dog and a cat");
  CHECK(ids.size() == 4);
  CHECK(ids.front() == pipeline.tokenizer().cls_id());
  CHECK(ids.back() == pipeline.tokenizer().sep_id());
  Generator generator({.seed = 1, .sample = 0, .purpose = "test"});
  CHECK(pipeline.mask(ids, generator).positions.empty());
  CHECK_FALSE(read("{type: sentencepiece}").ok());
  // The resolved configuration reads back to the same.
  CHECK(config::to_yaml(read(config::to_yaml(options)).value()) == config::to_yaml(options));
  CHECK_FALSE(open_tokenizer(read("{type: byte_bpe}").value(), bert_words({"a"})).ok());
}

}  // namespace
}  // namespace fgvl::data
