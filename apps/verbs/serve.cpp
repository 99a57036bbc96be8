// vitrine serve: a live page of a model, on this machine.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "apps/experiment/edit_options.h"
#include "apps/live/live_model.h"
#include "apps/live/server.h"
#include "apps/options/sae_options.h"
#include "apps/pages/page.h"
#include "apps/terminal/interrupt.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

constexpr int kUsualPort = 8484;
// Of plans and of memory that is kept for the next run, so that a page that is open for days grows
// no further.
constexpr std::int64_t kMemory = std::int64_t{256} << 20;

struct Options {
  CommonOptions common;
  PromptOptions prompt;
  PromptOptions second{"corrupt", &prompt};
  std::vector<std::string> saes;
  bool no_saes = false;
  int port = kUsualPort, idle = 0;
};

void add_to(CommandLine& line, Options& o) {
  o.prompt.add_to(line, "Prompts", "the prompt that the page begins with");
  o.second.add_to(line, "Prompts", "the second one, from which activations are patched");
  line.heading("Server");
  line.number("--port", o.port, "N", "of 127.0.0.1; 0: any free one (default: 8484)", 0, 65535);
  line.number("--idle", o.idle, "SECONDS",
              "end when nobody has asked anything for so long (default: go on)", 1, 1 << 30);
  auto* saes = line.option("--sae", o.saes, "DIR",
                           "SAEs whose features can be set; may be repeated (default: those that "
                           "came\nwith the model)");
  line.flag("--no-sae", o.no_saes, "none")->excludes(saes);
  line.heading("Options");
}

// A prompt as the page has it: a text, or ids where the model has no tokenizer.
Json prompt_json(const PromptOptions& prompt, const nn::Model& model, const char* name,
                 const char* otherwise) {
  if (!model.has_tokenizer())
    return prompt.given() ? Json(prompt.tokens(model)) : Json(nn::Tokens{0});
  if (!prompt.given()) return otherwise;
  const nn::Tokens tokens = prompt.tokens(model);  // throws for what the model cannot take
  if (prompt.by_text()) return json_text(prompt.text());
  const std::string text = model.tokenizer().decode(tokens);
  if (prompt.encode(model, text) == tokens) return json_text(text);
  throw TokenError(
      fmt::format("the page has its prompts as texts, and no text becomes the ids of "
                  "--{0}; give --{1} TEXT",
                  name, name == std::string_view("tokens") ? "prompt" : "corrupt"));
}

// The options with which `predict` runs the same model.
std::vector<std::string> options_of_model(const CommonOptions& common) {
  std::vector<std::string> words;
  if (!common.model.empty()) words.insert(words.end(), {"--model", common.model});
  if (common.gauge != "raw") words.insert(words.end(), {"--gauge", common.gauge});
  if (!common.vocabulary.empty()) words.insert(words.end(), {"--vocabulary", common.vocabulary});
  return words;
}

std::unique_ptr<LiveModel> live_model(Options& o, nn::Model model) {
  LiveModel::Setup setup;
  setup.names = o.no_saes ? std::vector<std::string>() : o.saes;
  if (o.saes.empty() && !o.no_saes) setup.names = shipped_saes(o.common.model);
  setup.saes = splice_saes(model, setup.names, o.common);
  setup.options = options_of_model(o.common);
  if (o.prompt.prepends_bos()) setup.text_options.emplace_back("--prepend-bos");
  if (o.prompt.special()) setup.text_options.emplace_back("--special");
  // Of the model in which it lives by then: the tokenizer is all that this needs of it.
  if (model.has_tokenizer()) {
    setup.encode = [&prompt = o.prompt, tokenizer = model.tokenizer(), bos = model.config().bos](
                       std::string_view text) { return prompt.encode(tokenizer, bos, text); };
  }
  return std::make_unique<LiveModel>(std::move(model), std::move(setup));
}

LiveServer::Limits limits_of(const nn::Model& model) {
  LiveServer::Limits limits;
  limits.at_once = std::max(1, model.pool().threads());
  return limits;
}

// Until Ctrl-C, or until nobody has asked for long.
void serve(LiveServer& server, const Interruptible& interruptible, int idle) {
  std::thread serving([&] { server.serve(); });
  while (!interruptible.requested() && (idle == 0 || server.idle() < std::chrono::seconds(idle)))
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  server.stop();
  serving.join();
  interruptible.check();
}

}  // namespace

void verb_serve(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "A live page of a model, for a browser on this machine: edit the prompt, switch heads and\n"
      "MLPs off, patch from a second prompt, steer along directions, set features of SAEs, and\n"
      "watch the logits move. The page shows the command that repeats what is seen. Prints its\n"
      "address; Ctrl-C ends it.\n\n"
      "json: {meta, address, port}\n",
      "vitrine serve --prompt 'The capital of Texas is' --port 0 --idle 2");
  Options o;
  add_to(line, o);
  o.common.memory = kMemory;
  o.common.add_to(line);
  if (!line.parse()) return;
  if (o.prompt.given()) o.prompt.require(line);
  if (o.second.given()) o.second.require(line);

  const Interruptible interruptible;
  nn::Model model = o.common.load();
  Json data = {
      {"meta", o.common.meta(line)},
      {"prompt", prompt_json(o.prompt, model, "tokens", "The capital of Texas is")},
      {"second", prompt_json(o.second, model, "corrupt-tokens", "The capital of Ohio is")}};
  const LiveServer::Limits limits = limits_of(model);
  const auto live = live_model(o, std::move(model));
  data["model"] = live->description();
  LiveServer server(
      page_html("serve", data, PageReach::own_server),
      {{"/api/run", [&](const JsonReader& request,
                        const auto& cancelled) { return live->run(request, cancelled); }},
       {"/api/patch", [&](const JsonReader& request,
                          const auto& cancelled) { return live->patches(request, cancelled); }}},
      limits);
  const int port = server.listen_on(o.port);
  const std::string address = fmt::format("http://127.0.0.1:{}/", port);
  if (o.common.json()) {
    write_result(o.common.out,
                 to_line({{"meta", o.common.meta(line)}, {"address", address}, {"port", port}}));
  } else {
    write_result(o.common.out, address + "\n");
  }
  if (!o.common.quiet)
    log(fmt::format("{} is live at {}; Ctrl-C ends it", o.common.model_name(), address));
  serve(server, interruptible, o.idle);
}

}  // namespace vitrine::app
