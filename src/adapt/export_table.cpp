// The formats that an adapter is exported to.
#include <algorithm>

#include "adapt/export_formats.h"
#include "adapt/lora_adapter.h"
#include "adapt/lora_writer.h"
#include "adapt/mlx.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

void write_peft(const Adapter& lora, const fs::path& folder) {
  lora.save(folder);
}

void write_diffusers(const Adapter& lora, const fs::path& folder) {
  const std::string what = "a LoRA of diffusers";
  refuse_beside(lora, what, /*has_biases=*/true);
  write_diffusers_lora(lora_parts_of(lora, what), folder);
}

void write_kohya(const Adapter& lora, const fs::path& folder) {
  const std::string what = "a LoRA of kohya's scripts";
  refuse_beside(lora, what);
  std::vector<LoraPart> parts = lora_parts_of(lora, what);
  for (LoraPart& part : parts) part = with_one_alpha(std::move(part));
  write_kohya_lora(parts, lora.model().config(), folder);
}

}  // namespace

const std::vector<ExportForm>& export_forms() {
  static const std::vector<ExportForm> forms = {
      {.format = ExportFormat::lora, .name = "lora", .companions = true, .write = write_peft},
      {.format = ExportFormat::gguf, .name = "gguf", .write = write_gguf, .problem = gguf_problem},
      {.format = ExportFormat::mlx, .name = "mlx", .write = write_mlx},
      {.format = ExportFormat::diffusers,
       .name = "diffusers",
       .file = kDiffusersLora,
       .magnitudes = true,
       .write = write_diffusers},
      {.format = ExportFormat::kohya, .name = "kohya", .file = kKohyaLora, .magnitudes = true, .write = write_kohya}};
  return forms;
}

const ExportForm& export_form(ExportFormat format) {
  const std::vector<ExportForm>& forms = export_forms();
  return *std::find_if(forms.begin(), forms.end(), [&](const ExportForm& form) { return form.format == format; });
}

std::vector<std::string> export_format_names() {
  std::vector<std::string> names;
  for (const ExportForm& form : export_forms()) names.emplace_back(form.name);
  return names;
}

ExportFormat export_format_named(const std::string& name) {
  for (const ExportForm& form : export_forms()) {
    if (form.name == name) return form.format;
  }
  throw Error({.id = "config.out-of-range",
               .what = "there is no format '" + name + "'",
               .where = "key \"to\"",
               .fix = suggest_names(name, export_format_names())});
}

}  // namespace deltaw
