// The options that verbs share: the model, the prompt, and the output.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "apps/options/command_line.h"
#include "apps/options/json_lines.h"
#include "apps/options/result_files.h"
#include "apps/terminal/output.h"
#include "nn/model/model.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

// Every verb has these (`tokenizer` all but the model, which `doctor` need not have).
struct CommonOptions {
  std::string model;
  std::string format = "table", out, color = "auto";
  std::string gauge = "raw";
  int threads = 0;
  std::uint64_t seed = 0;
  std::string vocabulary;
  std::string html;         // the page to write, or ""
  std::int64_t memory = 0;  // that the model's plans may take, as nn::LoadOptions has it
  int columns = 0;          // 0: as wide as the terminal
  bool quiet = false;

  // What --out names: a file of text or JSON, as its extension says; besides, the rows of a table as
  // CSV; besides, or only, tensors; lines of JSON; or whatever the verb says, which then looks at it
  // itself.
  enum class Out { text, rows, text_or_tensors, tensors, lines, other };
  void add_to(CommandLine& line);
  void add_to(CommandLine& line, const std::string& out_doc, Out kind = Out::other);
  // For a verb that reads a model's files, and not its weights.
  void add_without_gauge_to(CommandLine& line);
  // For a verb that is not about a model.
  void add_without_model_to(CommandLine& line);
  void add_without_model_to(CommandLine& line, const std::string& out_doc);
  // --html, for a verb whose result has a page; before the others.
  void add_page_to(CommandLine& line);
  void add_page_to(CommandLine& line, const std::string& html_doc);
  // Where a host has the model: what the verb is about is that one, however it came to be.
  void settle_model();
  // After parsing: .json makes the format JSON. Throws Error (usage) for an extension that is not
  // written here, and for one that contradicts --format. `also` is another one that is text.
  void settle_out(const CommandLine& line, Out kind, std::string_view also = {});
  bool json() const { return format == "json"; }
  Style style() const { return style_of(out); }
  // Of what goes to `where`.
  Style style_of(const std::string& where) const {
    Style style = style_for(color, where);
    style.columns = columns > 0 ? columns : columns_of_terminal(where).value_or(0);
    return style;
  }
  // How wide tables may be, in what goes to `where`.
  int table_columns(const std::string& where) const {
    return columns > 0 ? columns : terminal_columns(where);
  }
  std::string model_name() const { return model.empty() ? "default" : model; }

  // Says where an output came from: {model, gauge, command, version, seed, edits}; the gauge where
  // the verb has one, the edits where there are some.
  Json meta(const CommandLine& line) const;
  // In the gauge that was asked for, changed as was asked for. Throws what nn::load_gpt2 and
  // nn::parse_gauge throw, and SaveError when there is no folder for `out`.
  nn::Model load() const;
  nn::Model load_unedited() const;  // the same without what is done after loading
  // Something that is done to the model when it has been loaded: edits.
  void after_loading(std::function<void(nn::Model&)> change) {
    changes_.push_back(std::move(change));
  }
  // The lines that stand above a result for people: the edits under which it was found; "" without
  // any.
  std::string heading() const;

 private:
  nn::Model load_changed(std::span<const std::function<void(nn::Model&)>> changes) const;
  void add_model_to(CommandLine& line);
  void add_rest_to(CommandLine& line, const std::string& out_doc, Out kind);

  bool has_gauge_ = false;
  std::vector<std::function<void(nn::Model&)>> changes_;
  mutable std::vector<std::string> edits_;  // of the model that was loaded
  const Option* format_option_ = nullptr;
};

// f16 and bf16 by their names; f32 for any other word.
DType float_type(std::string_view word);

// What a verb found, in each of its forms, made when it is asked for.
struct Presentation {
  std::function<std::string(const Style&, int columns)> text;
  std::function<Json()> json;             // without meta and file
  std::function<NamedTensors()> tensors;  // of --out FILE.safetensors
  Json metadata = Json::object();         // of that file, besides meta
  std::string written = "tensors";        // what is in it, for people
  AxisNames axes{};                       // of the tensors, for --out FILE.csv
  std::string
      rows{};  // the list in the JSON that is the table of a .csv, in the place of tensors ...
  std::function<Json()> table{};      // ... or the table, where no list is, called what `rows` says
  std::string_view page{};            // the view of apps/pages that --html writes it with ...
  std::function<Json()> page_data{};  // ... and what that shows besides the JSON

  // Whether --out FILE.safetensors, .npz or .csv can hold a part of it.
  bool saves() const { return tensors || table || !rows.empty(); }
};
// The page of --html by a view of apps/pages, which is said on stderr; nothing where none was asked for.
void write_page(const CommonOptions& common, std::string_view view, const Json& data);
// Another page of --html, which is said on stderr; in a host it is that host's.
void save_page(const CommonOptions& common, std::string html);
void note_page(const CommonOptions& common);  // says that it was written

// With --out FILE.safetensors, .npz or .csv the tensors (or rows) go there and the text or JSON to
// stdout; with any other FILE text or JSON go there. With --html, the page goes to its file besides.
// In a host the result is its answer, in all its forms, unless --out names a file.
void write_presentation(const CommonOptions& common, const Json& meta, const Presentation& shown);

// One prompt: --prompt or --tokens, as --NAME and --NAME-tokens in verbs with several.
class PromptOptions {
 public:
  PromptOptions() = default;
  // `like` is another prompt of the same command line, which outlives this one: its --prepend-bos
  // and --special hold for this one too.
  explicit PromptOptions(std::string name, const PromptOptions* like = nullptr)
      : name_(std::move(name)), like_(like) {}

