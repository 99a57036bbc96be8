// Tests nn/tokenizer/tokenizer.cpp and what it stands on (pretokenize, byte_pair_merges, utf8,
// unicode_tables): the ids are HuggingFace's, and every byte string survives the round trip.
#include "nn/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "nn/splitting/pretokenize.h"
#include "nn/splitting/unicode_tables.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/utf8.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using test::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const fs::path kData = fs::path(VITRINE_TEST_DATA) / "tokenizer";
const fs::path kModel = VITRINE_DEFAULT_MODEL;

Json read_json(const fs::path& file) { return Json::parse(read_text(file)); }

const Tokenizer& shipped() {
  static const Tokenizer tokenizer = Tokenizer::load(kModel);
  return tokenizer;
}

void expect_golden(const Tokenizer& tokenizer, const Json& cases, Special special) {
  for (const Json& golden : cases) {
    const auto text = golden["text"].get<std::string>();
    const auto ids = golden["ids"].get<std::vector<int>>();
    EXPECT_EQ(tokenizer.encode(text, special), ids) << quote(text);
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
}

// ---- golden ids ---------------------------------------------------------------------------------

TEST(Tokenizer, MatchesHuggingFaceOnTheDefaultModel) {
  const Json cases = read_json(kData / "golden.json");
  ASSERT_GT(cases.size(), 300u);
  expect_golden(shipped(), cases, Special::as_text);
}

TEST(Tokenizer, MatchesHuggingFaceOnGpt2) {
  const fs::path folder = fs::path(VITRINE_SHARED) / "reference" / "gpt2-tokenizer";
  if (!fs::exists(folder)) {
    GTEST_SKIP() << "GPT-2's own vocabulary is not in the repository: put vocab.json, merges.txt "
                    "and golden.json into "
                 << folder << " to run this test";
  }
  const Tokenizer gpt2 = Tokenizer::load(folder);
  EXPECT_EQ(gpt2.vocabulary_size(), 50257);
  EXPECT_EQ(gpt2.end_of_text(), 50256);
  const Json cases = read_json(folder / "golden.json");
  ASSERT_EQ(cases.size(), 836u);
  expect_golden(gpt2, cases, Special::as_text);
}

TEST(Tokenizer, StrTokensMatchHuggingFace) {
  const Json cases = read_json(kData / "str_tokens.json");
  ASSERT_GT(cases.size(), 50u);
  for (const Json& golden : cases) {
    const auto text = golden["text"].get<std::string>();
    EXPECT_EQ(shipped().str_tokens(text), golden["str_tokens"].get<std::vector<std::string>>())
        << quote(text);
  }
}

TEST(Tokenizer, AddedTokensMatchHuggingFace) {
  const Json golden = read_json(kData / "added.json");
  const auto tokenizer = Tokenizer::parse_tokenizer_json(golden["tokenizer"].dump(), "added");
  ASSERT_EQ(tokenizer.added_tokens().size(), 8u);
  expect_golden(tokenizer, golden["cases"], Special::as_tokens);
}

TEST(Tokenizer, IgnoreMergesMatchesHuggingFace) {
  Json golden = read_json(kData / "added.json");
  const std::string json = golden["ignore_merges"].dump();
  const auto tokenizer = Tokenizer::parse_tokenizer_json(json, "whole words");
  expect_golden(tokenizer, golden["ignore_merges_cases"], Special::as_text);
  EXPECT_EQ(tokenizer.encode("then").size(), 1u);  // no merge makes it

  golden["ignore_merges"]["model"]["ignore_merges"] = false;
  const auto merging = Tokenizer::parse_tokenizer_json(golden["ignore_merges"].dump(), "merging");
  EXPECT_THAT(merging.str_tokens("then"), ElementsAre("the", "n"));
}

TEST(UnicodeTables, AgreeWithHuggingFaceOnEveryCodePoint) {
  const Json golden = read_json(kData / "classes.json");
  const std::map<std::string, CharacterClass> kinds = {
      {"L", CharacterClass::letter}, {"N", CharacterClass::number}, {"S", CharacterClass::space}};
  std::vector<CharacterClass> expected(0x110000, CharacterClass::other);
  for (const Json& range : golden) {
    for (int c = range[0]; c <= range[1]; ++c) expected[c] = kinds.at(range[2]);
  }
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;  // surrogates are no characters
    ASSERT_EQ(character_class(c), expected[c]) << "U+" << std::hex << std::uint32_t(c);
  }
  EXPECT_EQ(unicode_table_version(), "16.0.0");
  const auto runs = unicode_category_runs();
  EXPECT_EQ(runs[0].first, 0u);
  for (std::size_t i = 1; i < runs.size(); ++i) {
    EXPECT_LT(runs[i - 1].first, runs[i].first);
    EXPECT_NE(runs[i - 1].category, runs[i].category);
  }
}

