#include "apps/experiment/edit_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "apps/options/site_names.h"
#include "apps/terminal/numbers.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

using Action = EditText::Action;

// Where an action's values come from; it is always needed.
enum class Source { none, mean, prompts, direction, prompt };

// What an action is called, and what it needs besides a site.
struct ActionWord {
  Action action;
  std::string_view word;
  std::string_view number;  // the key of its number; "" where it has none
  bool number_needed;
  Source source;
};
constexpr std::array<ActionWord, 9> kActionWords = {{
    {Action::zero, "zero", "", false, Source::none},
    {Action::mean, "mean", "", false, Source::mean},
    {Action::resample, "resample", "", false, Source::prompts},
    {Action::scale, "scale", "factor", true, Source::none},
    {Action::set, "set", "to", true, Source::none},
    {Action::add, "add", "factor", false, Source::direction},
    {Action::project_out, "project_out", "", false, Source::direction},
    {Action::detach, "detach", "", false, Source::none},
    {Action::patch, "patch", "", false, Source::prompt},
}};

// The keys of sources, and what says which of them are given.
struct SourceKey {
  std::string_view key;
  std::string EditText::*text;
};
constexpr std::array<SourceKey, 5> kSourceKeys = {{{"from", &EditText::from},
                                                   {"over", &EditText::over},
                                                   {"toward", &EditText::toward},
                                                   {"plus", &EditText::plus},
                                                   {"minus", &EditText::minus}}};

// Keys that go together, one line for each way to give a source.
std::vector<std::vector<std::string_view>> ways_to_give(Source source) {
  switch (source) {
    case Source::none:
      return {};
    case Source::mean:
      return {{"from"}, {"over"}};
    case Source::direction:
      return {{"from"}, {"toward"}, {"plus", "minus"}};
    case Source::prompts:
    case Source::prompt:
      return {{"from"}};
  }
  return {};
}

std::string sources_in_words(Source source) {
  switch (source) {
    case Source::none:
      return "nothing";
    case Source::mean:
      return "its values from prompts, from=FILE.jsonl, or from the tokens of a text, over='TEXT'";
    case Source::prompts:
      return "its values from prompts: from=FILE.jsonl";
    case Source::direction:
      return "a direction: from=FILE.npy, from=FILE.safetensors#TENSOR, toward=' TOKEN', or "
             "plus='TEXT' with minus='TEXT'";
    case Source::prompt:
      return "its values from another prompt: from='TEXT'";
  }
  return "";
}

const ActionWord& word_of(Action action) { return kActionWords[static_cast<std::size_t>(action)]; }

[[noreturn]] void refuse_edit(std::string_view text, const std::string& why) {
  throw Error(ErrorKind::usage, fmt::format("the edit '{}': {}", text, why));
}

std::vector<std::string> words_in(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  char quote = 0;  // within "..." or '...' spaces belong to the word
  for (const char c : text) {
    if (quote != 0) {
      if (c == quote) quote = 0;
      else word += c;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::exchange(word, {}));
    }
  }
  if (!word.empty()) words.push_back(word);
  return words;
}

// Reads the words of one edit.
class EditParser {
 public:
  explicit EditParser(std::string_view text) : text_(text), words_(words_in(text)) {}

