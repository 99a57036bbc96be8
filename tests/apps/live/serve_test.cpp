// vitrine serve, over HTTP.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "tests/apps/live/served.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

constexpr const char* kTexas = "The capital of Texas is";

// What the command that the server names gives.
json repeated(const json& answer) {
  std::vector<std::string> words = answer["command"].get<std::vector<std::string>>();
  EXPECT_EQ(words[0], "vitrine");
  words.erase(words.begin());
  words.insert(words.end(), {"--top", "10", "--format", "json"});
  const Outcome o = vitrine(words);
  EXPECT_EQ(o.exit, 0) << o.err;
  return o.json();
}

void expect_same_top(const json& answer, const json& predicted) {
  ASSERT_EQ(answer["top"].size(), predicted["top"].size());
  for (std::size_t k = 0; k < predicted["top"].size(); ++k) {
    EXPECT_EQ(answer["top"][k]["id"], predicted["top"][k]["id"]);
    EXPECT_NEAR(answer["top"][k]["logit"].get<double>(), predicted["top"][k]["logit"].get<double>(),
                2e-4);
    EXPECT_NEAR(answer["top"][k]["prob"].get<double>(), predicted["top"][k]["prob"].get<double>(),
                2e-5);
  }
}

TEST(Serve, AnswersAsTheCommandThatItNames) {
  const Served server;
  const std::string acts = "blocks.4.hook_mlp_out.hook_sae_acts_post";
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"zero 1.z head=0,2", "zero 3.mlp_out"},
      {"mean 2.z head=1 over='The cat sat. It\"s'\"'\"'late'"},
      {"patch 2.resid_pre pos=3 from='The capital of Ohio is'"},
      {"add 2.resid_post toward=' Austin' factor=-1.5",
       "add 1.resid_post plus='The king' minus='The cat' factor=2"},
      {"set " + acts + " feature=12 to=30"},
      {"zero 2.z pos=3", "scale 3.mlp_out factor=0.5 pos=-1"},
      {"zero 2.z head=0", "then scale 2.z factor=3", "zero 3.pattern key=-1 pos=-1"},
  };
  for (const auto& edits : cases) {
    const Reply reply = server.ask("/api/run", {{"prompt", kTexas}, {"edits", edits}});
    ASSERT_EQ(reply.status, 200) << reply.body;
    const json answer = reply.json(), predicted = repeated(answer);
    EXPECT_EQ(answer["tokens"], predicted["tokens"]);
    expect_same_top(answer, predicted);
    EXPECT_EQ(answer["edits"].size(), edits.size());
    // Changes are from the run without edits.
    const json plain =
        vitrine({"predict", "--prompt", kTexas, "--top", "1", "--format", "json"}).json();
    EXPECT_EQ(answer["clean"][0]["id"], plain["top"][0]["id"]);
    EXPECT_NEAR(answer["clean"][0]["clean_prob"].get<double>(),
                plain["top"][0]["prob"].get<double>(), 2e-5);
    for (const json& t : answer["top"])
      EXPECT_NEAR(t["logit_change"].get<double>(),
                  t["logit"].get<double>() - t["clean_logit"].get<double>(), 1e-5);
    EXPECT_EQ(answer["kl"].get<double>() > 1e-5, !edits.empty()) << answer["kl"];
  }
}

TEST(Serve, LooksAtAnyPosition) {
  const Served server;
  for (const int position : {0, 3}) {
    const json answer =
        server
            .ask("/api/run", {{"prompt", kTexas},
                              {"position", position},
                              {"edits", {"zero 0.mlp_out pos=0", "zero 1.mlp_out pos=4"}}})
            .json();
    EXPECT_EQ(answer["position"], position);
    expect_same_top(answer, repeated(answer));
  }
}

