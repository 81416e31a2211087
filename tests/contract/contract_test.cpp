// What every method must keep, over all methods of the table, shapes and types. A new method is tested here before its
// author writes a line.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/files.h"
#include "deltaw/error.h"
#include "ops/fixed_updates.h"
#include "ops/formed_weights.h"
#include "support/gradcheck.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::check_gradient;
using test::randomise;
using test::small_config;
using test::TinyModel;

struct Case {
  const MethodSpec* spec;
  int64_t d_out, d_in;
  LayerKind kind;
  at::ScalarType dtype;
  std::string name;  // the method's, or a variant's
  Json options;

  AdapterConfig config() const { return small_config(*spec, options); }
};

const std::map<LayerKind, std::string> kKinds = {{LayerKind::linear, "linear"},
                                                 {LayerKind::conv1d, "conv1d"},
                                                 {LayerKind::conv2d, "conv2d"},
                                                 {LayerKind::embedding, "embedding"}};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name << " " << kKinds.at(c.kind) << " " << c.d_out << "x" << c.d_in << " " << at::toString(c.dtype);
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return fmt::format("{}_{}_{}x{}_{}", c.name, kKinds.at(c.kind), c.d_out, c.d_in, at::toString(c.dtype));
}

// Ways of a method that its presets do not name.
struct Variant {
  std::string method, name;
  Json options;
};
const std::vector<Variant> kVariants = {
    {"lora", "lora_orthogonal", {{"init_lora_weights", "orthogonal"}, {"r", 2}}},
    {"lora", "lora_bias", {{"lora_bias", true}, {"r", 2}}},
    {"lora", "pissa_fast", {{"init_lora_weights", "pissa_niter_4"}}},
    {"dora", "dora_pissa", {{"init_lora_weights", "pissa"}}},
    {"dora", "dora_lora_ga", {{"init_lora_weights", "lora_ga"}}},
    {"moslora", "moslora_corda", {{"init_lora_weights", "corda"}, {"mixer_init", "identity"}}},
    {"moslora", "moslora_butterfly", {{"mixer_init", "butterfly"}, {"r", 2}}},
    {"moslora", "moslora_four_subspaces", {{"mixer_init", "butterfly"}, {"mixer_subspaces", 4}, {"r", 8}}},
    {"moslora", "moslora_normal", {{"mixer_init", "normal"}}},
    {"moslora", "moslora_olora", {{"init_lora_weights", "olora"}, {"mixer_init", "identity"}}},
    {"randlora", "randlora_sparse", {{"sparse", true}, {"randlora_scaling", "r_sqrt_n"}}},
    {"lokr", "lokr_both", {{"decompose_both", true}, {"decompose_factor", 7}}},
    {"oft", "oft_exact", {{"use_cayley_neumann", false}}},
    {"oft", "oft_shared", {{"block_share", true}}},
};

// On embeddings those that act on a layer's input or output or follow from it, and options that have no meaning there;
// on convolutions those that stand behind a sublayer.
const std::map<LayerKind, std::set<std::string>> kRefused = {
    {LayerKind::embedding,
     {"lokr", "lokr_both", "oft", "oft_exact", "oft_shared", "houlsby", "pfeiffer", "lora_fa", "lora_bias", "bitfit",
      "eva", "corda", "lora_ga", "dora_lora_ga", "moslora_corda"}},
    {LayerKind::conv2d, {"houlsby", "pfeiffer"}}};

