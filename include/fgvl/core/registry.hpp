#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/core/config_visitor.hpp"

namespace fgvl {

/// Named factories of one kind of thing: loss terms, vision encoders, datasets. A plain value that is filled explicitly
/// (`builtin_terms()` lists ours in one function; users add theirs), so that linking statically drops nothing.
/// `Product` is what a factory returns, `Context` what it needs beside its options.
template <class Product, class... Context>
class Registry {
 public:
  /// Options of one entry behind one type: what a `type:` / `options:` pair of a configuration file holds.
  class Options {
   public:
    virtual ~Options() = default;
    virtual void visit(config::Visitor& visitor) = 0;
    virtual Product make(const Context&... context) const = 0;
    virtual std::shared_ptr<Options> clone() const = 0;
  };

  /// Registers `make` under `name`; the last registration of a name wins.
  template <config::Configurable O, class Make>
  Registry& add(std::string name, Make make, const O& defaults = {}) {
    auto options = std::make_shared<Typed<O>>(defaults, std::move(make));
    for (auto& [known, existing] : entries_) {
      if (known == name) {
        existing = options;
        return *this;
      }
    }
    entries_.emplace_back(std::move(name), std::move(options));
    return *this;
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [name, options] : entries_) all.push_back(name);
    return all;
  }

  /// A copy of the default options of `name`, or null when nobody registered it.
  std::shared_ptr<Options> options(const std::string& name) const {
    for (const auto& [known, entry] : entries_) {
      if (known == name) return entry->clone();
    }
    return nullptr;
  }

 private:
  template <class O>
  class Typed final : public Options {
   public:
    Typed(O options, std::function<Product(const O&, const Context&...)> make) : options_(std::move(options)), make_(std::move(make)) {}
    void visit(config::Visitor& visitor) override { visit_fields(visitor, options_); }
    Product make(const Context&... context) const override { return make_(options_, context...); }
    std::shared_ptr<Options> clone() const override { return std::make_shared<Typed>(options_, make_); }

   private:
    O options_;
    std::function<Product(const O&, const Context&...)> make_;
  };

  std::vector<std::pair<std::string, std::shared_ptr<Options>>> entries_;
};

/// One choice from a registry with its options: the value behind
/// ```yaml
/// vision: {type: vit, options: {image_size: 64}}
/// ```
/// Naming another type starts from that type's defaults.
template <class Product, class... Context>
class Choice {
 public:
  using RegistryType = Registry<Product, Context...>;

  /// `type` must be registered, or be empty, which means that a configuration must name one unless the choice is not `required`.
  Choice(std::shared_ptr<const RegistryType> registry, std::string type, bool required = true)
      : registry_(std::move(registry)), type_(std::move(type)), options_(registry_->options(type_)), required_(required) {}
  Choice(const Choice& other) : registry_(other.registry_), type_(other.type_), options_(other.options_ ? other.options_->clone() : nullptr), required_(other.required_) {}
  Choice& operator=(const Choice& other) {
    registry_ = other.registry_;
    type_ = other.type_;
    options_ = other.options_ ? other.options_->clone() : nullptr;
    required_ = other.required_;
    return *this;
  }
  Choice(Choice&&) noexcept = default;
  Choice& operator=(Choice&&) noexcept = default;

  const std::string& type() const { return type_; }
  bool empty() const { return options_ == nullptr; }
  /// Not to be called on an empty choice.
  Product make(const Context&... context) const { return options_->make(context...); }

  friend void visit_fields(config::Visitor& visitor, Choice& choice) {
    const std::string before = choice.type_;
    std::vector<std::string> allowed = choice.registry_->names();
    if (!choice.required_) allowed.emplace_back("");
    visitor.choice("type", choice.type_, allowed, "which kind");
    if (choice.type_ != before) choice.options_ = choice.registry_->options(choice.type_);
    if (choice.options_) {
      visitor("options", *choice.options_, "the options of that kind");
    } else {
      visitor.check(!choice.required_, "type: required");
    }
  }

 private:
  std::shared_ptr<const RegistryType> registry_;
  std::string type_;
  std::shared_ptr<typename RegistryType::Options> options_;
  bool required_ = true;
};

/// Lets a Choice visit its options as a nested struct. Found for every Registry<...>::Options, which is a dependent nested class.
template <class O>
  requires requires(O& options, config::Visitor& visitor) { options.visit(visitor); }
void visit_fields(config::Visitor& visitor, O& options) {
  options.visit(visitor);
}

}  // namespace fgvl
