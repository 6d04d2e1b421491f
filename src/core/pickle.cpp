#include "core/pickle.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include <absl/strings/str_cat.h>

namespace fgvl::pickle {
namespace {

enum class Name : std::int64_t {
  kOrderedDict, kTensorV2, kTensorV1, kParameter, kSize, kDevice, kListOf, kTypeTag,
  kClass,        ///< a TorchScript class
  kFirstStorage  ///< + ElementType
};

struct KnownName {
  std::string_view text;
  Name name;
};
/// Every name that a pickle may call, besides storages, dtypes and TorchScript classes.
constexpr KnownName kNames[] = {
    {"collections.OrderedDict", Name::kOrderedDict},
    {"torch._utils._rebuild_tensor_v2", Name::kTensorV2},
    {"torch._utils._rebuild_tensor", Name::kTensorV1},
    {"torch._utils._rebuild_parameter", Name::kParameter},
    {"torch.Size", Name::kSize},
    {"torch.device", Name::kDevice},
};
/// Only in TorchScript archives.
constexpr KnownName kScriptNames[] = {
    {"torch.jit._pickle.build_intlist", Name::kListOf},
    {"torch.jit._pickle.build_doublelist", Name::kListOf},
    {"torch.jit._pickle.build_boollist", Name::kListOf},
    {"torch.jit._pickle.build_tensorlist", Name::kListOf},
    {"torch.jit._pickle.restore_type_tag", Name::kTypeTag},
};

struct TypeNames {
  std::string_view storage;
  std::string_view dtypes[2];
  ElementType type;
};
constexpr TypeNames kTypes[] = {
    {"DoubleStorage", {"float64", "double"}, ElementType::kFloat64}, {"FloatStorage", {"float32", "float"}, ElementType::kFloat32},
    {"HalfStorage", {"float16", "half"}, ElementType::kFloat16},     {"BFloat16Storage", {"bfloat16", ""}, ElementType::kBFloat16},
    {"LongStorage", {"int64", "long"}, ElementType::kInt64},         {"IntStorage", {"int32", "int"}, ElementType::kInt32},
    {"ShortStorage", {"int16", "short"}, ElementType::kInt16},       {"CharStorage", {"int8", ""}, ElementType::kInt8},
    {"ByteStorage", {"uint8", ""}, ElementType::kUInt8},             {"BoolStorage", {"bool", ""}, ElementType::kBool},
};

/// The instructions that PyTorch's own files use; any other is refused.
enum Opcode : unsigned char {
  kMark = '(', kStop = '.', kNoneOp = 'N', kNewTrue = 0x88, kNewFalse = 0x89, kBinInt = 'J', kBinInt1 = 'K', kBinInt2 = 'M', kLong1 = 0x8a, kBinFloat = 'G',
  kBinUnicode = 'X', kShortBinUnicode = 0x8c, kShortBinString = 'U', kBinString = 'T', kShortBinBytes = 'C', kBinBytes = 'B', kEmptyList = ']', kAppend = 'a', kAppends = 'e',
  kEmptyTuple = ')', kTupleOp = 't', kTuple1 = 0x85, kTuple2 = 0x86, kTuple3 = 0x87, kEmptyDict = '}', kSetItem = 's', kSetItems = 'u', kGlobal = 'c', kStackGlobal = 0x93,
  kBinPut = 'q', kLongBinPut = 'r', kMemoize = 0x94, kBinGet = 'h', kLongBinGet = 'j', kReduce = 'R', kNewObj = 0x81, kBuild = 'b', kBinPersId = 'Q', kProto = 0x80, kFrame = 0x95,
};
constexpr int kNewestProtocol = 5;

class Machine {
 public:
  Machine(std::string_view bytes, const Options& options) : options_(options) {
    graph_.bytes = bytes;
    graph_.offset = options.offset;
  }

