#include "tensor/torch/pickle.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/tensor/expect_error.h"
#include "tests/tensor/torch/torch_writer.h"

namespace vitrine::torch {
namespace {

namespace py = test::py;
using Kind = PickleValue::Kind;

constexpr std::string_view kKnown[] = {"torch.Size"};

// The text of the pickle outlives what is read from it.
struct ReadPickle {
  std::string bytes;
  Pickle pickle;
  const PickleValue& root() const { return pickle[pickle.root]; }
};
std::unique_ptr<ReadPickle> read(const std::string& bytes) {
  auto out = std::make_unique<ReadPickle>(ReadPickle{bytes, {}});
  ByteReader in(std::as_bytes(std::span(out->bytes)), "x.bin", "PyTorch checkpoint");
  out->pickle = read_pickle(in, kKnown);
  EXPECT_EQ(in.left(), 0u);
  return out;
}
void refuse_pickle(const std::string& text, const std::string& bytes) {
  const std::string said = test::message_of<FileError>([&] { read(bytes); });
  EXPECT_NE(said.find(text), std::string::npos) << said;
  EXPECT_NE(said.find("'x.bin'"), std::string::npos) << said;
}

TEST(Pickle, ReadsValues) {
  const auto all = read(py::pickle(py::tuple({py::text("a\n"),
                                              py::integer(-2),
                                              "K\x07",
                                              std::string("M\x01\x02", 3),
                                              "J\xff\xff\xff\xff",
                                              std::string("G\x3f\xe0\0\0\0\0\0\0", 9),
                                              py::kNone,
                                              py::kTrue,
                                              py::kFalse,
                                              ")",
                                              "K\x01\x85",
                                              "K\x01K\x02\x86",
                                              "K\x01K\x02K\x03\x87",
                                              py::list({py::integer(1)}),
                                              "]K\x05"
                                              "a",
                                              py::dict({{"k", py::integer(3)}}),
                                              "}" + py::text("x") + "K\x01s",
                                              "\x8c\x02hi",
                                              "U\x02hi",
                                              std::string("\x8a\x01\xfe", 3),
                                              std::string("\x8a\x00", 2),
                                              "C\x02xy"})));
  const Pickle& p = all->pickle;
  const auto& items = all->root().items;
  const auto at = [&](std::size_t i) -> const PickleValue& { return p[items[i]]; };
  EXPECT_EQ(all->root().kind, Kind::tuple);
  EXPECT_EQ(at(0).text, "a\n");
  EXPECT_EQ(at(1).integer, -2);
  EXPECT_EQ(at(2).integer, 7);
  EXPECT_EQ(at(3).integer, 0x201);
  EXPECT_EQ(at(4).integer, -1);
  EXPECT_EQ(at(5).real, 0.5);
  EXPECT_EQ(at(6).kind, Kind::none);
  EXPECT_EQ(at(7).integer, 1);
  EXPECT_EQ(at(8).integer, 0);
  EXPECT_TRUE(at(9).items.empty());
  EXPECT_EQ(at(10).items.size(), 1u);
  EXPECT_EQ(p[at(11).items[1]].integer, 2);
  EXPECT_EQ(p[at(12).items[0]].integer, 1);
  EXPECT_EQ(at(13).items.size(), 1u);
  EXPECT_EQ(p[at(14).items[0]].integer, 5);
  EXPECT_EQ(p[at(15).items[1]].integer, 3);
  EXPECT_EQ(p[at(16).items[0]].text, "x");
  EXPECT_EQ(at(17).text, "hi");
  EXPECT_EQ(at(18).text, "hi");
  EXPECT_EQ(at(19).integer, -2);
  EXPECT_EQ(at(20).integer, 0);
  EXPECT_EQ(at(21).kind, Kind::bytes);
}

TEST(Pickle, RemembersValues) {
  const auto twice = read(py::pickle("(" + py::text("a") + std::string("q\0h\0t", 5)));
  EXPECT_EQ(twice->root().items[0], twice->root().items[1]);
  const auto own = read(py::pickle(std::string("]q\0h\0a", 6)));  // a list that holds itself
  EXPECT_EQ(own->root().items[0], own->pickle.root);
  const auto fourth = read("\x80\x04\x95" + test::number<std::uint64_t>(9) + "(\x8c\x01" +
                           std::string("a\x94h\0t.", 6));  // a frame, and numbers that are not said
  EXPECT_EQ(fourth->root().items[0], fourth->root().items[1]);
}

TEST(Pickle, NotesCallsAndMakesNone) {
  const auto size = read(py::pickle(py::call(py::global("torch", "Size"), {py::integers({1, 2})})));
  EXPECT_EQ(size->root().kind, Kind::call);
  EXPECT_EQ(size->pickle[size->root().items[0]].text, "torch.Size");
  const auto stacked = read(py::pickle(py::text("torch") + py::text("Size") + "\x93"));
  EXPECT_EQ(stacked->root().text, "torch.Size");
  const auto dict = read(py::pickle(py::ordered_dict() + "(" + py::text("a") + "K\x01u" + "}b"));
  EXPECT_EQ(dict->root().kind, Kind::dict);
  EXPECT_EQ(dict->root().items.size(), 2u);
  const auto pairs = read(py::pickle(py::call(py::global("collections", "OrderedDict"),
                                              {py::list({py::list({py::text("a"), "K\x01"})})})));
  EXPECT_EQ(pairs->root().items.size(), 2u);
  const auto outside = read(py::pickle(py::text("key") + "Q"));
  EXPECT_EQ(outside->root().kind, Kind::persistent);
}

TEST(Pickle, RefusesEveryOtherName) {
  refuse_pickle(
      "names the Python object 'os.system', which no tensor needs, and nothing of it was run",
      py::pickle(py::call(py::global("os", "system"), {py::text("touch x")})));
  refuse_pickle("'builtins.eval'", py::pickle(py::text("builtins") + py::text("eval") + "\x93"));
  refuse_pickle("'torch.Sizes'", py::pickle(py::global("torch", "Sizes")));
  refuse_pickle("'torch.\\x01'", py::pickle(py::global("torch", "\x01")));
  refuse_pickle("by something that is no text", py::pickle("K\x01K\x02\x93"));
  refuse_pickle("a name that does not end", py::pickle("c" + std::string(2000, 'a')));
  refuse_pickle("an instruction of the pickle", "\x80\x02");
}

TEST(Pickle, RefusesWhatDoesNotFitTogether) {
  refuse_pickle("takes a value where there is none", py::pickle("0"));
  refuse_pickle("takes a value where there is none", py::pickle("K\x01(0"));
  refuse_pickle("takes a value where there is none", py::pickle("\x86"));
  refuse_pickle("ends a list that never began", py::pickle("t"));
  refuse_pickle("more or less than one value", py::pickle(""));
  refuse_pickle("more or less than one value", py::pickle("NN"));
  refuse_pickle("more or less than one value", py::pickle("N("));
  refuse_pickle("adds entries to what is no list or dict", py::pickle("N(K\x01"
                                                                      "e"));
  refuse_pickle("adds entries to what is no list or dict", py::pickle("}(K\x01u"));
  refuse_pickle("adds entries to what is no list or dict", py::pickle(")K\x01"
                                                                      "a"));
  refuse_pickle("asks for number 5 of 0", py::pickle("h\x05"));
  refuse_pickle("remembers a value as number 3", py::pickle("Nq\x03"));
  refuse_pickle("calls something that is no function", py::pickle("N)R"));
  refuse_pickle("calls something", py::pickle(py::global("torch", "Size") + "NR"));
  refuse_pickle("gives attributes", py::pickle("]}b"));
  refuse_pickle("no list of pairs", py::pickle(py::call(py::global("collections", "OrderedDict"),
                                                        {py::list({"K\x01"})})));
  refuse_pickle("0x69", py::pickle("i"));
  refuse_pickle("protocol 0", std::string("\x80\0N.", 4));
  refuse_pickle("would take 4294967295 bytes", py::pickle("X\xff\xff\xff\xff"));
  refuse_pickle("would take 18446744073709551615 bytes",
                py::pickle("\x8d" + std::string(8, '\xff')));
  refuse_pickle("would take 4294967295 bytes", py::pickle("\x8b\xff\xff\xff\xff"));
}

// No recursion, and no memory out of proportion.
TEST(Pickle, IsNotHurtByDepthOrBySharing) {
  const auto deep = read(py::pickle(std::string(200000, '(') + std::string(200000, 't')));
  EXPECT_EQ(deep->root().kind, Kind::tuple);
  refuse_pickle("more than 4194304 values", py::pickle(std::string(5000000, ']')));
  // One list of a thousand pairs, made an OrderedDict of again and again.
  std::string shared = py::global("collections", "OrderedDict") + std::string("q\0", 2) + "](";
  for (int i = 0; i < 1000; ++i) shared += "NN\x86";
  shared += std::string("eq\x01", 3) + "\x85q\x02" + "0";
  for (int i = 0; i < 100000; ++i) shared += std::string("h\0h\x02R0", 6);
  refuse_pickle("no list of pairs", py::pickle(shared + "N"));
}

}  // namespace
}  // namespace vitrine::torch
