// vitrine tokenize: text to token ids, and back.
#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <span>

#include "apps/options/json_lines.h"
#include "apps/options/options.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "nn/model/find_model.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_text.h"

namespace vitrine::app {
namespace {

struct Options {
  CommonOptions common;
  PromptOptions prompt;
  std::string jsonl;
  bool decode = false;
  std::vector<std::string> positional;
};

struct LoadedTokenizer {
  nn::Tokenizer tokenizer;
  std::optional<int> bos;
};

// A folder that holds nothing but tokenizer files will do, and so will a GGUF file.
LoadedTokenizer load_tokenizer(const std::string& model) {
  std::filesystem::path folder = model;
  std::error_code error;
  const bool tokenizer_alone = !model.empty() && std::filesystem::exists(folder, error) &&
                               nn::Tokenizer::exists(folder) &&
                               !std::filesystem::exists(folder / "config.json", error);
  if (tokenizer_alone) return {nn::Tokenizer::load(folder), std::nullopt};
  folder = nn::find_model(model);
  if (!nn::Tokenizer::exists(folder)) {
    throw TokenError(
        fmt::format("{}: this model has no tokenizer; expected tokenizer.json, or "
                    "vocab.json and merges.txt",
                    folder.string()));
  }
  return {nn::Tokenizer::load(folder), nn::read_config(folder).bos};
}

Json ids_and_texts(const nn::Tokenizer& tokenizer, const nn::Tokens& ids) {
  return {{"ids", ids}, {"str_tokens", tokenizer.str_tokens(ids)}};
}

std::string table(const nn::Tokenizer& tokenizer, const nn::Tokens& ids, const Style& style) {
  using Align = Table::Align;
  Table table({{"position", Align::right}, {"id", Align::right}, {"token", Align::left}});
  for (std::size_t i = 0; i < ids.size(); ++i) {
    table.row({style.dim(fmt::format("{}", i)), fmt::format("{}", ids[i]),
               nn::quote(tokenizer.token_bytes(ids[i]))});
  }
  return table.text(style);
}

// ---- --jsonl: a line in, a line out -------------------------------------------------------------
class LineReader {
 public:
  LineReader(const LoadedTokenizer& loaded, const Options& options)
      : loaded_(loaded), options_(options) {}

  std::string answer(std::string_view line, const std::string& where) const {
    const Json json = Json::parse(line, where);
    return options_.decode ? decoded(json, where) : encoded(json, where);
  }

 private:
  const char* wanted() const {
    return options_.decode ? "one {\"ids\": [1, 2, 3]} a line" : "one {\"text\": \"...\"} a line";
  }
  std::string encoded(const Json& json, const std::string& where) const {
    const Json* text = json.find("text");
    if (text == nullptr || text->text() == nullptr) {
      throw FileError(fmt::format("{}: there is no string \"text\"; expected {}", where, wanted()));
    }
    const nn::Tokens ids = options_.prompt.encode(loaded_.tokenizer, loaded_.bos, *text->text());
    return to_line(ids_and_texts(loaded_.tokenizer, ids));
  }
  std::string decoded(const Json& json, const std::string& where) const {
    const Json* list = json.find("ids");
    if (list == nullptr || list->list_items() == nullptr) {
      throw FileError(fmt::format("{}: there is no list \"ids\"; expected {}", where, wanted()));
    }
    nn::Tokens ids;
    for (const Json& item : *list->list_items()) {
      const auto id = item.natural();
      if (!id || *id > INT32_MAX) {
        throw FileError(fmt::format("{}: {} is not a token id; expected {}", where,
                                    item.is_number() ? item.line() : nn::quote(item.line()),
                                    wanted()));
      }
      ids.push_back(static_cast<int>(*id));
    }
    return to_line({{"text", json_text(loaded_.tokenizer.decode(ids))}});
  }

