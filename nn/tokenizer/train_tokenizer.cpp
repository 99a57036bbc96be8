#include "nn/tokenizer/train_tokenizer.h"

#include <fmt/format.h>

#include <array>
#include <limits>
#include <queue>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "nn/tokenizer/byte_spelling.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

constexpr int kBytes = 256;
using Place = std::uint32_t;  // of a token in the text: an index into what follows
constexpr Place kNone = std::numeric_limits<Place>::max();

// The distinct words, one after the other, each a list of tokens that shrinks as pairs merge. A
// token stands at the place of its first byte.
struct Text {
  std::vector<int> token;            // [place]; -1: a part of a token further left
  std::vector<Place> before, after;  // [place]; kNone at the ends of a word
  std::vector<Place> word;           // [place]
  std::vector<std::int64_t> count;   // [word], in thousandths
};

// Two tokens that are neighbours somewhere.
struct Pair {
  int left, right;
  std::int64_t count = 0;     // in thousandths, over all words
  std::vector<Place> places;  // of the left token, ascending; some hold other tokens by now
  bool grown = false;         // in grown_
};

class MergeLearner {
 public:
  MergeLearner(const WordCounts& counts, const TrainTokenizerOptions& options) : options_(options) {
    check_options();
    if (counts.empty()) {
      throw TokenError("there is no text to train a tokenizer on: give a text that is not empty");
    }
    add_first_tokens();
    lay_out(counts);
    find_pairs();
  }

  Vocabulary train() {
    while (static_cast<int>(vocabulary_.tokens.size()) < options_.vocabulary) {
      if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) {
        throw InterruptedError("stopped while the tokenizer was trained");
      }
      const int pair = most_frequent();
      if (pair < 0) throw_too_few();
      learn(pair);
    }
    return std::move(vocabulary_);
  }

 private:
  void check_options() const;
  void add_first_tokens();
  void lay_out(const WordCounts& counts);
  void find_pairs();
  [[noreturn]] void throw_too_few() const;

  int index_of(int left, int right);
  void grow(int left, int right, std::int64_t by, Place place);
  void queue_grown();
  int most_frequent();
  void learn(int pair);
  void apply(int pair, int merged);

  const TrainTokenizerOptions& options_;
  Vocabulary vocabulary_;
  std::unordered_set<std::string> special_;  // their texts
  std::array<int, kBytes> id_of_byte_;
  Text text_;
  std::vector<Pair> pairs_;
  std::unordered_map<std::uint64_t, int> index_of_;  // into pairs_

  // Pairs that could be next. Counts grow only in the step that makes one of the two tokens, after
  // which the pair enters; then they fall, and the entry is put right when it comes up.
  struct Entry {
    std::int64_t count;
    int left, right, pair;
    bool operator<(const Entry& other) const {  // comes later than
      if (count != other.count) return count < other.count;
      return std::pair(left, right) > std::pair(other.left, other.right);
    }
  };
  std::priority_queue<Entry> queue_;
  std::vector<int> grown_;  // pairs whose count grew in this step
};

void MergeLearner::check_options() const {
  const auto least = static_cast<std::int64_t>(options_.special.size()) + kBytes;
  if (options_.vocabulary < least) {
    throw ConfigError(fmt::format(
        "a vocabulary of {} tokens is too small: the 256 bytes and {} special token{} alone are "
        "{}; ask for more than that",
        options_.vocabulary, options_.special.size(), options_.special.size() == 1 ? "" : "s",
        least));
  }
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / WordCounts::kOne;
  if (options_.min_count < 1 || options_.min_count > kMost) {
    throw ConfigError(fmt::format(
        "the least count of a pair is {}, but must be from 1 (every pair may become a token) to {}",
        options_.min_count, kMost));
  }
}

void MergeLearner::add_first_tokens() {
  for (const std::string& content : options_.special) {
    const int id = static_cast<int>(vocabulary_.tokens.size());
    if (content.empty()) throw ConfigError(fmt::format("special token {} is empty", id));
    if (replace_invalid_utf8(content) != content) {
      throw ConfigError(fmt::format("the special token {} is not UTF-8", quote(content)));
    }
    if (!special_.insert(content).second) {
      throw ConfigError(
          fmt::format("the special token {} is listed twice; leave one out", quote(content)));
    }
    vocabulary_.tokens.emplace_back(content);
    vocabulary_.added.push_back({id, content});
  }
  for (const char byte : bytes_in_order_of_spelling()) {
    const std::string bytes(1, byte);
    if (special_.contains(spell_bytes(bytes))) {
      throw ConfigError(
          fmt::format("the special token {} is how tokenizer files spell the byte 0x{:02X}; choose "
                      "a longer one",
                      quote(spell_bytes(bytes)), static_cast<unsigned char>(byte)));
    }
    id_of_byte_[static_cast<unsigned char>(byte)] = static_cast<int>(vocabulary_.tokens.size());
    vocabulary_.tokens.emplace_back(bytes);
  }
}

