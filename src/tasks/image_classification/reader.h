// How files of images become rows, and what is said of them.
#pragma once

#include <memory>

#include "deltaw/image_model.h"
#include "deltaw/task_reader.h"

namespace deltaw::image_classification {

/// The model as one of images. Throws config.unsupported where it is another one.
const ImageModel& as_image_model(const Model& model);

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::image_classification
