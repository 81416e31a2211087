// Adapters of convolutions: what PEFT makes of them and writes, and what is refused.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "ops/conv2d.h"
#include "ops/linear/linear.h"
#include "support/golden.h"
#include "support/model_calls.h"
#include "support/oracle.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::differs;
using test::error_of;
using test::fixture;
using test::Golden;

constexpr const char* kAdapters[] = {"lora", "rslora", "lora_bias", "dora", "loha", "lokr", "lokr_full", "ia3", "oft"};

std::filesystem::path adapter_folder(const std::string& name) {
  return fixture("golden/conv/" + name);
}

// The network of oracle/make_conv.py. A token is the number of an image.
class Net final : public Model {
 public:
  explicit Net(at::ScalarType dtype, const Conv2dForm& stem = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}) {
    const FamilyInput input{.checkpoint = std::make_shared<io::Checkpoint>(fixture("golden/conv/base")),
                            .dtype = dtype,
                            .labels = {"a", "b", "c"}};
    Loader load(*this, input, "net");
    blocks_ = {load.conv2d("stem", 6, 3, stem),
               load.conv2d("mixer", 8, 6, {.kernel = {3, 2}, .stride = {1, 2}, .padding = {1, 0}, .bias = false}),
               load.conv2d("spread", 6, 8, {.kernel = {3, 3}, .padding = {2, 2}, .dilation = {2, 2}}),
               load.conv2d("point", 10, 6)};
    proj_ = load.linear("proj", 3, 10);
    load.finish({});
    images = Golden(fixture("golden/conv/base/io.safetensors"))["x"].to(dtype);
  }

  Tensor run(const Tensor& x, Call& call) const { return logits(pooled(x, call), call); }
  Tensor features(const ModelInput& input, Call& call) const override {
    return pooled(images.index_select(0, input.input_ids.flatten()), call);
  }
  Tensor logits(const Tensor& features, Call& call) const override { return ops::linear(features, *proj_, call); }
  std::string task_type() const override { return {}; }  // PEFT's are for models of transformers
  const Conv2d& stem() const { return *blocks_[0]; }

  Tensor images;  // [4, 3, 8, 10]

 private:
  Tensor pooled(Tensor x, Call& call) const {
    for (const Conv2d* block : blocks_) x = at::tanh(ops::conv2d(x, *block, call));
    return x.mean({2, 3});
  }

  std::vector<const Conv2d*> blocks_;
  const Linear* proj_ = nullptr;
};

Adapter create(const Net& net, Json values) {
  if (!values.contains("target_modules")) values["target_modules"] = {"stem", "mixer", "spread", "point", "proj"};
  return Adapter::create(net, adapter_config_from_json(values, "test"), 1);
}

std::map<std::string, std::vector<int64_t>> shapes_in(const std::filesystem::path& folder) {
  std::map<std::string, std::vector<int64_t>> shapes;
  const io::SafetensorsFile file(folder / "adapter_model.safetensors");
  for (const io::TensorBytes& tensor : file.tensors()) {
    shapes[tensor.name.substr(std::string("base_model.model.").size())] = tensor.shape;
  }
  return shapes;
}

class Conv2dOracle : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder = adapter_folder(GetParam());
  Golden io{folder / "io.safetensors"};
};

TEST_P(Conv2dOracle, LogitsAndGradientsArePefts) {
  const Net net(at::kDouble);
  for (const LinearPath path : {LinearPath::sequence, LinearPath::folded, LinearPath::automatic}) {
    const Adapter adapter = Adapter::load(net, folder, {.trainable = true});
    const Tensor x = net.images.clone().requires_grad_();
    Call call{.adapter = &adapter, .path = path};
    const Tensor logits = net.run(x, call);
    EXPECT_EQ(differs(logits, io["logits64"], 1e-10), "");
    (logits * io["weights"]).sum().backward();
    EXPECT_EQ(differs(x.grad(), io["grad_x"], 1e-9), "");
    const std::vector<NamedTensor> trained = adapter.trained();
    EXPECT_EQ(trained.size(), io.names("grad.").size());
    for (const NamedTensor& tensor : trained) {
      const Tensor expected = io["grad.base_model.model." + tensor.name];
      ASSERT_EQ(tensor.value.numel(), expected.numel()) << tensor.name;
      EXPECT_EQ(differs(tensor.value.grad().reshape(expected.sizes()), expected, 1e-9), "") << tensor.name;
    }
  }
}

TEST_P(Conv2dOracle, LogitsInFloat32ArePefts) {
  const at::NoGradGuard no_grad;
  const Net net(at::kFloat);
  const Adapter adapter = Adapter::load(net, folder);
  Call call{.adapter = &adapter};
  EXPECT_EQ(differs(net.run(net.images, call), io["logits"], test::logit_tolerance(io["logits"])), "");
  Call plain;
  const Tensor base = Golden(fixture("golden/conv/base/io.safetensors"))["logits"];
  EXPECT_EQ(differs(net.run(net.images, plain), base, test::logit_tolerance(base)), "");
}