// ---- splitting ----------------------------------------------------------------------------------

std::vector<std::string> pieces(std::string_view text) {
  std::vector<std::string> result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = piece_end(text, begin);
    result.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return result;
}

TEST(Pretokenize, CutsAsThePatternDoes) {
  EXPECT_THAT(pieces("We're here,  2 of us"),
              ElementsAre("We", "'re", " here", ",", " ", " 2", " of", " us"));
  EXPECT_THAT(pieces("IT'S it's 's"), ElementsAre("IT", "'", "S", " it", "'s", " '", "s"));
  EXPECT_THAT(pieces("a \n b\n"), ElementsAre("a", " \n", " b", "\n"));
  EXPECT_THAT(pieces("x   "), ElementsAre("x", "   "));
  EXPECT_THAT(pieces("a\u00a0b"), ElementsAre("a", "\u00a0", "b"));  // only U+0020 joins a word
  EXPECT_THAT(pieces("a\u180eb"), ElementsAre("a", "\u180e", "b"));
  EXPECT_THAT(pieces("!\u180e\u200b!"), ElementsAre("!\u180e\u200b!"));  // neither is a space
}

TEST(Pretokenize, TreatsInvalidBytesAsPunctuation) {
  EXPECT_THAT(pieces("a\xff\xfe!b"), ElementsAre("a", "\xff\xfe!", "b"));
  EXPECT_THAT(pieces(" \xc3"), ElementsAre(" \xc3"));        // a character cut short
  EXPECT_THAT(pieces("\xc3 x"), ElementsAre("\xc3", " x"));  // ... does not eat the space
  EXPECT_THAT(pieces("x\xc0\xa0y"), ElementsAre("x", "\xc0\xa0", "y"));  // over-long space
}