std::vector<Case> cases(const std::vector<at::ScalarType>& dtypes) {
  std::vector<Variant> ways;
  for (const MethodSpec* spec : method_table()) {
    if (!spec->on_layers() && !spec->on_base()) continue;  // nothing of it is on the two layers
    ways.push_back({spec->id, spec->id, Json::object()});
    for (const Preset& preset : spec->presets) ways.push_back({spec->id, preset.id, preset.options});
  }
  ways.insert(ways.end(), kVariants.begin(), kVariants.end());
  struct Shape {
    LayerKind kind;
    int64_t d_out, d_in;
  };
  std::vector<Case> all;
  for (const Variant& way : ways) {
    for (const Shape& shape : {Shape{LayerKind::linear, 5, 5},
                               {LayerKind::linear, 7, 4},
                               {LayerKind::linear, 4, 7},
                               {LayerKind::conv1d, 4, 7},
                               {LayerKind::conv2d, 4, 27},
                               {LayerKind::embedding, 4, 7}}) {
      const auto refused = kRefused.find(shape.kind);
      if (refused != kRefused.end() && refused->second.contains(way.name)) continue;
      for (const at::ScalarType dtype : dtypes) {
        all.push_back({&find_method(way.method), shape.d_out, shape.d_in, shape.kind, dtype, way.name, way.options});
      }
    }
  }
  return all;
}

// Of a turned weight a BLAS may take the same sums in another order; of the others it does not.
double rounding_of_order(const Case& c) {
  if (c.kind != LayerKind::conv1d || c.dtype == at::kBFloat16) return 0;
  return c.dtype == at::kDouble ? 4e-15 : 2e-6;
}

double tolerance(at::ScalarType dtype) {
  if (dtype == at::kDouble) return 1e-10;
  return dtype == at::kFloat ? 2e-5 : 4e-2;
}

class Contract : public testing::TestWithParam<Case> {
 protected:
  Contract()
      : model(GetParam().d_out, GetParam().d_in, GetParam().dtype, GetParam().kind),
        adapter(Adapter::create(model, GetParam().config(), 3, test::tiny_calibration)),
        x(input(GetParam()).to(GetParam().dtype)) {}

  static bool is_table() { return GetParam().kind == LayerKind::embedding; }
  static bool convolves() { return GetParam().kind == LayerKind::conv2d; }
  static Tensor input(const Case& c) {
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(9);
    if (convolves()) return at::randn({2, c.d_in / 9, TinyModel::kRows, TinyModel::kColumns}, generator, at::kDouble);
    const Tensor values = at::randn({2, 6, c.d_in}, generator, at::kDouble);
    return is_table() ? at::one_hot(values.argmax(-1), c.d_in).to(at::kDouble) : values;
  }