TEST_P(Conv2dOracle, MergedKernelsArePefts) {
  const Net net(at::kDouble);
  const Adapter adapter = Adapter::load(net, folder);
  for (const AdaptedLayer* layer : adapter.layers()) {
    const std::string name = "merged." + layer->info.name;
    const MergedLayer merged = merge_layer(*layer, layer->base->weight.value, adapter.value(layer->base->bias));
    EXPECT_EQ(differs(merged.weight, io[name + ".weight"], 1e-10), "") << name;
    if (!merged.bias.defined()) continue;
    EXPECT_EQ(differs(merged.bias, io[name + ".bias"], 1e-10), "") << name;
  }
}

TEST_P(Conv2dOracle, TheFileWrittenIsPefts) {
  const Net net(at::kFloat);
  const test::TemporaryFolder written;
  Adapter::load(net, folder).save(written.path());
  const io::SafetensorsFile ours(written / "adapter_model.safetensors"), theirs(folder / "adapter_model.safetensors");
  EXPECT_TRUE(read_json(written / "adapter_config.json")["task_type"].is_null());
  EXPECT_EQ(ours.tensors().size(), theirs.tensors().size());
  for (const io::TensorBytes& expected : theirs.tensors()) {
    const io::TensorBytes* found = ours.find(expected.name);
    ASSERT_NE(found, nullptr) << expected.name;
    EXPECT_EQ(found->shape, expected.shape) << expected.name;
    EXPECT_TRUE(std::equal(expected.data, expected.data + expected.size(), found->data)) << expected.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Peft, Conv2dOracle, testing::ValuesIn(kAdapters), [](const auto& info) { return info.param; });

TEST(Conv2d, IsNoPartOfAllLinear) {
  const Net net(at::kFloat);
  const Adapter adapter = create(net, {{"target_modules", "all-linear"}});
  ASSERT_EQ(adapter.layers().size(), 1u);
  EXPECT_EQ(adapter.layers()[0]->info.name, "proj");
}

TEST(Conv2d, OfGroupsOrOtherPaddingIsRefused) {
  const auto what = [](const Conv2dForm& form) {
    const Error error = error_of([&] { Net(at::kFloat, form); });
    EXPECT_EQ(error.id(), "config.unsupported");
    EXPECT_EQ(error.parts().where, "stem");
    return error.parts().what;
  };
  EXPECT_NE(what({.kernel = {3, 3}, .groups = 3}).find("groups = 3"), std::string::npos);
  EXPECT_NE(what({.kernel = {3, 3}, .padding_mode = "reflect"}).find("reflect"), std::string::npos);
  EXPECT_NE(what({.kernel = {3, 3}, .stride = {0, 1}}).find("stride 0"), std::string::npos);
  EXPECT_NE(what({.kernel = {3, 3}, .padding = {1, -1}}).find("padding -1"), std::string::npos);
}

TEST(Conv2d, RefusesImagesThatDoNotFit) {
  const Net net(at::kFloat);
  const Adapter adapter = create(net, {{"method", "lora"}});
  for (const Adapter* with : {static_cast<const Adapter*>(nullptr), &adapter}) {
    const auto id = [&](const Tensor& x) {
      Call call{.adapter = with};
      return error_of([&] { ops::conv2d(x, net.stem(), call); }).id();
    };
    EXPECT_EQ(id(at::zeros({1, 4, 8, 8})), "shape.mismatch");
    EXPECT_EQ(id(at::zeros({3, 8})), "shape.mismatch");
    EXPECT_EQ(id(at::zeros({1, 3, 8, 0})), "shape.mismatch");  // three columns of padding are too few
  }
}

TEST(Conv2d, HasNoPlaceForMethodsBehindSublayers) {
  const Net net(at::kFloat);
  EXPECT_EQ(error_of([&] { create(net, {{"method", "houlsby"}}); }).id(), "config.no-sublayer");
}

TEST(Conv2d, FactorsOfAFileMustHaveTheKernelsShape) {
  const Net net(at::kFloat);
  const std::filesystem::path source = adapter_folder("lora");
  const test::TemporaryFolder folder;
  std::filesystem::copy_file(source / "adapter_config.json", folder / "adapter_config.json");
  const io::SafetensorsFile file(source / "adapter_model.safetensors");
  std::vector<io::TensorBytes> tensors(file.tensors().begin(), file.tensors().end());
  for (io::TensorBytes& tensor : tensors) {
    if (tensor.name.ends_with("stem.lora_A.weight")) tensor.shape = {3, 27};
  }
  io::write_safetensors(folder / "adapter_model.safetensors", tensors);
  const Error error = error_of([&] { Adapter::load(net, folder.path()); });
  EXPECT_EQ(error.id(), "shape.mismatch");
  EXPECT_NE(error.parts().what.find("[3, 27], this base makes it [3, 3, 3, 3]"), std::string::npos);
}

// What docs/formats.md says of the methods that have no convolutions in PEFT.
TEST(Conv2d, FilesOfOtherMethodsHoldMatricesOrLoraA) {
  const Net net(at::kFloat);
  const auto shapes = [&](const Json& values) {
    const test::TemporaryFolder folder;
    create(net, values).save(folder.path());
    return shapes_in(folder.path());
  };
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shapes({{"method", "moslora"}, {"r", 2}})["stem.lora_A.weight"], (Shape{2, 3, 3, 3}));
  EXPECT_EQ(shapes({{"method", "sora"}, {"r", 2}})["stem.lora_A"], (Shape{2, 27}));
  EXPECT_EQ(shapes({{"method", "lora2"}, {"r", 2}, {"k", 2}})["stem.lora_A"], (Shape{2, 27}));
  EXPECT_EQ(shapes({{"method", "lora_xs"}, {"r", 2}})["stem.lora_A.weight"], (Shape{2, 27}));
  EXPECT_EQ(shapes({{"method", "adalora"}, {"init_r", 2}})["stem.lora_A"], (Shape{2, 27}));
}

