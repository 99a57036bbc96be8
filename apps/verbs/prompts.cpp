// vitrine prompts: files of prompts and pairs, from templates or ready-made.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <memory>

#include "apps/options/csv_file.h"
#include "apps/options/options.h"
#include "apps/prompt_sets/prompt_sets.h"
#include "apps/prompt_sets/ready_sets.h"
#include "apps/terminal/run.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

struct PromptsOptions {
  CommonOptions common;
  std::vector<std::string> sets, templates, slots, tables, answers, wrongs, corrupt, fields;
  std::string single, within;
  std::int64_t sample = 0;
  int length = 20;
  bool all = false, known = false, known_top = false;
  const Option* sample_option = nullptr;
  const Option* length_option = nullptr;

  const std::string& set() const { return sets.at(0); }
  bool ready() const { return !sets.empty(); }
};

void add_options(CommandLine& line, PromptsOptions& o) {
  line.rest("SET", o.sets, "a ready set: capitals, ioi, induction or greater-than");
  line.heading("Templates");
  line.option("--template", o.templates, "TEXT",
              "a prompt with slots: 'The capital of {state} is'. A slot that stands once is\n"
              "a role by its name, one that stands twice is NAME1 and NAME2; {b@s2} is the\n"
              "role s2, {b@} none, {{ and }} are braces. Several templates have names:\n"
              "--template 'ABBA=When {a} and {b} ...', the field \"template\" of each line");
  line.option("--slot", o.slots, "NAME=V1,V2,...",
              "the values of a slot; of several slots, A,B=V1,V2,..., different ones; cells\n"
              "are written as in CSV. Or FILE.csv, as --table");
  line.option("--table", o.tables, "FILE.csv",
              "slots whose values go together: a line of names, then rows");
  line.option("--answer", o.answers, "TEXT",
              "what should follow, with its leading space: ' {capital}'. Several times for\n"
              "several right answers");
  line.option("--wrong", o.wrongs, "TEXT",
              "what should not: ' {capital:other}' is the value in the corrupt partner");
  line.option("--corrupt", o.corrupt, "RULE",
              "gives each prompt a partner of as many tokens: swap=A,B, two slots exchanged;\n"
              "other=SLOT, the values of another row; random=SLOT, random tokens;\n"
              "put=ROLE:SLOT, in the place ROLE stands what SLOT has. Several times for one\n"
              "after the other. Of the set ioi: flip (default) or abc, three other names");
  line.option(
      "--within", o.within, "NAME,...",
      "of --corrupt other=SLOT: only rows that have the same NAME, a column of SLOT's table\n"
      "or a --field made of its columns: --corrupt other=state --within region");
  line.option("--field", o.fields, "NAME=TEXT",
              "another field of each line, to group by: order={template}, state={state}");
  line.option("--single", o.single, "answer,wrong,SLOT,...",
              "leaves out prompts in which one of these is not a single token");
  line.heading("Which");
  line.flag("--all", o.all, "all combinations of templates and values (default)");
  o.sample_option = line.number("--sample,--count", o.sample, "N",
                                "so many of them, chosen by --seed (default of a ready set: 100)",
                                std::int64_t{1}, std::int64_t{1'000'000});
  line.flag("--known", o.known,
            "only what the model answers right: the answer is more probable than the\n"
            "wrong one (without one: the most probable token)");
  line.flag("--known-top", o.known_top, "only where the most probable token is an answer");
  o.length_option = line.number("--length", o.length, "N",
                                "of the set induction: how many random tokens come twice\n"
                                "(default: 20)",
                                2, 100'000);
}

// ---- what is asked for --------------------------------------------------------------------------
void check_ready(const CommandLine& line, const PromptsOptions& o) {
  if (o.sets.size() > 1) line.fail("give one set, or templates");
  const auto& sets = ready_sets();
  if (std::find(sets.begin(), sets.end(), o.set()) == sets.end()) {
    line.fail(fmt::format("there is no set '{}'{}; the sets are {}", o.set(),
                          did_you_mean(nearest(o.set(), sets)), fmt::join(sets, ", ")));
  }
  for (const std::string& option : line.given("Templates")) {
    if (option.find("--corrupt") != std::string::npos && o.set() == "ioi") continue;
    line.fail(fmt::format("{} is about templates, not about the set {}", option, o.set()));
  }
  if (o.all) line.fail("--all is about templates; give --count N of a ready set");
  for (const std::string& rule : o.corrupt) {
    if (rule != "flip" && rule != "abc")
      line.fail(fmt::format("--corrupt {}: of the set ioi it is flip or abc", rule));
  }
  if (o.corrupt.size() > 1) line.fail("--corrupt flip or abc is given once");
}

void check_command(const CommandLine& line, const PromptsOptions& o) {
  if (o.known && o.known_top) line.fail("give --known or --known-top, not both");
  if (o.length_option->count() > 0 && (!o.ready() || o.set() != "induction"))
    line.fail("--length is about the set induction");
  if (o.ready()) return check_ready(line, o);
  if (o.templates.empty()) {
    line.fail(
        fmt::format("give --template TEXT, or a ready set: {}", fmt::join(ready_sets(), ", ")));
  }
  if (o.all && o.sample_option->count() > 0) line.fail("give --all or --sample N, not both");
  if (!o.wrongs.empty() && o.answers.empty()) line.fail("--wrong goes with --answer");
}

std::vector<std::vector<TemplatePiece>> parsed(const std::vector<std::string>& texts,
                                               const std::string& option) {
  std::vector<std::vector<TemplatePiece>> all;
  for (const std::string& text : texts) all.push_back(parse_template(text, option));
  return all;
}

// A field that the file has of its own, or that its reader would take for one.
void check_field(const CommandLine& line, const std::string& name) {
  static const std::vector<std::string> kTaken = {
      "prompt",       "clean",          "corrupt",      "answer",      "wrong", "prompt_tokens",
      "clean_tokens", "corrupt_tokens", "answer_token", "wrong_token", "roles"};
  if (!is_name(name)) line.fail(fmt::format("--field {}: expected NAME=TEXT", nn::visible(name)));
  if (std::find(kTaken.begin(), kTaken.end(), name) != kTaken.end())
    line.fail(fmt::format("--field {}: each line has that already", name));
}

PromptRecipe recipe_of(const CommandLine& line, const PromptsOptions& o) {
  PromptRecipe recipe;
  for (const std::string& text : o.templates)
    recipe.templates.push_back(parse_named_template(text, "--template"));
  for (const std::string& slot : o.slots) {
    const bool file = slot.find('=') == std::string::npos && slot.ends_with(".csv");
    if (file) recipe.slots.add_table(read_csv(slot), "--slot " + slot);
    else recipe.slots.add_list(slot);
  }
  for (const std::string& file : o.tables)
    recipe.slots.add_table(read_csv(file), "--table " + file);
  for (const std::string& rule : o.corrupt) recipe.corrupt.push_back(parse_corrupt_rule(rule));
  recipe.answers = parsed(o.answers, "--answer");
  recipe.wrongs = parsed(o.wrongs, "--wrong");
  for (const std::string& field : o.fields) {
    const std::size_t equals = std::min(field.find('='), field.size());
    const std::string name = field.substr(0, equals);
    check_field(line, name);
    if (equals == field.size()) line.fail(fmt::format("--field {}: expected NAME=TEXT", name));
    recipe.fields.emplace_back(name, parse_template(field.substr(equals + 1), "--field " + name));
  }
  if (!o.single.empty()) recipe.single = items_of(o.single);
  if (!o.within.empty()) recipe.within = items_of(o.within);
  recipe.check();
  return recipe;
}

// ---- what came of it ----------------------------------------------------------------------------
std::string counted(std::int64_t count, const char* what) {
  return fmt::format("{} {}{}", grouped(count), what, count == 1 ? "" : "s");
}

std::string summary(const PromptCollection& found, const PromptsOptions& o) {
  std::map<std::string, std::int64_t> kinds;
  std::size_t least = SIZE_MAX, most = 0;
  for (const PromptLine& line : found.lines) {
    if (!line.kind.empty()) ++kinds[line.kind];
    least = std::min(least, line.prompt.size());
    most = std::max(most, line.prompt.size());
  }
  const bool pairs = !found.lines[0].corrupt.empty();
  std::string text = counted(std::ssize(found.lines), pairs ? "pair" : "prompt");
  text += least == most ? fmt::format(" of {} tokens", most)
                        : fmt::format(" of {} to {} tokens", least, most);
  std::string each;
  for (const auto& [kind, count] : kinds)
    each += fmt::format("{}{} {}", each.empty() ? "" : ", ", count, kind);
  if (kinds.size() > 1) text += fmt::format(" ({})", each);
  if (o.sample_option->count() > 0 && o.sample > std::ssize(found.lines))
    text += fmt::format("; {} were asked for, and there are no more", grouped(o.sample));
  if (found.asked > 0) {
    text += fmt::format("; the model answers {} of {} right", grouped(found.known),
                        grouped(found.asked));
  }
  if (found.left_out.total() > 0) text += fmt::format("; left out {}", found.left_out.text());
  if (!o.common.out.empty() && o.common.out != "-")
    text += fmt::format("; written to {}", o.common.out);
  return text;
}

PromptCollection made(PromptDrafts& drafts, const PromptsOptions& o, const nn::Model& model) {
  const Interruptible interruptible;
  PromptChoice choice{.sample = std::nullopt, .seed = o.common.seed};
  if (o.sample > 0) choice.sample = o.sample;
  if (o.known) choice.known = PromptChoice::Known::right;
  if (o.known_top) choice.known = PromptChoice::Known::top;
  return collect_prompts(drafts, choice, model, [&] { interruptible.check(); });
}

}  // namespace

