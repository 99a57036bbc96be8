#include "apps/experiment/edit_options.h"

#include <fmt/format.h>

#include "apps/experiment/edit_text.h"
#include "apps/options/sae_options.h"
#include "autograd/transform/intervention_json.h"
#include "tensor/error.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

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

std::vector<SplicedSae> splice_saes(nn::Model& model, const std::vector<std::string>& names,
                                    const CommonOptions& common) {
  std::vector<SplicedSae> spliced;
  for (const std::string& name : names) {
    const auto sae = std::make_shared<const sae::Sae>(load_sae(name, common.model));
    require_fits(*sae, model);
    note_its_model(*sae, false, common.gauge);
    const std::string prefix = fmt::format("sae{}", spliced.size());
    const Codec codec = sae::codec(*sae, prefix);
    model.transform([site = Site{sae::trained_site(*sae)}, codec](
                        const Graph& g) { return splice(g, site, codec, ErrorTerm::keep).graph; },
                    sae::with_parameters({}, *sae, prefix));
    spliced.push_back({sae, prefix});
  }
  return spliced;
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
  spliced_ = splice_saes(model, saes_, common);
  if (edits_.empty() && file_.empty()) return;
  const EditMaker maker(model, {common.seed, known_, {}});
  std::vector<nn::StandingEdit> edits;
  int stage = 0;
  for (const std::string& text : edits_) {
    const EditText parsed = parse_edit(text);
    if (parsed.later && !edits.empty()) ++stage;
    try {
      for (nn::StandingEdit& e : maker.make(parsed)) {
        e.stage = stage;
        edits.push_back(std::move(e));
      }
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("--edit '{}': {}", text, error.what()));
    }
  }
  if (!file_.empty()) {
    const Interventions what = interventions_from_json(read_text(file_));
    for (nn::StandingEdit& e : standing(what, maker, file_, edits_.empty() ? 0 : stage + 1))
      edits.push_back(std::move(e));
  }
  // Those that stand already come first.
  std::vector<nn::StandingEdit> all = model.standing();
  const int before = all.empty() ? 0 : all.back().stage + 1;
  for (nn::StandingEdit& e : edits) {
    e.stage += before;
    all.push_back(std::move(e));
  }
  model.stand(std::move(all));
}

}  // namespace vitrine::app
