// A tokenizer out of the metadata of a GGUF file.
//
// "gpt2" is byte-level BPE with its merges listed; how text is cut is no more than a name, `pre`,
// and what the names mean is taken from the tokenizer.json files of the models that have them.
// "llama" is SentencePiece's BPE: no merges are listed, but every token has a score, and of two
// neighbours that make a token together those with the best score merge first.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "nn/splitting/regular_expression.h"
#include "nn/tokenizer/byte_spelling.h"
#include "nn/tokenizer/gguf_tokenizer.h"
#include "nn/tokenizer/tokenizer.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

constexpr std::string_view kSpace = "\u2581";

// token_type
constexpr int kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;

TextSteps::PreTokenizer split_by(std::string_view pattern) {
  return TextSteps::Split{std::make_shared<const RegularExpression>(pattern, "tokenizer.ggml.pre")};
}

// The ways to cut text that have a name.
struct Cutting {
  std::string_view name;
  TextSteps steps;
  bool ignore_merges = false;
  bool add_bos = false;  // unless add_bos_token says otherwise
};

std::vector<Cutting> cuttings() {
  using Steps = TextSteps;
  const Steps gpt2;
  const Steps smollm{{}, {Steps::Digits{true}, Steps::ByteLevel{}}};
  const Steps llama{
      {},
      {split_by(
           R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"),
       Steps::ByteLevel{false, false}}};
  const Steps qwen{
      {Steps::Nfc{}},
      {split_by(
           R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"),
       Steps::ByteLevel{false, false}}};
  return {{"gpt-2", gpt2},
          {"smollm", smollm},
          {"starcoder", smollm},
          {"refact", smollm},
          {"command-r", smollm},
          {"llama-bpe", llama, true, true},
          {"llama3", llama, true, true},
          {"llama-v3", llama, true, true},
          {"qwen2", qwen}};
}

class GgufReader {
 public:
  GgufReader(const GgufTokenizer& parts, std::string_view name) : parts_(parts), name_(name) {}

  Vocabulary read() {
    const std::size_t count = parts_.tokens.size();
    if (count == 0) fail("tokens: there are none");
    if (count > INT32_MAX / 2) fail("tokens: there are too many");
    if (!parts_.token_type.empty() && parts_.token_type.size() != count) {
      fail(fmt::format("token_type: expected {} of them, one for each token, found {}", count,
                       parts_.token_type.size()));
    }
    for (const int type : parts_.token_type) {
      if (type < 1 || type > kByte)
        fail(fmt::format("token_type: expected numbers from 1 to 6, found {}", type));
    }
    vocabulary_.tokens.resize(count);
    if (parts_.model == "gpt2") read_bytes();
    else if (parts_.model == "llama") read_characters();
    else unsupported("model", "\"gpt2\" or \"llama\"", parts_.model);
    read_ends();
    return std::move(vocabulary_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw FileError(fmt::format("{}: tokenizer.ggml.{}", name_, what));
  }
  [[noreturn]] void unsupported(std::string_view key, std::string_view expected,
                                std::string_view found) const {
    throw ConfigError(
        fmt::format("{}: tokenizer.ggml.{}: expected {}, found {}; no other is supported: give a "
                    "folder with the "
                    "model's tokenizer.json, or work with token ids instead of text",
                    name_, key, expected, quote(found)));
  }

  int type(std::size_t id) const { return parts_.token_type.empty() ? 1 : parts_.token_type[id]; }

  // Tokens that stand outside the merges: looked for in the text as they are.
  void add_if_added(std::size_t id) {
    if (type(id) != kControl && type(id) != kUserDefined) return;
    if (parts_.tokens[id].empty()) fail(fmt::format("tokens: token {} is empty", id));
    vocabulary_.added.push_back(
        {static_cast<int>(id), parts_.tokens[id], type(id) == kControl, false});
  }

  // The id of each spelling; the first where a file has one twice.
  void index_spellings() {
    for (std::size_t id = 0; id < parts_.tokens.size(); ++id)
      ids_.emplace(parts_.tokens[id], static_cast<int>(id));
  }

  // ---- model gpt2

  void read_bytes() {
    std::string names;
    const std::vector<Cutting> all = cuttings();
    const auto known = std::find_if(all.begin(), all.end(),
                                    [&](const Cutting& one) { return one.name == parts_.pre; });
    if (known == all.end()) {
      for (const Cutting& one : all)
        names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", one.name);
      unsupported("pre", "one of " + names, parts_.pre);
    }
    vocabulary_.steps = known->steps;
    vocabulary_.ignore_merges = known->ignore_merges;
    add_bos_ = known->add_bos;
    for (std::size_t id = 0; id < parts_.tokens.size(); ++id) {
      const std::string& spelling = parts_.tokens[id];
      const bool literal = type(id) == kControl || type(id) == kUserDefined || type(id) == kUnused;
      auto bytes = literal ? std::optional(spelling) : bytes_of_spelling(spelling);
      if (!bytes || bytes->empty()) {
        fail(fmt::format("tokens: token {}, {}, is not byte-level", id, quote(spelling)));
      }
      vocabulary_.tokens[id] = std::move(*bytes);
      add_if_added(id);
    }
    index_spellings();
    read_merges();
  }

  void read_merges() {
    std::unordered_map<std::uint64_t, std::size_t> seen;
    for (std::size_t i = 0; i < parts_.merges.size(); ++i) {
      const std::string& line = parts_.merges[i];
      // The second token begins after the first space that is not itself a token's first character.
      const std::size_t space = line.find(' ', 1);
      if (space == line.npos || space + 1 == line.size()) {
        fail(fmt::format("merges: merge {} is two tokens with one space between, not {}", i,
                         quote(line)));
      }
      const std::string left = line.substr(0, space), right = line.substr(space + 1);
      const auto id = [&](const std::string& token) {
        const auto found = ids_.find(token);
        if (found != ids_.end()) return found->second;
        fail(fmt::format("merges: merge {}, of {} and {}, needs the token {}, which is not there",
                         i, quote(left), quote(right), quote(token)));
      };
      const Merge merge{id(left), id(right), id(left + right)};
      const std::uint64_t pair = std::uint64_t(merge.left) << 32 | std::uint64_t(merge.right);
      if (!seen.emplace(pair, i).second) {
        fail(fmt::format("merges: merge {}, of {} and {}, is listed a second time", i, quote(left),
                         quote(right)));
      }
      vocabulary_.merges.push_back(merge);
    }
  }

  // ---- model llama

  void read_characters() {
    const bool prefix = parts_.add_space_prefix.value_or(true);
    add_bos_ = true;
    TextSteps& steps = vocabulary_.steps;
    steps.pre_tokenizers.clear();
    if (prefix) steps.normalizers.push_back(TextSteps::Prepend{std::string(kSpace)});
    steps.normalizers.push_back(TextSteps::Replace{" ", std::string(kSpace)});
    steps.decoders = {TextSteps::ReplaceText{std::string(kSpace), " "}, TextSteps::ByteFallback{},
                      TextSteps::Fuse{}};
    if (prefix) steps.decoders.push_back(TextSteps::Strip{" ", 1});

    CharacterModel& characters = vocabulary_.characters.emplace();
    characters.byte_fallback = characters.fuse_unknown = true;
    characters.spelling.resize(parts_.tokens.size());
    index_spellings();
    for (std::size_t id = 0; id < parts_.tokens.size(); ++id) {
      const std::string& spelling = parts_.tokens[id];
      if (spelling.empty()) continue;  // some files fill gaps with these
      // Of tokens that are spelled alike the first is found; the others cannot be.
      if (ids_.at(spelling) == static_cast<int>(id)) characters.spelling[id] = spelling;
      vocabulary_.tokens[id] = type(id) == kUserDefined || type(id) == kControl
                                   ? spelling
                                   : steps.decode_token(spelling);
      if (type(id) == kUnknown && !characters.unknown) characters.unknown = static_cast<int>(id);
      add_if_added(id);
    }
    make_merges();
  }

  // Whether a token can be part of a merge, or made by one.
  bool merges(int id) const {
    return type(id) != kControl && type(id) != kUnknown && type(id) != kByte;
  }

  // Every way to cut a token into two others is a merge; the better the score of what it makes the
  // earlier it comes. Ways to make the same token come in the order that HuggingFace's converter
  // gives them: SentencePiece takes the leftmost in the text, which makes no difference unless
  // both ways overlap there.
  void make_merges() {
    if (parts_.scores.size() != parts_.tokens.size()) {
      fail(fmt::format("scores: expected {} of them, one for each token, found {}",
                       parts_.tokens.size(), parts_.scores.size()));
    }
    const auto& spelling = vocabulary_.characters->spelling;
    for (std::size_t id = 0; id < spelling.size(); ++id) {
      if (!std::isfinite(parts_.scores[id]))
        fail(fmt::format("scores: the score of token {} is not finite", id));
      if (!spelling[id] || !merges(static_cast<int>(id))) continue;
      const std::string_view whole = *spelling[id];
      if (whole.size() > kLongest)
        fail(
            fmt::format("tokens: token {} has {} bytes, more than {}", id, whole.size(), kLongest));
      for (std::size_t cut = read_character(whole, 0).length; cut < whole.size();
           cut += read_character(whole, cut).length) {
        const auto left = ids_.find(std::string(whole.substr(0, cut)));
        if (left == ids_.end() || !merges(left->second)) continue;
        const auto right = ids_.find(std::string(whole.substr(cut)));
        if (right == ids_.end() || !merges(right->second)) continue;
        vocabulary_.merges.push_back({left->second, right->second, static_cast<int>(id)});
      }
    }
    const auto size = [&](int id) { return spelling[id]->size(); };
    std::stable_sort(vocabulary_.merges.begin(), vocabulary_.merges.end(),
                     [&](const Merge& a, const Merge& b) {
                       const float x = parts_.scores[a.merged], y = parts_.scores[b.merged];
                       if (x != y) return x > y;
                       return size(a.left) > size(b.left);
                     });
    check_order();
  }

  // SentencePiece lets tokens of the same score merge from left to right. A list of merges cannot say
  // that of two tokens, and files in use have no such two.
  void check_order() const {
    for (std::size_t i = 1; i < vocabulary_.merges.size(); ++i) {
      const int a = vocabulary_.merges[i - 1].merged, b = vocabulary_.merges[i].merged;
      if (a == b || parts_.scores[a] != parts_.scores[b]) continue;
      throw ConfigError(
          fmt::format("{}: tokenizer.ggml.scores: expected different scores, found {} for both {} "
                      "and {}; which "
                      "of them merges first would depend on their place, which is not supported",
                      name_, parts_.scores[a], quote(parts_.tokens[a]), quote(parts_.tokens[b])));
    }
    for (const Merge& merge : vocabulary_.merges) {
      if (type(merge.merged) != kUnused) continue;
      throw ConfigError(fmt::format(
          "{}: tokenizer.ggml.token_type: expected no merge to make an unused token, found {}; to "
          "take it apart again is not supported",
          name_, quote(parts_.tokens[merge.merged])));
    }
  }

  // ---- both

  void read_ends() {
    const auto check = [&](const char* key, std::optional<int> id) {
      if (id && (*id < 0 || static_cast<std::size_t>(*id) >= parts_.tokens.size())) {
        fail(fmt::format("{}: expected the id of a token, from 0 to {}, found {}", key,
                         parts_.tokens.size() - 1, *id));
      }
    };
    check("bos_token_id", parts_.bos);
    check("eos_token_id", parts_.eos);
    if (parts_.add_eos.value_or(false)) {
      throw ConfigError(
          fmt::format("{}: tokenizer.ggml.add_eos_token: expected false, found true; putting a "
                      "token after every "
                      "text is not supported: give the token as text, with Special::as_tokens",
                      name_));
    }
    if (parts_.add_bos.value_or(add_bos_) && parts_.bos) vocabulary_.first = {*parts_.bos};
    if (parts_.add_bos.value_or(false) && !parts_.bos)
      fail("add_bos_token: it is true, but there is no bos_token_id");
  }

  static constexpr std::size_t kLongest = 4096;  // bytes of a token

  const GgufTokenizer& parts_;
  const std::string name_;
  Vocabulary vocabulary_;
  std::unordered_map<std::string, int> ids_;  // by spelling
  bool add_bos_ = false;
};

}  // namespace

Tokenizer Tokenizer::from_gguf(const GgufTokenizer& parts, std::string_view name) {
  return {GgufReader(parts, name).read(), name};
}

}  // namespace vitrine::nn
