#include "io/hub/client.h"
#include "io/hub/refusal.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/json.h"
#include "core/printable.h"
#include "core/suggest.h"
#include "deltaw/error.h"

namespace deltaw::io::hub {
namespace {

constexpr size_t kMostListing = size_t{64} << 20;
constexpr int kMostTries = 5, kMostUnreached = 2;
constexpr int64_t kLongestWait = 300;  // that a server may ask for

/// A sink into a text that has an end.
Sink collect(std::string& text) {
  return [&text](const Answer& head, std::string_view bytes) {
    if (text.size() + bytes.size() > kMostListing) {
      throw Error({.id = "format.hub-listing",
                   .what = "the answer is longer than " + std::to_string(kMostListing >> 20) + " MiB",
                   .where = shown_url(head.url),
                   .fix = "check HF_ENDPOINT"});
    }
    text += bytes;
  };
}

/// W/"abc" and "abc" to abc.
std::string bare_etag(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

/// The texts at `key` of the objects in a list, if that is what `text` holds.
void add_texts(const Json& list, const char* key, std::vector<std::string>& texts) {
  if (!list.is_array()) return;
  for (const Json& entry : list) {
    const auto found = entry.is_object() ? entry.find(key) : entry.end();
    if (entry.is_object() && found != entry.end() && found->is_string()) texts.push_back(found->get<std::string>());
  }
}

}  // namespace

void Patience::wait(const Trouble& trouble) {
  const int most = trouble.unreachable && !answered_ ? kMostUnreached : kMostTries;
  if (tries_ >= most || trouble.wait > kLongestWait) throw trouble.error;
  const int64_t seconds = std::max<int64_t>(trouble.wait, int64_t{1} << tries_);
  ++tries_;
  tell_(trouble.error.parts().what + "; trying again in " + std::to_string(seconds) + " s");
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
}

Client::Client(Settings settings, Tell tell) : settings_(std::move(settings)), tell_(std::move(tell)) {
  if (!settings_.offline) return;
  throw Error({.id = "config.offline",
               .what = "HF_HUB_OFFLINE is set, and downloading needs the network",
               .where = "variable HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE",
               .fix = "unset it; what is in the cache is used without downloading"});
}

Answer Client::ask(const RepoName& name, Request request, const Sink& sink) {
  request.token = settings_.token;
  request.patience = settings_.patience;
  Answer answer = http_.ask(request, sink);
  answered_ = true;
  const bool points_away = request.head && answer.status >= 300 && answer.status < 400;
  const bool ends_before = answer.status == 416 && request.from > 0;
  if (!answer.is_success() && !points_away && !ends_before) refuse(answer, name, settings_);
  return answer;
}

Answer Client::ask_patiently(const RepoName& name, const Request& request, std::string* body) {
  std::string ignored;
  std::string& text = body ? *body : ignored;
  Patience patience(tell_, answered_);
  for (;;) {
    try {
      text.clear();
      return ask(name, request, collect(text));
    } catch (const Trouble& trouble) {
      patience.wait(trouble);
    }
  }
}

Listing Client::list(const RepoName& name) {
  const std::string url = listing_url(settings_.endpoint, name);
  std::string text;
  try {
    ask_patiently(name, {.url = url}, &text);
  } catch (const Error& error) {
    if (error.id() != "config.hub-not-found" && error.id() != "io.hub-access") throw;
    ErrorParts parts = error.parts();
    const bool revision = parts.what.find("no revision") != parts.what.npos;
    const std::string wanted = revision ? name.revision : name.id;
    const std::vector<std::string> near = nearest_names(wanted, revision ? revisions(name) : names_like(name));
    if (!near.empty()) parts.fix = suggest_names(wanted, near) + " Or " + parts.fix;
    throw Error(parts);
  }
  return parse_listing(text, shown_url(url));
}

void Client::complete(const RepoName& name, const std::string& commit, File& file) {
  if (file.size >= 0 && !file.etag.empty()) return;
  const std::string url = file_url(settings_.endpoint, name, commit, file.path);
  const Answer answer = ask_patiently(name, {.url = url, .head = true}, nullptr);
  const bool linked = !answer.header("x-linked-etag").empty();
  file.etag = bare_etag(answer.header(linked ? "x-linked-etag" : "etag"));
  const std::string size = answer.header(linked ? "x-linked-size" : "content-length");
  const bool number = !size.empty() && size.size() < 16 && size.find_first_not_of("0123456789") == size.npos;
  if (!is_checksum(file.etag) || !number) {
    throw Error({.id = "io.checksum",
                 .what = "the server does not say size and checksum of the file",
                 .where = shown_url(url),
                 .fix = "choose another mirror in HF_ENDPOINT"});
  }
  file.size = std::stoll(size);
}

int64_t Client::fetch(const RepoName& name, const std::string& commit, const File& file, int64_t from,
                      const Sink& sink) {
  return ask(name, {.url = file_url(settings_.endpoint, name, commit, file.path), .from = from}, sink).status;
}

// Both are hints in a message: where they do not come, it goes without.
std::vector<std::string> Client::names_like(const RepoName& name) {
  std::vector<std::string> names =
      name.type == RepoType::model ? cached_models(settings_.cache) : std::vector<std::string>();
  const std::string kind = name.type == RepoType::dataset ? "datasets" : "models";
  const std::string word = name.id.substr(name.id.rfind('/') + 1);
  try {
    std::string text;
    ask(name, {.url = settings_.endpoint + "/api/" + kind + "?limit=20&search=" + escaped(word, false)}, collect(text));
    add_texts(parse_json(text, "search"), "id", names);
  } catch (const Error&) {
  } catch (const Trouble&) {
  }
  std::erase_if(names, [&](const std::string& other) { return !is_repo_id(other) || other == name.id; });
  return names;
}

std::vector<std::string> Client::revisions(const RepoName& name) {
  std::vector<std::string> names;
  const std::string kind = name.type == RepoType::dataset ? "datasets/" : "models/";
  try {
    std::string text;
    ask(name, {.url = settings_.endpoint + "/api/" + kind + name.id + "/refs"}, collect(text));
    const Json refs = parse_json(text, "refs");
    for (const char* key : {"branches", "tags"}) {
      if (refs.is_object() && refs.contains(key)) add_texts(refs[key], "name", names);
    }
  } catch (const Error&) {
  } catch (const Trouble&) {
  }
  for (std::string& other : names) other = printable(other);
  return names;
}

}  // namespace deltaw::io::hub
