// Files that a faulty tool or somebody hostile wrote: every value of a good one replaced by what does not belong there.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "deltaw/error.h"
#include "deltaw/options.h"

namespace deltaw::test {

/// Deep for a value, not for a reader.
inline Json deep_value() {
  Json value = Json::array();
  for (int i = 0; i < 50; ++i) value = {{"a", Json::array({std::move(value), 1, "x"})}};
  return value;
}

/// One or more of each type of JSON, and numbers that no file holds.
inline std::vector<Json> strange_values() {
  return {nullptr,
          true,
          -1,
          0,
          3,
          int64_t{1} << 52,
          std::numeric_limits<int64_t>::min(),
          std::numeric_limits<uint64_t>::max(),
          2.5,
          1e30,
          -1e-300,
          "",
          "x",
          "(",
          Json::array(),
          Json::object(),
          {1, "x", nullptr},
          {{"query", "x"}, {".*", -1}},
          {{"x", {true, 1, nullptr}}},
          deep_value()};
}

/// The places of all values in `json`, of long lists and objects those of the first `most` members.
inline void find_places(const Json& json, size_t most, const Json::json_pointer& at,
                        std::vector<Json::json_pointer>& places) {
  places.push_back(at);
  if (!json.is_structured()) return;
  size_t index = 0;
  for (auto member = json.begin(); member != json.end() && index < most; ++member, ++index) {
    find_places(*member, most, json.is_array() ? at / index : at / member.key(), places);
  }
}

/// Calls `take` with `whole` after each change, and with a sentence that says what was changed.
inline void each_mutation(const Json& whole, const std::function<void(const Json&, const std::string&)>& take,
                          size_t most_members = 64) {
  std::vector<Json::json_pointer> places;
  find_places(whole, most_members, Json::json_pointer(), places);
  const std::vector<Json> values = strange_values();
  for (const Json::json_pointer& place : places) {
    for (const Json& value : values) {
      Json changed = whole;
      changed[place] = value;
      take(changed, place.to_string() + " = " + value.dump().substr(0, 60));
    }
    if (place.empty()) continue;
    Json changed = whole;
    Json& parent = changed[place.parent_pointer()];
    if (parent.is_object()) parent.erase(place.back());
    if (parent.is_array()) parent.erase(std::stoul(place.back()));
    take(changed, place.to_string() + " left out");
  }
}

/// Whether the action ended well. Fails the test unless it did, or threw an error of ours that says where and how to
/// fix it and is no bug of ours.
inline bool ends_clearly(const std::string& what, const std::function<void()>& action) {
  try {
    action();
    return true;
  } catch (const Error& error) {
    EXPECT_FALSE(error.id().starts_with("internal")) << what << ": " << error.what();
    EXPECT_FALSE(error.parts().where.empty()) << what << ": " << error.what();
    EXPECT_FALSE(error.parts().fix.empty()) << what << ": " << error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << what << ": " << error.what();
  }
  return false;
}

}  // namespace deltaw::test