  Tensor run(const Adapter* with, LinearPath path = LinearPath::automatic) const {
    const at::NoGradGuard no_grad;
    Call call{.adapter = with, .path = path};
    return model.run(x, call);
  }
  // What the matrices multiply, [2, 6, d_in]: x, or its patches.
  Tensor seen() const {
    if (!convolves()) return x;
    constexpr int64_t k = TinyModel::kKernel, stride = TinyModel::kStride, edge = TinyModel::kPadding;
    const Tensor padded = at::constant_pad_nd(x, {edge, edge, edge, edge});
    return padded.unfold(2, k, stride).unfold(3, k, stride).permute({0, 2, 3, 1, 4, 5}).flatten(3).flatten(1, 2);
  }
  // The formula of the design, dense and in float64, written without the layer operation.
  Tensor dense(const Adapter& with) const {
    const at::NoGradGuard no_grad;
    std::vector<Tensor> outputs;
    for (const Layer* layer : model.layers()) outputs.push_back(dense_layer(with, *layer, map(with, *layer)));
    return at::cat(outputs, -1);
  }
  static Update map(const Adapter& with, const Layer& base) {
    const AdaptedLayer* layer = with.layer(base);
    return layer ? layer->update() : Update{};
  }
  Tensor dense_layer(const Adapter& with, const Layer& base, const Update& u) const {
    const auto wide = [](const Tensor& t) { return t.to(at::kDouble); };
    const Tensor stored = wide(with.value(base.weight));
    const bool is_matrix = base.kind == LayerKind::linear || convolves();
    Tensor weight = is_matrix ? stored.reshape({stored.size(0), -1}) : stored.t();
    Tensor bias = base.bias.value.defined() ? wide(with.value(base.bias)) : at::zeros({weight.size(0)}, at::kDouble);
    if (u.left.defined()) weight = weight + u.scale * at::matmul(wide(u.left), wide(u.right));
    if (u.dense.defined()) weight = weight + u.scale * wide(u.dense);
    if (u.out_gain.defined()) weight = at::diag(wide(u.out_gain)).matmul(weight);
    if (u.in_gain.defined()) weight = weight.matmul(at::diag(wide(u.in_gain)));
    if (u.out_gain.defined() && u.gain_on_bias) bias = bias * wide(u.out_gain);
    if (u.bias.defined()) bias = bias + u.scale * wide(u.bias);
    const Tensor rows = wide(seen()).reshape({-1, GetParam().d_in});
    Tensor y = at::matmul(u.before ? u.before(rows) : rows, weight.t()) + bias;
    if (u.beside) y = y + u.scale * u.beside(rows);
    y = y.reshape({2, 6, -1});
    const AdaptedLayer* layer = with.layer(base);
    return layer ? layer->method->map_output(layer->info, layer->params, y) : y;
  }
  bool starts_exactly() const {
    const Update first = map(adapter, *model.layers()[0]), second = map(adapter, *model.layers()[1]);
    const bool cancels =
        first.left.defined() && first.left.ne(0).any().item<bool>() && first.right.ne(0).any().item<bool>();
    return !first.out_gain.defined() && !second.in_gain.defined() && !cancels;
  }
  static void expect_within(double tolerance, const Tensor& actual, const Tensor& expected) {
    const double scale = std::max(1.0, expected.abs().max().item<double>());
    EXPECT_LE((actual.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>(), tolerance * scale);
  }
  static void expect_near(const Tensor& actual, const Tensor& expected) {
    expect_within(tolerance(GetParam().dtype), actual, expected);
  }

  // One step of gradient descent on a fixed problem; returns the loss before it.
  double gradient_step(double rate, const std::function<void(const NamedTensor&)>& look) {
    const Tensor target =
        at::randn({2, 6, 2 * GetParam().d_out}, at::make_generator<at::CPUGeneratorImpl>(8), at::kDouble);
    Call call{.adapter = &adapter, .training = true};
    const Tensor loss = (model.run(x, call).to(at::kDouble) - target).square().mean();
    loss.backward();
    const at::NoGradGuard no_grad;
    for (const NamedTensor& tensor : adapter.trained()) {
      EXPECT_TRUE(tensor.value.grad().defined()) << tensor.name;
      if (look) look(tensor);
      tensor.value.add_(tensor.value.grad(), -rate);
      tensor.value.mutable_grad() = Tensor();
    }
    return loss.item<double>();
  }

  TinyModel model;
  Adapter adapter;
  Tensor x;
};

TEST_P(Contract, StartsAsTheBaseModel) {
  if (!GetParam().spec->identity_at_init) return;
  const Tensor base = run(nullptr), with = run(&adapter);
  if (starts_exactly() && !convolves()) {  // of which another kernel computes the base alone
    expect_within(rounding_of_order(GetParam()), with, base);
  } else {
    expect_within(std::max(tolerance(GetParam().dtype), tolerance(at::kFloat)), with, base);  // drawn in float32
  }
}

TEST_P(Contract, BothPathsComputeTheFormula) {
  randomise(adapter, 5);
  const Tensor expected = dense(adapter);
  ASSERT_GT((expected - run(nullptr).to(at::kDouble)).abs().max().item<double>(), 100 * tolerance(at::kFloat));
  expect_near(run(&adapter, LinearPath::sequence), expected);
  expect_near(run(&adapter, LinearPath::folded), expected);
  expect_near(run(&adapter), expected);
}

TEST_P(Contract, FixedUpdatesComputeTheFormula) {
  randomise(adapter, 5);
  const Tensor expected = dense(adapter);
  const at::NoGradGuard no_grad;
  for (const LinearPath path : {LinearPath::sequence, LinearPath::folded, LinearPath::automatic}) {
    FixedUpdates fixed(adapter);
    Call call{.adapter = &adapter, .path = path, .fixed = &fixed};
    const Tensor first = model.run(x, call);
    expect_near(first, expected);
    EXPECT_TRUE(model.run(x, call).equal(first));
  }
}

TEST_P(Contract, MergingEqualsTheForwardPassAndLeavesTheBaseAlone) {
  if (!GetParam().spec->mergeable() || !GetParam().spec->on_layers()) return;
  randomise(adapter, 5);
  const Tensor before = model.layers()[0]->weight.value.clone();
  const Tensor base = run(nullptr);
  std::vector<Tensor> outputs;
  for (const AdaptedLayer* layer : adapter.layers()) {
    const MergedLayer merged = merge_layer(*layer, layer->base->weight.value, layer->base->bias.value);
    EXPECT_EQ(merged.weight.sizes(), layer->base->weight.value.sizes());
    if (convolves()) {
      const Tensor y = at::conv2d(x, merged.weight, merged.bias, TinyModel::kStride, TinyModel::kPadding);
      outputs.push_back(y.flatten(2).transpose(1, 2));
    } else {
      outputs.push_back(at::linear(x, matrix_of(GetParam().kind, merged.weight), merged.bias));
    }
  }
  expect_near(at::cat(outputs, -1), run(&adapter));
  EXPECT_TRUE(model.layers()[0]->weight.value.equal(before));
  EXPECT_TRUE(run(nullptr).equal(base));
}

TEST_P(Contract, CountsItsParameters) {
  if (!GetParam().spec->on_layers()) return;
  int64_t expected = 0;
  for (const AdaptedLayer* layer : adapter.layers())
    expected += GetParam().spec->count(layer->info, adapter.config().options);
  EXPECT_EQ(adapter.trained_count(), expected);
}

TEST_P(Contract, SavesAndLoadsBitEqual) {
  randomise(adapter, 5);
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const Adapter again = Adapter::load(model, folder.path());
  const auto saved = adapter.trained(), loaded = again.trained();
  ASSERT_EQ(saved.size(), loaded.size());
  for (size_t i = 0; i < saved.size(); ++i) {
    EXPECT_EQ(saved[i].name, loaded[i].name);
    EXPECT_TRUE(saved[i].value.equal(loaded[i].value)) << saved[i].name;
  }
  EXPECT_TRUE(run(&adapter).equal(run(&again)));
}

TEST_P(Contract, TrainingGoesOnWithWhatWasSaved) {
  randomise(adapter, 5);
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const std::string file = read_file(folder / "adapter_model.safetensors");
  const std::string config = read_file(folder / "adapter_config.json");
  Adapter again = Adapter::load(model, folder.path(), {.trainable = true});
  again.save(folder.path());
  EXPECT_EQ(read_file(folder / "adapter_model.safetensors"), file);
  EXPECT_EQ(read_file(folder / "adapter_config.json"), config);

  const std::vector<NamedTensor> trained = adapter.trained(), loaded = again.trained();
  ASSERT_EQ(trained.size(), loaded.size());
  const double before = gradient_step(0.01, {});
  std::swap(adapter, again);
  EXPECT_EQ(gradient_step(0.01, {}), before);
  for (size_t i = 0; i < trained.size(); ++i) {
    EXPECT_EQ(trained[i].name, loaded[i].name);
    EXPECT_EQ(trained[i].rate, loaded[i].rate);
    EXPECT_TRUE(trained[i].value.equal(loaded[i].value)) << trained[i].name;
  }
}

TEST_P(Contract, TheSameSeedGivesTheSameTensors) {
  const Adapter same = Adapter::create(model, GetParam().config(), 3, test::tiny_calibration);
  const auto a = adapter.trained(), b = same.trained();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].value.equal(b[i].value)) << a[i].name;
}

