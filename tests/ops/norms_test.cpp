// Norms in one pass against the formulas operation by operation.
#include "ops/norms.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/compared.h"
#include "support/gradcheck.h"

namespace deltaw {
namespace {

using test::Tensors;

struct Form {
  const char* name;
  bool centred;
  double offset;
};
constexpr Form kForms[] = {{"LayerNorm", true, 0}, {"RMSNorm", false, 0}, {"RMSNorm with an offset", false, 1}};

Norm norm_of(const Form& form, const Tensor& weight, const Tensor& bias) {
  Norm norm;
  norm.weight.value = weight;
  if (form.centred) norm.bias.value = bias;
  norm.eps = 1e-5;
  norm.centred = form.centred;
  norm.offset = form.offset;
  return norm;
}

Tensor plain(const Tensor& x, const Norm& norm) {
  const Tensor& weight = norm.weight.value;
  if (norm.centred) return at::layer_norm(x, {x.size(-1)}, weight, norm.bias.value, norm.eps);
  const at::ScalarType wide_type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor wide = x.to(wide_type);
  const Tensor scaled = wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + norm.eps);
  if (norm.offset == 0) return weight * scaled.to(x.scalar_type());
  return (scaled * (weight.to(wide_type) + norm.offset)).to(x.scalar_type());
}

// Inputs: x, residual, weight and, of a LayerNorm, bias.
test::Function both_outputs(const Form& form) {
  return [form](const Tensors& in) {
    const ops::Sum result =
        ops::add_normalised(in[0], in[1], norm_of(form, in[2], in.size() > 3 ? in[3] : Tensor()), {});
    return Tensors{result.sum, result.normalised};
  };
}
test::Function both_outputs_plain(const Form& form) {
  return [form](const Tensors& in) {
    const Tensor sum = in[0] + in[1];
    return Tensors{sum, plain(sum, norm_of(form, in[2], in.size() > 3 ? in[3] : Tensor()))};
  };
}

Tensors inputs(const Form& form, int64_t rows, int64_t width, at::ScalarType type) {
  Tensors result{test::drawn({rows, width}, type, 1), test::drawn({rows, width}, type, 2),
                 test::drawn({width}, type, 3)};
  if (form.centred) result.push_back(test::drawn({width}, type, 4));
  return result;
}

// `function` of the first `count` inputs; the others stay as they are.
test::Function of_first(size_t count, const test::Function& function, const Tensors& all) {
  const Tensors rest(all.begin() + static_cast<int64_t>(count), all.end());
  return [function, rest](const Tensors& t) {
    Tensors in = t;
    in.insert(in.end(), rest.begin(), rest.end());
    return function(in);
  };
}

// Computed in float32 between the inputs and the outputs.
test::Function widened(const test::Function& function) {
  return [function](const Tensors& t) {
    Tensors in, out;
    for (const Tensor& tensor : t) in.push_back(tensor.to(at::kFloat));
    for (const Tensor& tensor : function(in)) out.push_back(tensor.to(t[0].scalar_type()));
    return out;
  };
}

TEST(Norms, AreThoseOfTheFormulasBehindAResidualSum) {
  for (const Form& form : kForms) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      for (const int64_t width : {7, 33, 64, 385}) {
        for (const int64_t rows : {1, 5, 300}) {
          const std::string what = fmt::format("{} {} x {} {}", form.name, rows, width, toString(type));
          const Tensors in = inputs(form, rows, width, type);
          test::expect_alike(of_first(2, both_outputs(form), in), of_first(2, both_outputs_plain(form), in),
                             {in[0], in[1]}, 2 * test::tolerance(type), what);
          // torch adds the rows of weights' gradients up in bfloat16 at places.
          const test::Function exact =
              type == at::kFloat ? both_outputs_plain(form) : widened(both_outputs_plain(form));
          const double share = test::tolerance(type) * (2 + std::sqrt(static_cast<double>(rows)) / 4);
          test::expect_alike(both_outputs(form), exact, in, share, what + " with weights");
        }
      }
    }
  }
}

TEST(Norms, AloneAreThoseOfTheFormulas) {
  for (const Form& form : kForms) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      Tensors in = inputs(form, 120, 48, type);
      in[0] = in[0].view({2, 60, 48});
      in.erase(in.begin() + 1);
      const auto norm = [&](const Tensors& t) { return norm_of(form, t[1], t.size() > 2 ? t[2] : Tensor()); };
      test::expect_alike([&](const Tensors& t) { return Tensors{ops::normalised(t[0], norm(t), {})}; },
                         widened([&](const Tensors& t) { return Tensors{plain(t[0], norm(t))}; }), in,
                         4 * test::tolerance(type), form.name);
    }
  }
}

