// DreamBooth (Ruiz et al. 2022, arXiv:2208.12242): a few pictures of one subject with one caption, and pictures of its
// class, made by the base, that the model is to go on making. Keys as diffusers' train_dreambooth_lora.py has them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/generate_images.h"
#include "deltaw/options.h"

namespace deltaw::noise {

struct SubjectKeys {
  std::string instance_data_dir;
  std::string instance_prompt;
  bool with_prior_preservation = false;
  std::string class_data_dir, class_prompt;
  double prior_loss_weight = 1;
  int64_t num_class_images = 100;

  void fields(FieldVisitor& f);           // instance_prompt
  void training_fields(FieldVisitor& f);  // the others
  /// Throws config.missing-key for one that another needs, config.conflict where none of them means anything.
  void check(bool reads_text, const DataOptions& data) const;
  /// The folders that they name, by their keys.
  std::vector<std::pair<std::string, std::string>> named() const;
};

/// The files of class_data_dir that training reads, in their order.
struct ClassPictures {
  Dataset rows;
  std::vector<int64_t> missing;  // places of those that are not there yet
};

/// The first num_class_images, sorted by name; where there are fewer, the names of those that are to be made stand
/// among them. Throws io.unreadable.
ClassPictures class_pictures(const SubjectKeys& keys);

/// Makes what is missing, one after the other, each in its file before the next begins: a picture follows from the seed
/// and its place, so that a run that was ended goes on where it stood. Throws what ImageGenerator throws, and
/// config.output-foreign.
void make_class_pictures(const SubjectKeys& keys, const ClassPictures& pictures, const ImageSource& base, int64_t seed);

}  // namespace deltaw::noise