TEST(Utf8, ReplacesEachMaximalSubpartOnce) {
  EXPECT_EQ(replace_invalid_utf8("caf\xc3\xa9"), "caf\u00e9");
  EXPECT_EQ(replace_invalid_utf8("\xf0\x9f\x99"), "\ufffd");  // begins a character
  EXPECT_EQ(replace_invalid_utf8("\xf0\x9f\x41"), "\ufffd\x41");
  EXPECT_EQ(replace_invalid_utf8("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");            // surrogate
  EXPECT_EQ(replace_invalid_utf8("\xe0\x9f\xbf"), "\ufffd\ufffd\ufffd");            // over-long
  EXPECT_EQ(replace_invalid_utf8("\xf4\x90\x80\x80"), "\ufffd\ufffd\ufffd\ufffd");  // > U+10FFFF
  EXPECT_EQ(replace_invalid_utf8("\x80\xff"), "\ufffd\ufffd");
  for (char32_t c :
       {U'\x7f', U'\x80', U'\u07ff', U'\u0800', U'\uffff', U'\U00010000', U'\U0010ffff'}) {
    std::string text;
    append_utf8(text, c);
    const Character read = read_character(text, 0);
    EXPECT_TRUE(read.valid);
    EXPECT_EQ(read.code_point, c);
    EXPECT_EQ(read.length, text.size());
  }
}

TEST(Utf8, QuotesForMessages) {
  EXPECT_EQ(quote("a\"b\\\n\x01\xff\u00e9"), "\"a\\\"b\\\\\\n\\x01\\xff\u00e9\"");
  EXPECT_EQ(quote(std::string(100, 'x')), "\"" + std::string(80, 'x') + "\"... (100 bytes)");
}

// ---- merging ------------------------------------------------------------------------------------

// Byte-pair encoding in its plainest form: look at all pairs, merge the first of the best, repeat.
std::vector<int> merge_plainly(const std::vector<Merge>& merges, std::vector<int> ids) {
  while (true) {
    std::size_t best = merges.size();
    std::size_t where = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      for (std::size_t r = 0; r < best; ++r) {
        if (merges[r].left == ids[i] && merges[r].right == ids[i + 1]) {
          best = r;
          where = i;
        }
      }
    }
    if (best == merges.size()) return ids;
    ids[where] = merges[best].merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
}

TEST(MergeTable, ShortAndLongPiecesMergeAsThePlainLoopDoes) {
  // Merges in random order, so that a merge may use a token that a later one makes.
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    std::vector<Merge> merges;
    for (int left = 0; left < 8; ++left) {
      for (int right = 0; right < 8; ++right) {
        if (random() % 2 == 0) merges.push_back({left, right, int(random() % 8)});
      }
    }
    std::shuffle(merges.begin(), merges.end(), random);
    const MergeTable table(merges);
    for (const std::size_t length : {1, 2, 3, 10, 63, 64, 65, 66, 130, 400}) {
      std::vector<int> ids(length);
      for (int& id : ids) id = int(random() % (round % 2 == 0 ? 2 : 12));
      std::vector<int> merged = {-5};  // apply appends
      table.apply(ids, merged);
      std::vector<int> expected = merge_plainly(merges, ids);
      expected.insert(expected.begin(), -5);
      ASSERT_EQ(merged, expected) << "length " << length << ", round " << round;
    }
  }
}

TEST(MergeTable, EmptyTableAndEmptyPiece) {
  std::vector<int> out;
  MergeTable().apply(std::vector<int>{3, 4}, out);
  MergeTable().apply({}, out);
  EXPECT_THAT(out, ElementsAre(3, 4));
}

TEST(Tokenizer, AMegabyteOfOneLetterIsNotQuadratic) {
  // 2^20 letters take well under a second; scanning all pairs for each merge, many minutes.
  const std::string text(1 << 20, 'a');
  const auto start = std::chrono::steady_clock::now();
  const std::vector<int> ids = shipped().encode(text);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(shipped().decode(ids), text);
  EXPECT_LT(seconds.count(), 60);
}

// ---- round trips --------------------------------------------------------------------------------

TEST(Tokenizer, EveryByteStringSurvivesTheRoundTrip) {
  std::mt19937 random(11);
  for (int i = 0; i < 10000; ++i) {
    std::string bytes(random() % 200, '\0');
    const int kind = i % 3;  // any bytes; mostly text; pieces of characters
    for (char& byte : bytes) {
      const auto r = random();
      byte = static_cast<char>(kind == 0                  ? r
                               : kind == 1 && r % 16 != 0 ? " etaoinsh'rdlu.\n"[r / 16 % 16]
                                                          : 0x80 + r % 128);
    }
    ASSERT_EQ(shipped().decode(shipped().encode(bytes)), bytes) << quote(bytes);
    ASSERT_EQ(shipped().decode(shipped().encode(bytes, Special::as_tokens)), bytes);
  }
}