TEST_P(Contract, TakesInputsOfAnyRank) {
  randomise(adapter, 5);
  const at::NoGradGuard no_grad;
  const int64_t d_in = GetParam().d_in, d_out = GetParam().d_out;
  Call call{.adapter = &adapter};
  EXPECT_EQ(model.run(x[0], call).sizes(), at::IntArrayRef({6, 2 * d_out}));
  EXPECT_EQ(model.run(x.narrow(0, 0, 0), call).sizes(), at::IntArrayRef({0, 6, 2 * d_out}));
  expect_near(model.run(x[0], call), model.run(x, call)[0]);
  if (!convolves()) {
    EXPECT_EQ(model.run(x[0][0], call).sizes(), at::IntArrayRef({2 * d_out}));
    expect_near(model.run(x[0][0], call), model.run(x, call)[0][0]);
  }
  if (is_table()) return;
  try {
    model.run(convolves() ? at::cat({x, x}, 1) : at::zeros({2, d_in + 1}, x.options()), call);
    FAIL() << "a wrong width was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "shape.mismatch");
  }
}

TEST_P(Contract, TwoAdaptersDoNotLeakIntoEachOther) {
  Adapter other = Adapter::create(model, GetParam().config(), 4, test::tiny_calibration);
  randomise(adapter, 5);
  randomise(other, 6);
  const Tensor base = run(nullptr), first = run(&adapter), second = run(&other);
  EXPECT_FALSE(first.equal(second));
  EXPECT_TRUE(run(&adapter).equal(first));
  EXPECT_TRUE(run(nullptr).equal(base));
}

