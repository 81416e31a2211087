#include "io/hub/refusal.h"

#include <string>

#include "core/printable.h"
namespace deltaw::io::hub {
namespace {

constexpr size_t kMostWords = 200;

/// What the server says itself, without the token where it says that too.
std::string words_of(const Answer& answer, const Settings& settings) {
  std::string words = answer.header("x-error-message");
  const std::string& token = settings.token;
  for (size_t at = 0; !token.empty() && (at = words.find(token, at)) != words.npos;)
    words.replace(at, token.size(), "TOKEN");
  words = printable(words.substr(0, kMostWords));
  return words.empty() ? "" : " (the server says: " + words + ")";
}

std::string page_of(const RepoName& name, const Settings& settings) {
  return settings.endpoint + "/" + (name.type == RepoType::dataset ? "datasets/" : "") + name.id;
}

std::string give_token(const Settings& settings) {
  if (!settings.token.empty())
    return "check that the token of " + settings.token_source + " is of an account with access";
  return "give a token of https://huggingface.co/settings/tokens in " + token_places();
}

[[noreturn]] void fail_access(const std::string& what, const std::string& fix, const Answer& answer,
                              const Settings& settings) {
  throw Error(
      {.id = "io.hub-access", .what = what + words_of(answer, settings), .where = shown_url(answer.url), .fix = fix});
}

[[noreturn]] void fail_not_found(const std::string& what, const std::string& fix, const Answer& answer,
                                 const Settings& settings) {
  throw Error({.id = "config.hub-not-found",
               .what = what + words_of(answer, settings),
               .where = shown_url(answer.url),
               .fix = fix});
}

/// Seconds of Retry-After or of a RateLimit header; 0 without. A date is not read.
int64_t asked_wait(const Answer& answer) {
  std::string text = answer.header("retry-after");
  if (text.empty()) {
    const std::string limit = answer.header("ratelimit");
    const size_t at = limit.find(";t=");
    if (at != limit.npos) text = limit.substr(at + 3, limit.find_first_not_of("0123456789", at + 3) - at - 3);
  }
  const bool number = !text.empty() && text.size() < 7 && text.find_first_not_of("0123456789") == text.npos;
  return number ? std::stoll(text) : 0;
}

bool comes_again(int64_t status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

}  // namespace

void refuse(const Answer& answer, const RepoName& name, const Settings& settings) {
  const std::string code = answer.header("x-error-code"), shown = "'" + name.id + "'";
  const std::string status = std::to_string(answer.status);
  // A store's address is signed for a while; the hub gives a new one.
  const bool elsewhere = origin_of(answer.url) != origin_of(settings.endpoint);
  if (comes_again(answer.status) || elsewhere) {
    throw Trouble{.error = Error({.id = "io.network",
                                  .what = "the server answers with status " + status + words_of(answer, settings),
                                  .where = shown_url(answer.url),
                                  .fix = answer.status == 429 ? "wait, or give a token: more is allowed with one"
                                                              : "try again later; what was fetched is kept"}),
                  .wait = asked_wait(answer)};
  }
  if (code == "GatedRepo" || (answer.status == 403 && code.empty())) {
    fail_access(shown + " is only for those who have accepted its terms",
                "accept them at " + page_of(name, settings) + " and " + give_token(settings), answer, settings);
  }
  if (code == "RevisionNotFound") {
    fail_not_found(shown + " has no revision '" + name.revision + "'", "correct --revision", answer, settings);
  }
  if (code == "EntryNotFound") {
    fail_not_found("the file is listed but not there", "try again; the repository may just have changed", answer,
                   settings);
  }
  if (answer.status == 401 || answer.status == 403) {
    const bool token = !settings.token.empty();
    fail_access(
        token ? "the hub does not show " + shown + " to the owner of the token, or does not take the token"
              : "the hub shows no " + shown + " without a token: it is private or gated, or there is none of this name",
        "correct the name, or accept the terms at " + page_of(name, settings) + " and " + give_token(settings), answer,
        settings);
  }
  if (answer.status == 404) {
    const std::string other = name.type == RepoType::model ? "; a data set is downloaded with --repo_type dataset"
                                                           : "; a model is downloaded without --repo_type dataset";
    fail_not_found("the hub has no repository " + shown + ", or it is private", "correct the name" + other, answer,
                   settings);
  }
  throw Error({.id = "io.network",
               .what = "the server answers with status " + status + words_of(answer, settings),
               .where = shown_url(answer.url),
               .fix = "check HF_ENDPOINT, and look whether the page opens in a browser"});
}

}  // namespace deltaw::io::hub
