#include "io/hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <mutex>

#include "core/ascii.h"
#include "core/printable.h"
#include "deltaw/version.h"
#include "io/hub/names.h"

namespace deltaw::io::hub {
namespace {

constexpr int kMostRedirects = 10;
constexpr size_t kMostBody = 1 << 16;     // of an answer that is shown to nobody but us
constexpr size_t kMostHeaders = 1 << 18;  // of one answer
constexpr int64_t kConnectSeconds = 15;

struct Url {
  CURLU* parts = curl_url();
  explicit Url(const std::string& text) {
    if (parts && curl_url_set(parts, CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
      curl_url_cleanup(parts);
      parts = nullptr;
    }
  }
  ~Url() { curl_url_cleanup(parts); }
  Url(const Url&) = delete;
  Url& operator=(const Url&) = delete;

  std::string part(CURLUPart wanted, unsigned flags = 0) const {
    char* text = nullptr;
    if (!parts || curl_url_get(parts, wanted, &text, flags) != CURLUE_OK) return "";
    std::string result = text;
    curl_free(text);
    return result;
  }
};

/// One transfer, as libcurl's callbacks see it.
struct Transfer {
  const Sink& sink;
  Answer answer;
  size_t header_bytes = 0;
  std::exception_ptr thrown;
};

/// No exception may pass through libcurl.
template <class Action>
size_t guarded(Transfer& transfer, size_t count, const Action& action) {
  try {
    action();
    return count;
  } catch (...) {
    transfer.thrown = std::current_exception();
    return count == 0 ? 1 : 0;
  }
}

void add_header(Transfer& transfer, std::string_view line) {
  transfer.header_bytes += line.size();
  if (transfer.header_bytes > kMostHeaders) {
    throw Error({.id = "io.network",
                 .what = "the server sends headers without an end",
                 .where = shown_url(transfer.answer.url),
                 .fix = "check HF_ENDPOINT"});
  }
  if (line.starts_with("HTTP/")) transfer.answer.headers.clear();  // an answer behind "100 Continue"
  const size_t colon = line.find(':');
  if (colon == line.npos) return;
  transfer.answer.headers[lower(line.substr(0, colon))] = trimmed(line.substr(colon + 1));
}

size_t on_header(char* bytes, size_t size, size_t count, void* data) {
  auto& transfer = *static_cast<Transfer*>(data);
  return guarded(transfer, size * count, [&] { add_header(transfer, {bytes, size * count}); });
}

struct BodyTarget {
  CURL* curl;
  Transfer* transfer;
};

void take_body(const BodyTarget& target, std::string_view bytes) {
  Answer& answer = target.transfer->answer;
  long status = 0;
  curl_easy_getinfo(target.curl, CURLINFO_RESPONSE_CODE, &status);
  answer.status = status;
  if (answer.is_success()) return target.transfer->sink(answer, bytes);
  answer.body.append(bytes.substr(0, kMostBody - std::min(kMostBody, answer.body.size())));
}

size_t on_body(char* bytes, size_t size, size_t count, void* data) {
  const auto& target = *static_cast<BodyTarget*>(data);
  return guarded(*target.transfer, size * count, [&] { take_body(target, {bytes, size * count}); });
}

bool is_unreachable(CURLcode code) {
  return code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_COULDNT_CONNECT;
}

/// Whether a second try may end otherwise.
bool may_pass(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
      return true;
    default:
      return false;
  }
}

std::string network_fix(CURLcode code) {
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
    return "install the package ca-certificates; behind a proxy with certificates of its own name their file in "
           "SSL_CERT_FILE";
  }
  return "check the network and the proxy (https_proxy); HF_ENDPOINT can name a mirror of the hub, and what was "
         "fetched "
         "is kept: the same command goes on from there";
}

[[noreturn]] void fail_transfer(CURLcode code, const char* detail, const std::string& url) {
  const std::string reason = *detail ? detail : curl_easy_strerror(code);
  const Error error({.id = "io.network",
                     .what = "the transfer failed: " + printable(reason),
                     .where = shown_url(url),
                     .fix = network_fix(code)});
  if (!may_pass(code)) throw error;
  throw Trouble{.error = error, .unreachable = is_unreachable(code)};
}

struct Lines {
  curl_slist* first = nullptr;
  ~Lines() { curl_slist_free_all(first); }
  void add(const std::string& line) { first = curl_slist_append(first, line.c_str()); }
};

std::string certificates() {
  for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}) {
    if (const std::string file = variable(name); !file.empty()) return file;
  }
  return "";
}

}  // namespace

