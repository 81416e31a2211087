// A template as a tree.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/jinja/value.h"

namespace deltaw::text::jinja {

struct Node;
using NodePtr = std::unique_ptr<Node>;
using Body = std::vector<NodePtr>;

enum class NodeKind : unsigned char {
  // statements
  data,          // name: the text
  print,         // [expression]
  if_,           // [condition], body, otherwise
  for_,          // [target, iterable, condition or null], body, otherwise
  set,           // [target, expression]
  set_block,     // [target, expression of `captured`], body
  filter_block,  // [expression of `captured`], body
  macro,         // name; names: parameters; [defaults of the last parameters], body
  generation,    // body
  break_,
  continue_,
  // expressions
  constant,     // value
  variable,     // name
  captured,     // the text of the block around it
  list,         // [items]
  tuple,        // [items]
  dict,         // [key, value, key, value, ...]
  attribute,    // [object], name
  item,         // [object, key]
  slice,        // [object, start, stop, step], each but the object may be null
  call,         // [callee, positional..., named...]; names: of the named ones
  filter,       // name; [object, positional..., named...]; names
  test,         // name; [object, positional..., named...]; names
  conditional,  // [value, condition, otherwise or null]
  and_,
  or_,
  not_,
  compare,  // [first, second, ...]; names: the operators between them
  binary,   // name: the operator
  concat,   // [texts]
  negative,
  positive,
  namespace_target,  // name, names[0]: the left of {% set ns.x = ... %}
};

struct Node {
  NodeKind kind;
  int line;
  std::string name;
  Value value;
  std::vector<std::string> names;
  Body children;
  Body body;
  Body otherwise;
  int depth = 1;
};

}  // namespace deltaw::text::jinja
