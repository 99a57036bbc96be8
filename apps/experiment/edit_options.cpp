#include "apps/experiment/edit_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/experiment/edit_text.h"
#include "apps/experiment/prompts_file.h"
#include "apps/options/json_lines.h"
#include "apps/options/sae_options.h"
#include "apps/options/site_names.h"
#include "autograd/transform/intervention_json.h"
#include "autograd/transform/recorded.h"
#include "interp/steering.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_value.h"
#include "tensor/random.h"

namespace vitrine::app {
namespace {

using Action = EditText::Action;

// Makes standing edits for a model of edits as they are typed.
class EditMaker {
 public:
  EditMaker(const nn::Model& model, std::uint64_t seed, std::shared_ptr<const KnownPrompts> known)
      : model_(model),
        graph_(model.build(nn::BatchSize{1, 1, 1})),
        names_(graph_.site_names()),
        seed_(seed),
        known_(std::move(known)) {}

  // One for each site that is meant.
  std::vector<nn::StandingEdit> make(const EditText& text) {
    std::vector<nn::StandingEdit> edits;
    for (const std::string& name : select_sites({full_patterns(text.site, names_)}, names_)) {
      check_places(text, graph_.site(name));
      nn::StandingEdit e = of_action(text, Site{name});
      if (!(text.where == Where{})) e.edit.where = {text.where};
      place(e, text.positions);
      if (!text.where.key.empty()) e.check = has_keys(name, text.where.key);
      edits.push_back(std::move(e));
    }
    return edits;
  }

  void place(nn::StandingEdit& e, const std::vector<interp::Position>& positions) const {
    if (positions.empty()) return;
    std::vector<std::string> words;
    words.reserve(positions.size());
    for (const interp::Position& p : positions) words.push_back(p.text());
    e.where = fmt::format("pos {}", fmt::join(words, ","));
    e.positions = [known = known_, positions](const nn::Tokens& prompt) {
      return known->positions(positions, prompt);
    };
  }

 private:
  // Keys lie along the longest prompt of a batch: of a shorter one a later key would be nothing.
  static std::function<void(const nn::Tokens&)> has_keys(const std::string& site,
                                                         const std::vector<std::int64_t>& keys) {
    return [site, last = *std::max_element(keys.begin(), keys.end())](const nn::Tokens& prompt) {
      if (last < std::ssize(prompt)) return;
      throw ContextError(
          fmt::format("the edit of {}: there is no key {}: a prompt has {} tokens, "
                      "0 to {}",
                      site, last, prompt.size(), std::ssize(prompt) - 1));
    };
  }

  // Throws Error (usage) for a head, key or feature that the site does not have.
  static void check_places(const EditText& text, const SiteEntry& site) {
    for (const WhereList& list : kWhereLists) {
      const auto& indices = text.where.*list.indices;
      if (indices.empty()) continue;
      const auto axis = std::find_if(site.axes.begin(), site.axes.end(),
                                     [&](Axis a) { return vitrine::name_of(a) == list.word; });
      if (axis == site.axes.end())
        throw Error(ErrorKind::usage,
                    fmt::format("the edit of {}: the site has no {}s", site.name, list.word));
      const std::int64_t size = site.type.shape[static_cast<int>(axis - site.axes.begin())];
      const auto most = *std::max_element(indices.begin(), indices.end());
      if (*axis == Axis::key || most < size) continue;
      throw Error(ErrorKind::usage,
                  fmt::format("the edit of {}: there is no {} {}; there are 0 to {}", site.name,
                              list.word, most, size - 1));
    }
    if (!text.positions.empty() && (site.axes.empty() || site.axes[0] != Axis::row))
      throw Error(ErrorKind::usage,
                  fmt::format("the edit of {}: the site has no positions", site.name));
  }

  nn::StandingEdit of_action(const EditText& text, const Site& site) {
    switch (text.action) {
      case Action::zero:
        return {zero(site)};
      case Action::scale:
        return {scale(site, *text.number)};
      case Action::detach:
        return {detach(site)};
      case Action::set:
        return {replace(site, Tensor::full({1}, graph_.site(site.name).type.dtype, *text.number),
                        {}, fmt::format("{:g}", *text.number))};
      case Action::add:
        return {add(site, direction(site, text.from), text.number.value_or(1), {}, text.from)};
      case Action::project_out:
        return {project_out(site, direction(site, text.from), {}, text.from)};
      case Action::mean:
        return {mean(site, recorded(text.from, site).results, {}, text.from)};
      case Action::resample:
        return resampled(site, text.from);
    }
    return {};
  }

