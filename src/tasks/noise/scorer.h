// The error of a denoiser at fixed times.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/noise_scheduler.h"
#include "deltaw/task.h"

namespace deltaw::noise {

/// "noise_mse_50": the mean squared error of what the model says at time 50, whatever the loss weighs it by.
std::string metric_name(int64_t timestep);

/// Throws config.unknown-metric for what is neither "loss" nor the error at a time.
void check_metric(const std::string& name);

/// "loss" is the mean of the training's loss over all rows; beside it the error at each time of the rows.
std::unique_ptr<Scorer> make_scorer(std::shared_ptr<const NoiseScheduler> scheduler, double snr_gamma);

/// The squared error of each picture, [n] float32: of what the model said of a noisy batch, averaged over pixels.
Tensor squared_errors(const NoiseScheduler& scheduler, const Tensor& output, const Batch& batch);

}  // namespace deltaw::noise
