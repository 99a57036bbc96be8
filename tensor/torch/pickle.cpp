#include "tensor/torch/pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "tensor/files/json_text.h"

namespace vitrine::torch {
namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::size_t kMostValues = std::size_t{1} << 22;  // a tensor takes some ten
constexpr std::size_t kLongestName = 1000;                 // of a global

// The instructions of Python's pickle.py that checkpoints are written with, under its names.
enum class Op : std::uint8_t {
  mark = '(',
  stop = '.',
  pop = '0',
  pop_mark = '1',
  bin_int = 'J',
  bin_int1 = 'K',
  bin_int2 = 'M',
  none = 'N',
  bin_persistent = 'Q',
  reduce = 'R',
  bin_string = 'T',
  short_bin_string = 'U',
  bin_unicode = 'X',
  append = 'a',
  build = 'b',
  global = 'c',
  appends = 'e',
  bin_get = 'h',
  long_bin_get = 'j',
  bin_put = 'q',
  long_bin_put = 'r',
  set_item = 's',
  tuple = 't',
  set_items = 'u',
  empty_dict = '}',
  empty_list = ']',
  empty_tuple = ')',
  bin_float = 'G',
  bin_bytes = 'B',
  short_bin_bytes = 'C',
  protocol = 0x80,
  new_object = 0x81,
  tuple1 = 0x85,
  tuple2 = 0x86,
  tuple3 = 0x87,
  new_true = 0x88,
  new_false = 0x89,
  long1 = 0x8a,
  long4 = 0x8b,
  short_bin_unicode = 0x8c,
  bin_unicode8 = 0x8d,
  bin_bytes8 = 0x8e,
  empty_set = 0x8f,
  add_items = 0x90,
  frozen_set = 0x91,
  stack_global = 0x93,
  memoize = 0x94,
  frame = 0x95
};

class Machine {
 public:
  Machine(ByteReader& in, std::span<const std::string_view> known) : in_(in), known_(known) {
    out_.values.resize(kShared);  // values that are written often and never change
    out_.values[kTrue].kind = out_.values[kFalse].kind = Kind::boolean;
    out_.values[kTrue].integer = 1;
    out_.values[kEmptyTuple].kind = Kind::tuple;
  }

  Pickle run() && {
    for (;;) {
      const auto op = static_cast<Op>(in_.number<std::uint8_t>("an instruction of the pickle"));
      if (op == Op::stop) break;
      if (!(number(op) || text(op) || collection(op) || memory(op) || call(op))) {
        in_.fail(
            fmt::format("its pickle has the instruction 0x{:02x} at byte {}, which no checkpoint "
                        "of tensors is written with",
                        static_cast<int>(op), in_.at() - 1));
      }
    }
    if (!marks_.empty() || stack_.size() != 1)
      in_.fail("its pickle ends with more or less than one value");
    out_.root = stack_[0];
    return std::move(out_);
  }

 private:
  static constexpr PickleRef kNone = 0, kTrue = 1, kFalse = 2, kEmptyTuple = 3, kShared = 4;

  // ---- the stack
  void push(PickleRef ref) { stack_.push_back(ref); }
  void push(PickleValue value) {
    if (out_.values.size() == kMostValues)
      in_.fail(fmt::format("its pickle has more than {} values", kMostValues));
    out_.values.push_back(std::move(value));
    push(static_cast<PickleRef>(out_.values.size() - 1));
  }
  void push(Kind kind, std::vector<PickleRef> items) {
    push({.kind = kind, .text = {}, .items = std::move(items)});
  }
  void push_integer(std::int64_t x) {
    push({.kind = Kind::integer, .integer = x, .text = {}, .items = {}});
  }
  void push_text(Kind kind, std::string_view text) {
    push({.kind = kind, .text = text, .items = {}});
  }
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleRef top() const {
    if (stack_.size() <= floor()) in_.fail("its pickle takes a value where there is none");
    return stack_.back();
  }
  PickleRef pop() {
    const PickleRef ref = top();
    stack_.pop_back();
    return ref;
  }
  std::vector<PickleRef> pop_to_mark() {
    if (marks_.empty()) in_.fail("its pickle ends a list that never began");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleRef> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::size_t n) {
    std::vector<PickleRef> items(n);
    for (std::size_t i = n; i-- > 0;) items[i] = pop();
    push(Kind::tuple, std::move(items));
  }

