// vitrine prompts: templates and ready sets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "nn/model/model.h"
#include "tensor/files/file.h"
#include "tests/apps/model_folder.h"
#include "tests/apps/program.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

std::vector<json> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<json> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  return lines;
}

Outcome prompts(Words words) {
  words.insert(words.begin(), "prompts");
  return vitrine(words);
}
std::vector<json> made(const Words& words, std::string* said = nullptr) {
  const Outcome o = prompts(words);
  EXPECT_EQ(o.exit, 0) << o.err;
  if (said != nullptr) *said = o.err;
  return lines_of(o.out);
}
void refused(const Words& words, int exit, const char* why) {
  const Outcome o = prompts(words);
  EXPECT_EQ(o.exit, exit) << o.out;
  EXPECT_EQ(o.out, "");
  EXPECT_THAT(o.err, HasSubstr(why));
}
std::vector<std::string> each(const std::vector<json>& lines, const char* key) {
  std::vector<std::string> texts;
  for (const json& line : lines) texts.push_back(line.at(key));
  return texts;
}
std::size_t length(const nn::Model& model, const std::string& text) {
  return model.encode_prompt(text).size();
}

const Words kCapital = {"--template", "The capital of {state} is"};
Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// ---- templates ----------------------------------------------------------------------------------
TEST(Prompts, AllCombinations) {
  std::string said;
  const auto lines =
      made({"--template", "{a} of {b}", "--slot", "a=Texas,Ohio", "--slot", "b=old,new"}, &said);
  EXPECT_THAT(each(lines, "prompt"),
              ElementsAre("Texas of old", "Ohio of old", "Texas of new", "Ohio of new"));
  EXPECT_THAT(said, HasSubstr("4 prompts of "));
  EXPECT_EQ(lines[0]["roles"]["b"], " old");
  EXPECT_EQ(lines[0]["roles"]["end"], -1);
}

TEST(Prompts, RowsOfATableGoTogether) {
  const TemporaryFolder folder;
  write_text(folder / "t.csv",
             "state,capital\nTexas,Austin\nOhio,Columbus\n\"Virginia\",Richmond\n");
  for (const char* option : {"--table", "--slot"}) {
    const auto lines = made(kCapital + Words{option, folder / "t.csv", "--answer", " {capital}",
                                             "--wrong", " {capital:other}", "--corrupt",
                                             "other=state", "--field", "place={state}"});
    ASSERT_EQ(lines.size(), 3u);
    const std::map<std::string, std::string> capital = {
        {"Texas", " Austin"}, {"Ohio", " Columbus"}, {"Virginia", " Richmond"}};
    for (const json& line : lines) {
      const std::string place = line["place"];
      EXPECT_EQ(line["clean"], "The capital of " + place + " is");
      EXPECT_EQ(line["answer"], capital.at(place));
      EXPECT_EQ(line["roles"]["state"], " " + place);
      // The partner's row is another one, as a whole.
      EXPECT_NE(line["corrupt"], line["clean"]);
      EXPECT_NE(line["wrong"], line["answer"]);
      const auto other = std::find_if(capital.begin(), capital.end(), [&](const auto& fact) {
        return line["corrupt"] == "The capital of " + fact.first + " is";
      });
      ASSERT_NE(other, capital.end());
      EXPECT_EQ(line["wrong"], other->second);
    }
  }
}

// A partner from the same group: a column of the table, or a field made of its columns.
TEST(Prompts, PartnersStayWithinAGroup) {
  const TemporaryFolder folder;
  write_text(folder / "states.csv",
             "state,capital,coast\nTexas,Austin,south\nOhio,Columbus,none\nVirginia,Richmond,east\n"
             "California,Sacramento,west\nColorado,Denver,none\nFlorida,Tallahassee,south\n");
  const Words table =
      kCapital + Words{"--table", folder / "states.csv", "--corrupt", "other=state"};
  const Words common = {"--field",      "coast={coast}", "--field",
                        "sea={coast}!", "--field",       "theirs={coast:other}"};
  for (const char* within : {"coast", "sea"}) {
    std::string said;
    const auto lines = made(table + common + Words{"--within", within}, &said);
    ASSERT_EQ(lines.size(), 4U) << said;  // Virginia and California are alone
    for (const json& line : lines) {
      EXPECT_EQ(line["coast"], line["theirs"]);
      EXPECT_NE(line["clean"], line["corrupt"]);
    }
    EXPECT_THAT(said, HasSubstr("2: no other row for the corrupt partner has the same " +
                                std::string(within)));
  }
  const auto free = made(table + common);
  EXPECT_TRUE(std::any_of(free.begin(), free.end(),
                          [](const json& line) { return line["coast"] != line["theirs"]; }));
  refused(table + Words{"--within", "cost"}, 2,
          "--within cost: there is no slot cost (did you mean coast?)");
  refused(kCapital + Words{"--table", folder / "states.csv", "--within", "coast"}, 2,
          "--within coast: a row has it in common with another; give --corrupt other=SLOT");
  refused({"--template", "{greeting}, the capital of {state} is", "--slot", "greeting=Hi,Hello",
           "--table", folder / "states.csv", "--corrupt", "other=state", "--within", "greeting"},
          2, "it does not stand in one table with state");
}