  absl::StatusOr<Graph> run() {
    if (graph_.bytes.size() > UINT32_MAX) return absl::InvalidArgumentError(absl::StrCat("a pickle of ", graph_.bytes.size(), " bytes is larger than any that this reader takes"));
    bool stopped = false;
    while (!stopped) {
      start_ = position_;
      if (position_ >= graph_.bytes.size()) return wrong("the pickle ends without STOP");
      const auto opcode = static_cast<unsigned char>(graph_.bytes[position_++]);
      absl::Status status = step(opcode, stopped);
      if (!status.ok()) return status;
      if (used_ > options_.budget) return over_budget();
    }
    if (stack_.size() != 1 || !marks_.empty()) return wrong(absl::StrCat("STOP with ", stack_.size(), " values on the stack"));
    graph_.root = stack_.back();
    graph_.end = position_;
    absl::Status finite = check_nesting();
    if (!finite.ok()) return finite;
    return std::move(graph_);
  }

 private:
  absl::Status wrong(const std::string& what) const { return wrong_at(start_, what); }
  absl::Status wrong_at(std::size_t place, const std::string& what) const { return absl::InvalidArgumentError(absl::StrCat("pickle, byte ", options_.offset + place, ": ", what)); }

  absl::Status over_budget() const { return wrong(absl::StrCat("the values so far would take ", used_, " bytes of memory; at most ", options_.budget, " are allowed for a file of this size")); }

  absl::Status need(std::size_t count) const {
    if (graph_.bytes.size() - position_ < count) return wrong(absl::StrCat("needs ", count, " more bytes, ", graph_.bytes.size() - position_, " are left"));
    return absl::OkStatus();
  }

  /// The little-endian unsigned number of `count` bytes that follows.
  absl::StatusOr<std::uint64_t> number(std::size_t count) {
    if (absl::Status status = need(count); !status.ok()) return status;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i) value |= static_cast<std::uint64_t>(static_cast<unsigned char>(graph_.bytes[position_ + i])) << (8 * i);
    position_ += count;
    return value;
  }

  Ref make(Kind kind) {
    Value value;
    value.kind = kind;
    value.place = static_cast<std::uint32_t>(start_);
    graph_.values.push_back(value);
    used_ += sizeof(Value) + sizeof(Ref);
    return static_cast<Ref>(graph_.values.size() - 1);
  }
  Ref make_integer(Kind kind, std::int64_t integer) {
    const Ref ref = make(kind);
    graph_.values[ref].integer = integer;
    return ref;
  }
  Ref make_span(Kind kind, std::size_t begin, std::size_t size) {
    const Ref ref = make(kind);
    graph_.values[ref].span = {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(size)};
    return ref;
  }
  Ref make_container(Kind kind, std::vector<Ref> items) {
    const Ref ref = make(kind);
    graph_.values[ref].index = static_cast<std::uint32_t>(graph_.items.size());
    used_ += sizeof(std::vector<Ref>) + items.size() * sizeof(Ref);
    graph_.items.push_back(std::move(items));
    return ref;
  }
  void push(Ref ref) { stack_.push_back(ref); }