  Tensor direction(const Site& site, const std::string& from) const {
    const std::size_t at = from.rfind('#');
    return at == from.npos
               ? interp::direction_from(model_, site, from)
               : interp::direction_from(model_, site, from.substr(0, at), from.substr(at + 1));
  }

  const std::vector<nn::Tokens>& prompts(const std::string& file) {
    const auto [it, fresh] = prompts_.try_emplace(file);
    if (!fresh) return it->second;
    JsonLines lines(file);
    for (interp::Example& e : read_prompts(lines, model_, PromptOptions())) {
      it->second.push_back(std::move(e.prompt));
      if (!e.corrupt.empty()) it->second.push_back(std::move(e.corrupt));
    }
    return it->second;
  }
  nn::Run recorded(const std::string& file, const Site& site) {
    return model_.run_batch(prompts(file), fetch(site));
  }

  // Every prompt takes the values of one of the file's of the same length, which is not itself.
  nn::StandingEdit resampled(const Site& site, const std::string& file) {
    nn::StandingEdit e{replace(site, Tensor::zeros({1}, DType::f32), {}, "resampled from " + file)};
    e.edit.origin = Edit::Origin::given;
    struct Source {
      std::vector<nn::Tokens> prompts;
      std::vector<std::int64_t> begin;  // the first row of each
      Tensor rows;
    };
    auto source = std::make_shared<Source>();
    source->prompts = prompts(file);
    std::int64_t rows = 0;
    for (const nn::Tokens& p : source->prompts) {
      source->begin.push_back(rows);
      rows += std::ssize(p);
    }
    source->rows = recorded(file, site).results.raw(site.name).contiguous();
    e.value = [source, file, name = site.name,
               key = random::Key{seed_}.fold("resample")](const std::vector<nn::Tokens>& given) {
      std::int64_t count = 0;
      for (const nn::Tokens& p : given) count += std::ssize(p);
      Shape shape = source->rows.shape();
      shape[0] = count;
      Tensor value = Tensor::empty(shape, source->rows.dtype());
      std::int64_t row = 0;
      for (std::size_t i = 0; i < given.size(); ++i) {
        std::vector<std::size_t> others;
        for (std::size_t k = 0; k < source->prompts.size(); ++k) {
          if (source->prompts[k].size() == given[i].size() && source->prompts[k] != given[i])
            others.push_back(k);
        }
        if (others.empty()) {
          throw Error(
              ErrorKind::input,
              fmt::format("the edit resample {}: {} has no other prompt of {} tokens to take "
                          "values from",
                          name, file, given[i].size()));
        }
        const double draw = random::uniform(key, i);
        const std::size_t k =
            others[static_cast<std::size_t>(draw * static_cast<double>(others.size()))];
        for (std::int64_t p = 0; p < std::ssize(given[i]); ++p, ++row) {
          const Tensor from = source->rows.select(0, source->begin[k] + p);
          std::copy_n(from.view().data, from.bytes(), value.select(0, row).view().data);
        }
      }
      return value;
    };
    return e;
  }

