// Tests of a family: a fixture's checkpoint in a folder of its own, whose config.json they edit.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "support/compared.h"
#include "support/fixture_input.h"
#include "support/temporary.h"

namespace deltaw::test {

class CheckpointFolder : public testing::Test {
 protected:
  void copy(const std::string& name) const {
    std::filesystem::copy(fixture("golden/models/" + name), folder.path(),
                          std::filesystem::copy_options::overwrite_existing | std::filesystem::copy_options::recursive);
  }
  void edit(const Json& changes) const {
    Json config = read_json(folder / "config.json");
    config.update(changes);
    write_json(folder / "config.json", config);
  }
  void erase(const std::string& key) const {
    Json config = read_json(folder / "config.json");
    config.erase(key);
    write_json(folder / "config.json", config);
  }
  std::unique_ptr<Model> load(const ModelOptions& options = {.dtype = "float64"}) const {
    return load_model(folder.path().string(), options);
  }
  Golden io() const { return Golden(folder / "io.safetensors"); }
  Tensor logits(const Model& model, const std::string& prefix = "") const {
    return logits_of(model, nullptr, input_of(io(), prefix));
  }

  /// Each key with this value is refused by name. Config.json is left as it was.
  void expect_refused(const std::vector<std::pair<std::string, Json>>& wrong) const {
    const Json whole = read_json(folder / "config.json");
    for (const auto& [key, value] : wrong) {
      edit({{key, value}});
      const Error error = error_of([&] { load(); });
      EXPECT_EQ(error.id(), "config.unsupported") << key << ": " << error.what();
      const std::string message = error.parts().what + error.parts().where;
      EXPECT_NE(message.find(key), std::string::npos) << key << ": " << error.what();
      write_json(folder / "config.json", whole);
    }
  }

  /// Dropout of 0.5 under each key changes what is computed in training, by masks that the call alone decides.
  void expect_dropouts(const std::vector<std::string>& keys) const {
    const Tensor plain = logits(*load());
    for (const std::string& key : keys) {
      edit({{key, 0.5}});
      const auto model = load();
      EXPECT_TRUE(logits(*model).equal(plain)) << key;
      const at::NoGradGuard no_grad;
      Call training{.training = true}, again{.training = true};
      const Tensor dropped = forward(*model, input_of(io()), training);
      EXPECT_NE(differs(dropped, plain, 1e-3), "") << key;
      EXPECT_TRUE(forward(*model, input_of(io()), again).equal(dropped)) << key;
      edit({{key, 0.0}});
    }
  }

  TemporaryFolder folder;
};

/// With one of these a pass computes every token.
class SeesAll : public Observer {
 public:
  void see(const Layer& /*layer*/, const Tensor& /*x*/, Tensor& /*y*/) override {}
};

/// Numbers of their own for all trained tensors: a factor that starts at zero hides others.
inline void draw_trained(const Adapter& adapter) {
  const at::NoGradGuard no_grad;
  uint64_t seed = 0;
  for (const NamedTensor& tensor : adapter.trained()) {
    tensor.value.copy_(drawn(tensor.value.sizes(), at::kDouble, ++seed, 0.1));
  }
}

/// Of the squares of the logits, in training, by trained tensor.
inline std::vector<Tensor> gradients_of(const Model& model, const Adapter& adapter, const FixtureInput& input,
                                        bool recompute = false) {
  for (const NamedTensor& tensor : adapter.trained()) tensor.value.mutable_grad() = Tensor();
  Call call{.adapter = &adapter, .training = true, .seed = 7, .recompute = recompute};
  forward(model, input, call).square().sum().backward();
  std::vector<Tensor> found;
  for (const NamedTensor& tensor : adapter.trained()) found.push_back(tensor.value.grad().clone());
  return found;
}

}  // namespace deltaw::test