  /// Values that instructions may not reach below the last mark.
  std::size_t available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  absl::StatusOr<Ref> pop() {
    if (available() == 0) return wrong("takes a value from an empty stack");
    const Ref ref = stack_.back();
    stack_.pop_back();
    return ref;
  }
  absl::StatusOr<Ref> top() const {
    if (available() == 0) return wrong("needs a value on an empty stack");
    return stack_.back();
  }
  absl::StatusOr<std::vector<Ref>> pop_to_mark() {
    if (marks_.empty()) return wrong("there is no MARK on the stack");
    std::vector<Ref> taken(stack_.begin() + marks_.back(), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return taken;
  }

  absl::Status push_text(Kind kind, std::size_t size_bytes) {
    absl::StatusOr<std::uint64_t> size = number(size_bytes);
    if (!size.ok()) return size.status();
    if (absl::Status status = need(*size); !status.ok()) return status;
    push(make_span(kind, position_, *size));
    position_ += *size;
    return absl::OkStatus();
  }

  absl::Status push_tuple(std::size_t count) {
    if (available() < count) return wrong("takes values from an empty stack");
    std::vector<Ref> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    push(make_container(Kind::kTuple, std::move(items)));
    return absl::OkStatus();
  }

  absl::Status put(std::uint64_t id) {
    absl::StatusOr<Ref> value = top();
    if (!value.ok()) return value.status();
    if (id >= graph_.bytes.size()) return wrong(absl::StrCat("memo ", id, " in a pickle of ", graph_.bytes.size(), " bytes"));
    if (memo_.size() <= id) {
      used_ += (id + 1 - memo_.size()) * sizeof(Ref);
      if (used_ > options_.budget) return over_budget();  // before it is taken: one instruction may ask for a lot
      memo_.resize(id + 1, kUnset);
    }
    memo_[id] = *value;
    return absl::OkStatus();
  }
  absl::Status get(std::uint64_t id) {
    if (id >= memo_.size() || memo_[id] == kUnset) return wrong(absl::StrCat("memo ", id, " was never set"));
    used_ += sizeof(Ref);
    push(memo_[id]);
    return absl::OkStatus();
  }

  absl::Status extend(Kind kind, std::vector<Ref> added) {
    absl::StatusOr<Ref> target = top();
    if (!target.ok()) return target.status();
    const Value& container = graph_.at(*target);
    if (container.kind != kind) return wrong(kind == Kind::kList ? "appends to something that is not a list" : "sets items of something that is not a dict");
    if (kind == Kind::kDict && added.size() % 2 != 0) return wrong("a dict's key without a value");
    used_ += added.size() * sizeof(Ref);
    std::vector<Ref>& items = graph_.items[container.index];
    items.insert(items.end(), added.begin(), added.end());
    return absl::OkStatus();
  }

  absl::Status push_name(std::string_view module, std::string_view attribute, std::size_t begin, std::size_t size) {
    // Compared in place: a long name may be named many times.
    const auto is = [&](std::string_view full) {
      return full.size() == module.size() + 1 + attribute.size() && full.substr(0, module.size()) == module && full[module.size()] == '.' && full.substr(module.size() + 1) == attribute;
    };
    const auto known = [&](const auto& names) -> const KnownName* {
      const auto found = std::find_if(std::begin(names), std::end(names), [&](const KnownName& name) { return is(name.text); });
      return found == std::end(names) ? nullptr : &*found;
    };
    const KnownName* name = known(kNames);
    if (name == nullptr && options_.torchscript) name = known(kScriptNames);
    if (name != nullptr) {
      push(make_integer(Kind::kName, static_cast<std::int64_t>(name->name)));
      return absl::OkStatus();
    }
    if (module == "torch") {
      for (const TypeNames& type : kTypes) {
        if (attribute == type.storage) {
          push(make_integer(Kind::kName, static_cast<std::int64_t>(Name::kFirstStorage) + static_cast<std::int64_t>(type.type)));
          return absl::OkStatus();
        }
        if (dtype_of(attribute) == type.type) {
          push(make_span(Kind::kDtype, begin + size - attribute.size(), attribute.size()));
          return absl::OkStatus();
        }
      }
    }
    if (options_.torchscript && (module == "__torch__" || module.substr(0, 10) == "__torch__.")) {
      const Ref ref = make_span(Kind::kName, begin, size);  // the class's name; recognised by index
      graph_.values[ref].index = kClassMark;
      push(ref);
      return absl::OkStatus();
    }
    return wrong(absl::StrCat("names ", shown(module), ".", shown(attribute), ", which this reader does not know and never calls; it reads tensors, numbers, texts and plain containers"));
  }

  absl::Status global() {
    const std::size_t begin = position_;
    std::string_view lines[2];
    for (std::string_view& line : lines) {
      const std::size_t end = graph_.bytes.find('\n', position_);
      if (end == std::string_view::npos) return wrong("a name without an end");
      line = graph_.bytes.substr(position_, end - position_);
      position_ = end + 1;
    }
    return push_name(lines[0], lines[1], begin, position_ - 1 - begin);
  }

  absl::Status stack_global() {
    absl::StatusOr<Ref> attribute = pop(), module = attribute.ok() ? pop() : attribute;
    if (!module.ok()) return module.status();
    const Value &name = graph_.at(*attribute), &package = graph_.at(*module);
    if (name.kind != Kind::kText || package.kind != Kind::kText) return wrong("a name that is not a text");
    return push_name(graph_.text(package), graph_.text(name), name.span.begin, name.span.size);
  }

  bool is_class(const Value& value) const { return value.kind == Kind::kName && value.index == kClassMark; }

  /// A storage from its persistent id ('storage', type, key, device, number of elements[, view]).
  absl::Status persistent_id() {
    absl::StatusOr<Ref> id = pop();
    if (!id.ok()) return id.status();
    const Value& tuple = graph_.at(*id);
    const std::vector<Ref> parts = tuple.kind == Kind::kTuple ? graph_.items_of(tuple) : std::vector<Ref>{};
    const auto part = [&](std::size_t i) -> const Value& { return graph_.at(parts[i]); };
    if ((parts.size() != 5 && parts.size() != 6) || part(0).kind != Kind::kText || graph_.text(part(0)) != "storage") return wrong("a persistent id that is not a storage");
    constexpr auto kFirst = static_cast<std::int64_t>(Name::kFirstStorage);
    if (part(1).kind != Kind::kName || is_class(part(1)) || part(1).integer < kFirst) return wrong("a storage whose type is not one");
    if (part(2).kind != Kind::kText || part(3).kind != Kind::kText) return wrong("a storage whose key or device is not a text");
    if (part(4).kind != Kind::kInteger || part(4).integer < 0) return wrong("a storage with a negative or missing size");
    Storage storage{static_cast<ElementType>(part(1).integer - kFirst), parts[2], static_cast<std::uint64_t>(part(4).integer), 0};
    if (parts.size() == 6 && part(5).kind != Kind::kNone) {
      const std::vector<Ref> view = part(5).kind == Kind::kTuple ? graph_.items_of(part(5)) : std::vector<Ref>{};
      if (view.size() != 3 || graph_.at(view[1]).kind != Kind::kInteger || graph_.at(view[2]).kind != Kind::kInteger || graph_.at(view[1]).integer < 0) return wrong("a storage's view that is not (key, offset, size)");
      storage.first = static_cast<std::uint64_t>(graph_.at(view[1]).integer);
    }
    const Ref ref = make(Kind::kStorage);
    graph_.values[ref].index = static_cast<std::uint32_t>(graph_.storages.size());
    graph_.storages.push_back(storage);
    used_ += sizeof(Storage);
    push(ref);
    return absl::OkStatus();
  }

  absl::Status integers(Ref tuple, std::vector<std::int64_t>& numbers, const char* what) const {
    const Value& value = graph_.at(tuple);
    if (value.kind != Kind::kTuple && value.kind != Kind::kList) return wrong(absl::StrCat("a tensor whose ", what, " is not a tuple"));
    const std::vector<Ref>& items = graph_.items_of(value);
    if (items.size() > kMaxDimensions) return wrong(absl::StrCat("a tensor of ", items.size(), " dimensions, at most ", kMaxDimensions, " are read"));
    for (const Ref item : items) {
      if (graph_.at(item).kind != Kind::kInteger) return wrong(absl::StrCat("a tensor whose ", what, " holds something that is no integer"));
      numbers.push_back(graph_.at(item).integer);
    }
    return absl::OkStatus();
  }

  absl::Status make_tensor(const std::vector<Ref>& arguments) {
    if (arguments.size() < 4) return wrong("a tensor needs storage, offset, size and stride");
    const Value &storage = graph_.at(arguments[0]), &offset = graph_.at(arguments[1]);
    if (storage.kind != Kind::kStorage) return wrong("a tensor without a storage");
    if (offset.kind != Kind::kInteger || offset.integer < 0) return wrong(absl::StrCat("a tensor whose offset is ", offset.kind == Kind::kInteger ? absl::StrCat(offset.integer) : "no integer"));
    TensorRecord record;
    record.storage = storage.index;
    const Storage& source = graph_.storages[storage.index];
    record.view.type = source.type;
    if (absl::Status status = integers(arguments[2], record.view.shape, "size"); !status.ok()) return status;
    if (absl::Status status = integers(arguments[3], record.view.strides, "stride"); !status.ok()) return status;
    if (__builtin_add_overflow(source.first, static_cast<std::uint64_t>(offset.integer), &record.view.first)) return wrong("a tensor's offset exceeds 64 bits");
    const Ref ref = make(Kind::kTensor);
    graph_.values[ref].index = static_cast<std::uint32_t>(graph_.tensors.size());
    used_ += sizeof(TensorRecord) + (record.view.shape.size() + record.view.strides.size()) * sizeof(std::int64_t);
    graph_.tensors.push_back(std::move(record));
    push(ref);
    return absl::OkStatus();
  }

  absl::Status make_ordered_dict(const std::vector<Ref>& arguments) {
    std::vector<Ref> flat;
    if (!arguments.empty()) {
      const Value& pairs = graph_.at(arguments[0]);
      if (arguments.size() != 1 || pairs.kind != Kind::kList) return wrong("OrderedDict of something that is no list of pairs");
      for (const Ref pair : graph_.items_of(pairs)) {
        const Value& value = graph_.at(pair);
        if ((value.kind != Kind::kTuple && value.kind != Kind::kList) || graph_.items_of(value).size() != 2) return wrong("OrderedDict of something that is no list of pairs");
        flat.insert(flat.end(), graph_.items_of(value).begin(), graph_.items_of(value).end());
      }
    }
    push(make_container(Kind::kDict, std::move(flat)));
    return absl::OkStatus();
  }

  absl::Status reduce() {
    absl::StatusOr<Ref> tuple = pop(), callee = tuple.ok() ? pop() : tuple;
    if (!callee.ok()) return callee.status();
    const Value name = graph_.at(*callee);
    if (name.kind != Kind::kName || is_class(name)) return wrong("calls something that is not one of the known names");
    if (graph_.at(*tuple).kind != Kind::kTuple) return wrong("a call whose arguments are not a tuple");
    const std::vector<Ref>& arguments = graph_.items_of(graph_.at(*tuple));  // no copy: a long tuple may be an argument many times
    const auto kind = [&](std::size_t i) { return i < arguments.size() ? graph_.at(arguments[i]).kind : Kind::kNone; };
    switch (static_cast<Name>(name.integer)) {
      case Name::kOrderedDict: return make_ordered_dict(arguments);
      case Name::kTensorV2:
      case Name::kTensorV1: return make_tensor(arguments);
      case Name::kParameter:
        if (kind(0) != Kind::kTensor) return wrong("a parameter without a tensor");
        break;
      case Name::kSize:
        if (arguments.size() != 1 || kind(0) != Kind::kTuple) return wrong("torch.Size of something that is no tuple");
        break;
      case Name::kDevice:
        if (kind(0) != Kind::kText) return wrong("torch.device of something that is no text");
        break;
      case Name::kListOf:
        if (kind(0) != Kind::kList) return wrong("a typed list of something that is no list");
        break;
      case Name::kTypeTag:
        if (arguments.size() != 2) return wrong("a type tag without a value");
        break;
      default: return wrong("a storage cannot be called; PyTorch refers to it by a persistent id");
    }
    push(arguments[0]);
    return absl::OkStatus();
  }

  absl::Status new_object() {
    absl::StatusOr<Ref> tuple = pop(), callee = tuple.ok() ? pop() : tuple;
    if (!callee.ok()) return callee.status();
    const Value name = graph_.at(*callee);
    if (!is_class(name) || graph_.at(*tuple).kind != Kind::kTuple || !graph_.items_of(graph_.at(*tuple)).empty()) return wrong("makes an object of something that is not a TorchScript class");
    const Ref ref = make_container(Kind::kObject, {});
    graph_.values[ref].span = name.span;
    push(ref);
    return absl::OkStatus();
  }

  /// The state of an object: attributes of a TorchScript object; of an OrderedDict, what PyTorch hangs on a state dict (_metadata), which is not needed.
  absl::Status build() {
    absl::StatusOr<Ref> state = pop(), target = state.ok() ? top() : state;
    if (!target.ok()) return target.status();
    const Value &value = graph_.at(*state), &object = graph_.at(*target);
    if (object.kind == Kind::kDict && value.kind == Kind::kDict) return absl::OkStatus();
    if (object.kind == Kind::kObject && value.kind == Kind::kDict) {
      graph_.items[object.index] = graph_.items[value.index];
      used_ += graph_.items[object.index].size() * sizeof(Ref);
      return absl::OkStatus();
    }
    return wrong("sets the state of something that has none");
  }

  absl::Status step(unsigned char opcode, bool& stopped) {
    const auto with_number = [&](std::size_t bytes, auto&& use) -> absl::Status {
      absl::StatusOr<std::uint64_t> value = number(bytes);
      if (!value.ok()) return value.status();
      return use(*value);
    };
    const auto push_integer = [&](std::int64_t value) {
      push(make_integer(Kind::kInteger, value));
      return absl::OkStatus();
    };
    switch (opcode) {
      case kProto:
        return with_number(1, [&](std::uint64_t version) { return version <= kNewestProtocol ? absl::OkStatus() : wrong(absl::StrCat("pickle protocol ", version, " is not known")); });
      case kFrame: return with_number(8, [&](std::uint64_t size) { return need(size); });
      case kStop: stopped = true; return absl::OkStatus();
      case kMark:
        marks_.push_back(static_cast<std::uint32_t>(stack_.size()));
        used_ += sizeof(std::uint32_t);
        return absl::OkStatus();
      case kNoneOp: push(make(Kind::kNone)); return absl::OkStatus();
      case kNewTrue: push(make_integer(Kind::kBool, 1)); return absl::OkStatus();
      case kNewFalse: push(make_integer(Kind::kBool, 0)); return absl::OkStatus();
      case kBinInt: return with_number(4, [&](std::uint64_t value) { return push_integer(static_cast<std::int32_t>(value)); });
      case kBinInt1: return with_number(1, [&](std::uint64_t value) { return push_integer(static_cast<std::int64_t>(value)); });
      case kBinInt2: return with_number(2, [&](std::uint64_t value) { return push_integer(static_cast<std::int64_t>(value)); });
      case kLong1: return long_integer();
      case kBinFloat:
        return with_number(8, [&](std::uint64_t value) {
          const Ref ref = make(Kind::kFloat);
          graph_.values[ref].number = std::bit_cast<double>(__builtin_bswap64(value));  // big-endian, unlike all else
          push(ref);
          return absl::OkStatus();
        });
      case kBinUnicode:
      case kBinString: return push_text(Kind::kText, 4);
      case kShortBinUnicode:
      case kShortBinString: return push_text(Kind::kText, 1);
      case kBinBytes: return push_text(Kind::kBytes, 4);
      case kShortBinBytes: return push_text(Kind::kBytes, 1);
      case kEmptyList: push(make_container(Kind::kList, {})); return absl::OkStatus();
      case kEmptyDict: push(make_container(Kind::kDict, {})); return absl::OkStatus();
      case kEmptyTuple: return push_tuple(0);
      case kTuple1: return push_tuple(1);
      case kTuple2: return push_tuple(2);
      case kTuple3: return push_tuple(3);
      case kTupleOp: {
        absl::StatusOr<std::vector<Ref>> items = pop_to_mark();
        if (!items.ok()) return items.status();
        push(make_container(Kind::kTuple, std::move(*items)));
        return absl::OkStatus();
      }
      case kAppend: {
        absl::StatusOr<Ref> item = pop();
        return item.ok() ? extend(Kind::kList, {*item}) : item.status();
      }
      case kSetItem: {
        absl::StatusOr<Ref> value = pop(), key = value.ok() ? pop() : value;
        return key.ok() ? extend(Kind::kDict, {*key, *value}) : key.status();
      }
      case kAppends:
      case kSetItems: {
        absl::StatusOr<std::vector<Ref>> items = pop_to_mark();
        return items.ok() ? extend(opcode == kAppends ? Kind::kList : Kind::kDict, std::move(*items)) : items.status();
      }
      case kGlobal: return global();
      case kStackGlobal: return stack_global();
      case kBinPut: return with_number(1, [&](std::uint64_t id) { return put(id); });
      case kLongBinPut: return with_number(4, [&](std::uint64_t id) { return put(id); });
      case kMemoize: return put(memo_.size());
      case kBinGet: return with_number(1, [&](std::uint64_t id) { return get(id); });
      case kLongBinGet: return with_number(4, [&](std::uint64_t id) { return get(id); });
      case kReduce: return reduce();
      case kNewObj: return new_object();
      case kBuild: return build();
      case kBinPersId: return persistent_id();
      default: return wrong(absl::StrCat("instruction 0x", absl::Hex(opcode, absl::kZeroPad2), " is not one that tensors need; refused"));
    }
  }

  absl::Status long_integer() {
    absl::StatusOr<std::uint64_t> size = number(1);
    if (!size.ok()) return size.status();
    if (absl::Status status = need(*size); !status.ok()) return status;
    if (*size > sizeof(std::int64_t)) {
      push(make_span(Kind::kLongInteger, position_, *size));
      position_ += *size;
      return absl::OkStatus();
    }
    std::uint64_t value = *size > 0 && (graph_.bytes[position_ + *size - 1] & 0x80) != 0 ? ~std::uint64_t{0} : 0;  // two's complement
    for (std::size_t i = 0; i < *size; ++i) {
      value &= ~(std::uint64_t{0xff} << (8 * i));
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(graph_.bytes[position_ + i])) << (8 * i);
    }
    position_ += *size;
    push(make_integer(Kind::kInteger, static_cast<std::int64_t>(value)));
    return absl::OkStatus();
  }