// Words of one byte have no pairs. The order of the words is that of a hash table, and nothing
// depends on it: counts are sums, and the queue orders pairs by their ids.
void MergeLearner::lay_out(const WordCounts& counts) {
  std::size_t places = 0, words = 0;
  for (const auto& [word, count] : counts.in_thousandths()) {
    if (word.size() < 2) continue;
    places += word.size();
    ++words;
  }
  if (places >= kNone) {
    throw ConfigError(fmt::format(
        "the distinct words of the text have {} bytes, more than the {} that can be trained on; "
        "give a part of it",
        places, kNone - 1));
  }
  text_.token.reserve(places);
  text_.before.reserve(places);
  text_.after.reserve(places);
  text_.word.reserve(places);
  text_.count.reserve(words);
  for (const auto& [word, count] : counts.in_thousandths()) {
    if (word.size() < 2) continue;
    const auto begin = static_cast<Place>(text_.token.size());
    const auto last = static_cast<Place>(begin + word.size() - 1);
    for (Place place = begin; place <= last; ++place) {
      text_.token.push_back(id_of_byte_[static_cast<unsigned char>(word[place - begin])]);
      text_.before.push_back(place == begin ? kNone : place - 1);
      text_.after.push_back(place == last ? kNone : place + 1);
      text_.word.push_back(static_cast<Place>(text_.count.size()));
    }
    text_.count.push_back(count);
  }
}

void MergeLearner::find_pairs() {
  for (Place place = 0; place < text_.token.size(); ++place) {
    if (text_.after[place] == kNone) continue;
    grow(text_.token[place], text_.token[place + 1], text_.count[text_.word[place]], place);
  }
  queue_grown();
}

void MergeLearner::throw_too_few() const {
  const std::size_t tokens = vocabulary_.tokens.size();
  throw ConfigError(fmt::format(
      "a vocabulary of {} tokens was asked for, but this text gives only {}: {} special, 256 bytes "
      "and {} of pairs that occur at least {} time{}; give more text, {}or ask for at most {} "
      "tokens",
      options_.vocabulary, tokens, options_.special.size(),
      tokens - options_.special.size() - kBytes, options_.min_count,
      options_.min_count == 1 ? "" : "s",
      options_.min_count == 1 ? "" : "let rarer pairs become tokens (a lower least count), ",
      tokens));
}

// The pair in pairs_, entered if it is not there.
int MergeLearner::index_of(int left, int right) {
  const std::uint64_t key = std::uint64_t(left) << 32 | std::uint64_t(right);
  const auto [found, is_new] = index_of_.try_emplace(key, static_cast<int>(pairs_.size()));
  if (is_new) pairs_.push_back({left, right});
  return found->second;
}

void MergeLearner::grow(int left, int right, std::int64_t by, Place place) {
  const int index = index_of(left, right);
  Pair& pair = pairs_[index];
  pair.count += by;
  pair.places.push_back(place);
  if (!std::exchange(pair.grown, true)) grown_.push_back(index);
}

void MergeLearner::queue_grown() {
  for (const int index : grown_) {
    Pair& pair = pairs_[index];
    pair.grown = false;
    queue_.push({pair.count, pair.left, pair.right, index});
  }
  grown_.clear();
}

// The next pair to merge, or -1 when no pair occurs often enough.
int MergeLearner::most_frequent() {
  while (!queue_.empty()) {
    Entry top = queue_.top();
    const Pair& pair = pairs_[top.pair];
    if (pair.count < options_.min_count * WordCounts::kOne) {
      if (top.count == pair.count) return -1;  // the largest count of all
      queue_.pop();
    } else if (top.count != pair.count) {
      queue_.pop();
      top.count = pair.count;
      queue_.push(top);
    } else {
      queue_.pop();
      const std::string bytes = *vocabulary_.tokens[pair.left] + *vocabulary_.tokens[pair.right];
      // The files could not tell such a token from the special one.
      if (!special_.contains(spell_bytes(bytes))) return top.pair;
    }
  }
  return -1;
}

// Makes the pair a merge. Its token is always a new one: bytes between two places that no token has
// crossed merge in the same way in every word, so they become one token everywhere in the same step
// and never in another.
void MergeLearner::learn(int index) {
  const auto [left, right] = std::pair(pairs_[index].left, pairs_[index].right);
  const int merged = static_cast<int>(vocabulary_.tokens.size());
  vocabulary_.tokens.emplace_back(*vocabulary_.tokens[left] + *vocabulary_.tokens[right]);
  vocabulary_.merges.push_back({left, right, merged});
  apply(index, merged);
  if (options_.progress) options_.progress(merged + 1, options_.vocabulary);
}

// Puts `merged` in place of the pair wherever it stands, in each word from left to right.
void MergeLearner::apply(int index, int merged) {
  const auto [left, right] = std::pair(pairs_[index].left, pairs_[index].right);
  const std::vector<Place> places = std::exchange(pairs_[index].places, {});
  auto& token = text_.token;
  const auto shrink = [this](int l, int r, std::int64_t by) { pairs_[index_of(l, r)].count -= by; };
  for (const Place place : places) {
    const Place second = text_.after[place];
    if (token[place] != left || second == kNone || token[second] != right) continue;
    const std::int64_t count = text_.count[text_.word[place]];
    const Place before = text_.before[place];
    const Place after = text_.after[second];

    // before left right after  ->  before merged after
    shrink(left, right, count);
    if (before != kNone) shrink(token[before], left, count);
    if (after != kNone) shrink(right, token[after], count);
    token[place] = merged;
    token[second] = -1;
    text_.after[place] = after;
    if (after != kNone) text_.before[after] = place;
    if (before != kNone) grow(token[before], merged, count, before);
    if (after != kNone) grow(merged, token[after], count, place);
  }
  queue_grown();
}

}  // namespace

Vocabulary train_tokenizer(const WordCounts& counts, const TrainTokenizerOptions& options) {
  return MergeLearner(counts, options).train();
}

}  // namespace vitrine::nn
