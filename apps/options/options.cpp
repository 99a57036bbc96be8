#include "apps/options/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include "apps/options/site_names.h"
#include "apps/pages/page.h"
#include "apps/terminal/host.h"
#include "nn/text/named_ids.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/run_folder.h"
#include "tensor/files/utf8.h"
#include "tensor/nearest.h"

namespace vitrine::app {

// ---- every verb ---------------------------------------------------------------------------------
namespace {

constexpr const char* kOutDoc =
    "write the result to FILE, all or nothing, and not to stdout; FILE.json is JSON";

}  // namespace

DType float_type(std::string_view word) {
  return word == "f16" ? DType::f16 : word == "bf16" ? DType::bf16 : DType::f32;
}

void CommonOptions::add_to(CommandLine& line) { add_to(line, kOutDoc, Out::text); }

void CommonOptions::add_to(CommandLine& line, const std::string& out_doc, Out kind) {
  has_gauge_ = true;
  add_model_to(line);
  add_rest_to(line, out_doc, kind);
  line.option("--vocabulary", vocabulary, "FILE",
              "names for the ids of a model without a tokenizer: one a line, the first for\n"
              "id 0, or FILE.json: {\"name\": id}. Prompts are then names with spaces between");
  line.option("--gauge", gauge, "raw|processed|REWRITE,...",
              "weights rewritten so that the model computes the same: fold_ln,\n"
              "center_writing_weights, center_unembed, fold_value_biases, or processed: all\n"
              "four, as TransformerLens does by default (default: raw)");
}

void CommonOptions::add_without_gauge_to(CommandLine& line) {
  add_model_to(line);
  add_rest_to(line, kOutDoc, Out::other);
}

void CommonOptions::add_without_model_to(CommandLine& line) {
  add_rest_to(line, kOutDoc, Out::text);
}

void CommonOptions::add_without_model_to(CommandLine& line, const std::string& out_doc) {
  add_rest_to(line, out_doc, Out::other);
}

void CommonOptions::add_model_to(CommandLine& line) {
  line.heading("Common options");
  line.option("--model", model, "MODEL",
              "HuggingFace folder of a GPT-2, Llama, Mistral, Qwen, Pythia or Gemma;\n"
              "FILE.gguf; OWNER/NAME in HuggingFace's cache; gpt2, smollm2\n"
              "(default: the model that ships with Vitrine)");
  line.after_parsing([this] { settle_model(); });
}

void CommonOptions::settle_model() {
  if (host() == nullptr || host()->model == nullptr) return;
  const std::string& name = host()->model->name();
  model = name == "default" ? "" : name;
  if (gauge == "raw") gauge = nn::name_of(host()->model->gauge());
}

void CommonOptions::add_rest_to(CommandLine& line, const std::string& out_doc, Out kind) {
  line.heading("Common options");
  format_option_ =
      line.option("--format", format, "table|json", "for people or for programs (default: table)")
          ->one_of({"table", "json"});
  line.option("--out", out, "FILE", out_doc);
  line.number("--threads", threads, "N", "worker threads (default: one per core)", 1, 1024);
  line.number("--seed", seed, "N", "of everything random (default: 0)", std::uint64_t{0},
              UINT64_MAX);
  line.option("--color", color, "auto|always|never",
              "colours (default: auto, on a terminal unless NO_COLOR is set)")
      ->one_of({"auto", "always", "never"});
  line.number("--columns", columns, "N",
              "how wide tables and heatmaps may be (default: as the terminal is)", 20, 100'000);
  line.flag("--quiet", quiet, "nothing on stderr but errors");
  line.after_parsing([this, &line, kind] {
    if (host() != nullptr) format = "json";
    settle_out(line, kind);
  });
}

void CommonOptions::add_page_to(CommandLine& line) {
  add_page_to(line,
              "a page of the result, to be opened in a browser: one file, which needs nothing\n"
              "else; besides what goes to stdout");
}

void CommonOptions::add_page_to(CommandLine& line, const std::string& html_doc) {
  line.option("--html", html, "FILE", html_doc);
}

namespace {

// The endings that a file may have, in the order in which they are named.
std::vector<std::string_view> endings_of(CommonOptions::Out kind) {
  using Out = CommonOptions::Out;
  if (kind == Out::tensors) return {".safetensors", ".npz"};
  if (kind == Out::lines) return {".jsonl"};
  std::vector<std::string_view> endings = {".txt", ".json"};
  if (kind == Out::rows || kind == Out::text_or_tensors) endings.emplace_back(".csv");
  if (kind == Out::text_or_tensors) endings.insert(endings.end(), {".npz", ".safetensors"});
  return endings;
}

// ".txt, .json or .csv"
std::string listed(const std::vector<std::string_view>& endings) {
  std::string text;
  for (std::size_t i = 0; i < endings.size(); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : i + 1 == endings.size() ? " or " : ", ", endings[i]);
  return text;
}

bool is_json_file(std::string_view ending) { return ending == ".json" || ending == ".jsonl"; }

}  // namespace

void CommonOptions::settle_out(const CommandLine& line, Out kind, std::string_view also) {
  const std::string ending = std::filesystem::path(out).extension().string();
  const auto is_one_of = [&](const std::vector<std::string_view>& known) {
    return std::find(known.begin(), known.end(), ending) != known.end();
  };
  if (kind == Out::lines) {
    if (format_option_->count() > 0 && !json())
      line.fail("--format table: what is written here are lines of JSON");
    format = "json";
  }
  if (kind == Out::other || ending.empty()) return;
  const std::vector<std::string_view> endings = endings_of(kind);
  const auto refuse = [&](std::string_view why, std::string_view wanted) {
    line.fail(fmt::format("--out {}: {}; give {}", out, why, wanted));
  };
  const std::string wanted = fmt::format("a {} file", listed(endings));
  const bool text = is_one_of({".text", ".log", ".md"}) || ending == ".jsonl" || ending == also;
  const bool writes_text = kind != Out::tensors && kind != Out::lines;
  if (is_one_of(endings) || (writes_text && text)) {
    if (!is_json_file(ending)) return;
    if (format_option_->count() > 0 && !json())
      refuse("that is JSON, and --format table is not", "one of the two");
    format = "json";
    return;
  }
  if (is_tensor_file(out)) refuse("there are no tensors to save here", wanted);
  if (kind == Out::tensors)
    refuse("what is saved here are tensors, whatever the file is called", wanted);
  refuse(fmt::format("{} is not written here", ending),
         wanted + (writes_text ? ", or one without an extension" : ""));
}

Json CommonOptions::meta(const CommandLine& line) const {
  Json meta = {{"model", json_text(model_name())}};
  if (has_gauge_) meta["gauge"] = nn::name_of(nn::parse_gauge(gauge));
  meta["command"] = json_text(line.text());
  meta["version"] = VITRINE_VERSION;
  meta["seed"] = seed;
  if (!edits_.empty()) meta["edits"] = edits_;
  return meta;
}

std::string CommonOptions::heading() const {
  std::string text;
  for (const std::string& e : edits_) text += fmt::format("edited: {}\n", e);
  return text;
}

nn::Model CommonOptions::load() const {
  nn::Model loaded = load_changed(changes_);
  edits_.clear();
  for (const nn::StandingEdit& e : loaded.standing()) edits_.push_back(e.to_text());
  return loaded;
}

nn::Model CommonOptions::load_unedited() const { return load_changed({}); }

namespace {

// The model that --model names; in a host, its own, in another gauge where one was asked for.
nn::Model load_named(const CommonOptions& common, const nn::Gauge& gauge) {
  const Host* h = host();
  if (h == nullptr || h->model == nullptr) {
    return nn::load_model(common.model,
                          {.threads = common.threads, .gauge = gauge, .memory = common.memory});
  }
  nn::Model model = *h->model;
  if (!(gauge == model.gauge())) model = model.in_gauge(nn::gauge_of(model.config(), gauge));
  model.cancel_by(&h->cancel);
  return model;
}

}  // namespace

nn::Model CommonOptions::load_changed(
    std::span<const std::function<void(nn::Model&)>> changes) const {
  const nn::Gauge rewrites = nn::parse_gauge(gauge);
  check_folder_of(out);
  check_folder_of(html.substr(0, html.find_last_not_of('/') + 1));
  try {
    nn::Model loaded = load_named(*this, rewrites);
    if (!vocabulary.empty()) {
      if (loaded.has_tokenizer()) {
        throw Error(ErrorKind::usage,
                    "--vocabulary: this model has a tokenizer, which names its ids");
      }
      loaded.set_tokenizer(nn::read_named_ids(vocabulary, loaded.config().vocabulary));
    }
    if (loaded.has_tokenizer_fault() && !quiet)
      log(fmt::format("note: {}; ids are shown instead of texts",
                      with_option_names(loaded.why_no_tokenizer())));
    for (const auto& change : changes) change(loaded);
    return loaded;
  } catch (const FileError& error) {
    if (!model.empty()) throw;
    throw FileError(fmt::format("{} Name it with --model DIR.", error.what()));
  }
}

void write_page(const CommonOptions& common, std::string_view view, const Json& data) {
  if (common.html.empty()) return;
  save_page(common, page_html(view, data));
}

void save_page(const CommonOptions& common, std::string html) {
  if (Host* h = host()) {
    h->page = std::move(html);
    return;
  }
  write_text(common.html, html);
  note_page(common);
}

void note_page(const CommonOptions& common) {
  if (!common.quiet) log(fmt::format("page written to {}", common.html));
}

namespace {

// The JSON of a verb: where it is from, what it found, and in which file the tensors or rows are.
Json whole_json(const CommonOptions& common, const Json& meta, const Presentation& shown,
                const Json& found) {
  Json json = {{"meta", meta}};
  json.update(found);
  if (shown.saves()) json["file"] = is_data_file(common.out) ? Json(json_text(common.out)) : Json();
  return json;
}

}  // namespace

void write_presentation(const CommonOptions& common, const Json& meta, const Presentation& shown) {
  const bool data = is_data_file(common.out);
  const Json found = shown.json();
  require_finite(found);
  if (is_tensor_file(common.out)) {
    Json metadata = meta;
    metadata.update(shown.metadata);
    save_tensors(common.out, shown.tensors(), metadata);
  } else if (data) {
    write_text(common.out, shown.table          ? csv_of_rows(shown.table())
                           : shown.rows.empty() ? csv_of(shown.tensors(), shown.axes)
                                                : csv_of_rows(*found.find(shown.rows)));
  }
  if (!common.html.empty()) {
    Json page = {{"meta", meta}};
    page.update(found);
    if (shown.page_data) page.update(shown.page_data());
    write_page(common, shown.page, page);
  }
  if (Host* h = host(); h != nullptr && (common.out.empty() || data)) {
    h->answer = {.json = whole_json(common, meta, shown, found),
                 .text = common.heading() + shown.text(Style{}, h->columns),
                 .tensors = shown.tensors ? shown.tensors() : NamedTensors(),
                 .axes = shown.axes};
    return;
  }
  const std::string out = data ? "" : common.out;
  if (common.json()) return write_result(out, to_line(whole_json(common, meta, shown, found)));
  const Style style = common.style_of(out);
  std::string text = common.heading() + shown.text(style, common.table_columns(out));
  if (data) {
    const bool rows = !shown.rows.empty() && !is_tensor_file(common.out);
    text += fmt::format("\n{} written to {}\n", rows ? shown.rows : shown.written,
                        style.bold(common.out));
  }
  write_result(out, text);
}

// ---- a prompt -----------------------------------------------------------------------------------
void PromptOptions::add_to(CommandLine& line, const std::string& heading, const std::string& doc) {
  const bool alone = name_ == "prompt";
  line.heading(!heading.empty() ? heading : alone ? "Prompt" : "Prompts");
  text_option_ =
      line.text(text_flag(), text_, "TEXT",
                !doc.empty() ? doc
                : alone      ? "the text; - reads it from stdin (one newline at its end is dropped)"
                             : "the " + name_ + " prompt; - reads it from stdin");
  ids_option_ = line.text(ids_flag(), list_, "1,2,3", "token ids instead of text");
  if (like_ != nullptr) return line.heading("Options");
  line.flag("--prepend-bos", prepend_bos_, "put the beginning-of-text token in front");
  line.flag("--special", special_,
            "the text of an added token, such as <|endoftext|>,\nbecomes its one id");
  line.heading("Options");
}

void PromptOptions::add_bos_to(CommandLine& line, const std::string& doc) {
  line.flag("--prepend-bos", prepend_bos_, doc);
}

void PromptOptions::require(const CommandLine& line) {
  if (!given()) {
    line.fail(fmt::format("there is no {0}; give {1} TEXT, {1} - (stdin) or {2} 1,2,3",
                          name_ == "prompt" ? name_ : name_ + " prompt", text_flag(), ids_flag()));
  }
  if (by_text() && by_ids())
    line.fail(fmt::format("give {} or {}, not both", text_flag(), ids_flag()));
  if (by_ids()) ids_ = parse_token_list(line, ids_flag(), list_);
  if (from_stdin()) {
    text_ = read_stdin();
    if (text_.ends_with("\n")) text_.pop_back();
  }
}

nn::Tokens PromptOptions::tokens(const nn::Model& model) const {
  if (by_text()) require_tokenizer(model, text_flag(), ids_flag() + " 1,2,3");
  const nn::Tokens tokens =
      by_ids() ? with_bos(ids_, model.config().bos, tokenizer_of(model)) : encode(model, text_);
  if (!tokens.empty()) return tokens;
  throw ContextError(
      fmt::format("{} is empty; it needs at least one token (--prepend-bos adds one)",
                  name_ == "prompt" ? "the prompt" : "the " + name_ + " prompt"));
}

nn::Tokens PromptOptions::tokens(const nn::Tokenizer& tokenizer, std::optional<int> bos) const {
  return by_ids() ? with_bos(ids_, bos, &tokenizer) : encode(tokenizer, bos, text_);
}

nn::Tokens PromptOptions::encode(const nn::Model& model, std::string_view text) const {
  nn::Tokens tokens = encode(model.tokenizer(), model.config().bos, text);
  model.check_embedded(tokens);
  return tokens;
}

nn::Tokens PromptOptions::encode(const nn::Tokenizer& tokenizer, std::optional<int> bos,
                                 std::string_view text) const {
  const bool wanted = like_ == nullptr ? special_ : like_->special_;
  const auto special = wanted ? nn::Special::as_tokens : nn::Special::as_text;
  nn::Tokens tokens = tokenizer.encode_prompt(text, special);
  return tokenizer.first().empty() ? with_bos(std::move(tokens), bos, &tokenizer) : tokens;
}

nn::Tokens PromptOptions::with_bos(nn::Tokens tokens, std::optional<int> bos,
                                   const nn::Tokenizer* tokenizer) const {
  if (!(like_ == nullptr ? prepend_bos_ : like_->prepend_bos_)) return tokens;
  const nn::Tokens before = beginning_of_text(tokenizer, bos);
  if (before.empty()) {
    throw TokenError(
        "--prepend-bos: this model has no beginning-of-text token: config.json has no bos_token_id "
        "and the tokenizer no <|endoftext|>; put the id you want first with " +
        ids_flag());
  }
  tokens.insert(tokens.begin(), before.begin(), before.end());
  return tokens;
}

nn::Tokens beginning_of_text(const nn::Tokenizer* tokenizer, std::optional<int> bos) {
  if (tokenizer != nullptr && !tokenizer->first().empty()) return tokenizer->first();
  if (!bos && tokenizer != nullptr) bos = tokenizer->end_of_text();
  return bos ? nn::Tokens{*bos} : nn::Tokens{};
}

std::optional<int> bos_of_lines(const nn::Model& model, bool prepend_bos) {
  if (!prepend_bos) return std::nullopt;
  const nn::Tokens before = beginning_of_text(tokenizer_of(model), model.config().bos);
  if (before.size() == 1) return before[0];
  throw TokenError(
      before.empty()
          ? "--prepend-bos: this model has no beginning-of-text token: config.json has no "
            "bos_token_id and the tokenizer no <|endoftext|>"
          : fmt::format("--prepend-bos: the tokenizer puts {} tokens before every text, and the "
                        "lines of a text can have only one; give them as ids, one "
                        "{{\"tokens\": [1, 2, 3]}} a line of a .jsonl file",
                        before.size()));
}

void note_bare_lines(const nn::Model& model, bool prepend_bos, bool quiet) {
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  if (quiet || prepend_bos || tokenizer == nullptr || tokenizer->first().empty()) return;
  log(
      fmt::format("note: this tokenizer puts {} before every prompt; the lines of a text are read "
                  "without it, unless --prepend-bos is given",
                  nn::quote(tokenizer->shown_text(tokenizer->first()))));
}

void require_tokenizer(const nn::Model& model, std::string_view option, std::string_view instead) {
  if (model.has_tokenizer()) return;
  throw TokenError(
      fmt::format("{}: {}; give token ids instead of text: {} (or name the ids by "
                  "--vocabulary FILE)",
                  option, model.why_no_tokenizer(), instead));
}

const nn::Tokenizer* tokenizer_of(const nn::Model& model) {
  return model.has_tokenizer() ? &model.tokenizer() : nullptr;
}

Json token_json(const nn::Model& model, int id) {
  const nn::Tokenizer* t = tokenizer_of(model);
  return {{"id", id}, {"token", t == nullptr ? Json() : Json(json_text(t->shown(id)))}};
}

std::string one_line(const nn::Tokenizer* tokenizer, const nn::Tokens& tokens) {
  if (tokenizer == nullptr) return fmt::format("{}", fmt::join(tokens, " "));
  constexpr std::size_t kLongest = 72;
  std::string text = tokenizer->shown_text(tokens);
  if (text.size() <= kLongest) return visible(text);
  std::size_t begin = text.size() - kLongest;
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) ++begin;
  return "…" + visible(std::string_view(text).substr(begin));
}

void require_unused_folder(const std::string& out, std::initializer_list<std::string_view> files) {
  try {
    require_unused(out, files);
  } catch (const FolderInUse& error) {
    throw FileError(
        fmt::format("{}, or --overwrite to have files of the same names replaced", error.what()));
  }
}

std::string read_stdin() {
  std::string text;
  char piece[1 << 16];
  for (std::size_t got; (got = std::fread(piece, 1, sizeof(piece), stdin)) > 0;) {
    text.append(piece, got);
  }
  if (std::ferror(stdin) != 0) {
    throw FileError(fmt::format("cannot read standard input: {}", error_text(errno)));
  }
  return text;
}

// ---- a site -------------------------------------------------------------------------------------
void SiteOptions::add_to(CommandLine& line, const std::string& doc) {
  site_option_ = line.option("--site", site_, "S", doc);
  layer_option_ =
      line.number("--layer", layer_, "L",
                  "the layer of a --site without one (default: the middle one)", 0, INT32_MAX);
}

std::optional<int> SiteOptions::head() const { return site_name(site_).head; }

Site SiteOptions::site(const nn::Model& model) const {
  const Graph graph = model.build(nn::BatchSize{1, 1, 1});
  const SiteName named = site_name(site_);
  if (named.head && !head_allowed_) {
    throw Error(ErrorKind::usage,
                fmt::format("--site {} is one head of a site, and a whole site is meant here: give "
                            "{}.{}",
                            site_, *named.layer, named.inside));
  }
  const bool whole = graph.find_site(site_) != nullptr, layer_given = layer_option_->count() > 0;
  if (layer_given && (whole || named.layer)) {
    throw Error(ErrorKind::usage,
                fmt::format("--site {} says itself where it is; leave out --layer, or give a "
                            "site without a layer, such as resid_post",
                            site_));
  }
  if (whole) return {site_};
  const int layers = model.config().layers;
  const int layer = layer_given ? layer_ : named.layer.value_or((layers - 1) / 2);
  if (layer >= layers && !layer_given && site_.starts_with("blocks."))
    return {graph.site(site_).name};  // throws, with the nearest names
  if (layer >= layers) {
    throw Error(ErrorKind::usage,
                fmt::format("{}: this model has layers 0 to {}",
                            layer_given ? fmt::format("--layer {}", layer) : "--site " + site_,
                            layers - 1));
  }
  const std::string block = fmt::format("blocks.{}.", layer);
  std::vector<std::string> names, meant;
  for (const std::string& name : graph.site_names()) {
    if (!name.starts_with(block)) continue;
    names.push_back(name.substr(block.size()));
    if (is_called(names.back(), named.inside)) meant.push_back(name);
  }
  if (meant.size() > 1)
    throw Error(ErrorKind::usage, fmt::format("--site {} means several sites: {}; give one of them",
                                              site_, fmt::join(meant, ", ")));
  if (meant.size() == 1) return {meant[0]};
  if (site_.starts_with("blocks.") && named.layer) return {graph.site(site_).name};  // throws
  throw SiteError(fmt::format("there is no site '{}' in a layer{}", named.inside,
                              did_you_mean(nearest(named.inside, names))));
}

// ---- one token ----------------------------------------------------------------------------------
int TokenOptions::id(const nn::Model& model) const {
  if (!by_text()) return id_;
  require_tokenizer(model, "--" + name_, "--" + name_ + "-token ID");
  return model.token(text_);
}

void TokenOptions::add_to(CommandLine& line, const std::string& doc) {
  text_option_ = line.option("--" + name_, text_, "TOKEN", doc);
  id_option_ = line.number("--" + name_ + "-token", id_, "ID", "its id instead", 0, INT32_MAX);
}

void TokenOptions::require(const CommandLine& line) const {
  const auto given = text_option_->count() + id_option_->count();
  if (given == 0) {
    line.fail(
        fmt::format("give --{0} TOKEN (its leading space counts: ' Austin') or --{0}-token "
                    "ID",
                    name_));
  }
  if (text_option_->count() > 0 && id_option_->count() > 0)
    line.fail(fmt::format("give --{0} or --{0}-token, not both", name_));
}

// ---- lists of ids -------------------------------------------------------------------------------
nn::Tokens parse_token_list(const CommandLine& line, std::string_view option,
                            std::string_view list) {
  nn::Tokens ids;
  constexpr std::string_view kSpace = " \t\r\n";
  if (list.find_first_not_of(kSpace) == std::string_view::npos) return ids;
  for (const std::string& item : items_of(list)) {
    int id = 0;
    const auto [stop, error] = std::from_chars(item.data(), item.data() + item.size(), id);
    if (error != std::errc() || stop != item.data() + item.size()) {
      line.fail(
          fmt::format("{}: item {} is '{}', which is not a token id; expected whole numbers "
                      "such as 1,2,3",
                      option, ids.size() + 1, item));
    }
    ids.push_back(id);
  }
  return ids;
}

}  // namespace vitrine::app
