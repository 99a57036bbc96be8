// Liveness analysis and memory planning, the last phases of compile: decides which values share
// bytes, and where in the arena they lie. A value is alive from the step that writes it to the last
// that reads it.
#include <algorithm>
#include <numeric>
#include <utility>

#include "autograd/compile/phases.h"

namespace vitrine {
namespace {

std::size_t index(const Operand& o) { return static_cast<std::size_t>(o.storage); }

// By storage, the last moment that reads it: the number of a step, steps.size() for what is read
// after all steps, -1 for never.
std::vector<int> last_reads(const Program& program) {
  std::vector<int> last(program.storage.size(), -1);
  const auto end = static_cast<int>(program.steps.size());
  for (int i = 0; i < end; ++i) {
    for (const Operand& o : program.steps[static_cast<std::size_t>(i)].in) last[index(o)] = i;
  }
  for (const NamedResult& r : program.results) last[index(r.operand)] = end;
  for (const Copy& c : program.copies) last[index(c.from)] = end;
  return last;
}

// Decides for each storage of the arena whether another, which dies where it is written, stands in
// for it.
class StandIns {
 public:
  explicit StandIns(const Program& program)
      : program_(program), last_read_(last_reads(program)), stand_in_(program.storage.size()) {
    std::iota(stand_in_.begin(), stand_in_.end(), 0);
    for (std::size_t i = 0; i < program.steps.size(); ++i) decide(static_cast<int>(i));
  }

  int count() const { return count_; }
  void follow(Operand& o) const { o.storage = stand_in_[index(o)]; }

 private:
  void decide(int at) {
    const Step& step = program_.steps[static_cast<std::size_t>(at)];
    if (program_.storage_of(step.out).where != Storage::Where::arena) return;
    const OpDef::InPlace rule = step.node->op->in_place;
    const std::size_t candidates = rule == OpDef::InPlace::never         ? 0
                                   : rule == OpDef::InPlace::first_input ? 1
                                                                         : step.in.size();
    for (std::size_t k = 0; k < std::min(candidates, step.in.size()); ++k) {
      if (!may_overwrite(step, at, k)) continue;
      const auto from = static_cast<std::size_t>(stand_in_[index(step.in[k])]);
      stand_in_[index(step.out)] = static_cast<int>(from);
      last_read_[from] = std::max(last_read_[from], last_read_[index(step.out)]);
      ++count_;
      return;
    }
  }

  bool may_overwrite(const Step& step, int at, std::size_t k) const {
    Operand in = step.in[k];
    follow(in);
    const Storage &from = program_.storage_of(in), &own = program_.storage_of(step.out);
    if (from.where != Storage::Where::arena || from.bytes != own.bytes || from.dtype != own.dtype)
      return false;
    if (!program_.covers_its_storage(in) || !(in.layout.shape == step.out.layout.shape))
      return false;
    if (last_read_[index(in)] != at) return false;
    // Another view of the same bytes must be the same view.
    return std::all_of(step.in.begin(), step.in.end(), [&](Operand other) {
      follow(other);
      return other.storage != in.storage ||
             (other.layout.strides == in.layout.strides && program_.covers_its_storage(other));
    });
  }

  const Program& program_;
  std::vector<int> last_read_;
  std::vector<int> stand_in_;  // by storage; itself where there is none
  int count_ = 0;
};

// The steps between which bytes of the arena are needed, both included. `last` is steps.size() for
// what is read after all steps; `first` is -1 for what no step writes.
struct Lifetime {
  int first = -1, last = -1;
};

std::vector<Lifetime> lifetimes(const Program& program) {  // by storage
  std::vector<Lifetime> lives(program.storage.size());
  const auto use = [&](int storage, int when) {
    lives[static_cast<std::size_t>(storage)].last = when;
  };
  int now = 0;
  for (const Step& step : program.steps) {
    Lifetime& out = lives[index(step.out)];
    if (out.first < 0) out.first = now;
    use(step.out.storage, now);
    for (const Operand& o : step.in) use(o.storage, now);
    if (step.scratch >= 0) use(step.scratch, now);
    ++now;
  }
  for (const Copy& c : program.copies) use(c.from.storage, now);
  return lives;
}

}  // namespace

bool Program::covers_its_storage(const Operand& o) const {
  const Storage& s = storage_of(o);
  return o.layout.offset == 0 && o.layout.is_contiguous() &&
         bytes_of(s.dtype, numel(o.layout.shape)) == s.bytes;
}

Draft write_over_inputs(Draft draft) {
  Program& program = draft.program;
  const StandIns stand_ins(program);
  for (Step& s : program.steps) {
    for (Operand& o : s.in) stand_ins.follow(o);
    stand_ins.follow(s.out);
  }
  for (Copy& c : program.copies) stand_ins.follow(c.from);
  for (Operand& o : draft.values) {
    if (o.storage >= 0) stand_ins.follow(o);
  }
  draft.stats.in_place += stand_ins.count();
  return draft;
}

Draft place_in_arena(Draft draft) {
  Program& program = draft.program;
  const std::vector<Lifetime> lives = lifetimes(program);
  std::vector<std::vector<Storage*>> dies(program.steps.size());
  for (std::size_t s = 0; s < lives.size(); ++s) {
    const auto last = static_cast<std::size_t>(lives[s].last);
    const bool ends = lives[s].last >= 0 && last < program.steps.size();
    if (program.storage[s].where == Storage::Where::arena && ends)
      dies[last].push_back(&program.storage[s]);
  }
  ArenaPlanner planner;
  const auto take = [&](Storage& s) { s.at = planner.take(s.bytes); };
  for (const Copy& c : program.kept_aside) take(program.storage_of(c.to));  // never given back
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    const Step& step = program.steps[i];
    if (step.scratch >= 0) take(program.storage[static_cast<std::size_t>(step.scratch)]);
    Storage& out = program.storage_of(step.out);
    const bool fresh = lives[index(step.out)].first == static_cast<int>(i);
    if (out.where == Storage::Where::arena && fresh) take(out);
    for (const Storage* s : dies[i]) planner.give_back(s->at, s->bytes);
  }
  program.arena_bytes = planner.peak();
  draft.stats.arena_bytes = planner.peak();
  return draft;
}

}  // namespace vitrine