  // ---- instructions, by what they are about; false for those of others
  bool number(Op op) {
    switch (op) {
      case Op::none:
        push(kNone);
        return true;
      case Op::new_true:
        push(kTrue);
        return true;
      case Op::new_false:
        push(kFalse);
        return true;
      case Op::bin_int:
        push_integer(in_.number<std::int32_t>("a number"));
        return true;
      case Op::bin_int1:
        push_integer(in_.number<std::uint8_t>("a number"));
        return true;
      case Op::bin_int2:
        push_integer(in_.number<std::uint16_t>("a number"));
        return true;
      case Op::long1:
        push_long(in_.number<std::uint8_t>("a length"));
        return true;
      case Op::long4:
        push_long(in_.number<std::uint32_t>("a length"));
        return true;
      case Op::bin_float: {  // big-endian, alone of all
        std::uint64_t bits = 0;
        for (const std::byte b : in_.take(8, "a number"))
          bits = bits << 8 | std::to_integer<std::uint64_t>(b);
        push({.kind = Kind::real, .real = std::bit_cast<double>(bits), .text = {}, .items = {}});
        return true;
      }
      default:
        return false;
    }
  }

  // An integer of n little-endian bytes in two's complement.
  void push_long(std::uint64_t n) {
    const std::string_view bytes = in_.text(n, "a number");
    if (n > 8) return push_text(Kind::long_integer, bytes);
    const bool negative = n > 0 && (static_cast<unsigned char>(bytes.back()) & 0x80) != 0;
    std::int64_t x = negative ? -1 : 0;
    if (n > 0) std::memcpy(&x, bytes.data(), n);
    push_integer(x);
  }

  bool text(Op op) {
    switch (op) {
      case Op::bin_string:
      case Op::bin_unicode:
        push_text(Kind::text, in_.text(in_.number<std::uint32_t>("a length"), "a text"));
        return true;
      case Op::short_bin_string:
      case Op::short_bin_unicode:
        push_text(Kind::text, in_.text(in_.number<std::uint8_t>("a length"), "a text"));
        return true;
      case Op::bin_unicode8:
        push_text(Kind::text, in_.text(in_.number<std::uint64_t>("a length"), "a text"));
        return true;
      case Op::bin_bytes:
        push_text(Kind::bytes, in_.text(in_.number<std::uint32_t>("a length"), "bytes"));
        return true;
      case Op::short_bin_bytes:
        push_text(Kind::bytes, in_.text(in_.number<std::uint8_t>("a length"), "bytes"));
        return true;
      case Op::bin_bytes8:
        push_text(Kind::bytes, in_.text(in_.number<std::uint64_t>("a length"), "bytes"));
        return true;
      default:
        return false;
    }
  }

  bool collection(Op op) {
    switch (op) {
      case Op::mark:
        marks_.push_back(stack_.size());
        return true;
      case Op::empty_tuple:
        push(kEmptyTuple);
        return true;
      case Op::tuple:
      case Op::frozen_set:
        push(Kind::tuple, pop_to_mark());
        return true;
      case Op::tuple1:
      case Op::tuple2:
      case Op::tuple3:
        push_tuple(static_cast<std::size_t>(op) - static_cast<std::size_t>(Op::tuple1) + 1);
        return true;
      case Op::empty_list:
      case Op::empty_set:
        push(Kind::list, {});
        return true;
      case Op::empty_dict:
        push(Kind::dict, {});
        return true;
      case Op::append:
        add(Kind::list, {pop()});
        return true;
      case Op::appends:
      case Op::add_items:
        add(Kind::list, pop_to_mark());
        return true;
      case Op::set_item: {
        const PickleRef value = pop(), key = pop();
        add(Kind::dict, {key, value});
        return true;
      }
      case Op::set_items:
        add(Kind::dict, pop_to_mark());
        return true;
      default:
        return false;
    }
  }

  // To the list or dict on top of the stack.
  void add(Kind kind, const std::vector<PickleRef>& items) {
    PickleValue& to = out_.values[top()];
    if (to.kind != kind || (kind == Kind::dict && items.size() % 2 != 0))
      in_.fail("its pickle adds entries to what is no list or dict of such");
    to.items.insert(to.items.end(), items.begin(), items.end());
  }

  bool memory(Op op) {
    switch (op) {
      case Op::pop:
        pop();
        return true;
      case Op::pop_mark:
        pop_to_mark();
        return true;
      case Op::bin_put:
        remember(in_.number<std::uint8_t>("a number"));
        return true;
      case Op::long_bin_put:
        remember(in_.number<std::uint32_t>("a number"));
        return true;
      case Op::memoize:
        remember(memo_.size());
        return true;
      case Op::bin_get:
        recall(in_.number<std::uint8_t>("a number"));
        return true;
      case Op::long_bin_get:
        recall(in_.number<std::uint32_t>("a number"));
        return true;
      case Op::protocol:
        if (const int version = in_.number<std::uint8_t>("a protocol"); version < 2 || version > 5)
          in_.fail(fmt::format("its pickle is of protocol {}; protocols 2 to 5 are read", version));
        return true;
      case Op::frame:  // a piece that is to be read at once; here everything is
        if (const auto n = in_.number<std::uint64_t>("a length"); n > in_.left())
          in_.fail("its pickle ends early; it may be truncated: fetch it again");
        return true;
      default:
        return false;
    }
  }

