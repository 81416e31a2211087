// The hub's answers, or an error that says what to do; tries again what may pass.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/hub/http.h"
#include "io/hub/listing.h"
#include "io/hub/settings.h"

namespace deltaw::io::hub {

/// What goes on, for who waits.
using Tell = std::function<void(const std::string& line)>;

/// How often something is tried again: after 1, 2, 4, 8 and 16 seconds or as long as the server asks for, twice only as
/// long as no server has answered.
class Patience {
 public:
  Patience(Tell tell, bool answered) : tell_(std::move(tell)), answered_(answered) {}

  /// Something came: the count begins anew.
  void progressed() { tries_ = 0; }
  /// Waits, or throws the trouble's error.
  void wait(const Trouble& trouble);

 private:
  Tell tell_;
  int tries_ = 0;
  bool answered_ = false;
};

class Client {
 public:
  Client(Settings settings, Tell tell);

  const Settings& settings() const { return settings_; }

  /// The files of a revision. Throws config.hub-not-found with names that are near, io.hub-access, format.*, io.*.
  Listing list(const RepoName& name);

  /// Size and checksum of a file that the listing is silent about. Throws io.checksum where the server does not say.
  void complete(const RepoName& name, const std::string& commit, File& file);

  /// The file from byte `from` on, as the server sends it: `sink` looks at the status. Returns the status, which may
  /// be 416 (the server's file ends before). One try; throws Trouble.
  int64_t fetch(const RepoName& name, const std::string& commit, const File& file, int64_t from, const Sink& sink);

  Patience patience() const { return Patience(tell_, answered_); }
  void tell(const std::string& line) const { tell_(line); }

 private:
  Answer ask(const RepoName& name, Request request, const Sink& sink);
  Answer ask_patiently(const RepoName& name, const Request& request, std::string* body);
  std::vector<std::string> names_like(const RepoName& name);
  std::vector<std::string> revisions(const RepoName& name);

  Settings settings_;
  Tell tell_;
  Http http_;
  bool answered_ = false;  // some server, to some request
};

}  // namespace deltaw::io::hub
