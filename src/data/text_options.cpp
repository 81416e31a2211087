#include "deltaw/text_data.h"

#include "data/bad_rows.h"

namespace deltaw {

void TextOptions::fields(FieldVisitor& f) {
  f.field("packing", packing,
          "Put several rows into one of up to max_length tokens; they do not see each other. Saves padding.");
  f.field("completion_only_loss", completion_only_loss,
          "Train on answers only: completions, outputs and the assistant's turns. Plain text trains on all.");
  f.field("as_conversation", as_conversation,
          "Word rows of a prompt and an answer as a user's and an assistant's turn, by the chat template: prompt and "
          "completion, instruction and output, question and answer.");
  data::share_field(f, max_bad_rows);
  f.field("chat_template", chat_template, "A file with the Jinja template of messages. Default: the model's own.");
}

}  // namespace deltaw
