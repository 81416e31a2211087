// One request to a server, by libcurl.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "deltaw/error.h"

namespace deltaw::io::hub {

struct Request {
  std::string url;
  std::string token = {};  // goes to the origin of `url` only, wherever the server sends us
  int64_t from = 0;        // first byte that is wanted
  bool head = false;       // what the first server says of it: no body, and no way to another host
  int64_t patience = 10;   // seconds without a byte
};

struct Answer {
  int64_t status = 0;
  std::map<std::string, std::string> headers = {};  // by names in lower case
  std::string url = {};                             // that answered
  std::string body = {};                            // of an answer that is none of success, its beginning

  /// The header's value, empty where there is none.
  std::string header(const std::string& name) const;
  bool is_success() const { return status >= 200 && status < 300; }
};

/// What may pass: thrown for connections that fail or break and for servers that ask to wait. `error` is what to tell
/// in the end.
struct Trouble {
  Error error;
  int64_t wait = 0;          // seconds that the server asks for; 0: it does not say
  bool unreachable = false;  // no connection came about
};

/// Takes the body of a success, bit by bit; the head is the same each time. May throw.
using Sink = std::function<void(const Answer& head, std::string_view bytes)>;

/// Keeps its connections. Proxies and their exceptions are those of libcurl's variables (https_proxy, no_proxy).
class Http {
 public:
  Http();

  /// Follows up to ten redirects, none from https to http. An answer that is no success comes back as one. Throws
  /// Trouble, io.network for what no second try mends, and what `sink` throws.
  Answer ask(const Request& request, const Sink& sink);

 private:
  struct Handle;
  std::shared_ptr<Handle> handle_;
};

/// "https://host:443" of an address; empty where it is none that is read.
std::string origin_of(const std::string& url);

/// An address as a message shows it: without the query, which may hold a signature, and without user and password.
std::string shown_url(const std::string& url);

}  // namespace deltaw::io::hub