  // Python numbers what it remembers one after the other.
  void remember(std::size_t i) {
    if (i > memo_.size())
      in_.fail(fmt::format("its pickle remembers a value as number {}, but only {} came before", i,
                           memo_.size()));
    if (i == memo_.size()) memo_.push_back(top());
    else memo_[i] = top();
  }
  void recall(std::size_t i) {
    if (i >= memo_.size())
      in_.fail(
          fmt::format("its pickle asks for number {} of {} remembered values", i, memo_.size()));
    push(memo_[i]);
  }

  bool call(Op op) {
    switch (op) {
      case Op::global: {
        const std::string module(line()), name(line());
        push_global(module + "." + name);
        return true;
      }
      case Op::stack_global: {
        const PickleValue &name = out_.values[pop()], &module = out_.values[pop()];
        if (name.kind != Kind::text || module.kind != Kind::text)
          in_.fail("its pickle names a Python object by something that is no text");
        push_global(std::string(module.text) + "." + std::string(name.text));
        return true;
      }
      case Op::reduce:
      case Op::new_object: {
        const PickleRef arguments = pop(), what = pop();
        push_call(what, arguments);
        return true;
      }
      case Op::
          build: {  // attributes; those that a dict has ("_metadata") say nothing of its entries
        pop();
        if (out_.values[top()].kind != Kind::dict)
          in_.fail("its pickle gives attributes to what is no dict");
        return true;
      }
      case Op::bin_persistent: {
        const PickleRef what = pop();
        push(Kind::persistent, {what});
        return true;
      }
      default:
        return false;
    }
  }

  std::string_view line() {
    ByteReader ahead = in_;
    std::size_t n = 0;
    while (ahead.number<char>("a name") != '\n') {
      if (++n > kLongestName) in_.fail("its pickle has a name that does not end");
    }
    const std::string_view text = in_.text(n, "a name");
    in_.take(1, "a line's end");
    return text;
  }

  void push_global(const std::string& name) {
    if (name == kOrderedDict) return push_text(Kind::global, kOrderedDict);
    const auto found = std::find(known_.begin(), known_.end(), name);
    if (found == known_.end()) {
      in_.fail(fmt::format(
          "it names the Python object {}, which no tensor needs, and nothing of it was run; "
          "expected tensors alone (in Python: torch.save(model.state_dict(), file))",
          printable(name)));
    }
    push_text(Kind::global, *found);
  }

  void push_call(PickleRef what, PickleRef arguments) {
    if (out_.values[what].kind != Kind::global || out_.values[arguments].kind != Kind::tuple)
      in_.fail("its pickle calls something that is no function, or without arguments");
    if (out_.values[what].text != kOrderedDict) return push(Kind::call, {what, arguments});
    // OrderedDict(), or OrderedDict(list of pairs)
    std::vector<PickleRef> entries;
    const std::vector<PickleRef>& given = out_.values[arguments].items;
    if (given.size() > 1) in_.fail("its pickle makes an OrderedDict of more than one value");
    if (given.size() == 1) {
      const PickleValue& pairs = out_.values[given[0]];
      // The same pairs may be given again and again: no more of them than there were bytes to say so.
      copied_ += pairs.items.size();
      if ((pairs.kind != Kind::tuple && pairs.kind != Kind::list) || copied_ > in_.at())
        in_.fail("its pickle makes an OrderedDict of something that is no list of pairs");
      for (const PickleRef pair : pairs.items) {
        const PickleValue& both = out_.values[pair];
        if ((both.kind != Kind::tuple && both.kind != Kind::list) || both.items.size() != 2)
          in_.fail("its pickle makes an OrderedDict of something that is no list of pairs");
        entries.insert(entries.end(), both.items.begin(), both.items.end());
      }
    }
    push(Kind::dict, std::move(entries));
  }

  ByteReader& in_;
  std::span<const std::string_view> known_;
  Pickle out_;
  std::vector<PickleRef> stack_, memo_;
  std::vector<std::size_t> marks_;  // where the stack was
  std::size_t copied_ = 0;          // pairs that became entries of an OrderedDict
};

}  // namespace

Pickle read_pickle(ByteReader& in, std::span<const std::string_view> known) {
  return Machine(in, known).run();
}

}  // namespace vitrine::torch