TEST(Serve, GivesPatternsFeaturesAndTheLensOfTheEditedRun) {
  const Served server;
  const std::string edit = "zero 0.mlp_out";
  const json answer = server
                          .ask("/api/run", {{"prompt", kTexas},
                                            {"edits", {edit}},
                                            {"lens", true},
                                            {"features", 3},
                                            {"attention", {{"layer", 1}, {"head", 2}}}})
                          .json();
  const json attention = vitrine({"attention", "--prompt", kTexas, "--layer", "1", "--head", "2",
                                  "--edit", edit, "--format", "json"})
                             .json();
  for (int q = 0; q < 5; ++q)
    for (int k = 0; k <= q; ++k)
      EXPECT_NEAR(answer["attention"]["pattern"][q][k].get<double>(),
                  attention["pattern"][0][q][k].get<double>(), 1e-4);
  EXPECT_EQ(answer["attention"]["row"], answer["attention"]["pattern"][4]);
  ASSERT_EQ(answer["lens"].size(), 7U);  // the embedding and six layers
  EXPECT_EQ(answer["lens"][6]["top"][0]["id"], answer["top"][0]["id"]);
  EXPECT_NEAR(answer["lens"][6]["top"][0]["logit"].get<double>(),
              answer["top"][0]["logit"].get<double>(), 2e-4);
  ASSERT_EQ(answer["features"].size(), 2U);
  for (const json& sae : answer["features"]) {
    ASSERT_EQ(sae["strongest"].size(), 3U);
    EXPECT_GE(sae["strongest"][0]["activation"], sae["strongest"][1]["activation"]);
  }
  // A feature that is set keeps saying what it would be, and the last layer what it then is.
  const json first = answer["features"][0]["strongest"][0];
  const json set =
      server
          .ask("/api/run", {{"prompt", kTexas},
                            {"features", 3},
                            {"edits",
                             {edit, "set blocks.1.hook_mlp_out.hook_sae_acts_post feature=" +
                                        first["feature"].dump() + " to=40"}}})
          .json();
  EXPECT_EQ(set["features"][0]["strongest"][0], first);
  // Others are told when they are asked for, the weak ones too.
  const json second = answer["features"][0]["strongest"][1];
  const json watched = server
                           .ask("/api/run", {{"prompt", kTexas},
                                             {"features", 1},
                                             {"edits", {edit}},
                                             {"watched", {{second["feature"], 5}, json::array()}}})
                           .json()["features"];
  EXPECT_EQ(watched[0]["watched"][0], second);
  EXPECT_EQ(watched[0]["watched"][1]["feature"], 5);
  EXPECT_EQ(watched[1]["watched"], json::array());
  EXPECT_GT(set["kl"].get<double>(), 0.01);
}

TEST(Serve, MapsWhatASecondPromptChanges) {
  const Served server;
  const json map =
      server.ask("/api/patch", {{"prompt", kTexas}, {"second", "The capital of Ohio is"}}).json();
  const json swept = vitrine({"patch", "--clean", kTexas, "--corrupt", "The capital of Ohio is",
                              "--answer", " Austin", "--wrong", " Columbus", "--site", "resid_pre",
                              "--direction", "noise", "--format", "json"})
                         .json();
  EXPECT_EQ(map["answer"]["token"], " Austin");
  EXPECT_EQ(map["wrong"]["token"], " Columbus");
  ASSERT_EQ(map["values"].size(), 6U);
  for (int l = 0; l < 6; ++l) {
    for (int p = 0; p < 5; ++p) {
      EXPECT_NEAR(map["values"][l][p].get<double>(), swept["values"][l][p].get<double>(), 1e-3);
      EXPECT_NEAR(map["changes"][l][p].get<double>(),
                  map["values"][l][p].get<double>() - map["clean"].get<double>(), 1e-3);
    }
  }
  // A cell is what its patch gives.
  const json patched =
      server
          .ask("/api/run", {{"prompt", kTexas},
                            {"top", 100},
                            {"edits", {"patch 2.resid_pre pos=4 from='The capital of Ohio is'"}}})
          .json();
  double difference = 0;
  for (const json& t : patched["top"]) {
    if (t["token"] == " Austin") difference += t["logit"].get<double>();
    if (t["token"] == " Columbus") difference -= t["logit"].get<double>();
  }
  EXPECT_NEAR(difference, map["values"][2][4].get<double>(), 1e-3);
  // Prompts that do not line up are shown, token by token.
  const json uneven =
      server.ask("/api/patch", {{"prompt", kTexas}, {"second", "The capital is"}}).json();
  EXPECT_THAT(uneven["why_not"].get<std::string>(), HasSubstr("do not line up"));
  EXPECT_FALSE(uneven.contains("values"));
  EXPECT_EQ(uneven["second_str_tokens"], json({"The", " capital", " is"}));
}

