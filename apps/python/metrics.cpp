#include "apps/python/metrics.h"

#include <fmt/format.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "apps/python/arrays.h"
#include "apps/python/values.h"
#include "nn/model/metrics.h"
#include "tensor/error.h"

namespace vitrine::python {

using namespace nb::literals;

MetricHandle MetricHandle::of_function(const std::string& name, const nb::callable& function,
                                       bool per_prompt, Feeds feeds) {
  const nb::handle borrowed = function;  // held by the handle below, for as long as the metric is
  if (per_prompt) {
    MetricHandle made(nn::per_prompt(
        name,
        [borrowed, name](Builder& b) {
          const nb::gil_scoped_acquire held;
          const Value logits = nn::last_logits(b);
          const Lent lent(b);
          return lent.taken(borrowed(lent.of(logits)), fmt::format("the metric {}", name));
        },
        std::move(feeds)));
    made.function_ = nb::borrow(function);
    return made;
  }
  MetricHandle made(Metric{name,
                           [borrowed, name](Builder& b) {
                             const nb::gil_scoped_acquire held;
                             const Lent lent(b);
                             return lent.taken(borrowed(lent.handle),
                                               fmt::format("the metric {}", name));
                           },
                           std::move(feeds)});
  made.function_ = nb::borrow(function);
  return made;
}

int MetricHandle::traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  Py_VISIT(nb::inst_ptr<MetricHandle>(self)->function_.ptr());
  return 0;
}

int MetricHandle::clear(PyObject* self) {
  auto* metric = nb::inst_ptr<MetricHandle>(self);
  metric->metric_.emit = [](Builder&) -> Value {
    throw GraphError("this metric is gone: its function was collected");
  };
  metric->function_ = nb::object();
  return 0;
}

namespace {

using Ids = std::variant<int, std::vector<int>>;

nn::Answers answers(const Ids& ids) {
  if (const int* one = std::get_if<int>(&ids)) return {*one};
  return {std::get<std::vector<int>>(ids)};
}

PyType_Slot kSlots[] = {{Py_tp_traverse, reinterpret_cast<void*>(&MetricHandle::traverse)},
                        {Py_tp_clear, reinterpret_cast<void*>(&MetricHandle::clear)},
                        {0, nullptr}};

}  // namespace

void add_metrics(nb::module_& m) {
  nb::class_<MetricHandle>(m, "Metric", nb::type_slots(kSlots),
                           "What is explained or minimised: a scalar that is written into a graph. "
                           "It adds the output NAME, the mean over the "
                           "prompts, and, of the metrics of prompts, NAME_per_prompt.")
      .def_prop_ro("name", [](const MetricHandle& h) { return h.live().name; })
      .def_prop_ro(
          "feeds", [](const MetricHandle& h) { return to_dict(h.live().feeds); },
          "{input: array}: what a run of a graph with the metric is fed besides.")
      .def("__repr__",
           [](const MetricHandle& h) { return fmt::format("<vitrine.Metric {}>", h.live().name); });
  m.def(
      "metric",
      [](const nb::callable& function, const std::string& name, bool per_prompt,
         const nb::dict& feeds) {
        return MetricHandle::of_function(name, function, per_prompt, to_tensors(feeds));
      },
      "function"_a, "name"_a = "metric", nb::kw_only(), "per_prompt"_a = true,
      "feeds"_a = nb::dict(),
      "A metric of one's own. The function is called once for each graph, while it is built, and "
      "emits nodes: of the logits after the "
      "last token of each prompt [prompts, vocabulary] it returns a Value [prompts]; or, with "
      "per_prompt=False, of a Builder over the "
      "whole graph it returns a scalar Value.\n\n"
      ">>> vitrine.metric(lambda logits: vitrine.ops.max(logits, [1]), name='largest')");
  m.def(
      "logit_diff",
      [](const Ids& answer, const Ids& wrong) {
        return MetricHandle(nn::logit_diff(answers(answer), answers(wrong)));
      },
      "answer"_a, "wrong"_a,
      "logit[answer] - logit[wrong] after the last token; ids, one for all prompts or one for "
      "each.");
  m.def(
      "logit", [](const Ids& answer) { return MetricHandle(nn::logit(answers(answer))); },
      "answer"_a);
  m.def(
      "probability",
      [](const Ids& answer) { return MetricHandle(nn::probability(answers(answer))); }, "answer"_a,
      "Of the answer after the last token; its name is 'prob'.");
  m.def(
      "log_probability",
      [](const Ids& answer) { return MetricHandle(nn::log_probability(answers(answer))); },
      "answer"_a, "In nats; its name is 'log_prob'.");
  m.def(
      "rank", [](const Ids& answer) { return MetricHandle(nn::rank(answers(answer))); }, "answer"_a,
      "How many tokens are more probable; 0 for the most probable one. Its gradient is 0.");
  m.def(
      "accuracy", [](const Ids& answer) { return MetricHandle(nn::accuracy(answers(answer))); },
      "answer"_a, "1 where the answer is the most probable token, else 0. Its gradient is 0.");
  m.def(
      "kl_to",
      [](nb::handle logits) {
        return MetricHandle(nn::kl_to(to_tensor(logits, DType::f32).clone()));
      },
      "logits"_a,
      "KL(clean || edited) in nats, from logits [prompts, vocabulary] or [vocabulary]; its name is "
      "'kl'.");
  m.def(
      "prompt_loss", [] { return MetricHandle(nn::prompt_loss()); },
      "Cross-entropy of each token from those before it, in nats: the mean over each prompt's "
      "tokens, and over the prompts.");
  m.def(
      "training_loss", [](std::int64_t tokens) { return MetricHandle(nn::training_loss(tokens)); },
      "tokens"_a,
      "The mean cross-entropy over `tokens` predicted tokens of all prompts, 'loss', made a chunk "
      "of logits at a time.");
}

}  // namespace vitrine::python
