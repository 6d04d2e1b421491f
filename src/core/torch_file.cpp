#include "core/torch_file.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <nlohmann/json.hpp>

#include "core/pickle.hpp"
#include "core/zip_archive.hpp"

namespace fgvl {
namespace {

using pickle::Graph;
using pickle::Kind;
using pickle::Ref;
using pickle::Value;
using Json = nlohmann::json;

constexpr std::string_view kLegacyMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);  // torch.serialization.MAGIC_NUMBER, little-endian
constexpr std::int64_t kLegacyProtocol = 1001;
/// Memory that values of a pickle may take beyond the size of the file: small files hold small pickles of many objects.
constexpr std::uint64_t kPickleFloor = 16u << 20;

absl::Status wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

struct Extent {
  std::uint64_t begin = 0, bytes = 0;
};

/// The place of every storage of a graph, in the order of graph.storages.
using Extents = std::vector<Extent>;

absl::StatusOr<StoredTensor> stored(const Graph& graph, const Value& value, const Extents& extents, std::string name) {
  const pickle::TensorRecord& record = graph.tensors[value.index];
  StoredTensor tensor = record.view;
  tensor.storage_begin = extents[record.storage].begin;
  tensor.storage_bytes = extents[record.storage].bytes;
  tensor.name = std::move(name);
  if (absl::Status status = check_view(tensor); !status.ok()) {
    return wrong(absl::StrCat("tensor \"", shown(tensor.name), "\" (byte ", graph.offset + value.place, "): ", status.message()));
  }
  return tensor;
}

/// Plain values as the text of JSON. A small graph of shared lists and texts can stand for a huge tree: what is written, and every value that is looked at, counts
/// against a limit. Written as text at once, which needs no tree in memory and no search for keys in it.
class JsonText {
 public:
  JsonText(const Graph& graph, std::size_t limit) : graph_(graph), limit_(limit) {}

  /// False when the limit is reached: the text is then unfinished.
  bool add(Ref ref) {
    if (!charge(1)) return false;
    const Value& value = graph_.at(ref);
    switch (value.kind) {
      case Kind::kBool: text_ += value.integer != 0 ? "true" : "false"; return true;
      case Kind::kInteger: absl::StrAppend(&text_, value.integer); return true;
      case Kind::kFloat: text_ += std::isfinite(value.number) ? Json(value.number).dump() : std::isnan(value.number) ? "\"NaN\"" : value.number > 0 ? "\"Infinity\"" : "\"-Infinity\""; return true;
      case Kind::kText: return add_text(graph_.text(value));
      case Kind::kDtype: return add_text("torch." + std::string(graph_.text(value)));
      case Kind::kList:
      case Kind::kTuple: return add_list(graph_.items_of(value));
      case Kind::kDict: return add_dict(graph_.items_of(value));
      default: text_ += "null"; return true;
    }
  }
  std::string take() { return std::move(text_); }

 private:
  bool charge(std::size_t steps) {
    steps_ += steps;
    return text_.size() + steps_ <= limit_;
  }

  bool add_text(std::string_view text) {
    if (!charge(text.size())) return false;
    text_ += Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
    return true;
  }

  bool add_list(const std::vector<Ref>& items) {
    text_ += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text_ += ',';
      if (!add(items[i])) return false;
    }
    text_ += ']';
    return true;
  }

  /// As in Python, a key that is set twice keeps its first place and its last value. Keys that are neither texts nor integers are left out.
  bool add_dict(const std::vector<Ref>& items) {
    struct Place {
      std::size_t first, last;
    };
    std::map<std::string, Place, std::less<>> places;
    std::vector<const Place*> order;
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
      const Value& key = graph_.at(items[i]);
      if (!charge(1 + (key.kind == Kind::kText ? key.span.size : 0))) return false;
      if (key.kind != Kind::kText && key.kind != Kind::kInteger) continue;
      const auto [place, added] = places.try_emplace(key.kind == Kind::kText ? std::string(graph_.text(key)) : absl::StrCat(key.integer), Place{i, i});
      if (added) order.push_back(&place->second);
      place->second.last = i;
    }
    text_ += '{';
    for (const Place* place : order) {
      if (place != order.front()) text_ += ',';
      const Value& key = graph_.at(items[place->first]);
      if (!add_text(key.kind == Kind::kText ? std::string(graph_.text(key)) : absl::StrCat(key.integer))) return false;
      text_ += ':';
      if (!add(items[place->last + 1])) return false;
    }
    text_ += '}';
    return true;
  }

  const Graph& graph_;
  std::size_t limit_, steps_ = 0;
  std::string text_{};
};

