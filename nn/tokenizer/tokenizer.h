// Text to token ids and back: byte-pair encoding, as GPT-2, Llama, Qwen and others use it.
//
//   const Tokenizer tokenizer = Tokenizer::load("apps/model");
//   std::vector<int> ids = tokenizer.encode("The capital of Texas is");
//   tokenizer.str_tokens(ids);             // {"The", " capital", " of", " Texas", " is"}
//   tokenizer.to_single_token(" Austin");  // an id; "Austin" throws and suggests " Austin"
//
// A text is normalised and cut into pieces (nn/splitting/text_steps.h), each piece into bytes or
// characters, and neighbours merge into tokens (nn/tokenizer/byte_pair_merges.h). The ids are those
// of HuggingFace tokenizers.
//
// GPT-2, Llama 3, Qwen2, SmolLM2 and Pythia merge bytes: any bytes can be encoded, UTF-8 or not, and
// decode(encode(x)) == x unless the tokenizer normalises x or puts a space before it. Llama 2, Mistral
// and Gemma merge characters, with a token for each byte where a character has none
// (CharacterModel): they put a space before a text, and decode takes one away again.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "nn/splitting/text_steps.h"
#include "nn/tokenizer/added_tokens.h"
#include "nn/tokenizer/byte_pair_merges.h"

namespace vitrine::nn {

struct GgufTokenizer;

// What a tokenizer needs besides where its tokens are made of characters rather than bytes.
struct CharacterModel {
  // How the merges spell each id, "\u2581the" or "<0x0A>"; nullopt: it is not for them.
  std::vector<std::optional<std::string>> spelling;
  bool byte_fallback = false;    // a character without a token is the tokens of its bytes
  std::optional<int> unknown{};  // or else this token
  bool fuse_unknown = false;     // of which there is one for several characters in a row
};

// Everything a tokenizer is made of. Tokenizer::load reads one from files.
struct Vocabulary {
  std::vector<std::optional<std::string>>
      tokens;                     // the bytes of each id; nullopt: the id is unused
  std::vector<Merge> merges;      // by rank
  std::vector<AddedToken> added;  // their ids have their content, or what it spells, in `tokens`
  bool ignore_merges = false;  // a piece that is a token itself is never split (HuggingFace's name)
  std::vector<int> first;      // put before every prompt: a beginning-of-text token, or nothing
  TextSteps steps{};           // GPT-2's, unless they say otherwise
  std::optional<CharacterModel> characters{};  // exactly where `steps` does not end in bytes
  // Put between tokens when they are joined. Where it is not empty, tokens are names: a piece that
  // is none of them is an error.
  std::string between{};
};

// The end-of-text token, which GPT-2 was trained to see between texts.
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

// The treatment, by encode, of a special token whose text occurs in the input. Added tokens that are
// not special (runs of spaces, say) are always one id each, as the model has learnt them.
enum class Special {
  as_text,    // plain text: input from strangers cannot end the text
  as_tokens,  // its one id, as HuggingFace does by default
};

// Immutable: one instance may be used by any number of threads.
class Tokenizer {
 public:
  // Of a GGUF file: the tokenizer in it (nn/tokenizer/gguf_tokenizer.h). Of a folder:
  // FOLDER/tokenizer.json, or else vocab.json and merges.txt; then the tokens that
  // tokenizer_config.json, special_tokens_map.json and added_tokens.json name besides, as
  // HuggingFace does. Throws FileError when files are missing or malformed, ConfigError when they
  // ask for something that would change the ids and is not supported (another model than BPE, a part
  // that is not known, a post-processor that adds tokens after a text): see
  // tokenizer/tokenizer_files.cpp and tokenizer/tokenizer_parts.h.
  static Tokenizer load(const std::filesystem::path& folder);

  // Whether `folder` has any of tokenizer.json, vocab.json and merges.txt, or is a GGUF file with a
  // tokenizer. Of an incomplete set load says what is missing.
  static bool exists(const std::filesystem::path& folder);

  // The same from memory; `name` stands for the file (for parse: the folder) in messages. Without
  // tokenizer.json an entry <|endoftext|> of the vocabulary is an added token, and so is every
  // entry of added_tokens.json ({"text": id}, "" when there is none).
  static Tokenizer parse(std::string_view vocab_json, std::string_view merges_txt,
                         std::string_view name, std::string_view added_tokens_json = {});
  static Tokenizer parse_tokenizer_json(std::string_view json, std::string_view name);

  // From a GGUF file's metadata; `name` appears in messages. Throws FileError when parts do not fit
  // each other, ConfigError for a `model` or `pre` that is not supported: tokenizer/tokenizer_gguf.cpp.
  static Tokenizer from_gguf(const GgufTokenizer& parts, std::string_view name);

  // From its parts; `name` appears in messages. Throws FileError when a merge or an added token
  // does not fit the tokens.
  Tokenizer(Vocabulary vocabulary, std::string_view name);