TEST(Tokenizer, RepeatedPiecesGetTheSameIds) {
  // The same words alone and in a text long enough that they displace each other in the cache.
  std::mt19937 random(3);
  std::string text;
  std::vector<int> expected;
  for (int i = 0; i < 20000; ++i) {
    std::string word = " ";
    for (int n = 1 + int(random() % 3); n > 0; --n) word += static_cast<char>('a' + random() % 26);
    text += word;
    const std::vector<int> ids = shipped().encode(word);
    expected.insert(expected.end(), ids.begin(), ids.end());
  }
  EXPECT_EQ(shipped().encode(text), expected);
}

TEST(Tokenizer, OneInstanceServesSeveralThreads) {
  const Json cases = read_json(kData / "golden.json");
  std::vector<std::thread> threads;
  std::array<int, 4> wrong{};
  for (int& count : wrong) {
    threads.emplace_back([&cases, &count] {
      for (const Json& golden : cases) {
        const auto& text = golden["text"].get_ref<const std::string&>();
        count += shipped().encode(text) != golden["ids"].get<std::vector<int>>();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

// ---- the default model's three files ------------------------------------------------------------

TEST(Tokenizer, BothFileFormatsGiveTheSameTokenizer) {
  const std::string vocab = read_text(kModel / "vocab.json");
  const std::string merges = read_text(kModel / "merges.txt");
  const Tokenizer two_files = Tokenizer::parse(vocab, merges, "two files");
  Json file = read_json(kModel / "tokenizer.json");
  ASSERT_TRUE(file["model"]["merges"][0].is_string());
  const Tokenizer strings = Tokenizer::parse_tokenizer_json(file.dump(), "strings");
  for (Json& merge : file["model"]["merges"]) {
    const std::string both = merge;
    merge = {both.substr(0, both.find(' ')), both.substr(both.find(' ') + 1)};
  }
  const Tokenizer pairs = Tokenizer::parse_tokenizer_json(file.dump(), "pairs");

  // As written on Windows, and without the heading and the last line break.
  std::string windows;
  for (const char c : merges) windows += c == '\n' ? "\r\n" : std::string(1, c);
  const Tokenizer crlf = Tokenizer::parse(vocab, windows + "\r\n", "crlf");
  std::string bare = merges.substr(merges.find('\n') + 1);
  bare.pop_back();
  const Tokenizer headless = Tokenizer::parse(vocab, bare, "headless");

  const Json cases = read_json(kData / "golden.json");
  for (const Tokenizer* tokenizer : {&two_files, &pairs, &strings, &crlf, &headless}) {
    EXPECT_EQ(tokenizer->vocabulary_size(), 6000);
    EXPECT_EQ(tokenizer->end_of_text(), 0);
    for (int id = 0; id < 6000; ++id) {
      ASSERT_EQ(tokenizer->token_bytes(id), two_files.token_bytes(id));
      ASSERT_EQ(tokenizer->find(two_files.token_bytes(id)), id);
    }
    expect_golden(*tokenizer, cases, Special::as_text);
  }
}

TEST(Tokenizer, SpecialTextIsPlainBytesUnlessAskedFor) {
  const std::string text = "a<|endoftext|>b";
  EXPECT_GT(shipped().encode(text).size(), 3u);
  const std::vector<int> ids = shipped().encode(text, Special::as_tokens);
  EXPECT_THAT(shipped().str_tokens(ids), ElementsAre("a", "<|endoftext|>", "b"));
  EXPECT_EQ(ids[1], shipped().end_of_text());
  EXPECT_EQ(shipped().to_single_token("<|endoftext|>"), ids[1]);
}

TEST(Tokenizer, StrTokensShowPartialCharacters) {
  const std::string wave = "\U0001f44b";
  const std::vector<int> ids = shipped().encode(wave);
  ASSERT_GT(ids.size(), 1u);  // the default model has no token for an emoji
  std::string joined;
  for (const int id : ids) joined += shipped().token_bytes(id);
  EXPECT_EQ(joined, wave);
  EXPECT_THAT(shipped().str_tokens(wave), ::testing::Each(HasSubstr("\ufffd")));
}

TEST(Tokenizer, ToSingleTokenSuggestsTheSpace) {
  const int austin = shipped().to_single_token(" Austin");
  EXPECT_EQ(shipped().token_bytes(austin), " Austin");
  EXPECT_EQ(shipped().find(" Austin"), austin);
  const auto message = [](std::string_view text) {
    return message_of<TokenError>([&] { (void)shipped().to_single_token(text); });
  };
  const std::string suggestion = message("Austin");
  EXPECT_THAT(suggestion, HasSubstr("\"Austin\" is 2 tokens, not one"));
  EXPECT_THAT(suggestion, HasSubstr("\"A\"|\"ustin\"; did you mean \" Austin\", with a leading "
                                    "space? It is one token (id " +
                                    std::to_string(austin) + ")"));
  EXPECT_THAT(message(" tion"),
              AllOf(HasSubstr("\" tion\" is 2 tokens"),
                    HasSubstr("did you mean \"tion\", without a leading space?")));
  EXPECT_THAT(message("Texas Austin"),
              AllOf(HasSubstr("\" Austin\""), HasSubstr("give a text that is exactly one token")));
  EXPECT_THAT(message(std::string(400, '!') + "a b c d e f g h i j k l m n"), HasSubstr("|..."));
  EXPECT_THAT(message(""), HasSubstr("the empty text is not a token"));
}

TEST(Tokenizer, DecodeRefusesIdsThatAreNoTokens) {
  EXPECT_EQ(
      message_of<TokenError>([] {
        (void)shipped().decode(std::vector{1, 2, 6000});
      }),
      "token 2 of 3 (counting from 0): id 6000 is outside the vocabulary of " +
          (kModel / "tokenizer.json").string() +
          ", which has 6000 ids (0 to 5999): do the ids come from another model's tokenizer?");
  EXPECT_THAT(message_of<TokenError>([] { (void)shipped().str_tokens(std::vector{-1}); }),
              HasSubstr("id -1 is outside"));
  EXPECT_THAT(message_of<TokenError>([] { (void)shipped().token_bytes(6000); }),
              HasSubstr("id 6000 is outside"));
  const auto holes = Tokenizer::parse(R"({"a": 0, "b": 3})", "", "holes");
  EXPECT_EQ(holes.vocabulary_size(), 4);
  EXPECT_EQ(message_of<TokenError>([&] {
              (void)holes.decode(std::vector{3, 1});
            }),
            "token 1 of 2 (counting from 0): id 1 is not in use in the vocabulary of holes");
}

TEST(Tokenizer, NamesAByteWithoutToken) {
  const auto tokenizer = Tokenizer::parse(R"({"a": 0, "b": 1, "ab": 2})", "a b\n", "small");
  EXPECT_THAT(tokenizer.encode("abba"), ElementsAre(2, 1, 0));
  EXPECT_THAT(message_of<TokenError>([&] { (void)tokenizer.encode("ab abc"); }),
              HasSubstr("byte 0x20 at position 2 of the text has no token in the vocabulary of "
                        "small"));
}

// ---- speed (reported, not judged) ---------------------------------------------------------------

TEST(Tokenizer, SpeedReport) {
  // Words of the vocabulary in random order, early (frequent) ones more often than late ones.
  std::mt19937 random(1);
  std::string text;
  while (text.size() < 4'000'000) {
    const double uniform = std::generate_canonical<double, 32>(random);
    text += shipped().token_bytes(300 + static_cast<int>(5699 * std::pow(uniform, 4)));
  }
  const auto start = std::chrono::steady_clock::now();
  const std::vector<int> ids = shipped().encode(text);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(shipped().decode(ids), text);
  const double rate = static_cast<double>(text.size()) / 1e6 / seconds.count();
  RecordProperty("megabytes_per_second", std::to_string(rate));
  std::cout << "encode: " << rate << " MB/s, one thread, " << text.size() << " bytes\n";
}

}  // namespace
}  // namespace vitrine::nn