/// Adds a key beside the weights, once: one text may be a key many times.
void add_other(std::string_view key, std::set<std::string_view>& seen, TorchFile& file) {
  if (seen.insert(key).second) file.others.push_back(shown(key));
}

/// A dict in which every tensor has a name of its own, and at least one tensor.
bool is_state_dict(const Graph& graph, const Value& value) {
  if (value.kind != Kind::kDict) return false;
  const std::vector<Ref>& items = graph.items_of(value);
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    if (graph.at(items[i]).kind == Kind::kText && graph.at(items[i + 1]).kind == Kind::kTensor) return true;
  }
  return false;
}

absl::Status add_state_dict(const Graph& graph, const Value& dict, const Extents& extents, TorchFile& file) {
  const std::vector<Ref>& items = graph.items_of(dict);
  std::set<std::string_view> names, others;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const Value &key = graph.at(items[i]), &value = graph.at(items[i + 1]);
    if (value.kind != Kind::kTensor) {
      if (key.kind == Kind::kText) add_other(graph.text(key), others, file);
      continue;
    }
    if (key.kind != Kind::kText) return wrong(absl::StrCat("byte ", graph.offset + value.place, ": a tensor whose name is not a text"));
    if (!names.insert(graph.text(key)).second) return wrong(absl::StrCat("byte ", graph.offset + key.place, ": two tensors are named \"", shown(graph.text(key)), "\""));
    absl::StatusOr<StoredTensor> tensor = stored(graph, value, extents, std::string(graph.text(key)));
    if (!tensor.ok()) return tensor.status();
    file.tensors.push_back(std::move(*tensor));
  }
  return absl::OkStatus();
}

absl::Status collect_saved(const Graph& graph, const Extents& extents, TorchFile& file) {
  const Value& root = graph.at(graph.root);
  if (root.kind != Kind::kDict) return wrong(absl::StrCat("byte ", graph.offset + root.place, ": the file does not hold a dict of tensors by name"));
  std::vector<std::string> found;
  for (const char* section : {"model", "state_dict", "model_state_dict", "module"}) {
    const std::optional<Ref> value = graph.find(root, section);
    if (value && is_state_dict(graph, graph.at(*value))) found.emplace_back(section);
  }
  if (found.size() > 1) return wrong(absl::StrCat("weights under several keys: ", absl::StrJoin(found, ", ")));
  if (found.empty()) {
    if (!is_state_dict(graph, root)) {
      std::vector<std::string> keys;
      for (std::size_t i = 0; i + 1 < graph.items_of(root).size() && keys.size() < 16; i += 2) {
        if (const Value& key = graph.at(graph.items_of(root)[i]); key.kind == Kind::kText) keys.push_back(shown(graph.text(key)));
      }
      return wrong(absl::StrCat("no weights: expected tensors by name, or a dict of them under model, state_dict, model_state_dict or module; the keys are [", absl::StrJoin(keys, ", "), "]"));
    }
    return add_state_dict(graph, root, extents, file);
  }
  file.section = found.front();
  std::set<std::string_view> others;
  for (std::size_t i = 0; i + 1 < graph.items_of(root).size(); i += 2) {
    const Value& key = graph.at(graph.items_of(root)[i]);
    if (key.kind == Kind::kText && graph.text(key) != file.section && graph.text(key) != "config") add_other(graph.text(key), others, file);
  }
  if (const std::optional<Ref> config = graph.find(root, "config"); config && graph.at(*config).kind == Kind::kDict) {
    constexpr std::size_t kLonger = 8, kFloor = 1u << 16;  // JSON says "null" in four bytes where a pickle needs one
    JsonText json(graph, kLonger * graph.end + kFloor);
    if (!json.add(*config)) return wrong(absl::StrCat("byte ", graph.offset + graph.at(*config).place, ": the configuration is far larger than the file that holds it"));
    file.config_json = json.take();
  }
  return add_state_dict(graph, graph.at(*graph.find(root, file.section)), extents, file);
}