// ---- who may ask, and what -----------------------------------------------------------------------
TEST(Serve, RefusesWhatIsNotItsOwnPage) {
  const Served server;
  const std::string port = std::to_string(server.port()),
                    good = R"({"tab": "a", "turn": 1, "prompt": "The"})";
  const auto status = [&](const std::map<std::string, std::string>& headers) {
    return server.post("/api/run", good, headers).status;
  };
  EXPECT_EQ(status({}), 200);
  EXPECT_EQ(status({{"Host", "localhost:" + port}}), 200);
  EXPECT_EQ(status({{"Origin", "http://127.0.0.1:" + port}}), 200);
  EXPECT_EQ(status({{"Content-Type", "application/json; charset=utf-8"}}), 200);
  // A name that was made to mean this machine, another port, none.
  for (const std::string& host :
       {"evil.example:" + port, std::string("127.0.0.1:1"), std::string("127.0.0.1"),
        "127.0.0.1:" + port + ".evil.example", std::string()})
    EXPECT_EQ(status({{"Host", host}}), 403) << host;
  for (const std::string& origin :
       {std::string("http://evil.example"), std::string("null"),
        std::string("https://127.0.0.1:" + port), std::string("http://127.0.0.1:1"),
        "http://127.0.0.1:" + port + ".evil.example"})
    EXPECT_EQ(status({{"Origin", origin}}), 403) << origin;
  EXPECT_EQ(say(server.port(), "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 403);
  EXPECT_EQ(say(server.port(),
                "GET / HTTP/1.1\r\nHost: 127.0.0.1:" + port + "\r\nHost: evil.example\r\n\r\n")
                .status,
            403);
  // What a form of another site can send without asking.
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded",
                           "multipart/form-data; boundary=x", "application/jsonx"})
    EXPECT_EQ(status({{"Content-Type", type}}), 415) << type;
  EXPECT_EQ(status({{"Content-Type", ""}}), 415);
  EXPECT_EQ(status({{"Content-Encoding", "gzip"}}), 415);
  EXPECT_EQ(status({{"Content-Length", ""}}), 411);
  EXPECT_EQ(status({{"Content-Length", ""}, {"Transfer-Encoding", "chunked"}}), 411);
  // No preflight is granted.
  const Reply preflight =
      say(server.port(), "OPTIONS /api/run HTTP/1.1\r\nHost: 127.0.0.1:" + port +
                             "\r\nOrigin: http://evil.example\r\n\r\n");
  EXPECT_EQ(preflight.status, 403);
  EXPECT_FALSE(preflight.headers.contains("access-control-allow-origin"));
}

TEST(Serve, HasAPageAndNothingElse) {
  const Served server;
  const std::string host =
      " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(server.port()) + "\r\n\r\n";
  const Reply page = say(server.port(), "GET /" + host);
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(page.headers.at("content-type"), HasSubstr("text/html"));
  EXPECT_THAT(page.headers.at("content-security-policy"), HasSubstr("default-src 'none'"));
  EXPECT_THAT(page.headers.at("content-security-policy"), HasSubstr("frame-ancestors 'none'"));
  EXPECT_EQ(page.headers.at("x-content-type-options"), "nosniff");
  EXPECT_EQ(page.headers.at("x-frame-options"), "DENY");
  EXPECT_LT(page.body.size(), 1'000'000U);
  for (const char* path : {"/index.html", "/../../etc/passwd", "/api", "/api/run/x", "/%2e%2e/x"})
    EXPECT_EQ(say(server.port(), std::string("GET ") + path + host).status, 404) << path;
  EXPECT_EQ(say(server.port(), "GET /api/run" + host).status, 405);
  EXPECT_EQ(say(server.port(), "no HTTP at all\r\n\r\n").status, 400);
  EXPECT_EQ(server.post("/", "{}").status, 405);
}