  const nn::Model& model_;
  Graph graph_;
  std::vector<std::string> names_;
  std::uint64_t seed_;
  std::shared_ptr<const KnownPrompts> known_;
  std::map<std::string, std::vector<nn::Tokens>> prompts_;  // by file
};

// Those of a file: standing edits, each Where of them by itself.
std::vector<nn::StandingEdit> standing(const Interventions& what, const EditMaker& maker,
                                       const std::string& file, int first_stage) {
  std::vector<nn::StandingEdit> edits;
  int stage = first_stage;
  for (const auto& of_stage : what.stages()) {
    for (const Edit& edit : of_stage) {
      std::vector<Where> wheres = edit.where;
      if (wheres.empty()) wheres.emplace_back();
      for (Where& w : wheres) {
        if (!w.prompt.empty()) {
          throw FileError(fmt::format(
              "{}: the edit of {} selects prompts of a batch by number; edits here hold for every "
              "prompt: leave out \"prompt\"",
              file, edit.site.name));
        }
        nn::StandingEdit& e = edits.emplace_back(nn::StandingEdit{edit});
        e.stage = stage;
        std::vector<interp::Position> positions;
        for (const std::int64_t p : w.pos) positions.push_back({p, ""});
        w.pos.clear();
        e.edit.where.clear();
        if (!(w == Where{})) e.edit.where = {w};
        maker.place(e, positions);
      }
    }
    ++stage;
  }
  return edits;
}

}  // namespace

// ---- known prompts ------------------------------------------------------------------------------
void KnownPrompts::add(const interp::Example& example) {
  examples_.try_emplace(example.prompt, example);
  if (example.corrupt.empty()) return;
  interp::Example corrupt = example;
  corrupt.prompt = example.corrupt;
  examples_.try_emplace(example.corrupt, corrupt);
}

std::vector<std::int64_t> KnownPrompts::positions(const std::vector<interp::Position>& asked,
                                                  const nn::Tokens& prompt) const {
  // The example itself, or the longest that an answer follows.
  auto known = examples_.end();
  for (nn::Tokens begin = prompt; known == examples_.end() && !begin.empty(); begin.pop_back())
    known = examples_.find(begin);
  const interp::Example alone{.prompt = prompt};
  std::vector<std::int64_t> found;
  for (const interp::Position& p : asked) {
    const interp::Span span = (known != examples_.end() ? known->second : alone).span(p);
    for (std::int64_t at = span.begin; at < span.end; ++at) found.push_back(at);
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

// ---- the options --------------------------------------------------------------------------------
void EditOptions::add_to(CommandLine& line, CommonOptions& common, bool splices) {
  line.heading("Edits");
  line.option("--edit", edits_, "'ACTION SITE ...'",
              "a change of the model that holds in all of its runs; several are made together:\n" +
                  edit_forms());
  line.option(
      "--edits", file_, "FILE.json",
      "the same from a file: {\"version\": 1, \"stages\": [[{\"site\", \"action\", \"where\",\n"
      "\"value\" ...}]]}, as autograd/transform/intervention_json.h documents it");
  if (splices)
    line.option("--sae", saes_, "DIR",
                "an SAE, spliced in at its site with its error kept: its features are sites then,\n"
                "SITE.hook_sae_acts_post");
  line.heading("Options");
  line.after_parsing([this, &line] {
    for (const std::string& text : edits_) {
      try {
        parse_edit(text);
      } catch (const Error& error) {
        line.fail(error.what());
      }
    }
  });
  common.after_loading([this, &common](nn::Model& model) { apply(model, common); });
}

void EditOptions::know(std::span<const interp::Example> examples) {
  for (const interp::Example& e : examples) known_->add(e);
}

void EditOptions::apply(nn::Model& model, const CommonOptions& common) const {
  int spliced = 0;
  spliced_.clear();
  for (const std::string& name : saes_) {
    const auto sae = std::make_shared<const sae::Sae>(load_sae(name, common.model));
    require_fits(*sae, model);
    note_its_model(*sae, false, common.gauge);
    const std::string prefix = fmt::format("sae{}", spliced++);
    const Codec codec = sae::codec(*sae, prefix);
    model.transform([site = Site{sae::trained_site(*sae)}, codec](
                        const Graph& g) { return splice(g, site, codec, ErrorTerm::keep).graph; },
                    sae::with_parameters({}, *sae, prefix));
    spliced_.push_back({sae, prefix});
  }
  if (edits_.empty() && file_.empty()) return;
  EditMaker maker(model, common.seed, known_);
  std::vector<nn::StandingEdit> edits;
  for (const std::string& text : edits_) {
    const EditText parsed = parse_edit(text);
    try {
      for (nn::StandingEdit& e : maker.make(parsed)) edits.push_back(std::move(e));
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("--edit '{}': {}", text, error.what()));
    }
  }
  if (!file_.empty()) {
    const Interventions what = interventions_from_json(read_text(file_));
    for (nn::StandingEdit& e : standing(what, maker, file_, edits_.empty() ? 0 : 1))
      edits.push_back(std::move(e));
  }
  model.stand(std::move(edits));
}

}  // namespace vitrine::app