struct Http::Handle {
  CURL* curl = curl_easy_init();
  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { curl_easy_cleanup(curl); }
};

Http::Http() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  handle_ = std::make_shared<Handle>();
  if (handle_->curl) return;
  throw Error({.id = "io.network",
               .what = "libcurl does not start",
               .where = "libcurl",
               .fix = "check the installation of libcurl4"});
}

namespace {

/// One request without redirects.
Answer ask_once(CURL* curl, const Request& request, const std::string& url, bool with_token, const Sink& sink) {
  Transfer transfer{.sink = sink, .answer = {.url = url}, .thrown = nullptr};
  const BodyTarget target{curl, &transfer};
  char detail[CURL_ERROR_SIZE] = "";
  Lines lines;
  lines.add("Accept-Encoding: identity");  // checksums are those of the file as it is
  if (with_token && !request.token.empty()) lines.add("Authorization: Bearer " + request.token);
  const std::string range = std::to_string(request.from) + "-", bundle = certificates();

  curl_easy_reset(curl);
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "deltaw/" DELTAW_VERSION);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, lines.first);
  curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(std::min(kConnectSeconds, request.patience)));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(request.patience));
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, const_cast<BodyTarget*>(&target));
  if (request.from > 0) curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());
  if (request.head) curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  if (!bundle.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, bundle.c_str());

  const CURLcode code = curl_easy_perform(curl);
  if (transfer.thrown) std::rethrow_exception(transfer.thrown);
  if (code != CURLE_OK) fail_transfer(code, detail, url);
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  transfer.answer.status = status;
  return transfer.answer;
}

/// Where the answer sends us; empty where it sends nowhere.
std::string redirect_of(CURL* curl, const Answer& answer) {
  if (answer.status < 300 || answer.status >= 400) return "";
  char* url = nullptr;
  curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &url);
  return url ? url : "";
}

void check_redirect(const std::string& from, const std::string& to) {
  const std::string origin = origin_of(to);
  const bool weaker = from.starts_with("https:") && !origin.starts_with("https:");
  if (!origin.empty() && !weaker) return;
  throw Error({.id = "io.network",
               .what = weaker && !origin.empty()
                           ? "the server leads from https to http, where anybody may change what is sent"
                           : "the server leads to '" + shown_url(to) + "', which is no address on the web",
               .where = shown_url(from),
               .fix = "check HF_ENDPOINT"});
}

}  // namespace

Answer Http::ask(const Request& request, const Sink& sink) {
  const std::string home = origin_of(request.url);
  std::string url = request.url;
  for (int redirects = 0; redirects <= kMostRedirects; ++redirects) {
    Answer answer = ask_once(handle_->curl, request, url, origin_of(url) == home, sink);
    const std::string next = redirect_of(handle_->curl, answer);
    if (next.empty() || (request.head && origin_of(next) != home)) return answer;
    check_redirect(url, next);
    url = next;
  }
  throw Error(
      {.id = "io.network",
       .what = "the server leads from one address to the next, more than " + std::to_string(kMostRedirects) + " times",
       .where = shown_url(request.url),
       .fix = "check HF_ENDPOINT"});
}

std::string Answer::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

std::string origin_of(const std::string& text) {
  const Url url(text);
  const std::string scheme = url.part(CURLUPART_SCHEME), host = url.part(CURLUPART_HOST);
  if ((scheme != "http" && scheme != "https") || host.empty()) return "";
  return lower(scheme + "://" + host + ":" + url.part(CURLUPART_PORT, CURLU_DEFAULT_PORT));
}

std::string shown_url(const std::string& text) {
  Url url(text);
  if (!url.parts) return printable(text.substr(0, std::min(text.find_first_of("?#@"), text.size())));
  for (const CURLUPart part : {CURLUPART_QUERY, CURLUPART_FRAGMENT, CURLUPART_USER, CURLUPART_PASSWORD}) {
    curl_url_set(url.parts, part, nullptr, 0);
  }
  return printable(url.part(CURLUPART_URL));
}

}  // namespace deltaw::io::hub