TEST(Prompts, SlotsOfOneListDiffer) {
  const auto lines = made({"--template", "{a} and {b}", "--slot", "a,b=Mary,John,Tom"});
  std::set<std::string> texts;
  for (const json& line : lines) texts.insert(line["prompt"]);
  EXPECT_EQ(lines.size(), 6u);
  EXPECT_EQ(texts.size(), 6u);
  EXPECT_FALSE(texts.contains("Mary and Mary"));
}

const Words kTwoOrders = {"--template", "ABBA=When {a} and {b} went home, {b} gave it to",
                          "--template", "BABA=When {b} and {a} went home, {b} gave it to",
                          "--slot",     "a,b=Mary,John",
                          "--answer",   " {a}",
                          "--wrong",    " {b}"};

TEST(Prompts, SwapExchangesSlots) {
  const auto lines =
      made(kTwoOrders + Words{"--corrupt", "swap=a,b", "--field", "order={template}"});
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0]["clean"], "When Mary and John went home, John gave it to");
  EXPECT_EQ(lines[0]["corrupt"], "When John and Mary went home, Mary gave it to");
  EXPECT_EQ(lines[0]["template"], "ABBA");
  EXPECT_EQ(lines[1]["order"], "BABA");
  // A text that occurs twice is told by its positions.
  EXPECT_EQ(lines[0]["roles"]["a"], " Mary");
  EXPECT_EQ(lines[0]["roles"]["b1"], 3);
  EXPECT_EQ(lines[0]["roles"]["b2"], 7);
}

TEST(Prompts, PutReplacesOnePlace) {
  const auto lines = made({"--template", "When {a} and {b} went home, {b@s2} gave it to", "--slot",
                           "a,b=Mary,John", "--corrupt", "put=s2:a"});
  EXPECT_EQ(lines[0]["clean"], "When Mary and John went home, John gave it to");
  EXPECT_EQ(lines[0]["corrupt"], "When Mary and John went home, Mary gave it to");
  EXPECT_EQ(lines[0]["roles"], json({{"a", " Mary"}, {"b", 3}, {"s2", 7}, {"end", -1}}));
}

TEST(Prompts, RandomTokensAreAsMany) {
  const nn::Model model = nn::load_model();
  const Words words =
      kCapital + Words{"--slot", "state=Texas,New Mexico", "--corrupt", "random=state"};
  const auto lines = made(words);
  ASSERT_EQ(lines.size(), 2u);
  for (const json& line : lines) {
    EXPECT_NE(line["clean"], line["corrupt"]);
    EXPECT_EQ(length(model, line["clean"]), length(model, line["corrupt"]));
    EXPECT_TRUE(line["corrupt"].get<std::string>().starts_with("The capital of "));
  }
  EXPECT_EQ(lines, made(words));
  EXPECT_NE(lines, made(words + Words{"--seed", "1"}));
}

TEST(Prompts, PartnersAreAsLong) {
  std::string said;
  const auto lines = made(
      kCapital + Words{"--slot", "state=Texas,Ohio,New Mexico", "--corrupt", "other=state"}, &said);
  EXPECT_THAT(each(lines, "clean"),
              ElementsAre("The capital of Texas is", "The capital of Ohio is"));
  EXPECT_THAT(said,
              HasSubstr("left out 1: clean and corrupt prompt have different numbers of tokens"));
}