/// Tensors of a TorchScript object and of the objects in it, named as in its state dict. `budget` bounds attributes and names: objects may be shared, too.
absl::Status collect_object(const Graph& graph, const Value& object, const Extents& extents, const std::string& prefix, std::size_t& budget, TorchFile& file) {
  const std::vector<Ref>& items = graph.items_of(object);
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const Value &key = graph.at(items[i]), &value = graph.at(items[i + 1]);
    if (key.kind != Kind::kText) return wrong(absl::StrCat("byte ", graph.offset + key.place, ": an attribute whose name is not a text"));
    const bool kept = value.kind == Kind::kTensor || value.kind == Kind::kObject;
    const std::size_t cost = 1 + (kept ? prefix.size() + key.span.size : 0);
    if (budget < cost) return wrong(absl::StrCat("byte ", graph.offset + value.place, ": objects that contain one another in far more ways than the file has bytes"));
    budget -= cost;
    if (!kept) continue;
    const std::string name = prefix + std::string(graph.text(key));
    if (value.kind == Kind::kObject) {
      if (absl::Status status = collect_object(graph, value, extents, name + ".", budget, file); !status.ok()) return status;
      continue;
    }
    absl::StatusOr<StoredTensor> tensor = stored(graph, value, extents, name);
    if (!tensor.ok()) return tensor.status();
    file.tensors.push_back(std::move(*tensor));
  }
  return absl::OkStatus();
}

absl::Status check_distinct(const std::vector<StoredTensor>& tensors) {
  std::set<std::string_view> names;
  for (const StoredTensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) return wrong(absl::StrCat("two tensors are named \"", shown(tensor.name), "\""));
  }
  return absl::OkStatus();
}

class ZipReader {
 public:
  ZipReader(std::string_view file, std::vector<zip::Member> members) : file_(file), members_(std::move(members)) {
    for (const zip::Member& member : members_) by_name_[member.name] = &member;
  }

  absl::StatusOr<TorchFile> read() {
    for (const zip::Member& member : members_) {
      if (member.name != "data.pkl" && !absl::EndsWith(member.name, "/data.pkl")) continue;
      if (!root_.empty() || found_) return wrong("two members named data.pkl: not a file of PyTorch");
      root_ = member.name.substr(0, member.name.size() - std::string_view("data.pkl").size());
      found_ = true;
    }
    if (!found_) return wrong(absl::StrCat("a zip archive without data.pkl (", members_.size(), " members): not a file of PyTorch"));
    for (const zip::Member& member : members_) {
      // TorchScript compresses its code, which is not read; all else is stored as it is.
      if (member.compressed && !absl::StartsWith(member.name, root_ + "code/")) return wrong(absl::StrCat("zip archive, byte ", member.begin, ": member \"", shown(member.name), "\" is compressed; PyTorch stores members as they are, compressed ones are refused"));
    }
    TorchFile result;
    const zip::Member* constants = find("constants.pkl");
    result.form = constants != nullptr ? TorchForm::kScript : TorchForm::kZip;
    if (const zip::Member* order = find("byteorder"); order != nullptr) {
      const std::string_view text = bytes(*order);
      if (text != "little" && text != "big") return wrong(absl::StrCat("member \"", shown(order->name), "\" (byte ", order->begin, "): expected little or big"));
      result.big_endian = text == "big";
    }
    Extents extents;
    absl::StatusOr<Graph> graph = parse_member(*find("data.pkl"), result.form == TorchForm::kScript, "data/", extents);
    if (!graph.ok()) return graph.status();
    const Value& root = graph->at(graph->root);
    absl::Status status;
    if (result.form == TorchForm::kScript && root.kind == Kind::kObject) {
      std::size_t budget = file_.size();
      status = collect_object(*graph, root, extents, "", budget, result);
    } else {
      status = collect_saved(*graph, extents, result);
    }
    if (status.ok()) status = check_distinct(result.tensors);
    if (!status.ok()) return status;
    if (constants != nullptr) {
      if (status = read_constants(*constants, result); !status.ok()) return status;
    }
    return result;
  }

