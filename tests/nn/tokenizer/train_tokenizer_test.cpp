// Tests nn/tokenizer/train_tokenizer.h: the merges are those of HuggingFace's trainer and of a naive one.
#include "nn/tokenizer/train_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "nn/tokenizer/byte_spelling.h"
#include "tensor/error.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

WordCounts counts_of(std::string_view text) {
  WordCounts counts;
  counts.add(text);
  return counts;
}

std::string merges_of(const Vocabulary& vocabulary) {
  std::string lines;
  for (const Merge& merge : vocabulary.merges) {
    lines += spell_bytes(*vocabulary.tokens[merge.left]) + " " +
             spell_bytes(*vocabulary.tokens[merge.right]) + "\n";
  }
  return lines;
}

// ---- counting -----------------------------------------------------------------------------------
std::map<std::string, std::int64_t> sorted(const WordCounts& counts) {
  return {counts.in_thousandths().begin(), counts.in_thousandths().end()};
}

TEST(WordCounts, CountsThePiecesOfTheTokenizer) {
  using Expected = std::map<std::string, std::int64_t>;
  EXPECT_EQ(
      sorted(counts_of("a b b, we're  b")),
      (Expected{
          {"a", 1000}, {" b", 3000}, {",", 1000}, {" we", 1000}, {"'re", 1000}, {" ", 1000}}));
  EXPECT_EQ(sorted(counts_of("")), Expected{});
  EXPECT_EQ(sorted(counts_of(std::string("\xff\0 x", 4))),
            (Expected{{std::string("\xff\0", 2), 1000}, {" x", 1000}}));
}

TEST(WordCounts, WeighAndMerge) {
  WordCounts once;
  once.add("a b b", 0.5);
  once.add("b", 2);
  WordCounts half;
  half.merge(counts_of("a b b"), 0.5);
  half.merge(counts_of("b"), 2);
  EXPECT_EQ(sorted(once), sorted(half));
  EXPECT_EQ(sorted(once),
            (std::map<std::string, std::int64_t>{{"a", 500}, {" b", 1000}, {"b", 2000}}));
  WordCounts twice;
  twice.merge(once, 2);
  EXPECT_EQ(sorted(twice).at("a"), 1000);
}