  const LoadedTokenizer& loaded_;
  const Options& options_;
};

void run_lines(const LoadedTokenizer& loaded, const Options& options) {
  JsonLines lines(options.jsonl);
  const Interruptible interruptible;  // not while it waits for stdin
  const LineReader reader(loaded, options);
  Progress progress("tokenizing", "bytes", options.common.quiet);

  const auto each_line = [&](const auto& emit) {
    while (lines.next()) {
      emit(reader.answer(lines.line(), lines.where()));
      interruptible.check();
      progress.update(static_cast<double>(lines.done()), static_cast<double>(lines.size()));
    }
  };
  const std::string& out = options.common.out;
  if (out.empty() || out == "-") {
    std::string waiting;
    each_line([&](const std::string& answer) {
      waiting += answer;
      if (waiting.size() < 1 << 16) return;
      write_stdout(waiting);
      waiting.clear();
    });
    write_stdout(waiting);
  } else {
    write_atomically(out, [&](const Sink& sink) {
      each_line([&](const std::string& answer) {
        sink(std::as_bytes(std::span(answer.data(), answer.size())));
      });
    });
  }
}

// ---- one text, or one list of ids ---------------------------------------------------------------
void run_once(const LoadedTokenizer& loaded, const Options& options, const nn::Tokens& ids) {
  const CommonOptions& common = options.common;
  const nn::Tokenizer& tokenizer = loaded.tokenizer;
  if (common.json()) {
    Json json = ids_and_texts(tokenizer, ids);
    if (options.decode) json["text"] = json_text(tokenizer.decode(ids));
    write_result(common.out, to_line(json));
  } else {
    write_result(common.out,
                 options.decode ? tokenizer.decode(ids) : table(tokenizer, ids, common.style()));
  }
}

}  // namespace

void verb_tokenize(const Arguments& arguments) {
  CommandLine line(arguments,
                   "Text to token ids, and back. A folder with only tokenizer files will do as\n"
                   "--model. The texts of added tokens are plain bytes unless --special.\n\n"
                   "json: one {ids, str_tokens} a line, also for --jsonl.\n",
                   "vitrine tokenize --prompt 'The capital of Texas is'");
  Options options;
  CommonOptions& common = options.common;
  PromptOptions& prompt = options.prompt;
  prompt.add_to(line);
  line.option("--jsonl", options.jsonl, "FILE",
              "many texts: one {\"text\": ...} a line (- reads stdin); with\n"
              "--decode one {\"ids\": [...]} a line, which gives {\"text\": ...}");
  line.flag("--decode", options.decode,
            "ids (--tokens, or as arguments) back to text: the exact\nbytes, and nothing else");
  line.rest("ids", options.positional, "token ids for --decode, as 1 2 3 or 1,2,3");
  common.add_without_gauge_to(line);
  if (!line.parse()) return;

  if (!options.decode) common.settle_out(line, CommonOptions::Out::text);  // --decode gives bytes
  const bool lines = !options.jsonl.empty();
  if (!options.positional.empty() && !options.decode) {
    line.fail(
        fmt::format("unexpected argument '{}'; text is given with --prompt, ids with --tokens "
                    "or --decode",
                    options.positional[0]));
  }
  if (prompt.by_text() && options.decode) line.fail("--decode takes ids; give --tokens 1,2,3");
  if (prompt.changes_encoding() && options.decode) {
    line.fail("--prepend-bos and --special are for text to ids; leave them out with --decode");
  }
  if (lines + prompt.given() + !options.positional.empty() > 1) {
    line.fail("give one of --prompt, --tokens, --jsonl and ids as arguments, not several");
  }
  nn::Tokens positional;
  for (const std::string& list : options.positional) {
    const nn::Tokens ids = parse_token_list(line, "ids", list);
    positional.insert(positional.end(), ids.begin(), ids.end());
  }
  if (!lines && options.positional.empty()) prompt.require(line);
  check_folder_of(common.out);

  const LoadedTokenizer loaded = load_tokenizer(common.model);
  if (lines) return run_lines(loaded, options);
  run_once(loaded, options,
           options.positional.empty() ? prompt.tokens(loaded.tokenizer, loaded.bos) : positional);
}

}  // namespace vitrine::app