TEST(Prompts, SingleTokensAreChecked) {
  std::string said;
  const Words words = kCapital + Words{"--slot", "state=Texas,Ohio,Qqqq", "--answer", " {state}"};
  EXPECT_EQ(made(words).size(), 3u);
  EXPECT_THAT(each(made(words + Words{"--single", "state"}, &said), "answer"),
              ElementsAre(" Texas", " Ohio"));
  EXPECT_THAT(said, HasSubstr("left out 1: the slot state is not one token (\"Qqqq\")"));
  made(words + Words{"--single", "answer"}, &said);
  EXPECT_THAT(said, HasSubstr("1: the answer is not one token (\" Qqqq\")"));
  refused(kCapital + Words{"--slot", "state=Qqqq", "--single", "state"}, 3,
          "no prompt is left; left out 1: the slot state is not one token");
}

TEST(Prompts, SeveralAnswersAreAList) {
  const auto lines = made(kCapital + Words{"--slot", "state=Texas", "--answer", " Austin",
                                           "--answer", " Houston", "--wrong", " Paris"});
  EXPECT_EQ(lines[0]["answer"], json({" Austin", " Houston"}));
  EXPECT_EQ(lines[0]["wrong"], " Paris");
}

TEST(Prompts, ASampleIsChosenBySeed) {
  const Words words = {
      "--template", "{a} {b} {c}", "--slot", "a,b,c=Mary,John,Tom,Bob,Anna", "--sample", "7"};
  std::string said;
  const auto lines = made(words);
  EXPECT_EQ(lines.size(), 7u);
  EXPECT_EQ(std::set<json>(lines.begin(), lines.end()).size(), 7u);
  EXPECT_EQ(lines, made(words));
  EXPECT_NE(lines, made(words + Words{"--seed", "5"}));
  made({"--template", "{a}", "--slot", "a=Mary,John", "--sample", "9"}, &said);
  EXPECT_THAT(said, HasSubstr("2 prompts of 2 tokens; 9 were asked for, and there are no more"));
}

TEST(Prompts, KnownAreThoseThatTheModelAnswersRight) {
  const Words words = kCapital + Words{"--slot", "state=Texas,Ohio", "--answer", " Austin"};
  std::string said;
  EXPECT_THAT(each(made(words + Words{"--known"}, &said), "prompt"),
              ElementsAre("The capital of Texas is"));
  EXPECT_THAT(said, HasSubstr("the model answers 1 of 2 right"));
  // More probable than the wrong one, but not the most probable of all.
  const Words wrong = words + Words{"--wrong", " the"};
  EXPECT_EQ(made(wrong + Words{"--known"}).size() + 0u, 2u);
  EXPECT_EQ(made(wrong + Words{"--known-top"}).size(), 1u);
  refused(kCapital + Words{"--slot", "state=Texas", "--known"}, 2, "there is no answer");
  refused(kCapital + Words{"--slot", "state=Texas", "--known", "--answer", " Qqqq"}, 2,
          "answers of one token");
}

TEST(Prompts, BadRecipesAreRefused) {
  refused({}, 2, "give --template TEXT, or a ready set: capitals, ioi, induction, greater-than");
  refused(kCapital, 2, "there is no slot state; give its values by --slot");
  const Words states = kCapital + Words{"--slot", "state=Texas,Ohio"};
  refused({"--template", "The {stat} is", "--slot", "state=Texas"}, 2, "did you mean state");
  refused(states + Words{"--slot", "city=Rome"}, 2, "no template, answer or field has {city}");
  refused(states + Words{"--slot", "state=Rome"}, 2, "the slot state is there already");
  refused(states + Words{"--slot", "x"}, 2, "expected NAME=VALUE,VALUE,...");
  refused({"--template", "{a}{b}", "--slot", "a,b=x"}, 2, "2 slots need as many different values");
  refused({"--template", "{a}{b}", "--slot", "a,b=x,x"}, 2, "the value \"x\" is there twice");
  refused(states + Words{"--answer", "{state:other}"}, 2, "there is none; give --corrupt");
  refused(states + Words{"--corrupt", "othr=state"}, 2, "did you mean other");
  refused(states + Words{"--corrupt", "swap=state"}, 2, "expected swap=A,B with two slots");
  refused(states + Words{"--corrupt", "put=s2:state"}, 2, "no place with the role s2");
  refused(states + Words{"--template", "{state}"}, 2, "of several templates each has a name");
  refused(states + Words{"--single", "answer"}, 2, "--single answer: there is none");
  refused(states + Words{"--single", "city"}, 2, "there is no slot city");
  refused(states + Words{"--field", "answer=x"}, 2, "--field answer: each line has that already");
  refused(states + Words{"--field", "x"}, 2, "--field x: expected NAME=TEXT");
  refused(states + Words{"--wrong", " x"}, 2, "--wrong goes with --answer");
  refused(states + Words{"--all", "--sample", "2"}, 2, "give --all or --sample N");
  refused(states + Words{"--known", "--known-top"}, 2, "give --known or --known-top");
  refused(states + Words{"--length", "5"}, 2, "--length is about the set induction");
  refused(states + Words{"--format", "table"}, 2, "what is written here are lines of JSON");
  refused(states + Words{"--out", "x.csv"}, 2, ".csv is not written here; give a .jsonl file");
  refused(states + Words{"--model", tiny_model()}, 3, "the set induction is of ids");
  refused({"--template", "{a} {b} {c} {d}", "--slot",
           "a,b,c,d=a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w"},
          2, "take some of them by --sample N");
}

