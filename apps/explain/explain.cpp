// vitrine explain: what is this word?
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

#include "apps/experiment/edit_options.h"
#include "apps/explain/entries.h"
#include "apps/explain/entry_text.h"
#include "apps/options/options.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

EntryKind kind_called(const std::string& name) {
  static const std::map<std::string, EntryKind> kinds = {{"", EntryKind::any},
                                                         {"verb", EntryKind::verb},
                                                         {"term", EntryKind::term},
                                                         {"op", EntryKind::op},
                                                         {"site", EntryKind::site}};
  return kinds.at(name);
}

}  // namespace

void verb_explain(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "What a site, an op, a term of the field or a verb is: its formula, its shape, the file "
      "that\n"
      "computes it, the lesson that teaches it, the paper that it is from. With a prompt, its "
      "numbers:\n"
      "of a site what it holds there, layer by layer, or token by token in one layer. Without a\n"
      "word, all that there is, a line each.\n\n"
      "json: {meta, word, tokens, str_tokens, entries: [{kind, name, summary, lesson: {number, "
      "title,\n"
      "file}, ...}]}, of a verb with {file, library, python, example, help}, of a term with "
      "{names,\n"
      "source, command}, of an op with {formula, is, linear_in, gradient, expands, file, "
      "in_model:\n"
      "{count, flops, share, places: [{file, line, scope, count, type}], expanded, backward}}, of "
      "a\n"
      "site with {typed, axes, shape, layers, head, formula, from, inside, weights, ops, file, "
      "line,\n"
      "hidden_in, code, values: [{layer, least, most, mean, deviation, length, zeros, hidden, "
      "largest,\n"
      "positions}]}; without a word all entries. What is not known is null\n",
      "vitrine explain logit lens\n  vitrine explain 2.z --prompt 'The capital of Texas is'");
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  std::vector<std::string> words;
  std::string kind;
  std::int64_t length = 10;
  line.rest(
      "WORD", words,
      "a site (z, 2.z, 2.4.z, blocks.*.hook_mlp_out), an op (softmax), a term (logit lens), a\n"
      "verb (sae train)");
  line.option("--kind", kind, "verb|term|op|site", "only what is of this kind")
      ->one_of({"verb", "term", "op", "site"});
  const Option* given_length = line.number(
      "--length", length, "N",
      "shapes and costs for a prompt of N tokens (default: 10, or the context where that\n"
      "is less)",
      std::int64_t{1}, std::int64_t{INT32_MAX});
  prompt.add_to(line, "Prompt", "the prompt whose numbers are shown");
  edits.add_to(line, common);
  common.add_to(line, "write the table or JSON to FILE, all or nothing, and not to stdout");
  if (!line.parse()) return;
  common.settle_out(line, CommonOptions::Out::text);
  const std::string word = fmt::format("{}", fmt::join(words, " "));
  if (prompt.given() && given_length->count() > 0)
    line.fail("--length is for shapes without a prompt; the prompt has its own length");
  if (prompt.given()) prompt.require(line);

  const Interruptible interruptible;
  const nn::Model model = common.load();
  if (given_length->count() == 0) length = std::min<std::int64_t>(length, model.config().context);
  if (length > model.config().context)
    throw ContextError(fmt::format("--length {}: this model's context is {} tokens", length,
                                   model.config().context));
  std::optional<nn::Tokens> tokens;
  if (prompt.given()) tokens = prompt.tokens(model);
  Explained about = explained(model, tokens, length, interruptible, common.quiet);
  const Json entries =
      word.empty() ? all_entries(kind_called(kind), about, interruptible, common.quiet)
                   : entries_of(word, kind_called(kind), about, interruptible, common.quiet);
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  const Json str_tokens =
      tokens && tokenizer != nullptr ? Json(tokenizer->shown_tokens(*tokens)) : Json();
  write_presentation(common, common.meta(line),
                     {.text =
                          [&](const Style& style, int) {
                            std::string text = common.heading();
                            if (word.empty()) return text + list_text(entries, style);
                            for (const Json& entry : *entries.list_items()) {
                              if (&entry != &entries.list_items()->front()) text += "\n";
                              text += entry_text(entry, str_tokens, style);
                            }
                            return text;
                          },
                      .json = [&]() -> Json {
                        return {{"word", word.empty() ? Json() : Json(word)},
                                {"tokens", tokens ? Json(*tokens) : Json()},
                                {"str_tokens", str_tokens},
                                {"entries", entries}};
                      }});
}

}  // namespace vitrine::app
