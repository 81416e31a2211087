// Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) and the ways in which checkpoints stretch them.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "models/config_values.h"

namespace deltaw {

class Rotary {
 public:
  /// From rope_theta with rope_scaling, or from rope_parameters: the types default, linear, dynamic, yarn, longrope and
  /// llama3. `partial`: the family may leave the end of a head as it is (partial_rotary_factor). Throws
  /// config.unsupported and config.bad-model.
  Rotary(const ConfigValues& config, int64_t head_dim, int64_t max_positions, bool partial = false);

  /// What config.json says of turns, in one object with all keys that may stand beside it: rope_type, rope_theta,
  /// partial_rotary_factor, original_max_position_embeddings and those of the type.
  static ConfigValues parameters(const ConfigValues& config, int64_t max_positions);

  /// Refuses heads so wide that their angles alone would fill the memory; `key` decides their width.
  static void check_head_width(const ConfigValues& config, const char* key, int64_t head_dim);

  /// Numbers of a head that turn: the first ones, in pairs (i, i + width / 2).
  int64_t width() const { return width_; }

  /// Angles per position [width / 2], float32, for rows whose last position is length - 1.
  at::Tensor frequencies(int64_t length) const;
  double attention_factor() const { return attention_factor_; }

  struct Turn {
    at::Tensor cos, sin;  // [batch, 1, seq, width / 2]
  };
  /// The turn of every position [batch, seq] (int64), computed in float32, in `dtype`; `length`: one more than the last
  /// of them.
  Turn turn(const at::Tensor& positions, int64_t length, at::ScalarType dtype) const;

 private:
  at::Tensor steps() const;  // 2 i / width, float32
  at::Tensor inverse(double base) const;
  void set_yarn(const ConfigValues& values);
  void set_longrope(const ConfigValues& values);
  void set_llama3(const ConfigValues& values);

  std::string type_;
  int64_t width_ = 0;
  int64_t max_positions_ = 0;
  int64_t original_ = 0;  // positions before stretching
  double base_ = 10000;
  double factor_ = 1;  // of dynamic
  double attention_factor_ = 1;
  at::Tensor frequencies_, long_frequencies_;  // the latter of longrope, beyond original_
};

/// The length beyond which all positions of a row turn by other angles, those before it too (longrope), from a model's
/// config.json; 0 where there is none.
int64_t length_of_other_turns(const Json& config);

/// x [batch, heads, seq, head_dim] turned by position.
at::Tensor rotated(const at::Tensor& x, const Rotary::Turn& turn);

}  // namespace deltaw