TEST(Conv2d, PrunedComponentsAreLeftOutOfTheFile) {
  const Net net(at::kFloat);
  Adapter adapter = create(net, {{"method", "moslora"}, {"r", 3}, {"target_r", 2}});
  test::randomise(adapter, 2);
  const at::NoGradGuard no_grad;
  for (const AdaptedLayer* layer : adapter.layers()) {
    layer->params["lora_AB"][1].zero_();
    adapter.kept_ranks[layer->info.name] = {true, false, true};
  }
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  EXPECT_EQ(shapes_in(folder.path())["mixer.lora_B.weight"], (std::vector<int64_t>{8, 2, 1, 1}));
  const Adapter again = Adapter::load(net, folder.path());
  Call call{.adapter = &adapter}, reloaded{.adapter = &again};
  const Tensor logits = net.run(net.images, call);
  EXPECT_EQ(differs(net.run(net.images, reloaded), logits, test::logit_tolerance(logits)), "");
}

TEST(Conv2d, AdaptersAndExportsAreReadByPeft) {
  if (!test::has_peft()) GTEST_SKIP() << "needs PEFT in " << test::oracle_python() << ": scripts/setup --oracle";
  const at::NoGradGuard no_grad;
  const Net net(at::kFloat);
  const test::TemporaryFolder folder;
  std::string arguments;
  size_t reports = 0;
  const auto write = [&](Json values, int64_t export_rank = 0) {
    values["target_modules"] = {"stem", "mixer", "point", "proj"};
    Adapter adapter = create(net, values);
    test::randomise(adapter, 2);
    const auto method = values["method"].get<std::string>();
    const auto target = folder / fmt::format("{}-{}", reports, method);
    if (export_rank > 0 || adapter.spec().id == "moslora") {
      export_lora(adapter, target, export_rank,
                  test::probe_of({.input_ids = at::arange(net.images.size(0), at::kLong)}));
    } else {
      std::filesystem::create_directories(target);
      adapter.save(target);
    }
    const Adapter written = Adapter::load(net, target);
    Call call{.adapter = &written};
    const std::string logits = target.string() + ".safetensors";
    io::write_safetensors(logits, {to_bytes("logits", net.run(net.images, call).contiguous())});
    arguments += fmt::format("{} {} ", target.string(), logits);
    ++reports;
  };
  write({{"method", "ia3"}, {"feedforward_modules", {"mixer"}}});
  for (const char* method : {"lora", "dora", "lora_fa", "loha", "lokr", "moslora"})
    write({{"method", method}, {"r", 2}});
  write({{"method", "oft"}, {"oft_block_size", 3}, {"exclude_modules", {"mixer"}}});  // PEFT's takes square kernels
  write({{"method", "loha"}, {"r", 2}}, 2);
  write({{"method", "lokr"}, {"r", 2}}, 2);
  test::expect_no_problems("check_peft_conv.py", arguments, reports, folder.path());
}

TEST(Conv2d, ExportsALoraOfConvolutions) {
  const Net net(at::kFloat);
  for (const Json& values : {Json{{"method", "moslora"}, {"r", 2}}, Json{{"method", "sora"}, {"r", 2}}}) {
    Adapter adapter = create(net, values);
    test::randomise(adapter, 2);
    const test::TemporaryFolder parent;
    const ExportReport report = export_lora(adapter, parent / "lora", 0,
                                            test::probe_of({.input_ids = at::arange(net.images.size(0), at::kLong)}));
    EXPECT_TRUE(report.exact);
    EXPECT_TRUE(report.passed);
    const auto expected = shapes_in(adapter_folder("lora"));
    const auto found = shapes_in(parent / "lora");
    EXPECT_EQ(found.at("stem.lora_A.weight"), (std::vector<int64_t>{2, 3, 3, 3}));
    EXPECT_EQ(found.at("stem.lora_B.weight"), (std::vector<int64_t>{6, 2, 1, 1}));
    EXPECT_EQ(read_json(parent / "lora/adapter_config.json")["peft_type"], "LORA");
    for (const auto& [name, shape] : expected) EXPECT_TRUE(found.contains(name)) << name;
  }
}

}  // namespace
}  // namespace deltaw