 private:
  const zip::Member* find(std::string_view name) const {
    const auto found = by_name_.find(root_ + std::string(name));
    return found == by_name_.end() ? nullptr : found->second;
  }
  std::string_view bytes(const zip::Member& member) const { return file_.substr(member.begin, member.size); }

  absl::StatusOr<Graph> parse_member(const zip::Member& member, bool torchscript, const char* folder, Extents& extents) const {
    absl::StatusOr<Graph> graph = pickle::parse(bytes(member), {.offset = member.begin, .budget = file_.size() + kPickleFloor, .torchscript = torchscript});
    if (!graph.ok()) return graph;
    for (const pickle::Storage& storage : graph->storages) {
      const std::string key(graph->text(graph->at(storage.key)));
      const zip::Member* record = find(absl::StrCat(folder, key));
      if (record == nullptr) return wrong(absl::StrCat("storage \"", shown(key), "\" (byte ", member.begin + graph->at(storage.key).place, "): the archive has no ", folder, shown(key)));
      std::uint64_t wanted = 0;
      if (__builtin_mul_overflow(storage.elements, element_size(storage.type), &wanted) || wanted != record->size) {
        return wrong(absl::StrCat("storage \"", shown(key), "\" (byte ", member.begin + graph->at(storage.key).place, "): ", storage.elements, " elements of ", element_size(storage.type), " bytes, the archive holds ",
                                  record->size, " bytes"));
      }
      extents.push_back({record->begin, record->size});
    }
    return graph;
  }

  absl::Status read_constants(const zip::Member& member, TorchFile& result) const {
    Extents extents;
    absl::StatusOr<Graph> graph = parse_member(member, true, "constants/", extents);
    if (!graph.ok()) return graph.status();
    const Value& root = graph->at(graph->root);
    if (root.kind != Kind::kTuple && root.kind != Kind::kList) return wrong(absl::StrCat("member \"", shown(member.name), "\" (byte ", member.begin, "): not a tuple"));
    const std::vector<Ref>& items = graph->items_of(root);
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (graph->at(items[i]).kind != Kind::kTensor) continue;
      absl::StatusOr<StoredTensor> tensor = stored(*graph, graph->at(items[i]), extents, absl::StrCat("constants.", i));
      if (!tensor.ok()) return tensor.status();
      result.constants.push_back(std::move(*tensor));
    }
    return absl::OkStatus();
  }

  std::string_view file_;
  std::vector<zip::Member> members_;
  std::map<std::string_view, const zip::Member*> by_name_{};
  std::string root_{};
  bool found_ = false;
};

/// The form before PyTorch 1.6: five pickles (magic number, protocol, system, object, keys of the storages), then each storage as a count and its bytes.
class LegacyReader {
 public:
  explicit LegacyReader(std::string_view file) : file_(file) {}

  absl::StatusOr<TorchFile> read() {
    absl::StatusOr<Graph> magic = next();
    if (!magic.ok()) return magic.status();
    if (const Value& value = magic->at(magic->root); value.kind != Kind::kLongInteger || magic->text(value) != kLegacyMagic) return wrong("byte 0: a pickle, but not one that torch.save wrote (wrong magic number)");
    absl::StatusOr<Graph> protocol = next();
    if (!protocol.ok()) return protocol.status();
    if (const Value& value = protocol->at(protocol->root); value.kind != Kind::kInteger || value.integer != kLegacyProtocol) return wrong(absl::StrCat("byte ", protocol->offset, ": not protocol ", kLegacyProtocol));
    absl::StatusOr<Graph> system = next();
    if (!system.ok()) return system.status();
    const std::optional<Ref> little = system->find(system->at(system->root), "little_endian");
    if (!little || system->at(*little).kind != Kind::kBool) return wrong(absl::StrCat("byte ", system->offset, ": the system record does not say little_endian"));
    absl::StatusOr<Graph> object = next();
    if (!object.ok()) return object.status();
    absl::StatusOr<Graph> keys = next();
    if (!keys.ok()) return keys.status();
    TorchFile result;
    result.form = TorchForm::kLegacy;
    // The numbers are little-endian whatever little_endian says: PyTorch's writeFileRaw (torch/csrc/serialization.cpp) converts them on every machine. It converts the counts,
    // too, but did not before 1.2 or so.
    absl::StatusOr<Extents> extents = read_storages(*object, *keys, system->at(*little).integer == 0);
    if (!extents.ok()) return extents.status();
    if (absl::Status status = collect_saved(*object, *extents, result); !status.ok()) return status;
    return result;
  }

