#include "adapt/chosen_method.h"

#include "deltaw/adapter.h"
#include "deltaw/method.h"

namespace deltaw {

std::string chosen_method(const Json& values, const std::string& where) {
  // Only what chooses a method, so that a wrong value elsewhere is found where it belongs.
  Json choice = Json::object();
  for (const char* key : {"method", "peft_type"}) {
    if (values.contains(key)) choice[key] = values[key];
  }
  for (const MethodSpec* spec : method_table()) {
    for (const auto& [key, value] : spec->peft_settings.items()) {
      if (values.contains(key)) choice[key] = values[key];
    }
  }
  return adapter_config_from_json(choice, where).method;
}

}  // namespace deltaw