TEST(WordCounts, RefuseWeightsThatAreNone) {
  WordCounts counts;
  for (const double weight : {0.0, -1.0, 0.0001, 1e7, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_ERROR(ConfigError, "give a weight from 0.001 to 1000000", counts.add("a", weight));
    EXPECT_ERROR(ConfigError, "a text cannot weigh", counts.merge(counts_of("a"), weight));
  }
  EXPECT_TRUE(counts.empty());
}

// ---- against HuggingFace ------------------------------------------------------------------------
const char* const kText =
    "The cat sat on the mat; the cats sat on mats. That is that, isn't it? We're 12 of 120, 1200.\n"
    "  aaaa aaaaaaa bababab banana bandana\n\n\tÄpfel äßen Übermut, naïve cafés 北京北京 😀😀!!! "
    "...... -- don't\r\n"
    "He said: they've said they'd stay; she'll say I'm staying, they're staying.";

// tokenizers 0.23.3: BpeTrainer(min_frequency=2, special_tokens=["<|endoftext|>"],
// initial_alphabet=ByteLevel.alphabet()) on kText, after ByteLevel(add_prefix_space=False). Most
// pairs are as frequent as others, so the order of those is tested too.
const char* const kMerges =
    "a a\n"
    "Ġ s\n"
    "a t\n"
    "h e\n"
    "Ġ t\n"
    ". .\n"
    "b a\n"
    "Ġt he\n"
    "a y\n"
    "n a\n"
    "1 2\n"
    "o n\n"
    "t ay\n"
    "Ġ c\n"
    "Ġ i\n"
    "Ġ ba\n"
    "Ġ 12\n"
    "aa aa\n"
    "Ġs tay\n"
    "Ġthe y\n"
    "! !\n"
    "' r\n"
    "' t\n"
    "a i\n"
    "h at\n"
    "i n\n"
    "m at\n"
    "v e\n"
    "º ¬\n"
    "ä º¬\n"
    "å Į\n"
    "ð Ł\n"
    "Ġ Ã\n"
    "Ġ on\n"
    "Ġ aaaa\n"
    "Ġ mat\n"
    "Ĺ äº¬\n"
    "ĺ Ģ\n"
    "Ġs at\n"
    "Ġs ai\n"
    ".. ..\n"
    "Ġc at\n"
    "Ġi s\n"
    "Ġ12 0\n"
    "Ġstay in\n"
    "'r e\n"
    "åĮ Ĺäº¬\n"
    "ðŁ ĺĢ\n"
    "Ġsai d\n"
    "Ġstayin g\n";

TEST(TrainTokenizer, GivesTheMergesOfHuggingFace) {
  const Vocabulary vocabulary = train_tokenizer(counts_of(kText), {.vocabulary = 307});
  EXPECT_EQ(merges_of(vocabulary), kMerges);
}

TEST(TrainTokenizer, LaysTheIdsOutLikeHuggingFace) {
  const Vocabulary vocabulary =
      train_tokenizer(counts_of(kText), {.vocabulary = 260, .special = {"<|endoftext|>", "<pad>"}});
  ASSERT_EQ(vocabulary.tokens.size(), 260u);
  EXPECT_EQ(vocabulary.tokens[0], "<|endoftext|>");
  EXPECT_EQ(vocabulary.tokens[1], "<pad>");
  EXPECT_EQ(vocabulary.tokens[2], "!");
  EXPECT_EQ(vocabulary.tokens[95], "~");
  EXPECT_EQ(vocabulary.tokens[96], "\xa1");
  EXPECT_EQ(vocabulary.tokens[190], std::string(1, '\0'));
  EXPECT_EQ(vocabulary.tokens[257], "\xad");
  EXPECT_EQ(vocabulary.tokens[258], "aa");
  EXPECT_EQ(vocabulary.tokens[259], " s");
  ASSERT_EQ(vocabulary.added.size(), 2u);
  EXPECT_EQ(vocabulary.added[1].id, 1);
  EXPECT_EQ(vocabulary.added[1].content, "<pad>");
  EXPECT_TRUE(vocabulary.added[1].special);
  EXPECT_EQ(Tokenizer(vocabulary, "here").end_of_text(), 0);
}

// ---- against a naive trainer --------------------------------------------------------------------
// Counts all pairs of all words again for each merge.
class NaiveTrainer {
 public:
  explicit NaiveTrainer(const WordCounts& counts) {
    for (const char byte : bytes_in_order_of_spelling()) {
      tokens_.emplace_back(1, byte);
    }
    for (const auto& [text, count] : counts.in_thousandths()) {
      Word word{{}, count};
      for (const char byte : text) word.ids.push_back(id_of(std::string(1, byte)));
      words_[text] = word;
    }
  }

  // Returns whether there was a pair that occurs `least` times (in thousandths).
  bool step(std::int64_t least) {
    std::map<std::pair<int, int>, std::int64_t> counts;
    for (const auto& [text, word] : words_) {
      for (std::size_t i = 0; i + 1 < word.ids.size(); ++i) {
        counts[{word.ids[i], word.ids[i + 1]}] += word.count;
      }
    }
    const auto best = std::max_element(
        counts.begin(), counts.end(),
        [](const auto& a, const auto& b) { return a.second < b.second; });  // the first of equals
    if (best == counts.end() || best->second < least) return false;
    const auto [left, right] = best->first;
    const std::string bytes = tokens_[left] + tokens_[right];
    EXPECT_LT(id_of(bytes), 0) << "two merges make " << bytes;
    merges.push_back({left, right, static_cast<int>(tokens_.size())});
    tokens_.push_back(bytes);
    apply(merges.back());
    return true;
  }

  std::size_t tokens() const { return tokens_.size(); }
  std::vector<int> ids_of(const std::string& word) const { return words_.at(word).ids; }

  std::vector<Merge> merges;

 private:
  struct Word {
    std::vector<int> ids;
    std::int64_t count = 0;
  };

  int id_of(const std::string& bytes) const {
    const auto found = std::find(tokens_.begin(), tokens_.end(), bytes);
    return found == tokens_.end() ? -1 : static_cast<int>(found - tokens_.begin());
  }
  void apply(const Merge& merge) {
    for (auto& [text, word] : words_) {
      for (std::size_t i = 0; i + 1 < word.ids.size(); ++i) {
        if (word.ids[i] != merge.left || word.ids[i + 1] != merge.right) continue;
        word.ids[i] = merge.merged;
        word.ids.erase(word.ids.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }

  std::vector<std::string> tokens_;
  std::map<std::string, Word> words_;
};

// Few letters, so that pairs overlap and counts are equal.
TEST(TrainTokenizer, GivesTheMergesOfANaiveTrainer) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    const unsigned letters = 1 + random() % 4;
    const unsigned longest = 2 + random() % 30;
    WordCounts counts;
    for (unsigned words = 2 + random() % 40; words > 0; --words) {
      std::string word;
      for (unsigned length = 1 + random() % longest; length > 0; --length) {
        word += static_cast<char>('a' + random() % letters);
      }
      const double weight = random() % 2 == 0 ? 1 : 0.25 * (1 + random() % 20);
      counts.add(word, weight);
    }
    NaiveTrainer naive(counts);
    while (naive.tokens() < 320 && naive.step(2000)) {
    }
    const Vocabulary vocabulary =
        train_tokenizer(counts, {.vocabulary = static_cast<int>(naive.tokens()), .special = {}});
    ASSERT_EQ(vocabulary.merges.size(), naive.merges.size()) << round;
    for (std::size_t i = 0; i < vocabulary.merges.size(); ++i) {
      const Merge &got = vocabulary.merges[i], &expected = naive.merges[i];
      ASSERT_EQ(got.left, expected.left) << "round " << round << ", merge " << i;
      ASSERT_EQ(got.right, expected.right) << "round " << round << ", merge " << i;
      ASSERT_EQ(got.merged, expected.merged) << "round " << round << ", merge " << i;
    }

    // What training made of a word is what the tokenizer makes of it.
    const Tokenizer tokenizer(vocabulary, "trained");
    for (const auto& [word, count] : counts.in_thousandths()) {
      EXPECT_EQ(tokenizer.encode(word), naive.ids_of(word)) << word;
    }
  }
}

TEST(TrainTokenizer, OneLongWordTakesNoLongerThanMany) {
  std::string word;
  std::mt19937 random(3);
  for (int i = 0; i < 300'000; ++i) word += static_cast<char>('a' + random() % 26);
  const Vocabulary vocabulary = train_tokenizer(counts_of(word), {.vocabulary = 2000});
  EXPECT_EQ(vocabulary.tokens.size(), 2000u);
  EXPECT_EQ(Tokenizer(vocabulary, "trained").decode(Tokenizer(vocabulary, "trained").encode(word)),
            word);
}

// ---- weights, limits, errors --------------------------------------------------------------------
TEST(TrainTokenizer, WeightsDecide) {
  const auto first_merge = [](double weight) {
    WordCounts counts;
    counts.add("ab ab ab");
    counts.add("xy", weight);
    const Vocabulary v = train_tokenizer(counts, {.vocabulary = 258, .min_count = 1});
    return *v.tokens[257];
  };
  EXPECT_EQ(first_merge(2.999), "ab");
  EXPECT_EQ(first_merge(3.001), "xy");
}

TEST(TrainTokenizer, TheLeastCountIsCounted) {
  const WordCounts counts = counts_of("abc abc ab xy");  // the pair a b: 3 times
  EXPECT_EQ(train_tokenizer(counts, {.vocabulary = 258, .min_count = 3}).tokens[257], "ab");
  EXPECT_ERROR(ConfigError, "0 of pairs that occur at least 4 times",
               train_tokenizer(counts, {.vocabulary = 258, .min_count = 4}));
}

TEST(TrainTokenizer, SaysHowManyTokensTheTextGives) {
  // HuggingFace's trainer stops at the same numbers.
  EXPECT_THAT(message_of<ConfigError>([] { (void)train_tokenizer(counts_of(kText)); }),
              AllOf(HasSubstr("a vocabulary of 5000 tokens was asked for, but this text gives only "
                              "307: 1 special, 256 bytes and 50"),
                    HasSubstr("let rarer pairs"), HasSubstr("ask for at most 307 tokens")));
  EXPECT_THAT(
      message_of<ConfigError>([] { (void)train_tokenizer(counts_of(kText), {.min_count = 1}); }),
      AllOf(HasSubstr("gives only 380"), HasSubstr("give more text, or ask for at most 380")));
  EXPECT_EQ(train_tokenizer(counts_of(kText), {.vocabulary = 380, .min_count = 1}).tokens.size(),
            380u);
}

TEST(TrainTokenizer, RefusesWhatCannotBe) {
  const WordCounts counts = counts_of(kText);
  EXPECT_ERROR(TokenError, "there is no text to train a tokenizer on",
               train_tokenizer(WordCounts()));
  EXPECT_ERROR(ConfigError,
               "256 tokens is too small: the 256 bytes and 1 special token alone are "
               "257",
               train_tokenizer(counts, {.vocabulary = 256}));
  EXPECT_ERROR(ConfigError, "too small", train_tokenizer(counts, {.vocabulary = -1}));
  EXPECT_EQ(train_tokenizer(counts, {.vocabulary = 257}).merges.size(), 0u);
  EXPECT_ERROR(ConfigError, "must be from 1", train_tokenizer(counts, {.min_count = 0}));
  EXPECT_ERROR(ConfigError, "must be from 1", train_tokenizer(counts, {.min_count = INT64_MAX}));
  EXPECT_ERROR(ConfigError, "special token 1 is empty",
               train_tokenizer(counts, {.special = {"x y", ""}}));
  EXPECT_ERROR(ConfigError, "\"<a>\" is listed twice",
               train_tokenizer(counts, {.special = {"<a>", "<a>"}}));
  EXPECT_ERROR(ConfigError, "is not UTF-8", train_tokenizer(counts, {.special = {"\xff\xff"}}));
  EXPECT_ERROR(ConfigError, "spell the byte 0x61", train_tokenizer(counts, {.special = {"a"}}));
  EXPECT_ERROR(ConfigError, "spell the byte 0x20", train_tokenizer(counts, {.special = {"Ġ"}}));
}

TEST(TrainTokenizer, NoTokenIsSpelledLikeASpecialOne) {
  const Vocabulary vocabulary =
      train_tokenizer(counts_of("the the the the at at"), {.vocabulary = 261, .special = {"Ġthe"}});
  for (std::size_t id = 1; id < vocabulary.tokens.size(); ++id) {
    EXPECT_NE(vocabulary.tokens[id], " the") << id;
  }
}

TEST(TrainTokenizer, SaysHowFarItIsAndStops) {
  std::vector<int> done;
  (void)train_tokenizer(counts_of(kText), {.vocabulary = 260, .progress = [&](int d, int total) {
                                             EXPECT_EQ(total, 260);
                                             done.push_back(d);
                                           }});
  EXPECT_THAT(done, ElementsAre(258, 259, 260));

  std::atomic<bool> cancel = false;
  const auto stop_at_259 = [&](int d, int) { cancel = d == 259; };
  EXPECT_ERROR(InterruptedError, "stopped while the tokenizer was trained",
               train_tokenizer(counts_of(kText),
                               {.vocabulary = 300, .cancel = &cancel, .progress = stop_at_259}));
  WordCounts counts;
  cancel = true;
  EXPECT_ERROR(InterruptedError, "stopped while the words", counts.add("a b", 1, &cancel));
}

}  // namespace
}  // namespace vitrine::nn
