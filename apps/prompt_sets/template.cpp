#include "apps/prompt_sets/template.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {
namespace {

class TemplateParser {
 public:
  TemplateParser(std::string_view text, std::string_view what) : text_(text), what_(what) {}

  std::vector<TemplatePiece> parse() {
    std::vector<TemplatePiece> pieces;
    std::string text;
    const auto end_text = [&] {
      if (!text.empty()) pieces.push_back({.text = text});
      text.clear();
    };
    for (std::size_t at = 0; at < text_.size();) {
      const char c = text_[at];
      const bool doubled = at + 1 < text_.size() && text_[at + 1] == c;
      if ((c == '{' || c == '}') && doubled) {
        text += c;
        at += 2;
      } else if (c == '{') {
        end_text();
        const std::size_t close = text_.find('}', at);
        if (close == std::string_view::npos)
          refuse(at, "this brace is never closed (a brace that is text is written {{)");
        pieces.push_back(slot(at + 1, text_.substr(at + 1, close - at - 1)));
        at = close + 1;
      } else if (c == '}') {
        refuse(at, "this brace closes nothing (a brace that is text is written }})");
      } else {
        text += c;
        ++at;
      }
    }
    end_text();
    return pieces;
  }

 private:
  // The template, a mark under the character, and what is wrong there.
  [[noreturn]] void refuse(std::size_t at, const std::string& why) const {
    const auto column = nn::visible(text_.substr(0, at)).size();
    throw Error(ErrorKind::usage, fmt::format("{}: {}\n  {}\n  {}^", what_, why, nn::visible(text_),
                                              std::string(column, ' ')));
  }

  TemplatePiece slot(std::size_t at, std::string_view inside) const {
    TemplatePiece piece;
    const std::size_t mark = inside.find_first_of(":@");
    piece.slot = std::string(inside.substr(0, mark));
    if (!is_name(piece.slot)) {
      refuse(at, fmt::format("{} is not the name of a slot: letters, digits, _ and -, a letter "
                             "first",
                             nn::quote(piece.slot)));
    }
    if (mark == std::string_view::npos) return piece;
    const std::string_view rest = inside.substr(mark + 1);
    if (inside[mark] == ':') {
      if (rest != "other")
        refuse(at + mark, "after a colon stands other: the value in the corrupt partner");
      piece.other = true;
      return piece;
    }
    if (!rest.empty() && !is_name(rest))
      refuse(at + mark, fmt::format("{} is not the name of a role", nn::quote(rest)));
    piece.role = std::string(rest);
    return piece;
  }

  std::string_view text_, what_;
};

}  // namespace

bool is_name(std::string_view text) {
  const auto fits = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
  };
  return !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) != 0 &&
         std::all_of(text.begin(), text.end(), fits);
}

std::vector<TemplatePiece> parse_template(std::string_view text, std::string_view what) {
  return TemplateParser(text, what).parse();
}

PromptTemplate parse_named_template(std::string_view text, std::string_view what) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || !is_name(text.substr(0, equals)))
    return {"", parse_template(text, what)};
  const std::string name(text.substr(0, equals));
  return {name, parse_template(text.substr(equals + 1), what), {{"template", name}}};
}

FilledTemplate fill(const std::vector<TemplatePiece>& pieces,
                    const std::function<std::string(const TemplatePiece&)>& value) {
  FilledTemplate filled;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::size_t begin = filled.text.size();
    filled.text += pieces[i].slot.empty() ? pieces[i].text : value(pieces[i]);
    if (!pieces[i].slot.empty()) filled.places.push_back({i, begin, filled.text.size()});
  }
  return filled;
}

std::vector<std::string> roles_of(const std::vector<TemplatePiece>& pieces) {
  const auto unnamed = [&](const std::string& slot) {
    return std::count_if(pieces.begin(), pieces.end(),
                         [&](const TemplatePiece& p) { return p.slot == slot && !p.role; });
  };
  std::vector<std::string> roles;
  std::set<std::string> used;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const TemplatePiece& piece = pieces[i];
    std::string role = piece.role.value_or(piece.slot);
    if (!piece.slot.empty() && !piece.role && unnamed(piece.slot) > 1) {
      const auto here = pieces.begin() + static_cast<std::ptrdiff_t>(i);
      const auto before = std::count_if(pieces.begin(), here, [&](const TemplatePiece& p) {
        return p.slot == piece.slot && !p.role;
      });
      role = fmt::format("{}{}", piece.slot, before + 1);
    }
    if (role == "end" || role == "all") {
      throw Error(ErrorKind::usage,
                  fmt::format("a place of the template is the role {}, which means the {}; name "
                              "another, as in {{{}@place}}",
                              role, role == "end" ? "last token" : "whole prompt", piece.slot));
    }
    if (!role.empty() && !used.insert(role).second) {
      throw Error(ErrorKind::usage,
                  fmt::format("two places of the template are the role {}; name one of them "
                              "otherwise, as in {{{}@place}}",
                              role, piece.slot));
    }
    roles.push_back(role);
  }
  return roles;
}

}  // namespace vitrine::app
