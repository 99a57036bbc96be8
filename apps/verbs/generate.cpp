// vitrine generate: continues a prompt, token by token.
#include <fmt/format.h>

#include <utility>

#include "apps/experiment/edit_options.h"
#include "apps/options/continuation.h"
#include "apps/verbs/verbs.h"
#include "tensor/files/utf8.h"

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
  EditOptions edits;
  PromptOptions prompt;
  SamplingOptions sampling;
};

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
    output.add(style.dim(tokenizer != nullptr
                             ? nn::replace_invalid_utf8(tokenizer->shown_text(prompt))
                             : fmt::format("{}", fmt::join(prompt, " "))));
  };
  continue_prompt(model, prompt, options.sampling, common.seed, interruptible, [&](int id) {
    begin();
    output.add(tokenizer != nullptr ? characters.add(tokenizer->between() + tokenizer->shown(id))
                                    : fmt::format(" {}", id));
  });
  begin();
  output.add(characters.rest() + "\n");
  interruptible.check();
  output.finish();
}

void print_json(const CommandLine& line, const nn::Model& model, const nn::Tokens& prompt,
                const Options& options, const Interruptible& interruptible) {
  const Continuation c = continue_prompt(model, prompt, options.sampling, options.common.seed,
                                         interruptible, [](int) {});
  interruptible.check();
  write_result(options.common.out, to_line({{"meta", options.common.meta(line)},
                                            {"prompt_tokens", prompt},
                                            {"tokens", c.tokens},
                                            {"text", c.text(model)},
                                            {"stopped", c.stopped()}}));
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
  options.prompt.add_to(line);
  options.sampling.add_to(line);
  options.edits.add_to(line, options.common);
  options.common.add_to(line);
  if (!line.parse()) return;
  options.sampling.settle();
  options.prompt.require(line);

  const Interruptible interruptible;
  const nn::Model model = options.common.load();
  const nn::Tokens prompt = options.prompt.tokens(model);
  if (!options.common.heading().empty() && !options.common.quiet) log(options.common.heading());
  if (options.common.json()) {
    print_json(line, model, prompt, options, interruptible);
  } else {
    print_text(model, prompt, options, interruptible);
  }
}

}  // namespace vitrine::app
