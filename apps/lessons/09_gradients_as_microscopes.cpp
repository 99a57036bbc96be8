// Lesson 9. Gradients as microscopes: one backward pass guesses what every patch would do.
#include "apps/lessons/lesson.h"
#include "autograd/transform/gradient.h"
#include "interp/integrated_gradients.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

struct Pair {
  nn::Model model = nn::load_model();
  nn::Tokens clean = model.tokens("The capital of Texas is");
  nn::Tokens corrupt = model.tokens("The capital of California is");
  int austin = model.token(" Austin"), sacramento = model.token(" Sacramento");
  int layers = model.config().layers, last = static_cast<int>(clean.size()) - 1;
  Metric logit_diff = nn::logit_diff(austin, sacramento);
  Metric prob = nn::probability(austin);
};

// What a site holds at one position.
Tensor at(const Tensor& site, int pos) { return site.select(0, 0).select(0, pos); }

// (to - from) . direction
double along(const Tensor& from, const Tensor& to, const Tensor& direction) {
  const auto a = from.to_vector<double>(), b = to.to_vector<double>(),
             d = direction.to_vector<double>();
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (b[i] - a[i]) * d[i];
  return sum;
}

void guess_and_truth(const Pair& p) {
  section("One backward pass, 90 guesses; and the truth beside them");
  // [snippet gradient]
  const SiteSet where =
      sites("blocks.*.hook_resid_pre,blocks.*.hook_attn_out,blocks.*.hook_mlp_out");
  const Graph model = p.model.build({.batch = 1, .tokens = p.last + 1});
  const Graph with_gradient = gradient(model, p.logit_diff, where);
  const nn::Run base =
      p.model.run_graph(with_gradient, {p.corrupt}, fetch(where, grad(where), value(p.logit_diff)));
  const nn::Run other = p.model.run(p.clean, where);
  // [/snippet gradient]

  // [snippet guess]
  struct Place {
    std::string name;
    double guess, truth;
  };
  std::vector<Place> places;
  std::vector<Interventions> worlds;  // the same places, to be patched in earnest
  for (const char* part : {"hook_resid_pre", "hook_attn_out", "hook_mlp_out"}) {
    for (int i = 0; i < p.layers * (p.last + 1); ++i) {
      const int layer = i / (p.last + 1), pos = i % (p.last + 1);
      const Site site = site::in_block(layer, part);
      const double guess =
          along(at(base[site], pos), at(other[site], pos), at(base.results.grad(site), pos));
      places.push_back({fmt::format("{} {}, position {}", part + 5, layer, pos), guess, 0});
      worlds.push_back({replace(site, other[site], {.pos = {pos}}, "clean")});
    }
  }
  // [/snippet guess]
  const Swept swept = p.model.sweep({p.corrupt}, worlds, p.logit_diff, {"logit_diff"});
  const auto after = swept["logit_diff"].to_vector<double>();
  double both = 0, guesses = 0, truths = 0;  // sums of products
  for (std::size_t i = 0; i < places.size(); ++i) {
    Place& x = places[i];
    x.truth = after[i] - base.results.scalar("logit_diff");
    both += x.truth * x.guess, guesses += x.guess * x.guess, truths += x.truth * x.truth;
  }
  std::sort(places.begin(), places.end(),
            [](const auto& a, const auto& b) { return std::abs(a.truth) > std::abs(b.truth); });
  std::vector<Row> rows;
  for (std::size_t i = 0; i < 14; ++i)
    rows.push_back({places[i].name, fmt::format("{:+.2f}", places[i].guess),
                    fmt::format("{:+.2f}", places[i].truth),
                    fmt::format("{:.2f}", places[i].truth / places[i].guess)});
  table({"patched", "guess", "truth", "truth / guess"}, rows);
  expect("correlation of guess and truth", both / std::sqrt(guesses * truths), at_least(0.99));
  expect("truth / guess at the largest", places[0].truth / places[0].guess, between(1.3, 1.7));
}

// Walks from the base run's value of a site at the last token to the other run's: after a share t of the way the metric,
// its slope along the way, and the scale of the final LayerNorm.
struct Point {
  double metric, slope, scale;
};
class Walk {
 public:
  Walk(const Pair& p, const Site& site, const Metric& metric)
      : p_(p),
        site_(site),
        metric_(metric),
        from_(p.model.run(p.corrupt, site)[site]),
        to_(p.model.run(p.clean, site)[site]) {}