TEST_P(Contract, EveryTrainedTensorHasAGradientWithinTwoSteps) {
  std::set<std::string> without;
  for (const NamedTensor& tensor : adapter.trained()) without.insert(tensor.name);
  for (int step = 0; step < 2; ++step) {
    gradient_step(0.5, [&](const NamedTensor& tensor) {
      if (tensor.value.grad().ne(0).any().item<bool>()) without.erase(tensor.name);
    });
  }
  EXPECT_TRUE(without.empty()) << *without.begin() << " would never train";
  for (const Parameter* parameter : model.parameters()) {
    EXPECT_FALSE(parameter->value.defined() && parameter->value.requires_grad());
  }
}

TEST_P(Contract, StepsAlongTheGradientLowerTheLoss) {
  randomise(adapter, 5);
  const double rate = convolves() ? 0.002 : 0.01;  // of which a row has four times the numbers
  const double before = gradient_step(rate, {});
  const int steps = GetParam().dtype == at::kBFloat16 ? 15 : 3;  // beyond what rounding hides
  for (int step = 0; step < steps; ++step) gradient_step(rate, {});
  EXPECT_LT(gradient_step(0, {}), before);
}

INSTANTIATE_TEST_SUITE_P(Methods, Contract, testing::ValuesIn(cases({at::kDouble, at::kFloat, at::kBFloat16})),
                         case_name);

// Gradients in float64, for the tensors and for x, on every path.
class Gradients : public Contract {
 protected:
  // The loss of the dense formula. What the method holds constant in its gradients (DoRA's norm) is held here too:
  // gains that do not depend on `moving` keep the values they had.
  double loss(const Tensor& moving) {
    double sum = 0;
    for (size_t i = 0; i < model.layers().size(); ++i) {
      const Layer& layer = *model.layers()[i];
      Update u = map(adapter, layer);
      if (u.out_gain.defined() && !depends_[i].contains(moving.unsafeGetTensorImpl())) u.out_gain = held_[i];
      const Tensor weights = weights_.narrow(-1, static_cast<int64_t>(i) * GetParam().d_out, GetParam().d_out);
      sum += (dense_layer(adapter, layer, u) * weights).sum().item<double>();
    }
    return sum;
  }