TEST(Norms, InFloat64AreThoseOfTheFormulasToo) {
  for (const Form& form : kForms) {
    test::expect_alike(both_outputs(form), both_outputs_plain(form), inputs(form, 5, 33, at::kDouble), 1e-12,
                       form.name);
  }
}

TEST(Norms, RoundInTransformersOrder) {
  for (const Form& form : kForms) {
    if (form.centred) continue;  // ATen's own order there
    const Tensors in = inputs(form, 64, 256, at::kBFloat16);
    const auto a = both_outputs(form)(in), e = both_outputs_plain(form)(in);
    EXPECT_TRUE(a[0].equal(e[0])) << form.name;
    // A sum of squares in another order may move a value across the middle of two neighbours, which is rare.
    EXPECT_LT(a[1].ne(e[1]).to(at::kFloat).mean().item<double>(), 1e-3) << form.name;
  }
}

TEST(Norms, TakeRowsWithGapsAndTransposedOnes) {
  for (const Form& form : kForms) {
    const auto strided = [&](const test::Function& function) {
      return [&, function](const Tensors& t) {
        Tensors in = t;
        in[0] = t[0].narrow(1, 3, 20);
        in[1] = t[1].t();
        return function(in);
      };
    };
    Tensors in = inputs(form, 30, 20, at::kFloat);
    in[0] = test::drawn({30, 40}, at::kFloat, 6);
    in[1] = test::drawn({20, 30}, at::kFloat, 7);
    test::expect_alike(strided(both_outputs(form)), strided(both_outputs_plain(form)), in, 2e-5, form.name);
  }
}

TEST(Norms, GiveGradientsWhereOneOutputIsUsed) {
  for (const Form& form : kForms) {
    const Tensors in = inputs(form, 12, 24, at::kFloat);
    for (const size_t used : {0, 1}) {
      const auto one = [&](const test::Function& function) {
        return of_first(
            2, [=](const Tensors& t) { return Tensors{function(t)[used]}; }, in);
      };
      test::expect_alike(one(both_outputs(form)), one(both_outputs_plain(form)), {in[0], in[1]}, 2e-5, form.name);
    }
  }
}

TEST(Norms, OfOneTensorWithItself) {
  for (const Form& form : kForms) {
    Tensors in = inputs(form, 9, 33, at::kFloat);
    in.erase(in.begin() + 1);
    const auto twice = [](const test::Function& function) {
      return [function](const Tensors& t) {
        Tensors doubled{t[0], t[0]};
        doubled.insert(doubled.end(), t.begin() + 1, t.end());
        return function(doubled);
      };
    };
    test::expect_alike(twice(both_outputs(form)), twice(both_outputs_plain(form)), in, 2e-5, form.name);
  }
}

TEST(Norms, TakeNoRowsAndRowsOfOneNumber) {
  for (const Form& form : kForms) {
    test::expect_alike(both_outputs(form), both_outputs_plain(form), inputs(form, 0, 16, at::kFloat), 0, form.name);
    // The reciprocal deviation of one number is that of eps alone, or nearly one over it.
    test::expect_alike(both_outputs(form), both_outputs_plain(form), inputs(form, 10, 1, at::kFloat), 1e-3, form.name);
  }
}

TEST(Norms, OfHugeTinyAndNoNumbers) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const Form& form : kForms) {
    Tensors in = inputs(form, 4, 16, at::kFloat);
    in[1].zero_();
    in[0][0].mul_(1e18);
    in[0][1].mul_(1e-30);
    in[0][2][3] = nan;
    in[0][3][5] = inf;
    const Tensor a = both_outputs(form)(in)[1], e = both_outputs_plain(form)(in)[1];
    test::expect_near(a.narrow(0, 0, 3), e.narrow(0, 0, 3), 1e-5, form.name);
    EXPECT_TRUE(a[3][5].isnan().item<bool>()) << form.name;
  }
}

TEST(Norms, DoNotDependOnTheThreads) {
  for (const Form& form : kForms) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      test::expect_equal_by_threads(both_outputs(form), inputs(form, 1000, 385, type));
    }
  }
}

TEST(Norms, InFloat64AgreeWithDifferences) {
  for (const Form& form : kForms) {
    Tensors leaves;
    for (const Tensor& t : inputs(form, 3, 5, at::kDouble)) leaves.push_back(t.requires_grad_());
    const auto loss = [&] {
      const Tensors out = both_outputs(form)(leaves);
      return (out[0].square() * 0.5 + out[1].sin()).sum();
    };
    loss().backward();
    for (const Tensor& leaf : leaves) {
      EXPECT_EQ(test::check_gradient([&] { return loss().item<double>(); }, leaf, leaf.grad()), "") << form.name;
    }
  }
}

}  // namespace
}  // namespace deltaw