  // [snippet walk]
  Point at_share(double t) const {
    std::vector<double> x = from_.to_vector<double>();
    const std::vector<double> end = to_.to_vector<double>();
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += t * (end[i] - x[i]);
    const Tensor point = Tensor::of(from_.shape(), x).to(DType::f32);
    const Interventions edit = {replace(site_, point, {.pos = {p_.last}})};
    Graph graph = intervene(p_.model.build({.batch = 1, .tokens = p_.last + 1}), edit);
    graph = gradient(graph, metric_, sites(site_.name));
    Feeds feeds = with_interventions(graph, edit, p_.model.feeds(graph, {p_.corrupt}));
    feeds.insert(metric_.feeds.begin(), metric_.feeds.end());
    const Plan& plan =
        p_.model.plans().get(graph, fetch(value(metric_), grad(site_), site::final_scale()));
    const Results r = plan.run(feeds, p_.model.parameters());
    return {r.scalar(metric_.name),
            along(at(from_, p_.last), at(to_, p_.last), at(r.grad(site_), p_.last)),
            r[site::final_scale()].at<float>({0, p_.last, 0})};
  }
  // [/snippet walk]

  // [snippet integrate]
  // Integrated gradients: the mean slope along the way, read at the middle of each of `steps` stretches.
  double integrated(int steps) const {
    double sum = 0;
    for (int k = 0; k < steps; ++k) sum += at_share((k + 0.5) / steps).slope;
    return sum / steps;
  }
  // [/snippet integrate]
  double truth() const { return at_share(1).metric - at_share(0).metric; }

 private:
  const Pair& p_;
  Site site_;
  Metric metric_;
  Tensor from_, to_;
};

void why(const Pair& p) {
  section("Why? Walk from one state to the other, and look at the slope");
  const Walk walk(p, site::resid_post(p.layers - 1), p.logit_diff);
  std::vector<Row> rows;
  std::vector<Point> points;
  for (int k = 0; k <= 8; ++k) {
    points.push_back(walk.at_share(k / 8.0));
    const Point& q = points.back();
    rows.push_back({fmt::format("{:.3f}", k / 8.0), fmt::format("{:+.2f}", q.metric),
                    fmt::format("{:+.2f}", q.slope), fmt::format("{:.3f}", q.scale),
                    fmt::format("{:+.2f}", q.metric * q.scale)});
  }
  table({"share of the way", "metric", "slope", "scale", "metric x scale"}, rows);
  double bend =
      0;  // of metric x scale: how far the middle is from the mean of two that lie around it
  for (std::size_t k = 1; k < 8; ++k) {
    const auto flat = [&](std::size_t i) { return points[i].metric * points[i].scale; };
    bend = std::max(bend, std::abs(flat(k) - (flat(k - 1) + flat(k + 1)) / 2));
  }
  expect("metric x scale: how far it is from a straight line", bend, at_most(0.01));
  expect("slope in the middle / slope at the beginning", points[4].slope / points[0].slope,
         between(1.5, 1.8));
}

void probability(const Pair& p) {
  section("Where it says nothing at all: a probability");
  const Walk walk(p, site::attn_out(1), p.prob);
  std::vector<std::pair<std::string, double>> slopes;
  for (int k = 0; k <= 8; ++k)
    slopes.emplace_back(fmt::format("after {:.3f} of the way", k / 8.0),
                        walk.at_share(k / 8.0).slope);
  bars(slopes);
  expect("guess: slope at the beginning", slopes[0].second, at_most(1e-4));
  expect("truth: change of the probability", walk.truth(), between(0.98, 1));
}

void mend(const Pair& p) {
  section("The mend: the mean of many slopes");
  const Walk logits(p, site::attn_out(1), p.logit_diff), prob(p, site::attn_out(1), p.prob);
  std::vector<Row> rows;
  for (const int steps : {1, 2, 4, 8, 16, 32})
    rows.push_back({fmt::format("{}", steps), fmt::format("{:+.3f}", logits.integrated(steps)),
                    fmt::format("{:+.4f}", prob.integrated(steps))});
  rows.push_back(
      {"truth", fmt::format("{:+.3f}", logits.truth()), fmt::format("{:+.4f}", prob.truth())});
  table({"steps", "logit difference", "probability"}, rows);
  expect("one gradient, at the beginning", logits.at_share(0).slope, near(15.85, 0.05));
  expect("16 steps less the truth", std::abs(logits.integrated(16) - logits.truth()),
         at_most(0.05));
  expect("of the probability", std::abs(prob.integrated(16) - prob.truth()), at_most(0.01));
  const interp::Integrated library = interp::integrated_gradients(
      p.model, {p.clean, p.corrupt, p.austin, p.sacramento}, {.steps = 16});
  expect("interp::integrated_gradients, from the embedding on: what is missing",
         library.completeness_error(), at_most(0.01));
}

}  // namespace

int main() {
  const Pair pair;
  guess_and_truth(pair);
  why(pair);
  probability(pair);
  mend(pair);
}
