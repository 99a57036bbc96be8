// vitrine generate: continues a prompt, token by token.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "apps/options.h"
#include "apps/run.h"
#include "apps/verbs.h"
#include "nn/sampling.h"
#include "nn/utf8.h"

namespace vitrine::app {
namespace {

// Bytes come token by token, and a token may end within a character: hands out whole characters.
class CharacterStream {
 public:
  // The text that is complete after these bytes. What is not UTF-8 comes as U+FFFD.
  std::string add(std::string_view bytes) {
    pending_ += bytes;
    std::size_t end = 0;
    while (end < pending_.size()) {
      const nn::Character c = nn::read_character(pending_, end);
      if (!c.valid && end + c.length == pending_.size()) break;  // it may yet become a character
      end += c.length;
    }
    const std::string whole = nn::replace_invalid_utf8(std::string_view(pending_).substr(0, end));
    pending_.erase(0, end);
    return whole;
  }
  std::string rest() const { return nn::replace_invalid_utf8(pending_); }

 private:
  std::string pending_;
};

// Passes pieces of text on to stdout as they come, or keeps them for a file.
class TextOutput {
 public:
  TextOutput(const CommonOptions& common, bool stream) : common_(common), stream_(stream) {}
  void add(std::string_view text) {
    if (stream_) {
      write_stdout(text);
    } else {
      text_ += text;
    }
  }
  void finish() {
    if (!stream_) write_result(common_.out, text_);
  }

 private:
  const CommonOptions& common_;
  bool stream_;
  std::string text_;
};

struct Options {
  CommonOptions common;
  PromptOptions prompt;
  nn::Sampling sampling;
  int max_tokens = 40;
  bool max_tokens_given = false;
};

struct Continuation {
  nn::Tokens tokens;   // new ones alone, without the end-of-text token
  bool ended = false;  // by the end-of-text token, rather than by the count
};

Continuation generate(const nn::Model& model, const nn::Tokens& prompt, const Options& options,
                      const Interruptible& interruptible,
                      const std::function<void(int id)>& on_token) {
  const nn::Tokenizer* tokenizer = model.has_tokenizer() ? &model.tokenizer() : nullptr;
  std::optional<int> end = model.config().eos;
  if (!end && tokenizer != nullptr) end = tokenizer->end_of_text();

  // The default count gives way to the context; a count that was asked for does not.
  const int room = model.config().context - static_cast<int>(prompt.size());
  const int count =
      options.max_tokens_given ? options.max_tokens : std::clamp(room, 1, options.max_tokens);
  Continuation out;
  nn::generate(model, prompt, count, options.sampling,
               random::Key{options.common.seed}.fold("generate"), [&](int id) {
                 if (interruptible.requested()) return false;
                 out.ended = end == id;
                 if (out.ended) return false;
                 out.tokens.push_back(id);
                 on_token(id);
                 return true;
               });
  return out;
}

void print_text(const nn::Model& model, const nn::Tokens& prompt, const Options& options,
                const Interruptible& interruptible) {
  const CommonOptions& common = options.common;
  const nn::Tokenizer* tokenizer = model.has_tokenizer() ? &model.tokenizer() : nullptr;
  const Style style = common.style();
  TextOutput output(common, common.out.empty() || common.out == "-");
  CharacterStream characters;
  // The prompt waits for the first token, so that a failing run prints nothing on stdout.
  bool begun = false;
  const auto begin = [&] {
    if (std::exchange(begun, true)) return;
    output.add(style.dim(tokenizer != nullptr ? nn::replace_invalid_utf8(tokenizer->decode(prompt))
                                              : fmt::format("{}", fmt::join(prompt, " "))));
  };
  generate(model, prompt, options, interruptible, [&](int id) {
    begin();
    output.add(tokenizer != nullptr ? characters.add(tokenizer->token_bytes(id))
                                    : fmt::format(" {}", id));
  });
  begin();
  output.add(characters.rest() + "\n");
  interruptible.check();
  output.finish();
}

void print_json(const CommandLine& line, const nn::Model& model, const nn::Tokens& prompt,
                const Options& options, const Interruptible& interruptible) {
  const Continuation c = generate(model, prompt, options, interruptible, [](int) {});
  interruptible.check();
  const Json text =
      model.has_tokenizer() ? Json(json_text(model.tokenizer().decode(c.tokens))) : Json();
  write_result(options.common.out, to_line({{"meta", options.common.meta(line)},
                                            {"prompt_tokens", prompt},
                                            {"tokens", c.tokens},
                                            {"text", text},
                                            {"stopped", c.ended ? "end of text" : "length"}}));
}

}  // namespace

void verb_generate(const Arguments& arguments) {
  CommandLine line(arguments,
                   "Continues a prompt: prompt and continuation are printed as they come.\n"
                   "Stops at the end-of-text token, which is not printed.\n\n"
                   "json: {meta, prompt_tokens, tokens, text, stopped}; tokens and text are the\n"
                   "new ones alone (text is null without a tokenizer), stopped is \"length\" or\n"
                   "\"end of text\".\n",
                   "vitrine generate --prompt 'It was a dark night and' --temperature 0.8 "
                   "--top-k 40 --seed 7");
  Options options;
  nn::Sampling& sampling = options.sampling;
  options.prompt.add_to(line);
  constexpr int kMost = 1'000'000;
  const CLI::Option* count = line.number("--max-tokens", options.max_tokens, "N",
                                         "how many new tokens at most (default: 40, or what the\n"
                                         "context has room for)",
                                         1, kMost);
  const CLI::Option* temperature =
      line.option("--temperature", sampling.temperature, "T",
                  "0 takes the most probable token, 1 draws from the\n"
                  "model's probabilities, more is wilder (default: 0;\n"
                  "1 with --top-k or --top-p)");
  const CLI::Option* top_k =
      line.number("--top-k", sampling.top_k, "K",
                  "draw from the K most probable tokens (default: 0, all)", 0, kMost);
  const CLI::Option* top_p =
      line.option("--top-p", sampling.top_p, "P",
                  "draw from the fewest tokens whose probabilities reach P\n(default: 1, all)");
  options.common.add_to(line);
  if (!line.parse()) return;
  options.max_tokens_given = count->count() > 0;
  if (temperature->count() == 0 && top_k->count() + top_p->count() > 0) sampling.temperature = 1;
  nn::check_sampling(sampling);
  options.prompt.require(line);

  const Interruptible interruptible;
  const nn::Model model = options.common.load();
  const nn::Tokens prompt = options.prompt.tokens(model);
  if (options.common.json()) {
    print_json(line, model, prompt, options, interruptible);
  } else {
    print_text(model, prompt, options, interruptible);
  }
}

}  // namespace vitrine::app