 private:
  absl::StatusOr<Graph> next() {
    // The pickle ends somewhere in the rest of the file, which may be larger than any pickle.
    absl::StatusOr<Graph> graph = pickle::parse(file_.substr(position_, UINT32_MAX), {.offset = position_, .budget = file_.size() + kPickleFloor});
    if (graph.ok()) position_ += graph->end;
    return graph;
  }

  absl::StatusOr<Extents> read_storages(const Graph& object, const Graph& keys, bool from_big_endian) {
    std::map<std::string_view, const pickle::Storage*> declared;
    for (const pickle::Storage& storage : object.storages) {
      const auto [found, added] = declared.emplace(object.text(object.at(storage.key)), &storage);
      if (!added && (found->second->type != storage.type || found->second->elements != storage.elements)) return wrong(absl::StrCat("storage \"", shown(found->first), "\" is described in two ways"));
    }
    const Value& list = keys.at(keys.root);
    if (list.kind != Kind::kList) return wrong(absl::StrCat("byte ", keys.offset, ": the storage keys are no list"));
    std::map<std::string_view, Extent> places;
    for (const Ref item : keys.items_of(list)) {
      if (keys.at(item).kind != Kind::kText) return wrong(absl::StrCat("byte ", keys.offset + keys.at(item).place, ": a storage key that is no text"));
      const std::string_view key = keys.text(keys.at(item));
      const auto storage = declared.find(key);
      if (storage == declared.end()) return wrong(absl::StrCat("byte ", keys.offset + keys.at(item).place, ": storage \"", shown(key), "\" belongs to no tensor"));
      constexpr std::uint64_t kCountBytes = 8;
      std::uint64_t count = 0, bytes = 0;
      if (file_.size() - position_ < kCountBytes) return wrong(absl::StrCat("byte ", position_, ": the file ends where storage \"", shown(key), "\" should begin"));
      for (std::size_t i = 0; i < kCountBytes; ++i) count |= static_cast<std::uint64_t>(static_cast<unsigned char>(file_[position_ + i])) << (8 * i);
      if (from_big_endian && count != storage->second->elements) count = __builtin_bswap64(count);
      if (count != storage->second->elements) return wrong(absl::StrCat("byte ", position_, ": storage \"", shown(key), "\" has ", count, " elements here and ", storage->second->elements, " in its description"));
      position_ += kCountBytes;
      if (__builtin_mul_overflow(count, element_size(storage->second->type), &bytes) || bytes > file_.size() - position_) {
        return wrong(absl::StrCat("byte ", position_, ": storage \"", shown(key), "\" of ", count, " elements, ", file_.size() - position_, " bytes are left in the file"));
      }
      if (!places.emplace(key, Extent{position_, bytes}).second) return wrong(absl::StrCat("storage \"", shown(key), "\" is stored twice"));
      position_ += bytes;
    }
    if (position_ != file_.size()) return wrong(absl::StrCat("byte ", position_, ": ", file_.size() - position_, " bytes behind the last storage"));
    Extents extents;
    for (const pickle::Storage& storage : object.storages) {
      const std::string_view key = object.text(object.at(storage.key));
      const auto found = places.find(key);
      if (found == places.end()) return wrong(absl::StrCat("storage \"", shown(key), "\" (byte ", object.offset + object.at(storage.key).place, ") is not in the file"));
      extents.push_back(found->second);
    }
    return extents;
  }

  std::string_view file_;
  std::size_t position_ = 0;
};

bool is_zip(std::string_view file) { return file.substr(0, 2) == "PK"; }

}  // namespace

bool looks_like_torch(std::string_view file) { return is_zip(file) || (file.size() > 1 && file[0] == '\x80' && file[1] >= 1 && file[1] <= 5); }

absl::StatusOr<TorchFile> parse_torch(std::string_view file) {
  if (!is_zip(file)) return LegacyReader(file).read();
  absl::StatusOr<std::vector<zip::Member>> members = zip::read_directory(file);
  if (!members.ok()) return members.status();
  return ZipReader(file, std::move(*members)).read();
}

}  // namespace fgvl