TEST(Serve, SaysWhatIsWrongWithARequest) {
  const Served server;
  const Reply large = server.post("/api/run", std::string(3'000'000, ' '));
  EXPECT_EQ(large.status, 413);
  // A length alone is no reason to wait for so many bytes.
  EXPECT_EQ(server.post("/api/run", "{}", {{"Content-Length", "900000000000"}}).status, 413);
  const Reply malformed = server.post("/api/run", R"({"tab": "a", )");
  EXPECT_EQ(malformed.status, 400);
  EXPECT_THAT(malformed.json()["error"].get<std::string>(), HasSubstr("line 1, column"));
  const auto error = [&](const json& body) {
    const Reply reply = server.ask("/api/run", body);
    EXPECT_EQ(reply.status, 400) << body;
    return reply.json()["error"].get<std::string>();
  };
  EXPECT_THAT(error({{"prompt", 7}}), HasSubstr("prompt: expected"));
  EXPECT_THAT(error({{"prompt", "The"}, {"edit", "x"}}), HasSubstr("edits"));  // the nearest name
  EXPECT_THAT(error({{"prompt", ""}}), HasSubstr("empty"));
  EXPECT_THAT(error({{"tokens", {999999}}}), HasSubstr("999999"));
  EXPECT_THAT(error({{"prompt", "The"}, {"position", 1}}), HasSubstr("position"));
  EXPECT_THAT(error({{"prompt", "The"}, {"edits", {"zero 9.z"}}}), HasSubstr("9.z"));
  EXPECT_THAT(error({{"prompt", "The"}, {"edits", {"zero 1.z head=7"}}}),
              HasSubstr("there are 0 to 3"));
  EXPECT_THAT(
      error({{"prompt", "The"}, {"edits", {"add 1.mlp_out toward=' no such token' factor=1"}}}),
      HasSubstr("no such token"));
  EXPECT_THAT(error({{"prompt", "The"}, {"turn", -1}}), HasSubstr("turn"));
  std::string longer = "The";
  for (int i = 0; i < 600; ++i) longer += " the";
  EXPECT_THAT(error({{"prompt", longer}}), HasSubstr("at most"));
  // An edit of the page does not look into files.
  for (const char* edit :
       {"mean z from=/etc/passwd", "resample z from=/etc/passwd",
        "add 1.mlp_out from=/etc/passwd factor=1", "project_out 1.mlp_out from=x.npy"})
    EXPECT_THAT(error({{"prompt", "The"}, {"edits", {edit}}}), HasSubstr("reads no files")) << edit;
  EXPECT_EQ(server.ask("/api/run", {{"prompt", "The"}}).status, 200);  // it goes on
}

TEST(Serve, TokensAreTextForTheirPage) {
  const Served server;
  const std::string odd = "</script><b>'\"&amp; 🙂 漢字\n is <!-- the capital";
  const Reply reply = server.ask(
      "/api/run",
      {{"prompt", odd}, {"edits", {"patch 1.resid_pre pos=0 from='</script>\"'\"'\"'🙂'"}}});
  ASSERT_EQ(reply.status, 200) << reply.body;
  std::string joined;
  const json answer = reply.json();
  const json tokens = vitrine({"tokenize", "--prompt", odd, "--format", "json"}).json();
  EXPECT_EQ(answer["str_tokens"], tokens["str_tokens"]);
  for (const json& text : answer["str_tokens"]) joined += text.get<std::string>();
  EXPECT_TRUE(joined.starts_with("</script><b>'\"&amp; ")) << joined;
  EXPECT_EQ(reply.headers.at("content-type"), "application/json");
  expect_same_top(reply.json(), repeated(reply.json()));
}

// ---- many at once ----------------------------------------------------------------------------------
TEST(Serve, EndsARunWhoseTabHasMovedOn) {
  const Served server;
  // A map over a long prompt takes a while.
  std::string prompt = "The", second = "A";
  for (int i = 0; i < 60; ++i) prompt += " capital", second += " capital";
  const auto map = [&](int turn) {
    return server.ask("/api/patch",
                      {{"tab", "one"}, {"turn", turn}, {"prompt", prompt}, {"second", second}});
  };
  const auto begin = Clock::now();
  Reply slow;
  std::thread first([&] { slow = map(1); });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const Reply quick = server.ask(
      "/api/patch", {{"tab", "one"}, {"turn", 2}, {"prompt", "The cat"}, {"second", "A cat"}});
  first.join();
  EXPECT_EQ(quick.status, 200);
  EXPECT_EQ(slow.status, 409);
  EXPECT_EQ(slow.json()["cancelled"], true);
  const auto ended = Clock::now() - begin;
  // One that comes late is not begun; another tab is another matter.
  EXPECT_EQ(map(1).status, 409);
  EXPECT_EQ(server
                .ask("/api/patch",
                     {{"tab", "two"}, {"turn", 1}, {"prompt", "The cat"}, {"second", "A cat"}})
                .status,
            200);
  // One that has left is not waited for.
  std::thread third([&] { slow = map(3); });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(server.ask("/api/patch", {{"tab", "one"}, {"turn", 4}, {"leave", true}}).status, 200);
  third.join();
  EXPECT_EQ(slow.status, 409);
  const auto again = Clock::now();
  EXPECT_EQ(map(5).status, 200);
  EXPECT_LT(ended.count(), (Clock::now() - again).count()) << "the whole map had to be waited for";
}

