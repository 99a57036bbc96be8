#include "apps/terminal/run.h"

#include "apps/terminal/progress.h"
#include "nn/model/batch.h"

namespace vitrine::app {

Results run_model(const nn::Model& model, const nn::Tokens& prompt, const Fetch& wanted,
                  const Interruptible& interruptible, bool quiet) {
  nn::check_prompts({prompt}, model.config());
  const Graph graph = model.build(nn::batch_size({prompt}));
  const Plan plan = compile(graph, wanted);
  Progress progress("running", "steps", quiet);
  RunOptions options;
  options.pool = &model.pool();
  options.cancel = &interruptible.requested();
  options.progress = [&](int done, int total) { progress.update(done, total); };
  return plan.run(model.feeds(graph, {prompt}), model.parameters(), options);
}

}  // namespace vitrine::app