  // The ids of a text; any bytes will do. Adds no token of its own (no beginning-of-text). Throws
  // TokenError when a byte or character of the text has no token, which GPT-2's vocabulary cannot
  // cause.
  std::vector<int> encode(std::string_view text, Special special = Special::as_text) const;

  // The ids of a text as HuggingFace gives them for a whole prompt: first(), then encode.
  std::vector<int> encode_prompt(std::string_view text, Special special = Special::as_text) const;

  // The bytes of the tokens, joined; where the tokenizer puts a space before a text, without that
  // space, as its decoder says (Llama 2's Strip, Metaspace). Special tokens stay, and so do bytes that
  // HuggingFace would show as U+FFFD. They are UTF-8 only if the ids hold whole characters: use
  // replace_invalid_utf8 (tensor/files/utf8.h) before printing. Throws TokenError for an id that is
  // no token.
  std::string decode(std::span<const int> ids) const;

  // Each id as text, as TransformerLens's to_str_tokens does: bytes that are part of a character
  // (an emoji spans several tokens) come as U+FFFD. Every token keeps its leading space. Throws
  // TokenError like decode.
  std::vector<std::string> str_tokens(std::span<const int> ids) const;
  std::vector<std::string> str_tokens(std::string_view text) const;

  // The exact bytes of one token. Throws TokenError like decode.
  const std::string& token_bytes(int id) const;

  // For showing what a model says: like token_bytes, decode and str_tokens, but an id that is no
  // token, as those that pad a model's vocabulary, comes as "<id 6015>".
  std::string shown(int id) const;
  std::string shown_text(std::span<const int> ids) const;
  std::vector<std::string> shown_tokens(std::span<const int> ids) const;
  bool has_token(int id) const { return in_use(id); }

  // The id of a text that is one token; an added token counts. Where tokens are characters, the one
  // that stands for exactly this text: " Austin" is "\u2581Austin". Throws TokenError otherwise: it
  // shows the pieces, and names the text with (or without) a leading space if that is one token.
  int to_single_token(std::string_view text) const;

  // The id of the token with exactly these bytes, if there is one.
  std::optional<int> find(std::string_view bytes) const;

  // One more than the largest id. Compare it with the model's vocabulary.
  int vocabulary_size() const { return static_cast<int>(tokens_.size()); }

  // The parts of its Vocabulary.
  const std::vector<std::optional<std::string>>& tokens() const { return tokens_; }
  const std::vector<Merge>& merges() const { return merges_.merges(); }
  const std::vector<AddedToken>& added_tokens() const { return added_; }
  bool ignore_merges() const { return ignore_merges_; }
  const TextSteps& steps() const { return steps_; }
  const std::optional<CharacterModel>& characters() const { return characters_; }
  const std::string& between() const { return between_; }

  // The tokens that the files ask to be prepended to a text (add_bos_token, or the template of
  // tokenizer.json).
  const std::vector<int>& first() const { return first_; }

  // The id of <|endoftext|>, if it is an added token: what GPT-2 was trained to see before a text.
  std::optional<int> end_of_text() const;

 private:
  struct Encoding;  // one call to encode
  // Lets a std::string_view be looked up without copying it.
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  using IdOf = std::unordered_map<std::string, int, Hash, std::equal_to<>>;

  void index_added_tokens();
  void index_bytes();
  void index_characters();
  void check_merges() const;

  // Text between added tokens: first as it is, then normalised. `at_start`: nothing came before it.
  void encode_text(std::string_view text, bool at_start, Encoding& to) const;
  void encode_normalized(std::string_view text, bool at_start, Encoding& to) const;
  // Splits at added tokens: calls between(begin, end) for what lies between them.
  template <class Between>
  void split_at_added(const AddedTokenFinder& finder, std::string_view text, Encoding& to,
                      Between&& between) const;
  void encode_piece(std::string_view piece, Encoding& to) const;
  void encode_short(std::string_view piece, Encoding& to) const;
  // Appends the tokens that are to merge.
  void append_bytes(std::string_view piece, Encoding& to) const;
  void append_characters(std::string_view piece, Encoding& to) const;
  std::string no_such_token(int id) const;  // a message for an id that is not in use
  bool in_use(int id) const { return id >= 0 && id < vocabulary_size() && tokens_[id]; }

  std::vector<std::optional<std::string>> tokens_;  // the bytes of each id
  std::vector<AddedToken> added_;
  MergeTable merges_;
  bool ignore_merges_;
  std::vector<int> first_;
  TextSteps steps_;
  std::optional<CharacterModel> characters_;
  std::string between_;
  IdOf ids_;                       // the tokens that are not added ones
  IdOf added_ids_;                 // the added tokens
  std::array<int, 256> byte_ids_;  // the token of each byte, or -1
  AddedTokenFinder finders_[2];    // of the added tokens; those that are `normalized`
  // Of a character model: ids by spelling, those of ASCII characters, and how each id is written.
  IdOf spelled_ids_;
  std::array<int, 128> ascii_ids_{};
  std::vector<std::string> written_;
  bool cuts_at_spaces_ = false;  // no token has U+2581 after another character
  std::string name_;
};

}  // namespace vitrine::nn