// ---- ready sets ---------------------------------------------------------------------------------
TEST(Prompts, CapitalsAreKnown) {
  std::string said;
  const auto lines = made({"capitals", "--known", "--count", "12"}, &said);
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_THAT(said, HasSubstr("12 pairs of 5 tokens; the model answers "));
  const nn::Model model = nn::load_model();
  for (const json& line : lines) {
    const Tensor logits = model.run(line["clean"].get<std::string>()).last_logits();
    EXPECT_GT(logits.at<float>({0, model.token(line["answer"].get<std::string>())}),
              logits.at<float>({0, model.token(line["wrong"].get<std::string>())}));
    EXPECT_EQ(length(model, line["clean"]), length(model, line["corrupt"]));
    EXPECT_TRUE(line["kind"] == "state" || line["kind"] == "country");
    EXPECT_TRUE(line["roles"]["subject"].is_string());
  }
}

TEST(Prompts, IoiHasBothOrders) {
  const nn::Model model = nn::load_model();
  const auto lines = made({"ioi", "--count", "16"});
  ASSERT_EQ(lines.size(), 16u);
  std::map<std::string, int> orders, templates;
  for (const json& line : lines) {
    ++orders[line["order"]];
    ++templates[line["template"]];
    const std::string clean = line["clean"], io = line["answer"], s = line["wrong"];
    // The duplicated name is exchanged for the other.
    std::string flipped = clean;
    flipped.replace(flipped.rfind(s.substr(1)), s.size() - 1, io.substr(1));
    EXPECT_EQ(line["corrupt"], flipped);
    EXPECT_EQ(line["roles"]["io"], io);
    const nn::Tokens tokens = model.encode_prompt(clean);
    for (const char* role : {"s1", "s2"})
      EXPECT_EQ(tokens.at(line["roles"][role].get<std::size_t>()), model.token(s)) << clean;
    EXPECT_EQ(clean.find(io) < clean.find(s), line["order"] == "ABBA") << clean;
  }
  EXPECT_EQ(orders, (std::map<std::string, int>{{"ABBA", 8}, {"BABA", 8}}));
  EXPECT_EQ(templates.size(), 4u);
}

TEST(Prompts, IoiWithOtherNames) {
  const auto lines = made({"ioi", "--count", "8", "--corrupt", "abc"});
  for (const json& line : lines) {
    const std::string corrupt = line["corrupt"];
    for (const char* key : {"answer", "wrong"})
      EXPECT_EQ(corrupt.find(line[key].get<std::string>().substr(1) + " "), std::string::npos)
          << line;
  }
  EXPECT_EQ(lines.size(), 8u);
  refused({"ioi", "--corrupt", "swap=a,b"}, 2, "of the set ioi it is flip or abc");
}

TEST(Prompts, InductionIsOfIds) {
  const Words words = {"induction", "--model", tiny_model(), "--count", "5", "--length", "6"};
  const auto lines = made(words);
  ASSERT_EQ(lines.size(), 5u);
  for (const json& line : lines) {
    const auto clean = line["clean_tokens"].get<std::vector<int>>();
    ASSERT_EQ(clean.size(), 11u);
    for (std::size_t i = 6; i < clean.size(); ++i) EXPECT_EQ(clean[i], clean[i - 6]);
    EXPECT_EQ(std::set<int>(clean.begin(), clean.end()).size(), 6u);
    EXPECT_EQ(line["answer_token"], clean[5]);
    auto corrupt = clean;
    corrupt[5] = line["wrong_token"];
    EXPECT_EQ(line["corrupt_tokens"], json(corrupt));
    EXPECT_NE(line["wrong_token"], line["answer_token"]);
    EXPECT_EQ(line["roles"], json({{"first", 4}, {"next", 5}, {"end", -1}}));
  }
  EXPECT_EQ(lines, made(words));
  refused({"induction", "--model", tiny_model(), "--length", "5000"}, 3, "the model's context");
}