  EditText parse() {
    edit_.later = !words_.empty() && words_[0] == "then";
    if (edit_.later) words_.erase(words_.begin());
    if (words_.size() < 2)
      refuse("it needs an action and a site, such as 'zero 2.z head=4'; the forms are\n" +
             edit_forms());
    edit_.action = action(words_[0]);
    take_site(words_[1]);
    for (std::size_t i = 2; i < words_.size(); ++i) take_setting(words_[i]);
    check();
    return edit_;
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const { refuse_edit(text_, why); }

  Action action(std::string_view word) const {
    std::vector<std::string_view> known;
    for (const ActionWord& a : kActionWords) {
      if (a.word == word) return a.action;
      known.push_back(a.word);
    }
    refuse(fmt::format("'{}' is not an action; there are {}", word, fmt::join(known, ", ")));
  }

  void take_site(std::string_view typed) {
    if (typed.find('=') != typed.npos)
      refuse(fmt::format("a site comes after '{}', not '{}'", words_[0], typed));
    const SiteName name = site_name(typed);
    if (!name.head) {
      edit_.site = typed;
      return;
    }
    edit_.where.head = {*name.head};
    edit_.site = fmt::format("{}.{}", *name.layer, name.inside);
  }

  void take_setting(std::string_view word) {
    const std::size_t at = word.find('=');
    const std::string_view key = word.substr(0, at);
    if (at == word.npos || at + 1 == word.size())
      refuse(fmt::format("'{}' should be KEY=VALUE, such as head=0,2", word));
    if (std::find(taken_.begin(), taken_.end(), key) != taken_.end())
      refuse(fmt::format("'{}' is given twice", key));
    taken_.emplace_back(key);
    const std::string value(word.substr(at + 1));
    if (key == "head" || key == "feature") return take_indices(key, value);
    if (key == "pos" || key == "key") {
      for (const std::string& item : written_out(items_of(value)))
        (key == "pos" ? edit_.positions : edit_.keys).push_back(interp::parse_position(item));
      return;
    }
    for (const SourceKey& source : kSourceKeys) {
      if (key != source.key) continue;
      edit_.*source.text = value;
      return;
    }
    if (key == "factor" || key == "to") {
      const auto x = number_in<double>(value);
      if (!x || !std::isfinite(*x)) refuse(fmt::format("{}='{}' is not a number", key, value));
      edit_.number = *x;
      return;
    }
    refuse(
        fmt::format("'{}' is not known; there are head, pos, key, feature, factor, to, from, over, "
                    "toward, plus and minus",
                    key));
  }

  void take_indices(std::string_view key, const std::string& value) {
    std::vector<std::int64_t>& list = key == "head" ? edit_.where.head : edit_.where.feature;
    if (!list.empty()) refuse(fmt::format("the site says the {} already; leave out {}=", key, key));
    for (const std::string& item : written_out(items_of(value))) {
      const auto index = number_in<std::int64_t>(item);
      if (!index || *index < 0)
        refuse(fmt::format("{}: '{}' is not a whole number from 0, nor a range such as 1-3", key,
                           item));
      list.push_back(*index);
    }
  }

  bool given(std::string_view key) const {
    return std::find(taken_.begin(), taken_.end(), key) != taken_.end();
  }

  // What the action needs is there, and nothing that it does not know.
  void check() const {
    const ActionWord& word = word_of(edit_.action);
    for (const std::string_view key : {"factor", "to"}) {
      if (given(key) && key != word.number) refuse(fmt::format("{} has no {}=", word.word, key));
    }
    if (word.number_needed && !edit_.number)
      refuse(fmt::format("{} needs {}=X", word.word, word.number));
    check_source(word);
  }

  void check_source(const ActionWord& word) const {
    std::vector<std::string_view> there;
    for (const SourceKey& source : kSourceKeys)
      if (given(source.key)) there.push_back(source.key);
    const auto ways = ways_to_give(word.source);
    if (std::find(ways.begin(), ways.end(), there) != ways.end()) return;
    if (ways.empty() && there.empty()) return;
    for (const std::string_view key : there) {
      const bool known = std::any_of(ways.begin(), ways.end(), [&](const auto& way) {
        return std::find(way.begin(), way.end(), key) != way.end();
      });
      if (!known) refuse(fmt::format("{} has no {}=", word.word, key));
    }
    refuse(fmt::format("{} takes {}", word.word, sources_in_words(word.source)));
  }

  std::string_view text_;
  std::vector<std::string> words_, taken_;
  EditText edit_;
};

}  // namespace

std::string_view name_of(EditText::Action action) { return word_of(action).word; }

std::string edit_word(std::string_view key, std::string_view text) {
  std::string word = fmt::format("{}=", key);
  // A quote of one kind stands within quotes of the other.
  for (std::size_t begin = 0; begin < text.size();) {
    const char quote = text[begin] == '\'' ? '"' : '\'';
    const std::size_t end = std::min(text.find(quote, begin), text.size());
    word += fmt::format("{0}{1}{0}", quote, text.substr(begin, end - begin));
    begin = end;
  }
  return word;
}

std::string edit_forms() {
  return "  zero SITE, mean SITE from=FILE.jsonl, mean SITE over='TEXT',\n"
         "  resample SITE from=FILE.jsonl, patch SITE from='ANOTHER PROMPT',\n"
         "  scale SITE factor=X, set SITE to=X, detach SITE,\n"
         "  add SITE from=FILE.npy factor=X, project_out SITE from=FILE.npy; in the place of\n"
         "  the file toward=' TOKEN', its unembedding vector, or plus='TEXT' minus='TEXT'\n"
         "with head=H,... feature=J,... for a part of the site, pos=P,... and, of patterns, "
         "key=P,...\n"
         "positions: numbers, from the end (-1), roles of a file of prompts; 'then ACTION\n"
         "SITE ...' acts on what the edits before it left";
}

EditText parse_edit(std::string_view text) { return EditParser(text).parse(); }

}  // namespace vitrine::app