  bool has_items(const Value& value) const { return value.kind == Kind::kList || value.kind == Kind::kTuple || value.kind == Kind::kDict || value.kind == Kind::kObject; }

  /// No value contains itself and none is nested deeper than kMaxDepth. Depth-first with a stack of our own: the nesting is not yet known to be small.
  absl::Status check_nesting() const {
    enum State : std::uint8_t { kNew, kOpen, kDone };
    std::vector<std::uint8_t> state(graph_.values.size(), kNew);
    std::vector<std::uint16_t> height(graph_.values.size(), 0);
    std::vector<std::pair<Ref, std::size_t>> path = {{graph_.root, 0}};
    while (!path.empty()) {
      auto& [ref, next] = path.back();
      const Value& value = graph_.at(ref);
      state[ref] = kOpen;
      if (has_items(value) && next < graph_.items_of(value).size()) {
        const Ref child = graph_.items_of(value)[next++];
        if (state[child] == kOpen) return wrong_at(graph_.at(child).place, "the container made here contains itself; cyclic references are refused");
        if (state[child] == kNew) {
          path.emplace_back(child, 0);
        } else {
          height[ref] = std::max<std::uint16_t>(height[ref], static_cast<std::uint16_t>(height[child] + 1));
        }
        continue;
      }
      state[ref] = kDone;
      const std::uint16_t own = height[ref];
      if (own > kMaxDepth) return wrong_at(value.place, absl::StrCat("values are nested more than ", kMaxDepth, " deep"));
      path.pop_back();
      if (!path.empty()) height[path.back().first] = std::max<std::uint16_t>(height[path.back().first], static_cast<std::uint16_t>(own + 1));
    }
    return absl::OkStatus();
  }