// A model whose tokenizer has a token for each number of two digits but those in `without`, for
// " war", for " 11" to " 17", and for characters.
class NumbersModel {
 public:
  explicit NumbersModel(const std::string& without = "") {
    for (char c = '!'; c <= '~'; ++c) add(std::string(1, c));
    add("\xC4\xA0");  // Ġ, which stands for a space
    for (char a = '0'; a <= '9'; ++a) {
      for (char b = '0'; b <= '9'; ++b) {
        if (std::string{a, b} != without) merge(std::string(1, a), std::string(1, b));
      }
    }
    for (int c = 11; c <= 17; ++c) merge("\xC4\xA0", std::to_string(c));
    for (const auto& [left, right] :
         {std::pair{"\xC4\xA0", "w"}, {"\xC4\xA0w", "a"}, {"\xC4\xA0wa", "r"}})
      merge(left, right);
    const auto size = static_cast<std::int64_t>(vocabulary_.size());
    folder_.config["vocab_size"] = size;
    folder_.save_config();
    folder_.tensor("wte.weight") = Tensor::full({size, 8}, DType::f32, 0.1);
    folder_.save_tensors();
    write_text(folder_.file("vocab.json"), vocabulary_.dump());
    write_text(folder_.file("merges.txt"), merges_);
  }
  std::string path() const { return folder_.path(); }

 private:
  void add(const std::string& token) {
    if (!vocabulary_.contains(token)) vocabulary_[token] = vocabulary_.size();
  }
  void merge(const std::string& left, const std::string& right) {
    add(left + right);
    merges_ += left + " " + right + "\n";
  }
  ModelFolder folder_{1, 64};
  json vocabulary_ = json::object();
  std::string merges_ = "#version: 0.2\n";
};

TEST(Prompts, GreaterThanNeedsNumbersOfTwoDigits) {
  refused({"greater-than"}, 3, "greater-than needs a token for each number of two digits");
  const NumbersModel lacking("47");
  refused({"greater-than", "--model", lacking.path()}, 3, "has none for 1 of them, such as \"47\"");
}

TEST(Prompts, GreaterThanListsTheLaterYears) {
  const NumbersModel model;
  const auto lines = made({"greater-than", "--model", model.path(), "--count", "20"});
  ASSERT_EQ(lines.size(), 20u);
  for (const json& line : lines) {
    const std::string clean = line["clean"], century = line["century"];
    const std::string before = "The war lasted from the year " + century;
    ASSERT_TRUE(clean.starts_with(before));
    const std::string start = clean.substr(before.size(), 2);
    EXPECT_EQ(clean, before + start + " to the year " + century);
    EXPECT_EQ(line["corrupt"], before + "01 to the year " + century);
    EXPECT_EQ(line["answer"].size() + line["wrong"].size(), 100u);
    for (const std::string year : line["answer"]) EXPECT_GT(year, start);
    for (const std::string year : line["wrong"]) EXPECT_LE(year, start);
    EXPECT_TRUE(line["roles"].contains("start"));
  }
}

// ---- what is written ----------------------------------------------------------------------------
TEST(Prompts, PatchReadsWhatIsWritten) {
  const TemporaryFolder folder;
  for (const Words& words : {Words{"capitals", "--count", "4"}, Words{"ioi", "--count", "4"},
                             Words{"induction", "--count", "3", "--length", "5"},
                             kTwoOrders + Words{"--corrupt", "swap=a,b"}}) {
    const Outcome o = prompts(words + Words{"--out", folder / "x.jsonl", "--quiet"});
    EXPECT_EQ(o.exit, 0) << o.err;
    EXPECT_EQ(o.out + o.err, "");
    // The four fields that a pair has.
    std::string pairs;
    const auto lines = lines_of(read_text(folder / "x.jsonl"));
    for (json line : lines) {
      for (const char* more : {"roles", "template", "order", "kind"}) line.erase(more);
      pairs += line.dump() + "\n";
    }
    write_text(folder / "pairs.jsonl", pairs);
    const Outcome patch = vitrine(
        {"patch", "--pairs", folder / "pairs.jsonl", "--site", "resid_pre", "--format", "json"});
    EXPECT_EQ(patch.exit, 0) << patch.err;
    EXPECT_EQ(patch.json()["pairs"].size(), lines.size());
  }
}

}  // namespace
}  // namespace vitrine::test