  // The heading and the words of the help, unless the usual ones do.
  void add_to(CommandLine& line, const std::string& heading = "", const std::string& doc = "");
  // --prepend-bos alone, for verbs that read prompts from files only.
  void add_bos_to(CommandLine& line, const std::string& doc);
  bool given() const { return text_option_->count() > 0 || ids_option_->count() > 0; }
  bool by_text() const { return text_option_->count() > 0; }
  bool by_ids() const { return ids_option_->count() > 0; }
  bool from_stdin() const { return by_text() && text_ == "-"; }
  const std::string& text() const { return text_; }  // once required: what stdin held
  bool changes_encoding() const { return prepend_bos_ || special_; }
  bool special() const { return special_; }
  bool prepends_bos() const { return prepend_bos_; }
  // Throws Error (usage) when there is none, or a list of ids that is not one. Reads stdin if that
  // is where the text is.
  void require(const CommandLine& line);

  // The ids of the prompt. Throws TokenError for text without a tokenizer, and for --prepend-bos
  // when neither the configuration nor the tokenizer names a beginning-of-text token.
  nn::Tokens tokens(const nn::Model& model) const;
  // The same for a tokenizer alone; `bos` is what the configuration says, if there is one.
  nn::Tokens tokens(const nn::Tokenizer& tokenizer, std::optional<int> bos) const;
  // Of another text, under the same options: as Tokenizer::encode_prompt gives them. A tokenizer
  // that puts a token before every prompt has done what --prepend-bos asks for.
  nn::Tokens encode(const nn::Tokenizer& tokenizer, std::optional<int> bos,
                    std::string_view text) const;
  // Throws TokenError, too, for a token that the model has no embedding for.
  nn::Tokens encode(const nn::Model& model, std::string_view text) const;
  // Of other ids: with the beginning-of-text token in front, if that is wanted. Throws TokenError
  // when there is none.
  nn::Tokens with_bos(nn::Tokens tokens, std::optional<int> bos,
                      const nn::Tokenizer* tokenizer) const;

 private:
  std::string text_flag() const { return "--" + name_; }
  std::string ids_flag() const { return name_ == "prompt" ? "--tokens" : "--" + name_ + "-tokens"; }

  std::string name_ = "prompt";
  const PromptOptions* like_ = nullptr;
  std::string text_, list_;
  nn::Tokens ids_;
  bool prepend_bos_ = false, special_ = false;
  Option* text_option_ = nullptr;
  Option* ids_option_ = nullptr;
};

// One token: --NAME TEXT or --NAME-token ID.
class TokenOptions {
 public:
  explicit TokenOptions(std::string name) : name_(std::move(name)) {}

  void add_to(CommandLine& line, const std::string& doc);
  bool given() const { return text_option_->count() + id_option_->count() > 0; }
  bool by_text() const { return text_option_->count() > 0; }
  // Throws Error (usage) unless it is given once.
  void require(const CommandLine& line) const;
  // Throws TokenError for a text that is not one token, or when there is no tokenizer.
  int id(const nn::Model& model) const;

 private:
  std::string name_, text_;
  int id_ = 0;
  Option* text_option_ = nullptr;
  Option* id_option_ = nullptr;
};

// One site: --site, in full (blocks.2.attn.hook_z), short (2.z) or without its layer, and --layer.
class SiteOptions {
 public:
  explicit SiteOptions(std::string site) : site_(std::move(site)) {}  // the default

  void add_to(CommandLine& line, const std::string& doc);
  bool given() const { return site_option_->count() + layer_option_->count() > 0; }
  // blocks.2.hook_resid_post of "blocks.2.hook_resid_post", of "2.resid_post", or of "resid_post"
  // and layer 2; without a layer, the one in the middle. Throws SiteError, with the nearest names,
  // and Error (usage) for a layer that is not there or is given twice, and for a name that says a
  // head, "2.4.z", unless heads are allowed.
  Site site(const nn::Model& model) const;
  void allow_head() { head_allowed_ = true; }
  std::optional<int> head() const;  // 4 of "2.4.z"

 private:
  std::string site_;
  int layer_ = 0;
  bool head_allowed_ = false;
  const Option* site_option_ = nullptr;
  const Option* layer_option_ = nullptr;
};

const nn::Tokenizer* tokenizer_of(const nn::Model& model);  // null when there is none
// What stands before a text: the tokens that the tokenizer puts there, or else the one that the
// configuration names, or else <|endoftext|>. Empty when there is none.
nn::Tokens beginning_of_text(const nn::Tokenizer* tokenizer, std::optional<int> bos);
// The token that --prepend-bos puts before the lines of a text, if it was given. Throws TokenError
// when there is none, or not just one.
std::optional<int> bos_of_lines(const nn::Model& model, bool prepend_bos);
// Says on stderr that the lines of a text are read without the token that the tokenizer puts before
// every prompt.
void note_bare_lines(const nn::Model& model, bool prepend_bos, bool quiet);
// Throws TokenError, saying what to give instead, when an option is text and the model came without
// a tokenizer.
void require_tokenizer(const nn::Model& model, std::string_view option, std::string_view instead);
Json token_json(const nn::Model& model, int id);  // {id, token}
// A prompt as one line, its end when it is long: `…capital of Texas is`.
std::string one_line(const nn::Tokenizer* tokenizer, const nn::Tokens& tokens);

// For a run that is not to write over anything: require_unused (tensor/files/run_folder.h), with
// the option that allows it.
void require_unused_folder(const std::string& out,
                           std::initializer_list<std::string_view> files = {});

// All of standard input. Throws FileError when it cannot be read.
std::string read_stdin();

// Token ids from "1,2,3" (or "1, 2, 3"). Calls line.fail for an item that is not a whole number.
nn::Tokens parse_token_list(const CommandLine& line, std::string_view option,
                            std::string_view list);

}  // namespace vitrine::app