TEST(Serve, AnswersFiftyAtOnceInBoundedMemory) {
  const Served server;
  const auto all_ask = [&](int requests) {
    std::vector<int> answered(50, 0);
    std::vector<std::thread> clients;
    for (int c = 0; c < 50; ++c) {
      clients.emplace_back([&, c] {
        for (int r = 0; r < requests; ++r) {
          std::string prompt = "The capital of";
          for (int i = 0; i < (c + r) % 12; ++i) prompt += (c + i) % 2 == 0 ? " Texas" : " the";
          const Reply reply = server.ask(
              "/api/run",
              {{"prompt", prompt},
               {"features", 5},
               {"edits", {"zero " + std::to_string(r % 6) + ".z head=" + std::to_string(c % 4)}}});
          if (reply.status == 200 && reply.json()["top"].size() == 10)
            ++answered[static_cast<std::size_t>(c)];
        }
      });
    }
    for (std::thread& client : clients) client.join();
    for (const int n : answered) EXPECT_EQ(n, requests);
  };
  all_ask(8);
  const double before = server.megabytes();
  all_ask(20);
  EXPECT_LT(server.megabytes(), before * 1.3 + 20) << before;
}

TEST(Serve, ConnectionsThatSayNothingHoldNobodyUp) {
  const Served server;
  std::vector<std::thread> silent;
  for (int i = 0; i < 20; ++i) silent.emplace_back([&] { say(server.port(), ""); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const auto begin = Clock::now();
  EXPECT_EQ(server.ask("/api/run", {{"prompt", "The"}}).status, 200);
  EXPECT_LT(std::chrono::duration<double>(Clock::now() - begin).count(), 1.5);
  for (std::thread& one : silent) one.join();  // the server closes them
}

// ---- beginning and end --------------------------------------------------------------------------
TEST(Serve, CtrlCEndsIt) {
  for (const int signal : {SIGINT, SIGTERM}) {
    Served server;
    std::string prompt = "The", second = "A";
    for (int i = 0; i < 60; ++i) prompt += " capital", second += " capital";
    Reply cut;
    std::thread asking([&] {
      cut = server.ask("/api/patch", {{"prompt", prompt}, {"second", second}});
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const auto begin = Clock::now();
    server.program().send(signal);
    EXPECT_EQ(server.program().finish().exit, 130);
    EXPECT_LT(std::chrono::duration<double>(Clock::now() - begin).count(), 4);
    asking.join();
    EXPECT_NE(cut.status, 200);
  }
}

TEST(Serve, SaysWhatToDoWhenThePortIsTaken) {
  const Served server;
  const Outcome o = vitrine({"serve", "--port", std::to_string(server.port())});
  EXPECT_EQ(o.exit, 1);
  EXPECT_EQ(o.out, "");
  EXPECT_THAT(o.err, HasSubstr("in use"));
  EXPECT_THAT(o.err, HasSubstr("--port 0"));
}

TEST(Serve, EndsWhenNobodyAsks) {
  const Outcome o = vitrine({"serve", "--port", "0", "--idle", "1"});
  EXPECT_EQ(o.exit, 0);
  EXPECT_THAT(o.out, ::testing::MatchesRegex("http://127\\.0\\.0\\.1:[0-9]+/\n"));
}

TEST(Serve, TakesAModelWithoutATokenizer) {
  const Served server({"--model", tiny_model().string(), "--tokens", "1,2,3"});
  const Reply reply =
      server.ask("/api/run", {{"tokens", {1, 2, 3}}, {"edits", {"zero 1.z head=0"}}});
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(reply.json()["str_tokens"].is_null());
  expect_same_top(reply.json(), repeated(reply.json()));
  EXPECT_EQ(server.ask("/api/run", {{"prompt", "The"}}).status, 400);
}

}  // namespace
}  // namespace vitrine::test