  void hold() {
    weights_ = at::randn({2, 6, 2 * GetParam().d_out}, at::make_generator<at::CPUGeneratorImpl>(7), at::kDouble);
    for (const Layer* layer : model.layers()) {
      std::set<const void*> moving;
      const Update u = map(adapter, *layer);
      held_.push_back(u.out_gain.defined() ? u.out_gain.detach().clone() : Tensor());
      for (const NamedTensor& tensor : adapter.trained()) {
        if (!u.out_gain.defined() || !u.out_gain.requires_grad()) continue;
        const auto g = torch::autograd::grad({u.out_gain.sum()}, {tensor.value}, {}, true, false, true);
        if (g[0].defined()) moving.insert(tensor.value.unsafeGetTensorImpl());
      }
      depends_.push_back(moving);
    }
  }

  void check(LinearPath path, FormedWeights* formed = nullptr) {
    randomise(adapter, 5);
    hold();
    x.set_requires_grad(!is_table());
    Call call{.adapter = &adapter, .path = path, .formed = formed};
    const int64_t rows = formed ? 1 : x.size(0);
    for (int64_t i = 0; i < x.size(0); i += rows) {
      (model.run(x.narrow(0, i, rows), call) * weights_.narrow(0, i, rows)).sum().backward();
    }
    if (formed) formed->finish();
    for (const NamedTensor& tensor : adapter.trained()) {
      EXPECT_EQ(check_gradient([&] { return loss(tensor.value); }, tensor.value, tensor.value.grad()), "")
          << tensor.name;
    }
    if (is_table()) return;
    EXPECT_EQ(check_gradient([&] { return loss(x); }, x, x.grad()), "") << "x";
  }

  Tensor weights_;
  std::vector<Tensor> held_;
  std::vector<std::set<const void*>> depends_;
};

TEST_P(Gradients, InSequence) {
  check(LinearPath::sequence);
}
TEST_P(Gradients, Folded) {
  check(LinearPath::folded);
}
TEST_P(Gradients, Mixed) {
  check(LinearPath::mixed);
}
TEST_P(Gradients, FoldedOnceForTwoMicroBatches) {
  FormedWeights formed(2);
  check(LinearPath::folded, &formed);
}
TEST_P(Gradients, MixedOnceForTwoMicroBatches) {
  FormedWeights formed(2);
  check(LinearPath::mixed, &formed);
}

INSTANTIATE_TEST_SUITE_P(Methods, Gradients, testing::ValuesIn(cases({at::kDouble})), case_name);

TEST(GradientCheck, CatchesAGradientThatIsWrong) {
  const Tensor w = at::randn({3, 2}, at::kDouble);
  const auto loss = [&] { return w.pow(3).sum().item<double>(); };
  const Tensor right = 3 * w.square();
  EXPECT_EQ(check_gradient(loss, w, right), "");
  Tensor wrong = right.clone();
  wrong[1][0] += 1e-4;
  EXPECT_NE(check_gradient(loss, w, wrong), "");
  EXPECT_NE(check_gradient(loss, w, right.t()), "");
  EXPECT_NE(check_gradient(loss, w, Tensor()), "");
}

// Options: every one of every method.
class Options : public testing::TestWithParam<const MethodSpec*> {};

TEST_P(Options, RoundTripAndSayWhatTheyAre) {
  const MethodSpec& spec = *GetParam();
  const Json defaults = spec.normalized(Json::object(), "test");
  EXPECT_EQ(spec.normalized(defaults, "test"), defaults);
  for (const FieldInfo& field : spec.options()) {
    EXPECT_FALSE(field.help.empty()) << field.name;
    EXPECT_TRUE(defaults.contains(field.name)) << field.name;
  }
  EXPECT_FALSE(spec.paper.empty());
  EXPECT_FALSE(spec.parameter_count.empty());
}

TEST_P(Options, RefuseAValueOfTheWrongType) {
  for (const FieldInfo& field : GetParam()->options()) {
    if (field.type != "int" && field.type != "float" && field.type != "bool") continue;
    EXPECT_THROW(GetParam()->normalized({{field.name, "nonsense"}}, "test"), Error) << field.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Options, testing::ValuesIn(method_table()),
                         [](const auto& info) { return info.param->id; });

}  // namespace
}  // namespace deltaw