  static constexpr Ref kUnset = UINT32_MAX;
  static constexpr std::uint32_t kClassMark = UINT32_MAX;
  Options options_;
  Graph graph_{};
  std::size_t position_ = 0, start_ = 0;
  std::uint64_t used_ = 0;
  std::vector<Ref> stack_{}, memo_{};
  std::vector<std::uint32_t> marks_{};
};

}  // namespace

std::optional<ElementType> dtype_of(std::string_view name) {
  for (const TypeNames& type : kTypes) {
    if (!name.empty() && (name == type.dtypes[0] || name == type.dtypes[1])) return type.type;
  }
  return std::nullopt;
}

std::optional<Ref> Graph::find(const Value& dict, std::string_view key) const {
  if (dict.kind != Kind::kDict && dict.kind != Kind::kObject) return std::nullopt;
  const std::vector<Ref>& pairs = items_of(dict);
  for (std::size_t i = pairs.size(); i >= 2; i -= 2) {
    const Value& found = at(pairs[i - 2]);
    if (found.kind == Kind::kText && text(found) == key) return pairs[i - 1];
  }
  return std::nullopt;
}

absl::StatusOr<Graph> parse(std::string_view bytes, const Options& options) { return Machine(bytes, options).run(); }

}  // namespace fgvl::pickle