void verb_prompts(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Files of prompts, or of pairs of a prompt and a corrupt partner: JSON objects, one a\n"
      "line, which --prompts and --pairs of other verbs read. From templates, or a ready set:\n"
      "  capitals      The capital of Texas is -> Austin\n"
      "  ioi           When John and Mary went to the shop, John gave a bag to -> Mary\n"
      "  induction     random tokens, and the same once more, by ids\n"
      "  greater-than  The war lasted from the year 1732 to the year 17 -> 33, 34, ...\n"
      "What was left out, and why, is said on stderr.\n\n"
      "json: {prompt, answer, wrong, roles: {NAME: text | position | [begin, end], end: -1},\n"
      "template, FIELD...} a line; of a pair clean and corrupt instead of prompt; by ids\n"
      "clean_tokens, corrupt_tokens, answer_token, wrong_token; an answer that may be one of\n"
      "several is a list\n",
      "vitrine prompts ioi --count 8\n"
      "  vitrine prompts --template 'The capital of {state} is' --slot state=Texas,Ohio,Virginia "
      "--corrupt other=state\n"
      "  vitrine prompts capitals --known --count 4");
  PromptsOptions o;
  add_options(line, o);
  line.heading("Options");
  o.common.add_to(line, "write the lines to FILE.jsonl, all or nothing, and not to stdout",
                  CommonOptions::Out::lines);
  line.after_parsing([&] { check_command(line, o); });
  if (!line.parse()) return;
  std::optional<PromptRecipe> recipe;
  if (!o.ready()) recipe = recipe_of(line, o);
  if (o.ready() && o.sample == 0) o.sample = 100;

  const nn::Model model = o.common.load();
  std::unique_ptr<PromptDrafts> drafts;
  if (!o.ready() || o.set() != "induction")
    require_tokenizer(model, o.ready() ? o.set() : "--template", "the set induction is of ids");
  if (o.ready()) {
    drafts = ready_drafts({.name = o.set(),
                           .abc = !o.corrupt.empty() && o.corrupt[0] == "abc",
                           .length = o.length,
                           .seed = o.common.seed},
                          model);
  } else {
    drafts = std::make_unique<TemplateDrafts>(*recipe, model, o.common.seed);
  }
  const PromptCollection found = made(*drafts, o, model);
  std::string text;
  for (const PromptLine& l : found.lines) text += to_line(l.json);
  write_result(o.common.out, text);
  if (!o.common.quiet) log(summary(found, o));
}

}  // namespace vitrine::app
