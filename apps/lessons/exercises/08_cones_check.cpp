// Checks exercise 8 against the model: what changes when a place is changed, and where the gradient is not 0.
#include "apps/lessons/exercises/08_cones.h"
#include "apps/lessons/lesson.h"
#include "autograd/transform/gradient.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

struct Asked {
  nn::Model model = nn::load_model();
  nn::Tokens prompt = model.tokens("The capital of Texas is");
  SiteSet states = sites("blocks.*.hook_resid_post");
  int layers = model.config().layers, positions = static_cast<int>(prompt.size());

  // fact(place), for all places.
  template <class F>
  std::vector<std::pair<Place, bool>> of_all_places(const F& fact) const {
    std::vector<std::pair<Place, bool>> all;
    for (int layer = 0; layer < layers; ++layer)
      for (int pos = 0; pos < positions; ++pos) all.push_back({{layer, pos}, fact(layer, pos)});
    return all;
  }
};

Tensor state_at(const Tensor& states, int pos) { return states.select(0, 0).select(0, pos); }

void refuse_if(bool wrong, const std::string& what, const Place& place, bool truth) {
  if (!wrong) return;
  say("  ✗ {}: for the state behind layer {} at position {} your function says {}; in the model it "
      "is {}",
      what, place.layer, place.pos, !truth, truth);
  std::exit(4);
}

// Adds a direction to the state at each place in turn, and compares all states with those of the plain run.
void check_reaches(const Asked& a) {
  section("reaches: each place is changed, and all states are compared");
  const Tensor direction = Tensor::full({a.model.config().d_model}, DType::f32, 1);
  direction.data<float>()[0] = 20;  // no constant: LayerNorm would take that away
  const nn::Run plain = a.model.run(a.prompt, a.states);
  for (const auto& [edited, unused] : a.of_all_places([](int, int) { return true; })) {
    const Interventions edit = {
        add(site::resid_post(edited.layer), direction, 1, {.pos = {edited.pos}})};
    const nn::Run run = a.model.run_edited({a.prompt}, edit, fetch(a.states));
    const auto changed = a.of_all_places([&](int layer, int pos) {
      const Site site = site::resid_post(layer);
      return max_abs_difference(state_at(plain[site], pos), state_at(run[site], pos)) > 0;
    });
    for (const auto& [place, truth] : changed)
      refuse_if(
          reaches(edited, place) != truth,
          fmt::format("after an edit behind layer {} at position {}", edited.layer, edited.pos),
          place, truth);
  }
  expect("places that were changed, one by one", a.layers * a.positions, near(30, 0));
}

// Takes the gradient of a logit behind the last layer in every state.
void check_is_read(const Asked& a) {
  section("is_read: the gradient of a logit in each state");
  const Metric logit = nn::logit(a.model.token(" Austin"));
  const Graph graph = gradient(a.model.build({.batch = 1, .tokens = a.positions}), logit, a.states);
  const nn::Run run = a.model.run_graph(graph, {a.prompt}, fetch(grad(a.states)), logit.feeds);
  const auto read = a.of_all_places([&](int layer, int pos) {
    return max_abs(state_at(run.results.grad(site::resid_post(layer)), pos)) > 0;
  });
  for (const auto& [place, truth] : read)
    refuse_if(is_read(place, a.layers, a.positions - 1) != truth, "of the logits at the last token",
              place, truth);
  const auto count =
      std::count_if(read.begin(), read.end(), [](const auto& p) { return p.second; });
  expect("places that a logit depends on", static_cast<double>(count), near(26, 0));
}

}  // namespace

int main() {
  const Asked asked;
  check_reaches(asked);
  check_is_read(asked);
  say("\nRight. The cone of an edit is where both are true.");
}
