// Checks exercise 9: the effects of patches of the default model, from slopes, beside those that patching gives.
#include "apps/lessons/exercises/09_mean_slope.h"
#include "apps/lessons/lesson.h"
#include "autograd/transform/gradient.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

// The way from the corrupt run's value of a site to the clean one's, at all positions.
class Way {
 public:
  Way(const nn::Model& model, const nn::Tokens& corrupt, const nn::Tokens& clean, const Site& site,
      const Metric& metric)
      : model_(model),
        corrupt_(corrupt),
        site_(site),
        metric_(metric),
        from_(model.run(corrupt, site)[site].to_vector<double>()),
        to_(model.run(clean, site)[site].to_vector<double>()) {}

  struct Point {
    double metric, slope;
  };
  Point at(double t) const {
    std::vector<double> x = from_;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += t * (to_[i] - from_[i]);
    Graph graph = model_.build({.batch = 1, .tokens = std::ssize(corrupt_)});
    const Shape shape = graph.site(site_.name).type.shape;
    const Interventions edit = {replace(site_, Tensor::of(shape, x).to(DType::f32))};
    graph = gradient(intervene(graph, edit), metric_, sites(site_.name));
    Feeds feeds = with_interventions(graph, edit, model_.feeds(graph, {corrupt_}));
    feeds.insert(metric_.feeds.begin(), metric_.feeds.end());
    const Plan& plan = model_.plans().get(graph, fetch(value(metric_), grad(site_)));
    const Results r = plan.run(feeds, model_.parameters());
    const auto gradient = r.grad(site_).to_vector<double>();
    double slope = 0;
    for (std::size_t i = 0; i < x.size(); ++i) slope += gradient[i] * (to_[i] - from_[i]);
    return {r.scalar(metric_.name), slope};
  }

 private:
  const nn::Model& model_;
  nn::Tokens corrupt_;
  Site site_;
  Metric metric_;
  std::vector<double> from_, to_;
};

void check_way(const std::string& name, const Way& way) {
  const double truth = way.at(1).metric - way.at(0).metric;
  int asked = 0;
  const double told = effect([&](double t) {
    ++asked;
    return way.at(t).slope;
  });
  say("{}: you say {:+.4f}, patching says {:+.4f}", name, told, truth);
  expect("distance, as a share of the truth", std::abs(told - truth) / std::abs(truth),
         at_most(0.01));
  expect("slopes asked for", asked, between(1, 24));
}

}  // namespace

int main() {
  const nn::Model model = nn::load_model();
  const nn::Tokens corrupt = model.tokens("The capital of California is");
  const struct {
    const char *place, *capital;
  } others[] = {{"Texas", " Austin"}, {"Italy", " Rome"}, {"Oregon", " Salem"}};
  for (const auto& other : others) {
    const nn::Tokens clean = model.tokens(fmt::format("The capital of {} is", other.place));
    const int answer = model.token(other.capital);
    section(fmt::format("from California to {}", other.place));
    check_way("logit difference", {model, corrupt, clean, site::attn_out(1),
                                   nn::logit_diff(answer, model.token(" Sacramento"))});
    check_way("probability", {model, corrupt, clean, site::resid_pre(2), nn::probability(answer)});
  }
  say("\nRight.");
}
